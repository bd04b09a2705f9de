"""How far a set of frames spreads: the figures by which Herr 2018 compares samplers.

D = 1/r of every pair i < j (design section 3), in 1/A; of MAX_PAIRS pairs drawn at random where
there are more, so that a box of a thousand molecules needs no more memory than a molecule.  Ground:
the samplers' summary, the validation and the report all draw on these.

Reference: J. E. Herr, K. Yao, R. McIntyre, D. W. Toth, J. Parkhill, J. Chem. Phys. 148, 241710
(2018), figures 1 (running variance of D), 2 (energies) and 3 (principal components of D).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import svds

from metamd.errors import DataError
from metamd.frames import Array, Frames, pair_distances

#: Principal components are found from at most so many frames an arm (evenly spaced ones).
PCA_FRAMES = 2000
#: So many pairs stand for all of them; systems of up to 63 atoms have fewer.
MAX_PAIRS = 2000


def inverse_distances(frames: Frames) -> Array:
    """D = 1/r in 1/A, [n_frames, n_pairs]; nearest images in a cell.

    Of more than MAX_PAIRS pairs the same ones are drawn for all frames of as many atoms.
    """
    n = frames.n_atoms
    if n * (n - 1) // 2 <= MAX_PAIRS:
        return np.asarray(1.0 / frames.distances_ang)
    return np.asarray(1.0 / pair_distances(frames.positions, frames.cell, drawn_pairs(n)))


def drawn_pairs(n_atoms: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """MAX_PAIRS different pairs i < j, always the same ones for as many atoms."""
    n_pairs = n_atoms * (n_atoms - 1) // 2
    number = np.sort(np.random.default_rng(0).choice(n_pairs, MAX_PAIRS, replace=False))
    # Row i of the upper triangle begins at number i (2 n - i - 1) / 2.
    begin = np.arange(n_atoms) * (2 * n_atoms - np.arange(n_atoms) - 1) // 2
    i = np.searchsorted(begin, number, side="right") - 1
    return i, number - begin[i] + i + 1


def running_variance(frames: Frames) -> Array:
    """Mean over pairs of the variance of D over the frames up to each one, 1/A^2, [n_frames].

    The frames are one trajectory in its order.  The variance divides by the number of frames
    (Herr's expectation value), so the first entry is 0.
    """
    d = inverse_distances(frames)
    if not d.size:
        return np.zeros(len(frames))
    # About the overall mean: <D^2> - <D>^2 would lose digits otherwise.
    d = d - d.mean(axis=0)
    count = np.arange(1, len(frames) + 1)[:, None]
    mean = np.cumsum(d, axis=0) / count
    square = np.cumsum(d * d, axis=0) / count
    return np.asarray(np.maximum(square - mean * mean, 0.0).mean(axis=1))


def distance_variance(frames: Frames) -> float:
    """Mean over pairs of the variance of D over all frames, 1/A^2."""

    def compute() -> float:
        d = inverse_distances(frames)
        return float(d.var(axis=0).mean()) if d.size else 0.0

    # Every summary of a run asks again, of the arms of all iterations.
    return frames.once("distance_variance", compute)


def energy_percentile(energy: Array, zero_ev: float, percent: float = 95.0) -> float:
    """The energy in eV above ``zero_ev`` that this part of the frames stays below.

    Raises:
        DataError: no energies.
    """
    if not len(energy):
        raise DataError("No energies to take a percentile of.")
    return float(np.percentile(np.asarray(energy, float) - zero_ev, percent))


@dataclass(frozen=True)
class Histogram:
    """Energy distributions on common bins.

    Attributes:
        edges_ev: bin edges above the common zero, eV, [n_bins + 1].
        density: probability density of each arm, 1/eV, [n_bins]; integrates to the part of the
            frames that lie within the edges.
        zero_ev: the zero, eV.
    """

    edges_ev: Array
    density: dict[str, Array]
    zero_ev: float


def energy_histogram(
    energies: Mapping[str, Array],
    bins: int = 40,
    zero_ev: float | None = None,
    upper_percent: float = 99.0,
) -> Histogram:
    """Energies of several arms (eV, [n_frames] each) above a common zero, by default the lowest.

    The bins end where this part of the widest arm's frames is covered, so that one torn molecule
    does not squeeze all others into one bin.

    Raises:
        DataError: no energies at all.
    """
    given = {name: np.asarray(e, float) for name, e in energies.items() if len(e)}
    if not given:
        raise DataError("No energies for a histogram.")
    pooled = np.concatenate(list(given.values()))
    zero = float(pooled.min()) if zero_ev is None else zero_ev
    low = float(pooled.min() - zero)
    high = max(float(np.percentile(e - zero, upper_percent)) for e in given.values())
    if high - low < 1e-9:
        high = low + 1e-3
    edges = np.linspace(low, high, bins + 1)
    density = {
        name: np.histogram(e - zero, edges)[0] / (len(e) * np.diff(edges))
        for name, e in given.items()
    }
    return Histogram(edges, density, zero)


@dataclass(frozen=True)
class Components:
    """Principal components of D over several arms.

    Attributes:
        scores: projection of each arm's frames, 1/A, [n_frames, n_components].
        explained: part of the pooled variance that each component carries, [n_components].
        mean: 1/A, [n_pairs].
        axes: orthonormal rows, [n_components, n_pairs].
    """

    scores: dict[str, Array]
    explained: Array
    mean: Array
    axes: Array


def matrix_components(
    arms: Mapping[str, Frames], n_components: int = 2, max_frames: int = PCA_FRAMES
) -> Components:
    """Principal components of D, every arm with the same weight whatever its number of frames.

    Atoms keep their labels: turning a methyl group by 120 degrees is a different point here.
    The sign of a component makes its largest entry positive, so that figures can be compared.

    Raises:
        DataError: no frames, or arms of different atoms.
    """
    given = {name: frames for name, frames in arms.items() if len(frames)}
    if not given:
        raise DataError("No frames for principal components.")
    if len({frames.symbols for frames in given.values()}) > 1:
        raise DataError("Arms of different atoms have no common principal components.")
    sample = {name: inverse_distances(f[_evenly(len(f), max_frames)]) for name, f in given.items()}
    mean = np.mean([d.mean(axis=0) for d in sample.values()], axis=0)
    rows = np.concatenate([(d - mean) / np.sqrt(len(d)) for d in sample.values()])
    total, n = float((rows**2).sum()), min(n_components, *rows.shape)
    if total > 0 and n < min(rows.shape):
        # Two of hundreds are wanted, without all the others.  Ones would be no start: centred rows
        # add up to nothing.
        start = np.random.default_rng(0).normal(size=min(rows.shape))
        _, singular, axes = svds(rows, k=n, v0=start)
        singular, axes = singular[::-1], axes[::-1]
    else:
        _, singular, axes = np.linalg.svd(rows, full_matrices=False)
        singular, axes = singular[:n], axes[:n]
    axes = axes * np.sign(axes[np.arange(n), np.abs(axes).argmax(axis=1)])[:, None]
    explained = singular**2 / total if total > 0 else np.zeros(n)
    scores = {name: (inverse_distances(f) - mean) @ axes.T for name, f in given.items()}
    return Components(scores, np.asarray(explained), mean, axes)


def _evenly(n: int, at_most: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, n - 1, min(n, at_most)).round().astype(np.intp))
