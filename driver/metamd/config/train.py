"""Labels, training and held-out sets, DeePMD training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

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
    recheck_tolerance_ev_per_atom: PositiveFloat = 1e-3
    """The same for an energy; labels of another energy zero or method lie far above."""


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
    stop_learning_rate: PositiveFloat = 1e-4
    """Learning rate at the end; it decays exponentially in between."""
    energy_only: bool = False
    """Leave forces out of the loss (Herr 2018 trained so)."""
    repulsion: Literal["none", "zbl"] = "none"
    """``zbl``: below ``repulsion_inner_ang`` the model is the ZBL repulsion of nuclei, from
    ``repulsion_outer_ang`` on the net alone (TensorFlow back-end)."""
    repulsion_inner_ang: PositiveFloat = 0.4
    """Distance of an atom's nearest neighbour below which only ZBL counts, A."""
    repulsion_outer_ang: PositiveFloat = 0.7
    """Distance from which only the net counts, A; below the shortest distance in the data."""
    compress: bool = True
    """Compress the frozen model (tabulated embedding; TensorFlow back-end)."""
    seed: Seed = 1
    """Seed of the first model; model k uses seed + k."""

    @model_validator(mode="after")
    def _fits(self) -> Train:
        if self.repulsion_outer_ang <= self.repulsion_inner_ang:
            raise ValueError("repulsion_outer_ang must be above repulsion_inner_ang")
        if self.repulsion_outer_ang * 2 > self.cutoff_ang:
            raise ValueError("repulsion_outer_ang must be at most half of cutoff_ang")
        if self.repulsion == "zbl" and self.backend != "tensorflow":
            raise ValueError('repulsion = "zbl" needs backend = "tensorflow"')
        return self
