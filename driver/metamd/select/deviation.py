"""Selection by the disagreement of an ensemble between two trust levels (DP-GEN, Zhang 2020)."""

from __future__ import annotations

import numpy as np

from metamd.config import Select
from metamd.errors import DataError
from metamd.frames import Array
from metamd.select.picks import Indices, Picks, Pool


def trust_bands(deviation: Array, config: Select) -> tuple[Indices, Indices, Indices]:
    """Frames the models know, candidates for a label, and frames too far off.

    Args:
        deviation: largest force deviation of each frame, eV/A, [n_frames].
        config: the two trust levels; a candidate has lower <= deviation < upper.

    Returns:
        Three index arrays that hold every frame once.
    """
    known = deviation < config.trust_lower_ev_per_ang
    lost = deviation >= config.trust_upper_ev_per_ang
    return np.flatnonzero(known), np.flatnonzero(~known & ~lost), np.flatnonzero(lost)


def pick_deviation(pool: Pool, config: Select, rng: np.random.Generator) -> Picks:
    """Candidates at random.

    Raises:
        DataError: no predictions of two models, or fewer candidates than asked for.
    """
    if pool.predictions is None:
        raise DataError(
            f"{pool.source}: method deviation needs models or stored predictions, two or more."
        )
    deviation = pool.predictions.max_force_deviation()
    known, candidates, lost = (
        np.intersect1d(band, pool.free) for band in trust_bands(deviation, config)
    )
    low, high = config.trust_lower_ev_per_ang, config.trust_upper_ev_per_ang
    counts = (
        f"{len(known)} frames deviate by less than {low} eV/A, {len(candidates)} by {low} to "
        f"{high}, {len(lost)} by more (median {np.median(deviation[pool.free]):.4g}, largest "
        f"{deviation[pool.free].max():.4g})"
    )
    if len(candidates) < pool.count:
        raise DataError(
            f"{pool.source}: {pool.count} frames were asked for, but only {len(candidates)} are "
            f"between the trust levels: {counts}."
        )
    picked = rng.choice(candidates, pool.count, replace=False)
    reasons = [f"largest force deviation {deviation[k]:.4g} eV/A" for k in picked]
    return Picks([int(k) for k in picked], reasons, [counts + "."])
