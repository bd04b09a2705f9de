"""Selection among frames that a model sampled: no true label yet, but an ensemble's opinion."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from metamd.config import Select
from metamd.ensemble import ensemble_predictions
from metamd.execution import Executor
from metamd.frames import Array, Frames
from metamd.predict import Predictions
from metamd.select import flatten_round, select
from metamd.select.deviation import trust_bands
from metamd.select.picks import Indices


@dataclass(frozen=True)
class Picked:
    """Frames chosen from one arm, with reasons, and what the ensemble thought of the arm.

    Attributes:
        indices: ascending, [count]; may be empty.
        reasons: one a frame.
        method: name of the selection method.
        notes: what a person should know.
        deviation: largest force deviation, eV/A: ``known``, ``candidates`` and ``lost`` (parts
            of the pool below, between and above the trust levels), ``median``, ``largest``;
            None where no ensemble was asked.
    """

    indices: Indices
    reasons: list[str]
    method: str
    notes: list[str] = field(default_factory=list)
    deviation: dict[str, float] | None = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "indices": self.indices.tolist(),
            "reasons": self.reasons,
            "method": self.method,
            "notes": self.notes,
            "deviation": self.deviation,
        }


def pick_unlabelled(
    frames: Frames,
    source: Path,
    models: list[Path],
    config: Select,
    folder: Path,
    executor: Executor,
) -> Picked:
    """Choose frames of one arm by what the ensemble says of them.

    Energies and forces that the engine left in ``frames`` are a model's.  They guide methods that
    look at energies or forces; none of them becomes a label.

    Args:
        frames: the pool, in the order of ``source``.
        source: its file.
        models: the ensemble.
        config: method and count; fewer frames come out where there are fewer candidates.
        folder: for the predictions.
    """
    predictions = ensemble_predictions(models, source, len(frames), folder, executor)
    bands = None
    if predictions.n_models > 1:
        deviation = predictions.max_force_deviation()
        bands = _bands(deviation, config)
    pool = _with_mean(frames, predictions)
    count = min(config.count, len(frames))
    notes: list[str] = []
    if config.method == "deviation":
        assert bands is not None
        candidates = round(bands["candidates"] * len(frames))
        notes.append(
            f"{bands['known']:.1%} of {len(frames)} frames are known to the models, "
            f"{bands['candidates']:.1%} candidates, {bands['lost']:.1%} too far off "
            f"(median deviation {bands['median']:.3g} eV/A)"
        )
        count = min(count, candidates)
    if count == 0:
        return Picked(np.array([], dtype=np.intp), [], config.method, notes, bands)
    config = config.model_copy(update={"count": count, "models": (), "predictions": ()})
    if config.method == "flatten":
        chosen = flatten_round(pool, deviation, (), config, count=count)
        notes.append("the largest force deviation of the ensemble stands for the error")
    else:
        chosen = select(pool, config, predictions=predictions)
    if config.method != "deviation":
        notes += chosen.notes
    return Picked(chosen.indices, chosen.reasons, config.method, notes, bands)


def _bands(deviation: Array, config: Select) -> dict[str, float]:
    known, candidates, lost = trust_bands(deviation, config)
    n = len(deviation)
    return {
        "known": len(known) / n,
        "candidates": len(candidates) / n,
        "lost": len(lost) / n,
        "median": float(np.median(deviation)),
        "largest": float(deviation.max()),
    }


def _with_mean(frames: Frames, predictions: Predictions) -> Frames:
    """The pool with the ensemble's mean in place of whatever the engine left."""
    assert predictions.energy is not None
    assert predictions.atomic_energy is not None
    return replace(
        frames,
        energy=predictions.energy.mean(axis=0),
        forces=predictions.forces.mean(axis=0),
        virial=None,
        atomic_energy=predictions.atomic_energy.mean(axis=0),
    )
