"""Selection evenly over a property: global energy, atomic energy, force (Tovey, section 2)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from metamd.config import Select
from metamd.errors import DataError
from metamd.frames import Array
from metamd.select.picks import Picks, Pool


@dataclass(frozen=True)
class _Group:
    """Values that share bins: all atoms of an element, or all frames.

    ``values``, ``frames`` and ``atoms`` (-1 for a whole frame) are [n].
    """

    name: str
    values: Array
    frames: NDArray[np.intp]
    atoms: NDArray[np.intp]


@dataclass
class _Bin:
    number: int
    members: deque[int]


def _draw(groups: list[_Group], pool: Pool, bins: int, rng: np.random.Generator) -> Picks:
    """Frames of members drawn evenly: groups in turn, the bins of each in turn, then at random.

    A bin that runs dry is left out from then on, so that the histogram is as flat as the pool
    allows.  A member whose frame is taken already is passed over.
    """
    # Never more bins than draws, or it would be chance which parts of the range are seen.
    n_bins = max(1, min(bins, pool.count // len(groups)))
    cycles = [deque(_bins(group, n_bins, rng)) for group in groups]
    taken: dict[int, str] = {}
    while len(taken) < pool.count:
        for group, cycle in zip(groups, cycles, strict=True):
            if len(taken) < pool.count:
                _draw_one(group, cycle, taken, n_bins)
    return Picks(list(taken), list(taken.values()))


def _bins(group: _Group, n_bins: int, rng: np.random.Generator) -> list[_Bin]:
    """The bins with something in them, in random order, each in random order."""
    low, high = float(group.values.min()), float(group.values.max())
    width = (high - low) / n_bins or 1.0
    number = np.minimum((group.values - low) / width, n_bins - 1).astype(int)
    order = rng.permutation(len(number))
    order = order[np.argsort(number[order], kind="stable")]
    edges = np.flatnonzero(np.diff(number[order])) + 1
    parts = [part for part in np.split(order, edges) if len(part)]
    return [
        _Bin(int(number[parts[k][0]]), deque(int(m) for m in parts[k]))
        for k in rng.permutation(len(parts))
    ]


def _draw_one(group: _Group, cycle: deque[_Bin], taken: dict[int, str], n_bins: int) -> None:
    """Take the next frame of this group, if it still has one."""
    while cycle:
        box = cycle.popleft()
        while box.members:
            member = box.members.popleft()
            frame = int(group.frames[member])
            if frame not in taken:
                atom = int(group.atoms[member])
                what = f"{group.name} of atom {atom + 1}" if atom >= 0 else group.name
                taken[frame] = (
                    f"{what} {group.values[member]:.6g}, bin {box.number + 1} of {n_bins}"
                )
                cycle.append(box)
                return


def _refuse_constant(groups: list[_Group], pool: Pool, what: str) -> None:
    """Zero variance: nothing to be even over."""
    for group in groups:
        scale = max(1.0, float(np.abs(group.values).max()))
        if np.ptp(group.values) > 1e-9 * scale:
            return
    raise DataError(
        f"{pool.source}: {what} is the same in all {len(pool.free)} frames "
        f"({groups[0].values[0]:.6g} in frame {pool.free[0]}); frames cannot be chosen evenly "
        "over it."
    )


def _atom_groups(values: Array, pool: Pool, what: str) -> list[_Group]:
    """One group an element from values [n_free, n_atoms]."""
    symbols = np.array(pool.frames.symbols)
    groups = []
    for element in pool.frames.species:
        atoms = np.flatnonzero(symbols == element)
        groups.append(
            _Group(
                f"{what} ({element})",
                values[:, atoms].ravel(),
                np.repeat(pool.free, len(atoms)),
                np.tile(atoms, len(pool.free)),
            )
        )
    return groups


def _labels(name: str, own: Array | None, predicted: Array | None, pool: Pool) -> tuple[Array, str]:
    """The frames' own values [n_frames, ...], else the models' mean, and a note on which."""
    if own is not None:
        return own, ""
    if predicted is not None:
        return predicted.mean(axis=0), f"{name} as predicted by the models, not of the reference."
    raise DataError(
        f"{pool.source}: frame 0 has no {name} (nor has any other); give labelled frames or "
        "models that predict it."
    )


def _picks(groups: list[_Group], what: str, note: str, pool: Pool, config: Select,
           rng: np.random.Generator) -> Picks:  # fmt: skip
    _refuse_constant(groups, pool, what)
    picks = _draw(groups, pool, config.bins, rng)
    picks.notes += [note] if note else []
    return picks


def pick_energy(pool: Pool, config: Select, rng: np.random.Generator) -> Picks:
    """Evenly over bins of the global energy, eV (Tovey, section 2.2)."""
    predicted = None if pool.predictions is None else pool.predictions.energy
    energy, note = _labels("energy", pool.frames.energy, predicted, pool)
    whole = np.full(len(pool.free), -1)
    groups = [_Group("energy (eV)", energy[pool.free], pool.free, whole)]
    return _picks(groups, "energy", note, pool, config, rng)


def pick_atomic_energy(pool: Pool, config: Select, rng: np.random.Generator) -> Picks:
    """Evenly over bins of atomic energies, eV, of each element (Tovey, section 2.3).

    An atom is drawn and brings its frame.  Without atomic energies of the reference those of
    the models are used, and a note says so.
    """
    predicted = None if pool.predictions is None else pool.predictions.atomic_energy
    values, note = _labels("atomic energy", pool.frames.atomic_energy, predicted, pool)
    groups = _atom_groups(values[pool.free], pool, "atomic energy, eV")
    return _picks(groups, "atomic energy", note, pool, config, rng)


def pick_force(pool: Pool, config: Select, rng: np.random.Generator) -> Picks:
    """Evenly over bins of the force on an atom, eV/A, of each element (Tovey, section 2.4)."""
    predicted = None if pool.predictions is None else pool.predictions.forces
    forces, note = _labels("forces", pool.frames.forces, predicted, pool)
    magnitude: Array = np.linalg.norm(forces[pool.free], axis=2)
    groups = _atom_groups(magnitude, pool, "force, eV/A")
    return _picks(groups, "force", note, pool, config, rng)
