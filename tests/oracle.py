"""The method written down once more in numpy, to check the C++ against.

It follows the formulas, not the C++: every pair by a double loop's arrays, nearest
images by trying all of them, and no derivative derived by hand. Gradients are complex
steps, V(x + ih).imag / h, exact to rounding because every formula here is analytic.

Angstrom, eV; cells hold a lattice vector a row; W = - sum_ij r_ij (x) dV/dr_ij.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

STEP = 1e-30  # of the complex step: there is no difference of large numbers to fear


@dataclass
class Matrix:
    """Which pairs of which atoms, and what an element is."""

    species: list[str]
    metric: str = "INVERSE"
    cutoff_ang: float | None = None
    r_on_ang: float | None = None
    group_a: list[int] | None = None  # 0-based; None: every atom with every other
    group_b: list[int] | None = None
    exclude_species: list[str] = field(default_factory=list)
    exclude_pairs: list[list[int]] = field(default_factory=list)

    def pairs(self) -> np.ndarray:
        """[n_pairs, 2], i < j, each pair once."""
        n = len(self.species)
        a = set(range(n) if self.group_a is None else self.group_a)
        b = set(range(n) if self.group_b is None else self.group_b)
        out_elements = {tuple(sorted(p.split("-"))) for p in self.exclude_species}
        out_pairs = {tuple(sorted(p)) for p in self.exclude_pairs}
        keep = [
            (i, j)
            for i, j in itertools.combinations(range(n), 2)
            if ((i in a and j in b) or (j in a and i in b))
            and tuple(sorted((self.species[i], self.species[j]))) not in out_elements
            and (i, j) not in out_pairs
        ]
        return np.array(keep, dtype=int)

    def vectors(self, x: np.ndarray, cell: np.ndarray | None) -> np.ndarray:
        """r_j - r_i to the nearest image; x [n_atoms, 3], cell [3, 3] -> [n_pairs, 3]."""
        i, j = self.pairs().T
        d = x[j] - x[i]
        if cell is None:
            return d
        # A skewed cell may need more than one vector each way.
        shifts = np.array(list(itertools.product(range(-3, 4), repeat=3)))
        wrapped = d - np.round(d.real @ np.linalg.inv(cell.real)) @ cell
        images = wrapped[:, None, :] + (shifts @ cell)[None, :, :]
        best = np.argmin(np.sum(images.real**2, axis=2), axis=1)
        return images[np.arange(len(d)), best]

    def distances(self, x: np.ndarray, cell: np.ndarray | None) -> np.ndarray:
        return np.sqrt(np.sum(self.vectors(x, cell) ** 2, axis=1))

    def elements(self, r: np.ndarray) -> np.ndarray:
        """D of distances r; for SCREENED what is stored of a hill is r itself."""
        if self.metric != "INVERSE":
            return r
        d = 1 / r
        if self.cutoff_ang is None:
            return d
        on = 0.8 * self.cutoff_ang if self.r_on_ang is None else self.r_on_ang
        t = (r - on) / (self.cutoff_ang - on)
        s = 1 - 10 * t**3 + 15 * t**4 - 6 * t**5
        s = np.where(r.real <= on, 1.0 + 0 * t, np.where(r.real >= self.cutoff_ang, 0 * t, s))
        return s * d

    def at(self, x: np.ndarray, cell: np.ndarray | None) -> np.ndarray:
        return self.elements(self.distances(x, cell))


@dataclass
class Hill:
    height_ev: float
    positions_ang: np.ndarray
    cell_ang: np.ndarray | None


def sigmas(text: str, matrix: Matrix) -> np.ndarray:
    """A width for every pair from ``0.2`` or ``0.2,C-H:0.1``."""
    rest, by_pair = None, {}
    for term in text.split(","):
        if ":" in term:
            name, value = term.split(":")
            by_pair[tuple(sorted(name.split("-")))] = float(value)
        else:
            rest = float(term)
    out = []
    for i, j in matrix.pairs():
        key = tuple(sorted((matrix.species[i], matrix.species[j])))
        out.append(by_pair.get(key, rest))
    return np.array(out, dtype=float)


def bias(
    matrix: Matrix, sigma: str, hills: list[Hill], x: np.ndarray, cell: np.ndarray | None
) -> complex:
    """V = sum_a h_a exp(-1/2 sum_ij (D - D^a)^2 / sigma^2)."""
    r = matrix.distances(x, cell)
    d = matrix.elements(r)
    widths = sigmas(sigma, matrix)
    weight = 1 / (1 + r**2) if matrix.metric == "SCREENED" else np.ones_like(r)
    total = 0.0
    for hill in hills:
        da = matrix.at(hill.positions_ang, hill.cell_ang)
        total += hill.height_ev * np.exp(-0.5 * np.sum(weight * (d - da) ** 2 / widths**2))
    return total


Function = Callable[[np.ndarray, np.ndarray | None], complex]


def gradient(f: Function, x: np.ndarray, cell: np.ndarray | None) -> np.ndarray:
    """df/dx, [n_atoms, 3]."""
    out = np.zeros_like(x)
    for index in np.ndindex(*x.shape):
        moved = x.astype(complex)
        moved[index] += 1j * STEP
        out[index] = np.imag(f(moved, cell)) / STEP
    return out


def virial(f: Function, x: np.ndarray, cell: np.ndarray | None) -> np.ndarray:
    """W = - df/d(strain), [3, 3]: strain moves atoms and cell alike."""
    out = np.zeros((3, 3))
    for k, m in np.ndindex(3, 3):
        strain = np.eye(3, dtype=complex)
        strain[k, m] += 1j * STEP
        moved_cell = None if cell is None else cell @ strain
        out[k, m] = -np.imag(f(x @ strain, moved_cell)) / STEP
    return out


def mean(matrix: Matrix, x: np.ndarray, cell: np.ndarray | None) -> complex:
    return np.mean(matrix.at(x, cell))


def distance(
    matrix: Matrix,
    reference: np.ndarray,
    ref_cell: np.ndarray | None,
    x: np.ndarray,
    cell: np.ndarray | None,
) -> complex:
    return np.sqrt(np.sum((matrix.at(x, cell) - matrix.at(reference, ref_cell)) ** 2))
