"""Clusters and flatten: against scikit-learn, brute force, and a pool with a known bad corner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import adjusted_rand_score

from metamd.config import Flatten, Select
from metamd.errors import DataError
from metamd.frames import Frames
from metamd.predict import Predictions
from metamd.select import flatten_round, select
from metamd.select.clusters import (
    broad_clusters,
    cluster_rmse,
    nearest_average,
    ward_labels,
)
from metamd.select.flatten import _shares, staged_errors

SMALL = Flatten(geometry_clusters=3, energy_clusters=2, fine_clusters=20, subset=1000)


def two_wells(n: int = 400, rare: int = 40) -> tuple[Frames, np.ndarray]:
    """A chain of four atoms, bent in the last ``rare`` frames; which frames are bent."""
    rng = np.random.default_rng(0)
    straight = np.array([[0.0, 0, 0], [1.2, 0, 0], [2.4, 0, 0], [3.6, 0, 0]])
    bent = np.array([[0.0, 0, 0], [1.2, 0, 0], [1.2, 1.2, 0], [0.0, 1.2, 0]])
    is_bent = np.arange(n) >= n - rare
    base = np.where(is_bent[:, None, None], bent, straight)
    shift = 0.04 * rng.normal(size=(n, 4, 3))
    energy = 15.0 * np.einsum("nax,nax->n", shift, shift) + 0.3 * is_bent
    frames = Frames(tuple("CCOH"), base + shift, energy=energy, forces=-30 * shift, source="wells")
    return frames, is_bent


def test_ward_is_sklearns() -> None:
    points = np.random.default_rng(1).normal(size=(300, 6))
    theirs = AgglomerativeClustering(n_clusters=7, linkage="ward").fit_predict(points)
    ours = ward_labels(points, 7, 1000, np.random.default_rng(0))
    assert adjusted_rand_score(theirs, ours) == 1.0
    assert list(np.bincount(ours)) == sorted(np.bincount(ours), reverse=True)


def test_the_rest_joins_the_cluster_of_least_average_distance() -> None:
    rng = np.random.default_rng(2)
    points = rng.normal(size=(500, 5)) + 3.0 * rng.integers(0, 3, size=(500, 1)) + 100.0
    sample, rest = np.arange(0, 500, 5), np.setdiff1d(np.arange(500), np.arange(0, 500, 5))
    labels = rng.integers(0, 4, size=len(sample)) * 2
    distance = np.linalg.norm(points[rest][:, None] - points[sample][None], axis=2)
    average = np.array([distance[:, labels == k].mean(axis=1) for k in (0, 2, 4, 6)])
    expected = np.array([0, 2, 4, 6])[average.argmin(axis=0)]
    gap = np.diff(np.sort(average, axis=0)[:2], axis=0)[0]
    clear = gap > 1e-4
    assert clear.mean() > 0.95
    assert (nearest_average(points, rest, sample, labels)[clear] == expected[clear]).all()


def test_a_subset_finds_the_same_wells() -> None:
    frames, is_bent = two_wells()
    small = SMALL.model_copy(update={"geometry_clusters": 2, "subset": 60})
    clusters = broad_clusters(frames, small)
    assert clusters.n == 4
    for cluster in range(4):
        assert len(set(is_bent[clusters.members(cluster)])) == 1
        assert clusters.representative(cluster) in clusters.members(cluster)
    assert frames.energy is not None
    # Inside a Ward cluster the energy brackets do not overlap.
    low, high = clusters.members(0), clusters.members(1)
    assert clusters.geometry[0] == clusters.geometry[1]
    assert frames.energy[low].max() < frames.energy[high].min()
    pca = broad_clusters(frames, small.model_copy(update={"pca_components": 2}))
    assert pca.points.shape == (400, 2)
    assert adjusted_rand_score(pca.geometry[pca.labels], is_bent) == 1.0


def test_cluster_rmse_weights_clusters_by_population() -> None:
    frames, _ = two_wells()
    clusters = broad_clusters(frames, SMALL)
    errors = np.random.default_rng(0).random(len(frames))
    rmse, overall = cluster_rmse(clusters, errors)
    assert overall == pytest.approx(np.sqrt(np.mean(errors**2)))
    for cluster in range(clusters.n):
        inside = errors[clusters.members(cluster)]
        assert rmse[cluster] == pytest.approx(np.sqrt(np.mean(inside**2)))
    some = np.where(np.arange(len(frames)) % 2, errors, np.nan)
    assert cluster_rmse(clusters, some)[1] == pytest.approx(overall, rel=0.1)


def test_a_round_takes_the_worst_frame_of_the_worst_fine_clusters() -> None:
    frames, is_bent = two_wells()
    errors = np.random.default_rng(3).uniform(0.01, 0.02, len(frames))
    errors[is_bent] *= 10
    config = Select(method="flatten", count=10, flatten=SMALL)
    chosen = flatten_round(frames, errors, [], config, count=10)
    assert is_bent[chosen.indices].all()
    assert int(errors.argmax()) in chosen.indices
    again = flatten_round(frames, errors, chosen.indices, config, count=10)
    assert not set(again.indices) & set(chosen.indices)
    # More than the bad corner holds: all of it, then the worst of the others.
    many = flatten_round(frames, errors, [], config, count=60)
    assert len(many) == 60
    assert set(np.flatnonzero(is_bent)) <= set(many.indices)
    default = flatten_round(frames, errors, range(5), config.model_copy(update={"count": 12}))
    assert len(default) == 7


def test_weighted_picks_follow_cluster_sizes() -> None:
    assert list(_shares(np.array([50, 30, 20]), 10, True)) == [5, 3, 2]
    assert list(_shares(np.array([1, 98, 1]), 50, True)) == [1, 49, 0]
    assert list(_shares(np.array([3, 1, 9]), 7, False)) == [3, 1, 3]
    assert _shares(np.array([3, 1]), 9, False).sum() == 4
    frames, is_bent = two_wells()
    errors = np.where(is_bent, 0.2, 0.01)
    weighted = SMALL.model_copy(update={"weighted": True, "fine_clusters": 4})
    chosen = flatten_round(frames, errors, [], Select(count=12, flatten=weighted), count=12)
    assert is_bent[chosen.indices].all()


def test_only_bad_clusters_are_predicted_in_full() -> None:
    frames, is_bent = two_wells()
    true = np.where(is_bent, 0.2, 0.01)
    config = Select(flatten=SMALL.model_copy(update={"error_subset": 5}))
    clusters = broad_clusters(frames, config.flatten)
    asked: list[int] = []

    def errors_of(indices: np.ndarray) -> np.ndarray:
        asked.extend(indices)
        return true[indices]

    errors = staged_errors(frames, clusters, config, errors_of)
    assert len(asked) == len(set(asked)) < 0.3 * len(frames)
    assert np.isfinite(errors[is_bent]).all()
    assert np.isnan(errors[~is_bent]).sum() > 250
    chosen = flatten_round(frames, errors, [], config, count=10, clusters=clusters)
    assert is_bent[chosen.indices].all()


def test_notes_say_when_there_is_nothing_to_gain() -> None:
    frames, _ = two_wells()
    assert frames.forces is not None
    config = Select(method="flatten", count=10, flatten=SMALL)
    zero = Predictions(None, np.zeros((1, *frames.forces.shape)), None, ("zero",))
    poor = select(frames, config, predictions=zero)
    assert any("poor everywhere" in note for note in poor.notes)
    flat = flatten_round(frames, np.full(len(frames), 0.01), [], config, count=10)
    assert any("flat already" in note for note in flat.notes)
    with pytest.raises(DataError, match="needs a model or stored predictions"):
        select(frames, config)
    with pytest.raises(DataError, match="wells: has no energies"):
        select(replace(frames, energy=None), config, predictions=zero)
