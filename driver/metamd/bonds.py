"""The bond graph of a structure, and whether frames still have it.

Two atoms of the starting structure are bonded when they are closer than ``BOND_FACTOR`` times the
sum of their covalent radii (ASE's, Cordero 2008, Dalton Trans. 2832).  Later frames are judged
with hysteresis, so that the wide vibrations of hot or biased frames do not count: a bond is
broken only beyond ``BROKEN_FACTOR`` times that sum, and a new one formed only below
``FORMED_FACTOR`` times it.

Atoms of groups 1 and 2 (but for H and Be) bind ionically and form no bonds here: a salt melt has
an empty graph, which is always intact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from metamd.frames import Array, Frames, cell_of, minimum_image

#: Bonded at the start: closer than this times the sum of covalent radii (C-C 1.82 A, O-H 1.16 A).
BOND_FACTOR = 1.2
#: Broken: a bond of the start longer than this times the sum (C-C 2.43 A, C-H 1.71 A, O-H 1.55 A).
BROKEN_FACTOR = 1.6
#: Formed: a pair not bonded at the start closer than this times the sum (C-H 1.07 A, H-H 0.62 A).
FORMED_FACTOR = 1.0

_IONIC = frozenset(["Li", "Na", "K", "Rb", "Cs", "Fr", "Mg", "Ca", "Sr", "Ba", "Ra"])
#: Up to here all pairs are looked at; larger systems go through a neighbour list frame by frame.
_DENSE_ATOMS = 200


@dataclass(frozen=True)
class BondGraph:
    """Covalent bonds of a starting structure.

    Attributes:
        symbols: element of each atom, [n_atoms].
        bonds: indices i < j of bonded atoms, [n_bonds, 2].
        network: whether bonds run through the cell without end, as in a metal or in quartz; they
            may change in a melt, where those of molecules hold.
    """

    symbols: tuple[str, ...]
    bonds: NDArray[np.intp]
    network: bool = False

    @classmethod
    def of(cls, symbols: Sequence[str], positions: Array, cell: Array | None = None) -> BondGraph:
        """The graph of one structure: positions [n_atoms, 3] in A, cell [3, 3] in A or None."""
        i, j = _close_pairs(tuple(symbols), np.asarray(positions, float), cell, BOND_FACTOR)
        bonds = np.stack([i, j], axis=1) if len(i) else np.empty((0, 2), dtype=np.intp)
        network = cell is not None and _endless(tuple(symbols), np.asarray(positions, float), cell)
        return cls(tuple(symbols), bonds, network)

    @classmethod
    def of_atoms(cls, atoms: Atoms) -> BondGraph:
        """The graph of a structure in its cell, or without one."""
        return cls.of(atoms.get_chemical_symbols(), atoms.positions, cell_of(atoms))

    @cached_property
    def _limit_ang(self) -> Array:
        radii = _radii(self.symbols)
        i, j = self.bonds.T
        return np.asarray(BROKEN_FACTOR * (radii[i] + radii[j]))

    def lengths(self, positions: Array, cell: Array | None = None) -> Array:
        """Bond lengths in A, [n_frames, n_bonds], of positions [n_frames, n_atoms, 3]."""
        delta = positions[:, self.bonds[:, 1]] - positions[:, self.bonds[:, 0]]
        if cell is not None:
            delta = minimum_image(delta, cell)
        return np.asarray(np.sqrt(np.einsum("fbx,fbx->fb", delta, delta)))

    def intact(self, positions: Array, cell: Array | None = None) -> bool:
        """Whether one structure [n_atoms, 3] still has this graph (no bond broken, none formed)."""
        box = None if cell is None else np.asarray(cell, float)[None]
        return bool(self.intact_mask(np.asarray(positions, float)[None], box)[0])

    def intact_mask(self, positions: Array, cell: Array | None = None) -> NDArray[np.bool_]:
        """``intact`` of every frame: positions [n_frames, n_atoms, 3] to [n_frames]."""
        ok = np.ones(len(positions), dtype=np.bool_)
        if not len(self.bonds):
            return ok
        ok &= np.isfinite(positions).all(axis=(1, 2))
        ok &= (self.lengths(positions, cell) < self._limit_ang).all(axis=1)
        return ok & ~self._formed_mask(positions, cell, ok)

    def intact_frames(self, frames: Frames) -> NDArray[np.bool_]:
        """``intact`` of every frame of a Frames object, [n_frames]."""
        return self.intact_mask(frames.positions, frames.cell)

    def changes(self, positions: Array, cell: Array | None = None) -> list[str]:
        """What is no longer so in one structure, in words; empty when it is intact.

        Atoms are numbered from 1: ``bond C1-H4 broken (2.31 A)``.
        """
        positions = np.asarray(positions, float)
        box = None if cell is None else np.asarray(cell, float)[None]
        out: list[str] = []
        if not len(self.bonds):
            return out
        length = self.lengths(positions[None], box)[0]
        for k in np.flatnonzero(~(length < self._limit_ang)):
            out.append(f"bond {self._pair(*self.bonds[k])} broken ({length[k]:.2f} A)")
        if np.isfinite(positions).all():
            for i, j in self._formed_pairs(positions, cell):
                out.append(f"bond {self._pair(i, j)} formed")
        return out

    def _pair(self, i: int, j: int) -> str:
        return f"{self.symbols[i]}{i + 1}-{self.symbols[j]}{j + 1}"

    def _formed_pairs(self, positions: Array, cell: Array | None) -> list[tuple[int, int]]:
        i, j = _close_pairs(self.symbols, positions, cell, FORMED_FACTOR)
        n_atoms = len(self.symbols)
        known = self.bonds[:, 0] * n_atoms + self.bonds[:, 1]
        new = ~np.isin(i * n_atoms + j, known)
        return list(zip(i[new].tolist(), j[new].tolist(), strict=True))

    def _formed_mask(
        self, positions: Array, cell: Array | None, look: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Frames (of those to look at) in which a bond has formed."""
        out = np.zeros(len(positions), dtype=np.bool_)
        n_atoms = len(self.symbols)
        if n_atoms > _DENSE_ATOMS:
            for f in np.flatnonzero(look):
                out[f] = bool(self._formed_pairs(positions[f], None if cell is None else cell[f]))
            return out
        i, j = np.triu_indices(n_atoms, k=1)
        radii = _radii(self.symbols)
        limit = FORMED_FACTOR * (radii[i] + radii[j])
        bonded = set(map(tuple, self.bonds.tolist()))
        free = np.array([p not in bonded for p in zip(i.tolist(), j.tolist(), strict=True)], bool)
        free &= limit > 0
        i, j, limit = i[free], j[free], limit[free]
        if not len(i):
            return out
        index = np.flatnonzero(look)
        chunk = max(1, 2_000_000 // len(i))
        for start in range(0, len(index), chunk):
            part = index[start : start + chunk]
            delta = positions[part][:, j] - positions[part][:, i]
            if cell is not None:
                delta = minimum_image(delta, cell[part])
            out[part] = (np.einsum("fpx,fpx->fp", delta, delta) < limit**2).any(axis=1)
        return out


def _radii(symbols: tuple[str, ...]) -> Array:
    """Covalent radii in A, [n_atoms]; so far below zero for ionic atoms that no sum is positive."""
    return np.array(
        [-100.0 if s in _IONIC else float(covalent_radii[atomic_numbers[s]]) for s in symbols]
    )


def _close_pairs(
    symbols: tuple[str, ...], positions: Array, cell: Array | None, factor: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs i < j closer than factor times the sum of covalent radii, each pair once."""
    radii = _radii(symbols)
    reach = 2 * factor * float(radii.max(initial=0.0))
    if cell is None or (_right_angled(cell) and 2 * reach < np.diag(cell).min()):
        # Ten times as fast as a neighbour list with all images, which trajectories of liquids feel.
        i, j = _near_pairs(positions, cell, reach)
        delta = positions[j] - positions[i]
        if cell is not None:
            delta = minimum_image(delta[None], cell[None])[0]
        close = np.linalg.norm(delta, axis=1) < factor * (radii[i] + radii[j])
        return i[close], j[close]
    i, j, _ = _contacts(symbols, positions, cell, factor)
    pairs = np.unique(np.stack([i, j], axis=1)[i < j], axis=0)
    return pairs[:, 0], pairs[:, 1]


def _right_angled(cell: Array) -> bool:
    return float(np.abs(cell - np.diag(np.diag(cell))).max()) < 1e-9


def _near_pairs(
    positions: Array, cell: Array | None, reach: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs i < j not further apart than ``reach`` (A), in order; nearest images in the cell."""
    lengths = None if cell is None else np.diag(cell)
    if lengths is not None:
        positions = positions % lengths
        positions = np.where(positions < lengths, positions, 0.0)  # rounded up to the border
    pairs = cKDTree(positions, boxsize=lengths).query_pairs(reach, output_type="ndarray")
    pairs = np.sort(pairs, axis=1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    return pairs[:, 0], pairs[:, 1]


def _contacts(
    symbols: tuple[str, ...], positions: Array, cell: Array | None, factor: float
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Close pairs in both orders and with all images: i, j, and the cells between, [n, 3]."""
    atoms = Atoms(symbols, positions, cell=cell, pbc=cell is not None)
    radii = np.maximum(_radii(symbols), 0.0)
    i, j, shift = neighbor_list("ijS", atoms, list(factor * radii))
    # A radius of 0 still binds to a neighbour within that neighbour's own radius: drop ionic atoms.
    keep = (radii[i] > 0) & (radii[j] > 0)
    return i[keep].astype(np.intp), j[keep].astype(np.intp), shift[keep].astype(np.intp)


def _endless(symbols: tuple[str, ...], positions: Array, cell: Array) -> bool:
    """Whether a way along bonds leads from an atom to an image of itself."""
    i, j, shift = _contacts(symbols, positions, cell, BOND_FACTOR)
    neighbours: list[list[tuple[int, Any]]] = [[] for _ in symbols]
    for a, b, s in zip(i.tolist(), j.tolist(), shift, strict=True):
        neighbours[a].append((b, s))
    # Each atom's image in the molecule of the first that was reached, as a number of cells.
    image = np.zeros((len(symbols), 3), dtype=np.intp)
    seen: set[int] = set()
    for root in range(len(symbols)):
        waiting = [] if root in seen else [root]
        seen.add(root)
        while waiting:
            a = waiting.pop()
            for b, s in neighbours[a]:
                if b not in seen:
                    seen.add(b)
                    image[b] = image[a] + s
                    waiting.append(b)
    return bool((image[i] + shift != image[j]).any())
