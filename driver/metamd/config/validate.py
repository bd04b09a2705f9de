"""What a model is held against."""

from __future__ import annotations

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from metamd.config.base import Seed, Table


class Validate(Table):
    """What a model is worth, on frames it has not seen and in dynamics."""

    checks: tuple[Literal["cross_errors", "stability"], ...] = ("cross_errors", "stability")
    """Which checks run."""
    usable_force_error_ev_per_ang: PositiveFloat = 0.1
    """Above this force RMSE on any test set the verdict says: not usable."""
    temperatures_k: tuple[PositiveFloat, ...] = (300.0, 500.0)
    """Temperatures of the stability runs, K."""
    steps: PositiveInt = 20000
    """Steps of a stability run."""
    timestep_fs: PositiveFloat = 0.5
    """Time step of a stability run, fs."""
    seed: Seed = 1
    """Seed of the stability runs."""
