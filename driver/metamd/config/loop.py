"""Active learning: what is repeated, what is carried over, and when it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from metamd.config.base import Table
from metamd.config.select import Select


class LoopSelect(Select):
    """Which frames of the iterations that sample with a model are worth a label."""

    method: Literal[
        "random", "time", "energy", "atomic-energy", "force", "fps", "deviation", "flatten"
    ] = "deviation"
    """As in ``[select]``; frames have no true labels yet, so ``flatten`` takes the largest force
    deviation of the ensemble for the error, and ``energy``, ``force``, ``atomic-energy`` go by
    the model's values."""
    count: PositiveInt = 200
    """Frames taken from each arm, at most: there may be fewer candidates."""


class Loop(Table):
    """Sample with the last models, label what they do not know, train again."""

    iterations: PositiveInt = 1
    """Most iterations; 1 is a single pass without a loop."""
    data: tuple[Path, ...] = ()
    """Labelled frames of this reference to begin with: iteration 0 then samples test arms only.
    A few of the labels are computed again and must agree."""
    models: tuple[Path, ...] = ()
    """A frozen DeePMD ensemble to begin with: iteration 0 then samples with it and selects like
    the later ones."""
    engine: Literal["model", "arm"] = "model"
    """What later iterations sample with: the last ensemble's first model, or still what each
    arm names."""
    select: LoopSelect = LoopSelect()
    """Selection of the iterations that sample with a model."""
    hills: Literal["fresh", "carry", "ramp"] = "fresh"
    """Hills of a biased walker: begun anew; the same walker's of the last iteration kept; kept
    and grown from zero over ``ramp_steps``."""
    ramp_steps: PositiveInt = 1000
    """Steps over which carried hills (and new ones) grow with hills = "ramp"."""
    training: Literal["cold", "warm"] = "cold"
    """Later models start from random weights, or from those of the last iteration."""
    warm_steps: PositiveInt | None = None
    """Training steps of a warm start; none: ``train.steps``."""
    warm_learning_rate: PositiveFloat | None = None
    """Learning rate at the beginning of a warm start; none: ``train.start_learning_rate``."""
    stop_candidate_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """End before training when, of the newly sampled frames, a smaller part than this deviates
    by more than ``loop.select.trust_lower_ev_per_ang``."""
    stop_force_error_ev_per_ang: PositiveFloat | None = None
    """End when the force RMSE on every ``role = "test"`` arm is below this.  Such an arm is
    sampled in iteration 0 and nothing is ever trained on it."""
    max_reference_calls: PositiveInt | None = None
    """Budget of single points: labels, rechecks and steps of walkers that the reference moves.
    The loop labels no more than are left and ends when none are."""

    @model_validator(mode="after")
    def _fits(self) -> Loop:
        if self.data and self.models:
            raise ValueError("data and models are two ways to begin, give one of them")
        if len(self.models) == 1 and self.select.method in ("deviation", "flatten"):
            raise ValueError(
                f'select.method = "{self.select.method}" needs two models or more that disagree'
            )
        return self
