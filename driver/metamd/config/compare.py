"""The compare file: a run file with arms, seeds and training-set sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt, model_validator

from metamd.config.base import Name, Seed, Table
from metamd.config.runfile import RunConfig, absolute_paths, is_thermal, read_config
from metamd.config.select import Augment, Select

#: Selection methods that need models to predict with.
NEED_MODELS = ("deviation", "flatten")


class Arm(Table):
    """One way to make a training set: a sampler, a selection, an augmentation."""

    name: Name
    """The arm's name in folders, tables and figures."""
    sample: Name
    """Name of the [[sample]] table whose frames it chooses from."""
    select: Select | None = None
    """How it chooses; by default the [select] table. ``count`` comes from ``compare.sizes``."""
    augment: Augment | None = None
    """Perturbed frames added to the chosen ones; they cost no reference calculation."""


class Compare(Table):
    """What is repeated: everything, from the sampling on, for every seed."""

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1, 2, 3)
    """Repetitions: each samples, selects and trains anew."""
    sizes: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (200, 800)
    """Training frames of each arm, ascending: points of the learning curve. The last one is the
    budget, labelled frames of every arm, at which arms are compared."""
    test_frames: PositiveInt = 300
    """Frames of each sampler's test set, evenly from the held-out frames of all seeds."""

    @model_validator(mode="after")
    def _fits(self) -> Compare:
        if list(self.sizes) != sorted(set(self.sizes)):
            raise ValueError("sizes must ascend")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError("a seed is given twice")
        return self


class CompareConfig(RunConfig):
    """A whole compare file: the tables of a run file, [compare] and [[arm]]."""

    compare: Compare = Compare()
    arm: tuple[Arm, ...] = ()

    @property
    def arms(self) -> tuple[Arm, ...]:
        """The arms; without [[arm]] tables one for each sampler that trains."""
        return self.arm or tuple(
            Arm(name=s.name, sample=s.name) for s in self.sample if s.role == "train"
        )

    @model_validator(mode="after")
    def _arms_fit(self) -> CompareConfig:
        names = [arm.name for arm in self.arms]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two [[arm]] tables have the name {name!r}")
        roles = {s.name: s.role for s in self.sample}
        for arm in self.arms:
            if arm.sample not in roles:
                raise ValueError(
                    f"[[arm]] {arm.name!r}: sample = {arm.sample!r} is none of {', '.join(roles)}"
                )
            if roles[arm.sample] == "test":
                raise ValueError(f"[[arm]] {arm.name!r}: sample {arm.sample!r} only tests models")
            select = arm.select or self.select
            if select.method in NEED_MODELS and not (select.models or select.predictions):
                raise ValueError(
                    f"[[arm]] {arm.name!r}: select.method = {select.method!r} needs select.models"
                )
            if select.predictions:
                raise ValueError(
                    f"[[arm]] {arm.name!r}: select.predictions belong to stored frames; the frames "
                    "here are sampled anew, give select.models"
                )
            table = next(s for s in self.sample if s.name == arm.sample)
            if arm.augment and not arm.augment.springs and not is_thermal(table):
                raise ValueError(
                    f"[[arm]] {arm.name!r}: augment takes its springs from plain dynamics, which "
                    f"sample = {arm.sample!r} is not; give augment.springs"
                )
            if arm.augment and arm.augment.frames > self.compare.sizes[0]:
                raise ValueError(
                    f"[[arm]] {arm.name!r}: augment.frames = {arm.augment.frames} is more than the "
                    f"smallest training set, compare.sizes = {self.compare.sizes[0]}"
                )
        if len(names) < 2:
            raise ValueError("a comparison needs two arms or more")
        return self


def load_compare(path: str | Path) -> CompareConfig:
    """Read and check a compare file; paths in it become absolute.

    Raises:
        InputError: as ``load_config``.
    """
    path = Path(path)
    config = read_config(path, CompareConfig)
    arms = tuple(
        arm.model_copy(
            update={
                name: absolute_paths(table, path, f"arm[{k + 1}].{name}")
                for name, table in (("select", arm.select), ("augment", arm.augment))
                if table is not None
            }
        )
        for k, arm in enumerate(config.arm)
    )
    return config.model_copy(update={"arm": arms})
