"""Pair-distance features of frames: the distance matrix, its names, its principal components.

Everything here starts from ``Frames.distances_ang``, which is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh

from metamd.errors import DataError, InputError
from metamd.frames import Array, Frames

Metric = Literal["INVERSE", "DISTANCE"]


def pair_name(a: str, b: str) -> str:
    """Name of a pair of elements in either order: ``pair_name("H", "C") == "C-H"``."""
    return "-".join(sorted((a, b)))


def pair_columns(symbols: Sequence[str]) -> dict[str, NDArray[np.intp]]:
    """Columns of ``Frames.distances_ang`` that belong to each pair of elements, by its name."""
    names = np.array([pair_name(a, b) for a, b in combinations(symbols, 2)])
    return {str(name): np.flatnonzero(names == name) for name in np.unique(names)}


def features(frames: Frames, metric: Metric = "DISTANCE", sort_pairs: bool = False) -> Array:
    """The matrix of each frame as a vector.

    Args:
        frames: n_frames configurations.
        metric: ``DISTANCE`` r in A or ``INVERSE`` 1/r in 1/A (Herr 2018, eq. 1).
        sort_pairs: sort inside each pair of elements, so that like atoms are interchangeable.

    Returns:
        [n_frames, n_pairs]; do not change it in place, it may be the frames' own array.

    Raises:
        DataError: frames of one atom.
    """
    if frames.n_atoms < 2:
        raise DataError(f"{frames.source}: has one atom; there are no distances to compare.")
    out = frames.distances_ang
    if sort_pairs:
        out = out.copy()
        for columns in pair_columns(frames.symbols).values():
            out[:, columns] = np.sort(out[:, columns], axis=1)
    return 1.0 / out if metric == "INVERSE" else out


@dataclass(frozen=True)
class Pca:
    """Principal components of a set of feature vectors.

    Attributes:
        mean: [n_features].
        components: [n_components, n_features], orthonormal rows, largest variance first; the
            largest entry of each is positive.
        variances: [n_components], in squared units of the features.
        total_variance: of all components together.
    """

    mean: Array
    components: Array
    variances: Array
    total_variance: float

    def project(self, values: Array) -> Array:
        """Coordinates [n, n_components] of feature vectors [n, n_features]."""
        return (values - self.mean) @ self.components.T


def fit_pca(values: Array, n_components: int) -> Pca:
    """Principal components of feature vectors [n, n_features].

    Raises:
        InputError: more components than there are features, or fewer than two vectors.
    """
    n, width = values.shape
    if n < 2:
        raise InputError(f"Principal components need two frames or more, not {n}.")
    if not 1 <= n_components <= width:
        raise InputError(f"{n_components} principal components of {width} pairs are not possible.")
    mean = values.mean(axis=0)
    centred = values - mean
    covariance = centred.T @ centred / (n - 1)
    variances, vectors = eigh(covariance, subset_by_index=(width - n_components, width - 1))
    components = vectors.T[::-1]
    largest = np.abs(components).argmax(axis=1)
    components = components * np.sign(components[np.arange(n_components), largest])[:, None]
    return Pca(
        mean=mean,
        components=components,
        variances=np.clip(variances[::-1], 0.0, None),
        total_variance=float(np.trace(covariance)),
    )


def save_pca(pca: Pca, n_atoms: int, metric: Metric, path: str | Path) -> Path:
    """Write components for ``PCA=`` of the PLUMED action INVERSE_DISTANCE_MATRIX.

    Args:
        pca: over all pairs i < j of ``n_atoms`` atoms, in the order of ``Frames.pairs``.
        n_atoms: atoms of GROUP.
        metric: METRIC of the action.
        path: file; one line a pair, i j (from 1) mean c_1 c_2 ...
    """
    i, j = np.triu_indices(n_atoms, k=1)
    explained = " ".join(f"{v / pca.total_variance:.4f}" for v in pca.variances)
    lines = [
        "# principal components of the distance matrix, by metamd pca",
        f"# part of the variance: {explained}",
        f"metric {metric}",
        f"atoms {n_atoms}",
        f"pairs {len(i)}",
        f"components {len(pca.components)}",
    ]
    for p, (a, b) in enumerate(zip(i, j, strict=True)):
        numbers = " ".join(f"{c:.17g}" for c in (pca.mean[p], *pca.components[:, p]))
        lines.append(f"{a + 1} {b + 1} {numbers}")
    path = Path(path)
    path.write_text("\n".join(lines) + "\n")
    return path
