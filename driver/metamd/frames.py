"""Frames: what every stage passes on.  One composition, many configurations, with provenance.

Reads DeePMD npy systems, extended XYZ (and whatever ASE reads), LAMMPS dumps and npz files in
sGDML's layout; writes DeePMD systems and extended XYZ.
"""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers, chemical_symbols
from numpy.typing import NDArray

from metamd.errors import DataError
from metamd.units import KCAL_MOL_EV, virial_from_ase_stress

Array = NDArray[np.float64]

#: Two atoms closer than this are a mistake in the input, not chemistry.
MIN_DISTANCE_ANG = 0.4
_DISTANCES = "distances_ang"


@dataclass(frozen=True)
class Frames:
    """Configurations of one set of atoms.

    Attributes:
        symbols: element of each atom, [n_atoms].
        positions: A, [n_frames, n_atoms, 3].
        cell: A, [n_frames, 3, 3]; None for an isolated molecule.
        energy: eV, [n_frames]; None without labels.
        forces: eV/A, [n_frames, n_atoms, 3]; None without labels.
        virial: eV, [n_frames, 3, 3], W = -sum r (x) dV/dr; None where there is none.
        atomic_energy: eV, [n_frames, n_atoms]; None where the reference gives none.
        info: one array [n_frames] a key: arm, method, walker, step, temperature_k, bias_ev, ...
        source: where the frames came from, for messages.
    """

    symbols: tuple[str, ...]
    positions: Array
    cell: Array | None = None
    energy: Array | None = None
    forces: Array | None = None
    virial: Array | None = None
    atomic_energy: Array | None = None
    info: dict[str, NDArray[Any]] = field(default_factory=dict)
    source: str = "frames"

    def __post_init__(self) -> None:
        n, a = self.positions.shape[0], len(self.symbols)
        shapes = {
            "positions": (n, a, 3),
            "cell": (n, 3, 3),
            "energy": (n,),
            "forces": (n, a, 3),
            "virial": (n, 3, 3),
            "atomic_energy": (n, a),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is None:
                continue
            if value.shape != shape:
                raise DataError(f"{self.source}: {name} has shape {value.shape}, expected {shape}.")
            width = int(np.prod(shape[1:], dtype=int))
            bad = np.flatnonzero(~np.isfinite(value.reshape(n, width)).all(axis=1))
            if bad.size:
                raise DataError(
                    f"{self.source}: {name} of frame {bad[0]} is not a number "
                    f"({bad.size} of {n} frames are affected)."
                )
        for key, column in self.info.items():
            if len(column) != n:
                raise DataError(f"{self.source}: info {key!r} has {len(column)} entries, not {n}.")

    def __len__(self) -> int:
        return int(self.positions.shape[0])

    def __getitem__(self, index: slice | Sequence[int] | NDArray[Any]) -> Frames:
        """A selection of frames; an index array or a slice (a single int keeps the frame axis)."""
        if isinstance(index, int | np.integer):
            index = [int(index)]
        pick = index if isinstance(index, slice) else np.asarray(index)
        arrays: dict[str, Any] = {
            name: None if (value := getattr(self, name)) is None else value[pick]
            for name in ("positions", "cell", "energy", "forces", "virial", "atomic_energy")
        }
        part = replace(self, **arrays, info={k: v[pick] for k, v in self.info.items()})
        if _DISTANCES in self.__dict__:
            part.__dict__[_DISTANCES] = self.distances_ang[pick]
        return part

    @property
    def n_atoms(self) -> int:
        return len(self.symbols)

    @property
    def species(self) -> list[str]:
        """Elements present, in alphabetical order: DeePMD's type map."""
        return sorted(set(self.symbols))

    @property
    def labelled(self) -> bool:
        return self.energy is not None and self.forces is not None

    @cached_property
    def pairs(self) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Indices i < j of all pairs, each [n_pairs]."""
        i, j = np.triu_indices(self.n_atoms, k=1)
        return i, j

    @cached_property
    def distances_ang(self) -> Array:
        """Pair distances, A, [n_frames, n_pairs], nearest image in a cell; computed once.

        A selection of these frames and the same frames with other provenance keep them.
        """
        return pair_distances(self.positions, self.cell)

    def with_info(self, **values: Any) -> Frames:
        """The same frames with more provenance; a scalar stands for all frames."""
        columns = {k: v if np.ndim(v) else np.full(len(self), v) for k, v in values.items()}
        info = {**self.info, **{k: np.asarray(v) for k, v in columns.items()}}
        return self._same_positions(info=info)

    def without_labels(self) -> Frames:
        return self._same_positions(energy=None, forces=None, virial=None, atomic_energy=None)

    def _same_positions(self, **changes: Any) -> Frames:
        """``dataclasses.replace`` that keeps the pair distances."""
        other = replace(self, **changes)
        if _DISTANCES in self.__dict__:
            other.__dict__[_DISTANCES] = self.distances_ang
        return other

    def to_atoms(self, index: int) -> Atoms:
        """One frame as ASE atoms, its labels in a SinglePointCalculator."""
        cell = None if self.cell is None else self.cell[index]
        atoms = Atoms(self.symbols, self.positions[index], cell=cell, pbc=cell is not None)
        results: dict[str, Any] = {}
        if self.energy is not None:
            results["energy"] = float(self.energy[index])
        if self.forces is not None:
            results["forces"] = self.forces[index]
        if self.virial is not None and self.cell is not None:
            s = -self.virial[index] / atoms.get_volume()
            results["stress"] = np.array([s[0, 0], s[1, 1], s[2, 2], s[1, 2], s[0, 2], s[0, 1]])
        if self.atomic_energy is not None:
            results["energies"] = self.atomic_energy[index]
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        for key, column in self.info.items():
            value = column[index]
            atoms.info[key] = value.item() if isinstance(value, np.generic) else value
        return atoms


def pair_distances(positions: Array, cell: Array | None) -> Array:
    """Distances of all pairs i < j, A, [n_frames, n_pairs]; nearest image in a cell."""
    i, j = np.triu_indices(positions.shape[1], k=1)
    out = np.empty((len(positions), len(i)))
    chunk = max(1, 4_000_000 // max(1, len(i)))
    for start in range(0, len(positions), chunk):
        part = slice(start, start + chunk)
        delta = positions[part][:, j] - positions[part][:, i]
        if cell is not None:
            delta = minimum_image(delta, cell[part])
        out[part] = np.sqrt(np.einsum("fpx,fpx->fp", delta, delta))
    return out


def minimum_image(delta: Array, cell: Array) -> Array:
    """Nearest-image vectors for delta [f, p, 3] in cells [f, 3, 3].

    Rounding of fractional coordinates, then the 27 neighbours where the cell is skewed.
    """
    frac = np.einsum("fpx,fxy->fpy", delta, np.linalg.inv(cell))
    frac -= np.round(frac)
    best = np.einsum("fpx,fxy->fpy", frac, cell)
    skew = cell * (1 - np.eye(3))
    if np.abs(skew).max(initial=0.0) < 1e-10:
        return np.asarray(best)
    norm = np.einsum("fpx,fpx->fp", best, best)
    base = best.copy()
    for shift in np.ndindex(3, 3, 3):
        trial = base + np.einsum("x,fxy->fy", np.array(shift, float) - 1.0, cell)[:, None]
        trial_norm = np.einsum("fpx,fpx->fp", trial, trial)
        closer = trial_norm < norm
        best[closer], norm[closer] = trial[closer], trial_norm[closer]
    return np.asarray(best)


def concatenate(parts: Sequence[Frames], source: str | None = None) -> Frames:
    """Join frames of one composition; labels survive where every part has them.

    Raises:
        DataError: no parts, or parts of different atoms or boundary conditions.
    """
    if not parts:
        raise DataError("No frames to join.")
    first = parts[0]
    if len(parts) == 1 and source in (None, first.source):
        return first
    for part in parts[1:]:
        if part.symbols != first.symbols:
            raise DataError(
                f"{part.source}: its atoms ({_formula(part.symbols)}) differ in kind or order "
                f"from those of {first.source} ({_formula(first.symbols)}); one data set "
                "holds one system."
            )
        if (part.cell is None) != (first.cell is None):
            raise DataError(f"{part.source}: periodic and isolated frames are mixed.")

    def joined(name: str) -> Array | None:
        values = [getattr(part, name) for part in parts]
        return None if any(v is None for v in values) else np.concatenate(values)

    keys = set.intersection(*(set(part.info) for part in parts))
    return Frames(
        symbols=first.symbols,
        positions=np.concatenate([part.positions for part in parts]),
        cell=joined("cell"),
        energy=joined("energy"),
        forces=joined("forces"),
        virial=joined("virial"),
        atomic_energy=joined("atomic_energy"),
        info={k: np.concatenate([part.info[k] for part in parts]) for k in sorted(keys)},
        source=source or first.source,
    )


def from_atoms(images: Sequence[Atoms], source: str) -> Frames:
    """Frames of ASE images (labels from their calculators, provenance from ``info``)."""
    if not images:
        raise DataError(f"{source}: holds no frames.")
    symbols = tuple(images[0].get_chemical_symbols())
    periodic = bool(images[0].pbc.any())
    energies: list[Any] = []
    forces: list[Any] = []
    virials: list[Any] = []
    atomic: list[Any] = []
    others: list[set[str]] = []
    for k, atoms in enumerate(images):
        if tuple(atoms.get_chemical_symbols()) != symbols:
            raise DataError(
                f"{source}: frame {k} has other atoms ({atoms.get_chemical_formula()}) than "
                f"frame 0 ({images[0].get_chemical_formula()}); one data set holds one system."
            )
        if bool(atoms.pbc.any()) != periodic:
            raise DataError(f"{source}: frame {k} differs from frame 0 in being periodic.")
        found, used = _labels(atoms)
        others.append(set(atoms.info) - used)
        energies.append(found.get("energy"))
        forces.append(found.get("forces"))
        atomic.append(found.get("energies"))
        stress, virial = found.get("stress"), found.get("virial")
        if virial is not None:
            virials.append(np.asarray(virial, dtype=np.float64).reshape(3, 3))
        elif stress is not None and periodic:
            s = np.asarray(stress, dtype=np.float64).ravel()
            s = s[[0, 4, 8, 5, 2, 1]] if s.size == 9 else s
            virials.append(virial_from_ase_stress(s, atoms.get_volume()))
        else:
            virials.append(None)

    def column(values: list[Any], what: str) -> Array | None:
        missing = [k for k, v in enumerate(values) if v is None]
        if len(missing) == len(values):
            return None
        if missing:
            raise DataError(f"{source}: frame {missing[0]} has no {what}, others have.")
        return np.asarray(values, dtype=np.float64)

    keys = set.intersection(*others)
    info = {}
    for key in sorted(keys):
        if np.ndim(images[0].info[key]) == 0:
            info[key] = np.asarray([atoms.info[key] for atoms in images])
    return Frames(
        symbols=symbols,
        positions=np.array([atoms.get_positions() for atoms in images]),
        cell=np.array([np.asarray(atoms.cell) for atoms in images]) if periodic else None,
        energy=column(energies, "energy"),
        forces=column(forces, "forces"),
        virial=column(virials, "virial"),
        atomic_energy=column(atomic, "atomic energies"),
        info=info,
        source=source,
    )


#: Prefixes of labels that are not ASE's own: MACE's, then those of GAP and others.
LABEL_PREFIXES = ("REF_", "dft_", "DFT_")
_LABEL_NAMES = {
    "energy": ("energy",),
    "forces": ("forces", "force"),
    "virial": ("virial", "virials"),
    "stress": ("stress",),
}


def _labels(atoms: Atoms) -> tuple[dict[str, Any], set[str]]:
    """Labels of an image, and which keys of ``info`` they are: ASE's own, else those of a prefix.

    An energy and its forces come from one place: ASE's own where there is an energy or forces
    without a prefix, else the first prefix that has either.
    """
    results = dict(atoms.calc.results) if atoms.calc is not None else {}
    if "virial" in atoms.info:
        results["virial"] = atoms.info["virial"]
    if not {"energy", "forces"} & set(results):
        for prefix in LABEL_PREFIXES:
            keys = {
                what: prefix + name
                for what, names in _LABEL_NAMES.items()
                for name in names
                if prefix + name in (atoms.arrays if what == "forces" else atoms.info)
            }
            if {"energy", "forces"} & set(keys):
                found = {
                    what: atoms.arrays[key] if what == "forces" else atoms.info[key]
                    for what, key in keys.items()
                }
                return found, set(keys.values())
    return results, {"virial"}


def load_frames(path: str | Path, type_map: Sequence[str] | None = None) -> Frames:
    """Read frames from a DeePMD system, extended XYZ, LAMMPS dump, npz or anything ASE reads.

    Args:
        path: a file (dumps and what ASE reads also compressed), or the folder of a DeePMD npy
            system.
        type_map: elements of LAMMPS types 1, 2, ..., for dumps without an element column, or of
            DeePMD types 0, 1, ..., for systems without ``type_map.raw``.

    Raises:
        DataError: unreadable, empty, mixed or torn data, or a type map for data that have their
            own elements; the message names file and frame.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder.")
    if type_map and not takes_type_map(path):
        raise DataError(
            f"{path}: takes no type map, it has its own elements; LAMMPS dumps and DeePMD systems "
            "without type_map.raw take one."
        )
    if path.is_dir():
        return _load_deepmd(path, type_map)
    if path.suffix == ".npz":
        return _load_npz(path)
    if _is_dump(path):
        from metamd.dump import read_dump

        return read_dump(path, type_map, total_forces=True)
    from ase.io import iread

    images: list[Atoms] = []
    try:
        for atoms in iread(path, index=":"):
            images.append(atoms)
    except Exception as error:
        raise DataError(
            f"{path}: frame {len(images)} cannot be read ({error}); is the file torn?"
        ) from error
    frames = from_atoms(images, str(path))
    named = [k for k in frames.info if frames.energy is None and "energy" in k.lower()]
    named += [k for k in images[0].arrays if frames.forces is None and "force" in k.lower()]
    if named:
        warnings.warn(
            f"{path}: {named[0]} is not read as a label; energy and forces are, also with the "
            f"prefixes {', '.join(LABEL_PREFIXES)}.",
            stacklevel=2,
        )
    return frames


def takes_type_map(path: Path) -> bool:
    """Whether elements of types can be given: a LAMMPS dump, or DeePMD without type_map.raw."""
    if path.is_dir():
        return (path / "type.raw").is_file() and not (path / "type_map.raw").is_file()
    return path.is_file() and _is_dump(path)


#: First bytes of compressed files, and what opens them.
_COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


def open_text(path: Path) -> TextIO:
    """Open a text file for reading; gzip, bzip2 and xz are known by their first bytes."""
    with path.open("rb") as handle:
        first = handle.read(6)
    opener = next((o for magic, o in _COMPRESSED.items() if first.startswith(magic)), None)
    return cast(TextIO, opener(path, "rt")) if opener else path.open()


def _is_dump(path: Path) -> bool:
    """A LAMMPS text dump; units and time may stand before the first step."""
    try:
        with open_text(path) as handle:
            start = handle.read(14)
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error):
        return False
    return start.startswith(("ITEM: TIMESTEP", "ITEM: UNITS", "ITEM: TIME\n"))


def _load_deepmd(path: Path, given: Sequence[str] | None = None) -> Frames:
    if not (path / "type.raw").is_file():
        raise DataError(f"{path}: not a DeePMD system (type.raw is missing).")
    map_file = path / "type_map.raw"
    if not given and not map_file.is_file():
        raise DataError(
            f"{path}: type_map.raw is missing; give the elements of types 0, 1, ... as type map."
        )
    type_map = list(given) if given else map_file.read_text().split()
    # One line of types for all frames; in the mixed format they are placeholders.
    of_all = np.loadtxt(path / "type.raw", dtype=int, ndmin=1)
    sets = sorted(path.glob("set.*"))
    if not sets:
        raise DataError(f"{path}: has no set.* folder.")
    parts = []
    for folder in sets:
        coord = _npy(folder, "coord.npy", True)
        assert coord is not None
        n = len(coord)
        types, where = _mixed_types(folder, n, len(of_all)), folder / "real_atom_types.npy"
        if types is None:
            types, where = of_all, path / "type.raw"
        if types.max(initial=0) >= len(type_map):
            raise DataError(
                f"{where}: type {types.max()} has no element in the type map "
                f"({' '.join(type_map)}); types count from 0."
            )
        # The mixed format fills systems of different sizes up with atoms of type -1.
        real = np.flatnonzero(types >= 0)
        symbols = tuple(type_map[t] for t in types[real])

        def shaped(name: str, *shape: int, folder: Path = folder, n: int = n) -> Array | None:
            value = _npy(folder, name, False)
            if value is None:
                return None
            if value.size != n * int(np.prod(shape or (1,))):
                raise DataError(f"{folder / name}: has {value.size} numbers for {n} frames.")
            return value.reshape(n, *shape)

        def by_atom(name: str, *shape: int, real: NDArray[np.intp] = real) -> Array | None:
            value = shaped(name, len(of_all), *shape)
            return None if value is None else value[:, real]

        positions = by_atom("coord.npy", 3)
        assert positions is not None
        isolated = (path / "nopbc").exists()
        parts.append(
            Frames(
                symbols=symbols,
                positions=positions,
                cell=None if isolated else shaped("box.npy", 3, 3),
                energy=shaped("energy.npy"),
                forces=by_atom("force.npy", 3),
                virial=shaped("virial.npy", 3, 3),
                atomic_energy=by_atom("atom_ener.npy"),
                source=str(folder),
            )
        )
    return concatenate(parts, str(path))


def _mixed_types(folder: Path, n_frames: int, n_atoms: int) -> NDArray[np.intp] | None:
    """Types of the atoms of a set in DeePMD's mixed format, [n_atoms]; None in the plain one.

    Raises:
        DataError: frames of different atoms.
    """
    stored = _npy(folder, "real_atom_types.npy", False)
    if stored is None:
        return None
    name = folder / "real_atom_types.npy"
    if stored.size != n_frames * n_atoms:
        raise DataError(f"{name}: has {stored.size} numbers for {n_frames} frames.")
    types = stored.reshape(n_frames, n_atoms).astype(np.intp)
    other = np.flatnonzero((types != types[0]).any(axis=1))
    if other.size:
        raise DataError(
            f"{folder}: frame {other[0]} has other elements than frame 0, or another order "
            "(real_atom_types.npy); one data set holds one system: write a DeePMD system for each "
            "(dpdata: MultiSystems.load_systems_from_file, then to deepmd/npy)."
        )
    first: NDArray[np.intp] = types[0]
    return first


def _npy(folder: Path, name: str, required: bool) -> Array | None:
    path = folder / name
    if not path.exists():
        if required:
            raise DataError(f"{path}: is missing.")
        return None
    try:
        return np.asarray(np.load(path), dtype=np.float64)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error


def _load_npz(path: Path) -> Frames:
    """Our own file, or sGDML's layout: R (A), z, E and F in e_unit (kcal/mol where not given)."""
    try:
        data = dict(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    if {"symbols", "positions"} <= set(data):
        return load_npz(path)
    if not {"R", "z"} <= set(data):
        raise DataError(f"{path}: needs arrays R (positions, A) and z (atomic numbers).")
    unit = str(data["e_unit"]) if "e_unit" in data else "kcal/mol"
    factors = {"kcal/mol": KCAL_MOL_EV, "eV": 1.0, "ev": 1.0}
    if unit not in factors:
        raise DataError(f"{path}: e_unit is {unit!r}; kcal/mol and eV are understood.")
    n = len(data["R"])
    energy = np.asarray(data["E"], float).reshape(n) * factors[unit] if "E" in data else None
    forces = np.asarray(data["F"], float) * factors[unit] if "F" in data else None
    return Frames(
        symbols=tuple(chemical_symbols[int(z)] for z in data["z"]),
        positions=np.asarray(data["R"], float),
        energy=energy,
        forces=forces,
        source=str(path),
    )


def save_deepmd(frames: Frames, folder: str | Path) -> Path:
    """Write a DeePMD npy system (one set); isolated molecules get ``nopbc``.  The folder is new.

    Provenance goes beside it into ``provenance.npz``, in the order of the frames.
    """
    folder = Path(folder)
    (folder / "set.000").mkdir(parents=True)
    type_map = frames.species
    (folder / "type_map.raw").write_text("\n".join(type_map) + "\n")
    np.savetxt(folder / "type.raw", [type_map.index(s) for s in frames.symbols], fmt="%d")
    n = len(frames)
    if frames.cell is None:
        (folder / "nopbc").touch()
        # DeePMD wants a box file all the same; it is not used with nopbc.
        box = np.tile(np.eye(3).ravel() * 1000.0, (n, 1))
    else:
        box = frames.cell.reshape(n, 9)
    columns = {
        "coord": frames.positions.reshape(n, -1),
        "box": box,
        "energy": frames.energy,
        "force": None if frames.forces is None else frames.forces.reshape(n, -1),
        "virial": None if frames.virial is None else frames.virial.reshape(n, -1),
        "atom_ener": frames.atomic_energy,
    }
    for name, value in columns.items():
        if value is not None:
            np.save(folder / "set.000" / f"{name}.npy", value)
    if frames.info:
        columns_of_info: dict[str, Any] = dict(frames.info)
        np.savez(folder / "provenance.npz", **columns_of_info)
    return folder


def append_extxyz(
    handle: TextIO,
    symbols: Sequence[str],
    positions: Array,
    cell: Array | None,
    energy: float | None,
    forces: Array | None,
    virial: Array | None,
    info: Mapping[str, Any],
    atomic_energy: Array | None = None,
) -> None:
    """Append one frame of extended XYZ and flush it; per-atom energies as ASE's ``energies``.

    ASE's writer rounds positions to 8 digits; a label must belong to the coordinates written.
    """
    columns, rows = "species:S:1:pos:R:3", [positions]
    if forces is not None:
        columns, rows = columns + ":forces:R:3", [*rows, forces]
    if atomic_energy is not None:
        columns, rows = columns + ":energies:R:1", [*rows, atomic_energy[:, None]]
    words = [f"Properties={columns}"]
    if cell is not None:
        words.insert(0, f'Lattice="{_numbers(cell)}"')
    if energy is not None:
        words.append(f"energy={energy!r}")
    if virial is not None:
        # Nine numbers are a matrix by columns in extended XYZ.
        words.append(f'virial="{_numbers(virial.T)}"')
    for key, value in info.items():
        plain = value.item() if isinstance(value, np.generic) else value
        words.append(f'{key}="{plain}"' if isinstance(plain, str) else f"{key}={plain!r}")
    words.append('pbc="T T T"' if cell is not None else 'pbc="F F F"')
    lines = [str(len(symbols)), " ".join(words)]
    lines += [f"{s} {_numbers(row)}" for s, row in zip(symbols, np.hstack(rows), strict=True)]
    handle.write("\n".join(lines) + "\n")
    handle.flush()


def _numbers(values: Array) -> str:
    """Numbers that read back exactly."""
    return " ".join(repr(float(v)) for v in np.ravel(values))


def save_extxyz(frames: Frames, path: str | Path) -> Path:
    """Write extended XYZ with energies, forces, virials and provenance, at full precision."""
    path = Path(path)
    with path.open("w") as handle:
        for k in range(len(frames)):
            append_extxyz(
                handle,
                frames.symbols,
                frames.positions[k],
                None if frames.cell is None else frames.cell[k],
                None if frames.energy is None else float(frames.energy[k]),
                None if frames.forces is None else frames.forces[k],
                None if frames.virial is None else frames.virial[k],
                {key: column[k] for key, column in frames.info.items()},
                None if frames.atomic_energy is None else frames.atomic_energy[k],
            )
    return path


def save_npz(frames: Frames, path: str | Path) -> Path:
    """Write every array at full precision; the file between stages (extended XYZ rounds)."""
    path = Path(path)
    arrays: dict[str, Any] = {"symbols": np.asarray(frames.symbols), "positions": frames.positions}
    for name in ("cell", "energy", "forces", "virial", "atomic_energy"):
        if (value := getattr(frames, name)) is not None:
            arrays[name] = value
    arrays.update({f"info_{k}": v for k, v in frames.info.items()})
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as handle:
        np.savez(handle, **arrays)
    partial.replace(path)
    return path


def load_npz(path: str | Path) -> Frames:
    """Read what ``save_npz`` wrote."""
    path = Path(path)
    with np.load(path, allow_pickle=False) as data:
        arrays = {k: data[k] for k in data.files}
    info = {k[5:]: v for k, v in arrays.items() if k.startswith("info_")}
    named = {k: arrays.get(k) for k in ("cell", "energy", "forces", "virial", "atomic_energy")}
    return Frames(
        symbols=tuple(str(s) for s in arrays["symbols"]),
        positions=arrays["positions"],
        **named,
        info=info,
        source=str(path),
    )


def content_hash(frames: Frames) -> str:
    """SHA-256 over elements, positions, cell and labels."""
    digest = hashlib.sha256(" ".join(frames.symbols).encode())
    for array in (frames.positions, frames.cell, frames.energy, frames.forces, frames.virial):
        if array is not None:
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def check_distances(positions: Array, symbols: Sequence[str], where: str) -> None:
    """Refuse a structure whose atoms lie on each other.

    Raises:
        DataError: two atoms are closer than MIN_DISTANCE_ANG.
    """
    if len(symbols) < 2:
        return
    i, j = np.triu_indices(len(symbols), k=1)
    r = np.linalg.norm(positions[j] - positions[i], axis=1)
    k = int(np.argmin(r))
    if r[k] < MIN_DISTANCE_ANG:
        raise DataError(
            f"{where}: atoms {i[k] + 1} ({symbols[i[k]]}) and {j[k] + 1} ({symbols[j[k]]}) are "
            f"{r[k]:.3f} A apart; below {MIN_DISTANCE_ANG} A is a mistake in the structure."
        )


def _formula(symbols: Sequence[str]) -> str:
    known = [s for s in symbols if s in atomic_numbers]
    text = Atoms(known).get_chemical_formula() if known else "?"
    return re.sub(r"\s", "", text)
