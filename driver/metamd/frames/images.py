"""Frames from and to ASE's images: extended XYZ, and whatever else ASE reads."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from ase import Atoms

from metamd.errors import DataError
from metamd.frames.core import Array, Frames
from metamd.units import virial_from_ase_stress

#: Prefixes of labels that are not ASE's own: MACE's, then those of GAP and others.
LABEL_PREFIXES = ("REF_", "dft_", "DFT_")

_LABEL_NAMES = {
    "energy": ("energy",),
    "forces": ("forces", "force"),
    "virial": ("virial", "virials"),
    "stress": ("stress",),
}


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
            virials.append(virial_from_ase_stress(s, atoms.cell.volume))
        else:
            virials.append(None)

    def column(values: list[Any], what: str) -> Array | None:
        missing = [k for k, v in enumerate(values) if v is None]
        if len(missing) == len(values):
            return None
        if missing:
            raise DataError(f"{source}: frame {missing[0]} has no {what}, others have.")
        return np.asarray(values, dtype=np.float64)

    if periodic and not all(atoms.pbc.all() for atoms in images):
        warnings.warn(
            f"{source}: is periodic along some cell vectors only; it is taken as periodic along "
            "all three.",
            stacklevel=3,
        )
    keys = set.intersection(*others)
    info = {}
    for key in sorted(keys):
        if np.ndim(images[0].info[key]) == 0:
            told = np.asarray([atoms.info[key] for atoms in images])
            # Objects (None, dictionaries) are no columns of a file.
            if told.dtype != object:
                info[key] = told
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


def _labels(atoms: Atoms) -> tuple[dict[str, Any], set[str]]:
    """Labels of an image, and which keys of ``info`` they are: ASE's own, else those of a prefix.

    An energy and its forces come from one place: the first that has both (ASE's own, then each
    prefix), else the first that has either.
    """
    own = dict(atoms.calc.results) if atoms.calc is not None else {}
    if "virial" in atoms.info:
        own["virial"] = atoms.info["virial"]
    places = [(own, {"virial"}), *(_prefixed(atoms, prefix) for prefix in LABEL_PREFIXES)]
    for wanted in (2, 1):
        for found, keys in places:
            if len({"energy", "forces"} & set(found)) >= wanted:
                return found, keys
    return places[0]


def _prefixed(atoms: Atoms, prefix: str) -> tuple[dict[str, Any], set[str]]:
    """Labels of an image under a prefix, and their keys."""
    keys = {
        what: prefix + name
        for what, names in _LABEL_NAMES.items()
        for name in names
        if prefix + name in (atoms.arrays if what == "forces" else atoms.info)
    }
    found = {
        what: atoms.arrays[key] if what == "forces" else atoms.info[key]
        for what, key in keys.items()
    }
    return found, set(keys.values())


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
