"""Labels, training and held-out sets, DeePMD training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from metamd.config.base import Seed, Table


class Label(Table):
    """Single points of the reference."""

    batch: PositiveInt = 100
    """Frames a task."""
    reuse: bool = True
    """Take over energies and forces that the reference itself gave while sampling; a few of
    them are computed again and must agree."""
    recheck: PositiveInt = 5
    """How many taken-over labels of each arm are computed again."""
    recheck_tolerance_ev_per_ang: PositiveFloat = 1e-3
    """Largest difference in a force for which a taken-over label counts as agreeing; the noise
    of the reference's own convergence must lie below, a bias lies far above."""


class Dataset(Table):
    """Training and held-out frames: contiguous blocks of each trajectory."""

    heldout_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    """Part of each walker's trajectory that no model is trained on."""
    blocks: PositiveInt = 5
    """Contiguous blocks a trajectory is cut into; the last part of each is held out."""
    gap: Annotated[int, Field(ge=0)] = 2
    """Frames dropped on each border, so that neighbours do not fall on both sides."""


class Train(Table):
    """DeePMD training."""

    datasets: Literal["each", "all"] = "each"
    """``each``: one ensemble an arm, for comparison; ``all``: one ensemble on all arms pooled."""
    models: PositiveInt = 2
    """Models an ensemble, differing in their seeds."""
    steps: PositiveInt = 40000
    """Training steps (batches)."""
    backend: Literal["tensorflow", "pytorch"] = "tensorflow"
    """DeePMD back-end; PyTorch needs the extra ``metamd[torch]``."""
    deepmd: Path | None = None
    """A DeePMD input file passed through; what it leaves out is filled in."""
    cutoff_ang: PositiveFloat = 6.0
    """Cutoff of the descriptor, A."""
    batch_size: PositiveInt = 4
    """Frames a batch."""
    start_learning_rate: PositiveFloat = 2e-3
    """Learning rate at the start."""
    stop_learning_rate: PositiveFloat = 1e-6
    """Learning rate at the end; it decays exponentially in between."""
    energy_only: bool = False
    """Leave forces out of the loss (Herr 2018 trained so)."""
    compress: bool = True
    """Compress the frozen model (tabulated embedding; TensorFlow back-end)."""
    seed: Seed = 1
    """Seed of the first model; model k uses seed + k."""
