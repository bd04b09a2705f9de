"""Selection that flattens the error of a model over configurations (Fonseca 2021, section III).

Frames of clusters that the model predicts badly are clustered again, finely; the worst frame of
each of the worst fine clusters is taken.  ``flatten_round`` is one round; ``rounds.flatten_rounds``
trains in between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from metamd.config import Flatten, Select
from metamd.errors import DataError
from metamd.frames import Array, Frames
from metamd.select.clusters import (
    Clusters,
    Labels,
    broad_clusters,
    cluster_rmse,
    error_sample,
    ward_labels,
)
from metamd.select.picks import Indices, Picks, Pool, Selection, as_indices

#: A force RMSE above this part of the RMS force itself: the model knows nothing to build on.
POOR_EVERYWHERE = 0.3


def flatten_round(
    frames: Frames,
    force_errors: Array,
    already_chosen: Sequence[int] | Indices,
    config: Select,
    *,
    count: int | None = None,
    clusters: Clusters | None = None,
) -> Selection:
    """One round of the improved training: frames to add to the training set.

    Args:
        frames: the whole pool, labelled.
        force_errors: force RMSE of the present model on each frame, eV/A, [n_frames]; NaN where
            it was not predicted (``staged_errors`` saves predictions so).
        already_chosen: the present training set; not taken again, nor counted in errors.
        config: the keys of ``flatten``, and the seed.
        count: frames to take; by default ``flatten.step``, up to ``config.count`` in all.
        clusters: of ``broad_clusters``, when they are kept from an earlier round.

    Returns:
        Exactly ``count`` frames, ascending.  ``notes`` say when the model is poor everywhere, or
        equally good everywhere, so that flattening has nothing to gain.

    Raises:
        DataError: no labels, no errors, or fewer frames left than asked for.
    """
    chosen = as_indices(already_chosen)
    free = np.setdiff1d(np.arange(len(frames)), chosen)
    if count is None:
        count = min(config.flatten.step, config.count - len(chosen))
    if force_errors.shape != (len(frames),):
        raise DataError(
            f"{frames.source}: {force_errors.shape} force errors for {len(frames)} frames."
        )
    if not 0 < count <= len(free):
        raise DataError(
            f"{frames.source}: {count} frames were asked for, {len(chosen)} of {len(frames)} are "
            "chosen already."
        )
    if clusters is None:
        clusters = broad_clusters(frames, config.flatten, config.seed, config.sort_pairs)
    errors = force_errors.copy()
    errors[chosen] = np.nan
    if np.isfinite(errors).sum() < count:
        raise DataError(
            f"{frames.source}: errors of {np.isfinite(errors).sum()} frames are known, {count} "
            "were asked for."
        )
    bad, notes = bad_frames(frames, clusters, errors, config.flatten)
    bad = bad[np.isfinite(errors[bad])]
    rng = np.random.default_rng(config.seed)
    fine = ward_labels(
        clusters.points[bad], config.flatten.fine_clusters, config.flatten.subset, rng
    )
    picks = _worst_of(bad, fine, errors, count, config.flatten)
    _fill(picks, errors, count)
    order = np.argsort(picks.indices)
    return Selection(
        np.array(picks.indices, dtype=np.intp)[order],
        [picks.reasons[k] for k in order],
        "flatten",
        notes,
    )


def bad_frames(
    frames: Frames, clusters: Clusters, force_errors: Array, config: Flatten
) -> tuple[Indices, list[str]]:
    """Frames of the clusters above ``threshold`` x the overall force RMSE, and what to tell.

    Args:
        frames: with forces (for the RMS force; without them nothing is said about it).
        clusters: broad clusters of the frames.
        force_errors: force RMSE of each frame, eV/A, NaN where unknown or chosen already.
        config: the threshold.

    Returns:
        Ascending indices (all frames where no cluster stands out), and notes.
    """
    rmse, overall = cluster_rmse(clusters, force_errors)
    limit = config.threshold * overall
    above = np.flatnonzero(np.nan_to_num(rmse) > limit)
    worst = int(np.nan_to_num(rmse).argmax())
    notes = [
        f"Force RMSE {overall:.4g} eV/A overall, {rmse[worst]:.4g} in the worst of {clusters.n} "
        f"clusters; {len(above)} are above {config.threshold} x the overall error."
    ]
    if frames.forces is not None:
        rms = float(np.sqrt(np.mean(frames.forces**2)))
        if overall > POOR_EVERYWHERE * rms:
            notes.append(
                f"The model is poor everywhere: its force RMSE is {overall / rms:.0%} of the RMS "
                "force itself. Flattening gains nothing before it is better (Fonseca 2021, IV C): "
                "train longer or start with more frames."
            )
    if not len(above):
        notes.append("No cluster stands out, the error is flat already; all frames were used.")
        return np.arange(len(frames)), notes
    return np.flatnonzero(np.isin(clusters.labels, above)), notes


def staged_errors(
    frames: Frames,
    clusters: Clusters,
    config: Select,
    errors_of: Callable[[Indices], Array],
    already_chosen: Sequence[int] | Indices = (),
) -> Array:
    """Force errors where they matter, when predictions are costly.

    First ``flatten.error_subset`` frames of each cluster, then all frames of the bad clusters.

    Args:
        frames: the pool.
        clusters: broad clusters of it.
        config: ``flatten.error_subset`` (0: all frames at once) and the seed.
        errors_of: force RMSE of the frames with these indices, eV/A.
        already_chosen: the present training set, which is not predicted.

    Returns:
        [n_frames], eV/A, NaN where not predicted.
    """
    errors = np.full(len(frames), np.nan)
    chosen = as_indices(already_chosen)
    first = np.setdiff1d(error_sample(clusters, config.flatten.error_subset, config.seed), chosen)
    errors[first] = errors_of(first)
    bad, _ = bad_frames(frames, clusters, errors, config.flatten)
    more = np.setdiff1d(bad[~np.isfinite(errors[bad])], chosen)
    if len(more):
        errors[more] = errors_of(more)
    return errors


def pick_flatten(pool: Pool, config: Select, rng: np.random.Generator) -> Picks:
    """``count`` frames in one round, from the models' predictions (of several: their RMSE)."""
    if pool.predictions is None:
        raise DataError(
            f"{pool.source}: method flatten needs a model or stored predictions of the frames."
        )
    errors = pool.predictions.force_rmse(pool.frames)
    chosen = flatten_round(pool.frames, errors, pool.chosen, config, count=pool.count)
    return Picks([int(k) for k in chosen.indices], chosen.reasons, chosen.notes)


def _worst_of(
    bad: Indices, fine: Labels, errors: Array, count: int, config: Flatten
) -> Picks:  # fmt: skip
    """The worst frames of the worst fine clusters, as many of each as ``_shares`` says."""
    n = int(fine.max()) + 1
    size = np.bincount(fine, minlength=n)
    rmse = np.sqrt(np.bincount(fine, errors[bad] ** 2, minlength=n) / size)
    ranked = np.argsort(-rmse, kind="stable")
    if not config.weighted:
        ranked = ranked[: max(1, int(np.ceil(config.worst_fraction * n)))]
    shares = _shares(size[ranked], count, config.weighted)
    picks = Picks([], [])
    for rank, (cluster, share) in enumerate(zip(ranked, shares, strict=True)):
        members = bad[fine == cluster]
        for frame in members[np.argsort(-errors[members], kind="stable")][:share]:
            picks.indices.append(int(frame))
            picks.reasons.append(
                f"force RMSE {errors[frame]:.4g} eV/A in fine cluster {rank + 1} of {n} "
                f"({size[cluster]} frames, RMSE {rmse[cluster]:.4g})"
            )
    return picks


def _shares(sizes: NDArray[np.intp], count: int, weighted: bool) -> NDArray[np.intp]:
    """How many frames each cluster gives, worst cluster first; no more than it has.

    One each in turn, or by size with the largest remainders rounded up.
    """
    shares = np.zeros(len(sizes), dtype=np.intp)
    count = min(count, int(sizes.sum()))
    if weighted:
        exact = count * sizes / sizes.sum()
        shares = np.floor(exact).astype(np.intp)
        order = np.argsort(-(exact - shares), kind="stable")
    else:
        order = np.arange(len(sizes))
    while (missing := count - int(shares.sum())) > 0:
        room = order[shares[order] < sizes[order]][:missing]
        shares[room] += 1
    return shares


def _fill(picks: Picks, errors: Array, count: int) -> None:
    """The worst of the other frames, where the bad clusters hold too few."""
    missing = count - len(picks.indices)
    if missing <= 0:
        return
    rest = errors.copy()
    rest[picks.indices] = np.nan
    worst = np.argsort(-np.nan_to_num(rest, nan=-1.0), kind="stable")[:missing]
    for frame in worst:
        picks.indices.append(int(frame))
        picks.reasons.append(
            f"force RMSE {errors[frame]:.4g} eV/A, worst of the others (bad clusters are used up)"
        )
