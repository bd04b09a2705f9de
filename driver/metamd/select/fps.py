"""Farthest-point selection in matrix space."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from metamd.config import Select
from metamd.descriptor import features
from metamd.errors import DataError
from metamd.frames import Array
from metamd.select.picks import Indices, Picks, Pool


def farthest_points(
    points: Array, count: int, start: Indices, skip_start: bool = False
) -> tuple[NDArray[np.intp], Array]:
    """Greedy farthest-point order.

    Args:
        points: [n, d].
        count: how many to return.
        start: points the set begins with; every next point is the one whose distance to the
            nearest point of the set is largest (the first of equals).
        skip_start: leave ``start`` out of what is returned.

    Returns:
        Indices [count] in the order taken, and the distance of each to the set before it
        (inf for the points of ``start``).  Shorter where all points left are in the set already.
    """
    # Centred, so that |x|^2 - 2 x.c + |c|^2 does not cancel: one pass over the data a point.
    x = points - points.mean(axis=0)
    norm = np.einsum("nd,nd->n", x, x)
    nearest = np.full(len(x), np.inf)
    taken: list[int] = [] if skip_start else [int(k) for k in start[:count]]
    gaps: list[float] = [np.inf] * len(taken)
    # What rounding leaves of the squared distance of two equal points.
    zero = 1e-13 * max(float(norm.max()), float(np.finfo(np.float64).tiny))

    def add(k: int) -> None:
        np.minimum(nearest, norm - 2.0 * (x @ x[k]) + norm[k], out=nearest)
        nearest[k] = -1.0

    for k in start:
        add(int(k))
    while len(taken) < count:
        k = int(nearest.argmax())
        if nearest[k] <= zero:
            break
        taken.append(k)
        gaps.append(float(np.sqrt(nearest[k])))
        add(k)
    return np.array(taken, dtype=np.intp), np.array(gaps)


def pick_fps(pool: Pool, config: Select, rng: np.random.Generator) -> Picks:
    """Farthest points of the 1/r (or r) matrix, begun at a random frame or at those chosen.

    Raises:
        DataError: fewer different frames than asked for.
    """
    points = features(pool.frames, config.metric, config.sort_pairs)
    unit = "1/A" if config.metric == "INVERSE" else "A"
    if len(pool.chosen):
        order, gaps = farthest_points(points, pool.count, pool.chosen, skip_start=True)
    else:
        first = np.array([rng.choice(pool.free)])
        order, gaps = farthest_points(points, pool.count, first)
    if len(order) < pool.count:
        raise DataError(
            f"{pool.source}: only {len(order)} frames differ in their distances, {pool.count} "
            "were asked for; the others are copies."
        )
    reasons = [
        f"farthest point {rank + 1}: {gap:.4g} {unit} from the nearest chosen"
        if np.isfinite(gap)
        else "farthest point 1: random start"
        for rank, gap in enumerate(gaps)
    ]
    return Picks([int(k) for k in order], reasons)
