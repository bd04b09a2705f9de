"""The improved training of flatten: select, train, look at the errors, select again (Fonseca 2021).

How a model is trained and how it predicts is the caller's: any model that gives forces will do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from metamd.config import Select
from metamd.errors import DataError
from metamd.frames import Array, Frames
from metamd.select.clusters import Clusters, broad_clusters, cluster_rmse
from metamd.select.flatten import flatten_round, staged_errors
from metamd.select.picks import Indices

#: Force RMSE, eV/A, of the frames with these indices.
ErrorsOf = Callable[[Indices], Array]


class Fit(Protocol):
    """Train on frames of the pool and give back how to find the model's errors."""

    def __call__(self, number: int, indices: Indices, last: bool) -> ErrorsOf: ...


@dataclass(frozen=True)
class Round:
    """One training set of the improved training.

    Attributes:
        number: 0 for the first, random set.
        indices: frames it was trained on, ascending, [n].
        reasons: why each of the frames added in this round was taken; by frame number.
        cluster_rmse_ev_per_ang: force RMSE of each cluster, frames of the training set left
            out, [n_clusters]; NaN where nothing was predicted.
        overall_rmse_ev_per_ang: of all clusters, each by its population.
        notes: what the choice of the next frames has to say.
    """

    number: int
    indices: Indices
    reasons: dict[int, str]
    cluster_rmse_ev_per_ang: Array
    overall_rmse_ev_per_ang: float
    notes: tuple[str, ...] = ()

    @property
    def worst_rmse_ev_per_ang(self) -> float:
        return float(np.nanmax(self.cluster_rmse_ev_per_ang))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; an unknown error is null."""
        return {
            "round": self.number,
            "frames": len(self.indices),
            "overall_rmse_ev_per_ang": self.overall_rmse_ev_per_ang,
            "worst_cluster_rmse_ev_per_ang": self.worst_rmse_ev_per_ang,
            "cluster_rmse_ev_per_ang": [
                float(e) if np.isfinite(e) else None for e in self.cluster_rmse_ev_per_ang
            ],
            "notes": list(self.notes),
        }


def round_sizes(start: int, step: int, count: int) -> list[int]:
    """Sizes of the training sets: 200, 300, ..., 1000 for ``start`` 200, ``step`` 100."""
    return [*range(start, count, step), count]


def flatten_rounds(
    frames: Frames,
    config: Select,
    fit: Fit,
    *,
    clusters: Clusters | None = None,
    after: Callable[[Round], None] | None = None,
) -> list[Round]:
    """Grow a training set where the model is worst (Fonseca 2021, section III).

    A model is trained on ``flatten.start`` random frames; each round adds ``flatten.step`` of
    them by ``flatten_round``, up to ``count``, and trains again.  The broad clusters stay.

    Args:
        frames: the pool, labelled.
        config: count, seed and the keys of ``flatten``.
        fit: trains a model and tells its errors.
        clusters: of ``broad_clusters``, where they are known.
        after: called after each round.

    Returns:
        One entry a training set; the last has ``count`` frames.

    Raises:
        DataError: no labels, or a pool that is not larger than the set that is asked for.
    """
    if not frames.labelled:
        raise DataError(f"{frames.source}: has no energies and forces, the pool must be labelled.")
    if not config.flatten.start <= config.count < len(frames):
        raise DataError(
            f"{frames.source}: cannot grow from {config.flatten.start} to {config.count} frames "
            f"in a pool of {len(frames)}."
        )
    if clusters is None:
        clusters = broad_clusters(frames, config.flatten, config.seed, config.sort_pairs)
    sizes = round_sizes(config.flatten.start, config.flatten.step, config.count)
    rng = np.random.default_rng(config.seed)
    indices = np.sort(rng.choice(len(frames), sizes[0], replace=False)).astype(np.intp)
    reasons = {int(k): "at random" for k in indices}
    rounds: list[Round] = []
    for number, size in enumerate(sizes):
        last = number == len(sizes) - 1
        errors_of = fit(number, indices, last)
        errors = staged_errors(frames, clusters, config, errors_of, indices)
        rmse, overall = cluster_rmse(clusters, errors)
        done = Round(number, indices, reasons, rmse, overall)
        if not last:
            more = flatten_round(
                frames, errors, indices, config, count=sizes[number + 1] - size, clusters=clusters
            )
            done = replace(done, notes=tuple(more.notes))
            reasons = {int(k): r for k, r in zip(more.indices, more.reasons, strict=True)}
            indices = np.sort(np.concatenate([indices, more.indices]))
        rounds.append(done)
        if after is not None:
            after(done)
    return rounds
