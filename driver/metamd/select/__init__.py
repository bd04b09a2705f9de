"""Selection: which frames of a pool are worth a label or a place in the training set.

``select`` is the one entry; ``METHODS`` holds every method under its name in the run file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metamd.config import Select
from metamd.errors import DataError
from metamd.frames import Frames
from metamd.predict import Predictions
from metamd.select.deviation import pick_deviation
from metamd.select.flatten import flatten_round, pick_flatten
from metamd.select.fps import pick_fps
from metamd.select.picks import Indices, Method, Picks, Pool, Selection, as_indices
from metamd.select.plain import pick_random, pick_time
from metamd.select.uniform import pick_atomic_energy, pick_energy, pick_force

__all__ = ["METHODS", "Selection", "flatten_round", "select"]

METHODS: dict[str, Method] = {
    "random": pick_random,
    "time": pick_time,
    "energy": pick_energy,
    "atomic-energy": pick_atomic_energy,
    "force": pick_force,
    "fps": pick_fps,
    "deviation": pick_deviation,
    "flatten": pick_flatten,
}


def select(
    frames: Frames,
    config: Select,
    *,
    predictions: Predictions | None = None,
    already_chosen: Sequence[int] | Indices = (),
) -> Selection:
    """Choose exactly ``config.count`` frames; the same seed gives the same frames.

    Args:
        frames: the pool, labelled where the method needs it.
        config: method, count, seed and the keys of the method.
        predictions: of models, for the frames in their order (deviation, flatten; the others
            where the frames themselves have no labels).
        already_chosen: frames taken earlier; they are not taken again.

    Returns:
        Ascending unique indices with a reason each.

    Raises:
        DataError: fewer frames than asked for, or labels or predictions missing.
    """
    chosen = as_indices(already_chosen)
    if len(chosen) and not (chosen[0] >= 0 and chosen[-1] < len(frames)):
        raise DataError(f"{frames.source}: frame {chosen[-1]} is chosen already but not there.")
    free = np.setdiff1d(np.arange(len(frames)), chosen)
    if config.count > len(free):
        left = f"{len(free)} of its {len(frames)}" if len(chosen) else str(len(free))
        raise DataError(
            f"{frames.source}: {config.count} frames were asked for, the pool has {left}."
        )
    if predictions is not None and len(predictions) != len(frames):
        raise DataError(
            f"{predictions.sources[0]}: predicts {len(predictions)} frames, {frames.source} has "
            f"{len(frames)}."
        )
    pool = Pool(frames, chosen, free, config.count, predictions)
    picks = METHODS[config.method](pool, config, np.random.default_rng(config.seed))
    return _checked(picks, pool, config.method)


def _checked(picks: Picks, pool: Pool, method: str) -> Selection:
    """Sorted, and proof against a method that breaks its promise."""
    indices = np.array(picks.indices, dtype=np.intp)
    order = np.argsort(indices, kind="stable")
    if len(indices) != pool.count or not np.isin(indices, pool.free).all():
        raise DataError(f"{pool.source}: method {method} found {len(indices)} of {pool.count}.")
    if len(np.unique(indices)) != len(indices):
        raise DataError(f"{pool.source}: method {method} took a frame twice.")
    return Selection(indices[order], [picks.reasons[k] for k in order], method, picks.notes)
