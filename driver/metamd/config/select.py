"""Which frames are worth a label, and which are made from others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from metamd.config.base import NonNegative, Seed, Table


class Flatten(Table):
    """Clusters and picks of method = "flatten" (Fonseca 2021)."""

    geometry_clusters: PositiveInt = 10
    """Ward clusters on pair distances."""
    energy_clusters: PositiveInt = 5
    """k-means clusters on energy inside each of them."""
    threshold: Annotated[float, Field(ge=1)] = 1.1
    """Clusters with a force RMSE above this times the overall one are clustered again."""
    fine_clusters: PositiveInt = 200
    """Ward clusters of these frames; larger molecules: 150."""
    worst_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Part of the fine clusters, the worst, that frames are taken from; not with weighted."""
    weighted: bool = False
    """Take frames from every fine cluster, in proportion to its size (larger molecules)."""
    start: PositiveInt = 200
    """Frames of the first training set of the improved-training loop."""
    step: PositiveInt = 100
    """Frames added in each round, up to ``count``; larger molecules: 500."""
    round_steps: PositiveInt | None = None
    """Training steps of the rounds before the last; by default those of [train]."""
    warm_start: bool = False
    """Start each round's training from the weights of the round before."""
    subset: Annotated[int, Field(ge=10, le=20000)] = 8000
    """Frames clustered by Ward; the others join the cluster of least average distance."""
    pca_components: Annotated[int, Field(ge=0)] = 0
    """Cluster in this many principal components of the distances; 0: in all distances."""
    error_subset: Annotated[int, Field(ge=0)] = 0
    """Frames of each cluster whose forces are predicted to find the bad ones; 0: all."""


class Select(Table):
    """Which frames are worth a label."""

    method: Literal[
        "random", "time", "energy", "atomic-energy", "force", "fps", "deviation", "flatten"
    ] = "time"
    """At random; evenly in time, global energy, atomic energy or force magnitude (Tovey);
    farthest point in matrix space; disagreement of models; flattened errors (Fonseca)."""
    count: PositiveInt = 1000
    """Frames taken from each arm."""
    seed: Seed = 1
    """Seed of random choices."""
    bins: PositiveInt = 100
    """Bins (of each element) of the methods energy, atomic-energy and force; never more than
    can all be drawn from."""
    metric: Literal["INVERSE", "DISTANCE"] = "INVERSE"
    """Matrix of method = "fps": 1/r or r."""
    sort_pairs: bool = False
    """Sort distances inside each pair of elements, so that like atoms are interchangeable
    (liquids); for fps and flatten."""
    trust_lower_ev_per_ang: NonNegative = 0.05
    """Method deviation: below this largest force deviation the models know the frame."""
    trust_upper_ev_per_ang: PositiveFloat = 0.15
    """Method deviation: from here on the frame is too far off to be worth a label."""
    models: tuple[Path, ...] = ()
    """DeePMD models that predict where a method needs it (deviation: two or more)."""
    predictions: tuple[Path, ...] = ()
    """Stored predictions instead, one file a model, frames in the order of the data."""
    flatten: Flatten = Flatten()
    """Clusters and picks of method = "flatten"."""

    @model_validator(mode="after")
    def _fits(self) -> Select:
        if self.trust_upper_ev_per_ang <= self.trust_lower_ev_per_ang:
            raise ValueError("trust_upper_ev_per_ang must be above trust_lower_ev_per_ang")
        if self.models and self.predictions:
            raise ValueError("give models or predictions, not both")
        return self


class Augment(Table):
    """Perturbed frames labelled by springs (physics-based augmentation, section 2.2)."""

    frames: PositiveInt = 200
    """How many frames are perturbed and added."""
    atoms: PositiveInt = 1
    """Atoms moved in each of them."""
    max_displacement_ang: PositiveFloat = 0.05
    """Longest displacement of an atom, A."""
    scheme: Literal["paper", "signed", "taylor"] = "taylor"
    """Spring energy of the displacement; about the mean before and after; or after the work of
    the frame's own forces."""
    pairs: Literal["bonds", "bonds+angles", "all"] = "bonds+angles"
    """Pairs whose springs count; the paper sums all."""
    temperature_k: PositiveFloat | None = None
    """Temperature of the frames that springs are fitted to, K; by default their own."""
    components: dict[str, PositiveInt] = Field(default_factory=dict)
    """Gaussian components of a pair of elements, ``{ "H-H" = 4 }``; BIC chooses the others."""
    profile: Literal["best", "paper"] = "best"
    """Mixtures from several starts, or with scikit-learn's defaults."""
    springs: Path | None = None
    """A table of ``metamd springs --json`` to use instead."""
    weight: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training batches drawn from augmented frames (DeePMD's sys_probs)."""
    seed: Seed = 1
    """Seed of frames, atoms and displacements."""
