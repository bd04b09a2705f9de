"""Selection that looks at no property: at random and evenly in time."""

from __future__ import annotations

import numpy as np

from metamd.config import Select
from metamd.select.picks import Picks, Pool


def pick_random(pool: Pool, config: Select, rng: np.random.Generator) -> Picks:
    """Uniformly at random, without replacement (Tovey, section 2.1)."""
    picked = rng.choice(pool.free, pool.count, replace=False)
    return Picks([int(k) for k in picked], ["at random"] * pool.count)


def pick_time(pool: Pool, config: Select, rng: np.random.Generator) -> Picks:
    """Evenly spaced along the trajectories.

    Frames are put in the order file, arm, walker, step where these are known (else the order they
    come in) and cut into ``count`` equal stretches; the middle frame of each is taken, so neither
    the start nor the end of a trajectory is favoured.
    """
    info = pool.frames.info
    keys = [info[k][pool.free] for k in ("step", "walker", "arm", "file") if k in info]
    order = pool.free[np.lexsort(keys)] if keys else pool.free
    middle = ((np.arange(pool.count) + 0.5) * len(order) / pool.count).astype(int)
    reasons = [f"stretch {k + 1} of {pool.count} in time" for k in range(pool.count)]
    return Picks([int(k) for k in order[middle]], reasons)
