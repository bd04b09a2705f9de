"""Frames: what every stage passes on.  One composition, many configurations, with provenance."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any, TypeVar

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.data import atomic_numbers
from ase.geometry import minkowski_reduce
from numpy.typing import NDArray

from metamd.errors import DataError

Array = NDArray[np.float64]
T = TypeVar("T")

#: Two atoms closer than this are a mistake in the input, not chemistry.
MIN_DISTANCE_ANG = 0.4

#: A cell is flat below this; one atom takes several A^3.
MIN_VOLUME_ANG3 = 1e-3

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
    _known: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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
        if self.cell is not None and n:
            flat = np.flatnonzero(np.abs(np.linalg.det(self.cell)) < MIN_VOLUME_ANG3)
            if flat.size:
                raise DataError(
                    f"{self.source}: frame {flat[0]} is periodic, but its cell has no volume; give "
                    "all three cell vectors, also across a slab or along a wire."
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

    def once(self, key: Hashable, compute: Callable[[], T]) -> T:
        """What ``compute`` gives for these frames; remembered under ``key``."""
        if key not in self._known:
            self._known[key] = compute()
        known: T = self._known[key]
        return known

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


def pair_distances(
    positions: Array,
    cell: Array | None,
    pairs: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None,
) -> Array:
    """Distances of pairs (i, j), A, [n_frames, n_pairs]; nearest image in a cell.

    All pairs i < j where none are given, in the order of ``Frames.pairs``.
    """
    i, j = np.triu_indices(positions.shape[1], k=1) if pairs is None else pairs
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

    Rounding of fractional coordinates; in a skewed cell then the 27 neighbours, which are enough
    once the cell is Minkowski-reduced (the longer the cell leans over, the farther its nearest
    image is in its own vectors).
    """
    skewed = np.abs(cell * (1 - np.eye(3))).max(initial=0.0) >= 1e-10
    if skewed and (leaning := _leaning(cell)).any():
        cell = np.array(cell, dtype=np.float64)
        cell[leaning] = [_reduced(one.tobytes()) for one in cell[leaning]]
    frac = np.einsum("fpx,fxy->fpy", delta, np.linalg.inv(cell))
    frac -= np.round(frac)
    best = np.einsum("fpx,fxy->fpy", frac, cell)
    if not skewed:
        return np.asarray(best)
    norm = np.einsum("fpx,fpx->fp", best, best)
    base = best.copy()
    for shift in np.ndindex(3, 3, 3):
        trial = base + np.einsum("x,fxy->fy", np.array(shift, float) - 1.0, cell)[:, None]
        trial_norm = np.einsum("fpx,fpx->fp", trial, trial)
        closer = trial_norm < norm
        best[closer], norm[closer] = trial[closer], trial_norm[closer]
    return np.asarray(best)


def cell_of(atoms: Atoms) -> Array | None:
    """The cell of a periodic structure, A, [3, 3]; None for an isolated molecule."""
    return np.array(atoms.cell) if atoms.pbc.any() else None


def _leaning(cell: Array) -> NDArray[np.bool_]:
    """Cells [f, 3, 3] that are not reduced: some sum of vectors is shorter than one in it."""
    sums = np.array([n for n in np.ndindex(3, 3, 3) if n != (1, 1, 1)]) - 1
    length = np.linalg.norm(np.einsum("kx,fxy->fky", sums.astype(float), cell), axis=2)
    edge = np.linalg.norm(cell, axis=2)
    longest = np.where(sums != 0, edge[:, None, :], 0.0).max(axis=2)
    return np.asarray((length < longest * (1 - 1e-12)).any(axis=1))


@lru_cache(maxsize=4096)
def _reduced(cell: bytes) -> Array:
    """Short vectors of the same lattice, [3, 3]; remembered, since frames share cells."""
    short: Array = minkowski_reduce(np.frombuffer(cell).reshape(3, 3))[0]
    return short


def concatenate(
    parts: Sequence[Frames], source: str | None = None, *, drop_labels: bool = False
) -> Frames:
    """Join frames of one composition.

    Args:
        parts: one or more.
        source: of the joined frames; that of the first by default.
        drop_labels: leave out, without a word, labels that some parts lack, for work that needs
            none.

    Raises:
        DataError: no parts, parts of different atoms or boundary conditions, or energies or
            forces that some parts have and others lack.  Of virials and energies by atom, which
            few references give, only a warning is given.
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
    if not drop_labels:
        _tell_missing_labels(parts)

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


def _tell_missing_labels(parts: Sequence[Frames]) -> None:
    """Refuse energies or forces that only some parts have; warn of other labels that go."""
    for name in ("energy", "forces", "virial", "atomic_energy"):
        without = [part.source for part in parts if getattr(part, name) is None]
        if len(without) in (0, len(parts)):
            continue
        having = next(part.source for part in parts if getattr(part, name) is not None)
        what = f"{without[0]}: has no {name.replace('atomic_energy', 'atomic energies')}"
        if name in ("energy", "forces"):
            raise DataError(f"{what}, {having} has.")
        warnings.warn(f"{what}, {having} has; they are left out.", stacklevel=3)


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
