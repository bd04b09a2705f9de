"""Clusters of frames by geometry and energy (Fonseca 2021, sections II and III)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

from metamd.config import Flatten
from metamd.descriptor import features, fit_pca
from metamd.errors import DataError
from metamd.frames import Array, Frames

Labels = NDArray[np.intp]

#: Numbers in one block of the distances to the clustered subset: 64 MB in single precision.
_BLOCK = 16_000_000


@dataclass(frozen=True)
class Clusters:
    """A partition of frames.

    Attributes:
        labels: cluster of each frame, 0 ... n-1, [n_frames].
        geometry: Ward cluster that each cluster is a part of, [n].
        points: what was clustered, [n_frames, d]: distances in A or their components.
    """

    labels: Labels
    geometry: NDArray[np.intp]
    points: Array

    @property
    def n(self) -> int:
        return len(self.geometry)

    @property
    def population(self) -> NDArray[np.intp]:
        """Frames in each cluster, [n]."""
        return np.bincount(self.labels, minlength=self.n)

    def members(self, cluster: int) -> NDArray[np.intp]:
        return np.flatnonzero(self.labels == cluster)

    def representative(self, cluster: int) -> int:
        """The frame of a cluster that lies nearest to its centre."""
        members = self.members(cluster)
        inside = self.points[members]
        off = np.linalg.norm(inside - inside.mean(axis=0), axis=1)
        return int(members[off.argmin()])


def cluster_points(frames: Frames, config: Flatten, sort_pairs: bool = False) -> Array:
    """What is clustered: pair distances, A, or their first principal components, [n, d]."""
    points = features(frames, "DISTANCE", sort_pairs)
    if config.pca_components:
        points = fit_pca(points, config.pca_components).project(points)
    return points


def broad_clusters(
    frames: Frames, config: Flatten, seed: int = 1, sort_pairs: bool = False
) -> Clusters:
    """Ward clusters on pair distances, each cut by k-means on energy (Fonseca, section III).

    With the defaults 10 x 5 clusters; fewer where there are not as many different frames.

    Args:
        frames: with energies.
        config: numbers of clusters, size of the subset that Ward sees, PCA.
        seed: of the subset and of k-means.
        sort_pairs: see ``metamd.descriptor.features``.

    Raises:
        DataError: no energies.
    """
    from sklearn.cluster import KMeans

    if frames.energy is None:
        raise DataError(f"{frames.source}: has no energies, clusters need them.")
    rng = np.random.default_rng(seed)
    points = cluster_points(frames, config, sort_pairs)
    broad = ward_labels(points, config.geometry_clusters, config.subset, rng)
    labels = np.empty(len(frames), dtype=np.intp)
    geometry: list[int] = []
    for cluster in range(int(broad.max()) + 1):
        members = np.flatnonzero(broad == cluster)
        energy = frames.energy[members][:, None]
        k = min(config.energy_clusters, len(np.unique(energy)))
        fit = KMeans(n_clusters=k, n_init=4, random_state=seed).fit(energy)
        rank = np.argsort(np.argsort(fit.cluster_centers_[:, 0]))
        labels[members] = rank[fit.labels_] + len(geometry)
        geometry += [cluster] * k
    return Clusters(labels, np.array(geometry, dtype=np.intp), points)


def ward_labels(points: Array, n_clusters: int, subset: int, rng: np.random.Generator) -> Labels:
    """Agglomerative clusters with Ward linkage and Euclidean metric, the largest first.

    Ward needs every distance, so only ``subset`` random points are clustered so; each of the
    others joins the cluster to whose points its average distance is least.

    Args:
        points: [n, d].
        n_clusters: how many; fewer where there are not as many different points.
        subset: at most this many points go through Ward (memory 8 subset^2 / 2 bytes).
        rng: draws the subset.

    Returns:
        [n], 0 ... n_clusters-1.
    """
    n = len(points)
    if n <= 1 or n_clusters == 1:
        return np.zeros(n, dtype=np.intp)
    sample = np.arange(n) if n <= subset else np.sort(rng.choice(n, subset, replace=False))
    tree = linkage(points[sample], method="ward")
    inner = fcluster(tree, min(n_clusters, len(sample)), criterion="maxclust") - 1
    if n <= subset:
        return _largest_first(inner)
    labels = np.empty(n, dtype=np.intp)
    labels[sample] = inner
    rest = np.setdiff1d(np.arange(n), sample, assume_unique=True)
    labels[rest] = nearest_average(points, rest, sample, inner)
    return _largest_first(labels)


def nearest_average(
    points: Array, rest: NDArray[np.intp], sample: NDArray[np.intp], labels: Labels
) -> Labels:
    """Cluster of least average distance for points outside a clustered sample.

    Args:
        points: [n, d].
        rest: points to place, [m].
        sample: points with a cluster, [s].
        labels: their clusters, [s].

    Returns:
        [m].
    """
    order = np.argsort(labels, kind="stable")
    starts = np.flatnonzero(np.diff(labels[order], prepend=-1))
    counts = np.diff(np.append(starts, len(order)))
    # Single precision: an average over many distances does not need more, and it halves the time.
    centre = points.mean(axis=0)
    known = (points[sample[order]] - centre).astype(np.float32)
    known_norm = np.einsum("sd,sd->s", known, known)
    out = np.empty(len(rest), dtype=np.intp)
    step = max(1, _BLOCK // len(known))
    for start in range(0, len(rest), step):
        part = rest[start : start + step]
        x = (points[part] - centre).astype(np.float32)
        square = x @ known.T
        square *= -2.0
        square += known_norm
        square += np.einsum("md,md->m", x, x)[:, None]
        np.maximum(square, 0.0, out=square)
        np.sqrt(square, out=square)
        average = np.add.reduceat(square, starts, axis=1) / counts
        out[start : start + step] = labels[order][starts][average.argmin(axis=1)]
    return out


def _largest_first(labels: Labels) -> Labels:
    """Numbers without gaps, by falling population (the lower old number first among equals)."""
    _, dense = np.unique(labels, return_inverse=True)
    rank = np.empty(int(dense.max()) + 1, dtype=np.intp)
    rank[np.argsort(-np.bincount(dense), kind="stable")] = np.arange(len(rank))
    return np.asarray(rank[dense], dtype=np.intp)


def error_sample(clusters: Clusters, per_cluster: int, seed: int) -> NDArray[np.intp]:
    """At most ``per_cluster`` random frames of each cluster, ascending; 0: all frames."""
    if per_cluster == 0:
        return np.arange(len(clusters.labels))
    rng = np.random.default_rng(seed)
    parts = []
    for cluster in range(clusters.n):
        members = clusters.members(cluster)
        parts.append(rng.choice(members, min(per_cluster, len(members)), replace=False))
    return np.sort(np.concatenate(parts))


def cluster_rmse(clusters: Clusters, force_errors: Array) -> tuple[Array, float]:
    """Force RMSE of each cluster and of all frames, eV/A.

    Args:
        clusters: n clusters.
        force_errors: force RMSE of each frame, eV/A, [n_frames]; NaN where not predicted.

    Returns:
        [n] (NaN for a cluster without predictions), and the overall RMSE with every cluster
        weighted by its population.
    """
    known = np.isfinite(force_errors)
    if not known.any():
        raise DataError("No frame has a predicted force.")
    square = np.where(known, np.nan_to_num(force_errors), 0.0) ** 2
    total = np.bincount(clusters.labels, square, minlength=clusters.n)
    count = np.bincount(clusters.labels, known, minlength=clusters.n)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
    there = count > 0
    population = clusters.population[there]
    overall = float(np.sqrt((mean[there] * population).sum() / population.sum()))
    return np.sqrt(mean), overall
