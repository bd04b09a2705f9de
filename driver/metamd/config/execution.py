"""Where tasks run."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from metamd.config.base import Table


class TimeLimits(Table):
    """Longest time a task may take, minutes, by kind; none: no limit."""

    sample: PositiveFloat | None = None
    """A walker."""
    label: PositiveFloat | None = None
    """A batch of labels."""
    train: PositiveFloat | None = None
    """One member of an ensemble."""
    predict: PositiveFloat | None = None
    """Predictions for a selection."""
    validate_: PositiveFloat | None = Field(default=None, alias="validate")
    """One check of a model."""


class Execution(Table):
    """Where tasks run (Parsl).  The one table that may change in a work folder."""

    kind: Literal["local", "slurm", "pbs", "lsf", "kubernetes"] = "local"
    """``local``: worker processes on this machine; the others: jobs of a scheduler."""
    workers: PositiveInt | None = None
    """Tasks at a time on a node; by default one a core (or as many as ``threads`` leave)."""
    threads: PositiveInt = 1
    """Threads of a task and of each program it starts."""
    gpus: Annotated[int, Field(ge=0)] = 0
    """GPUs of a node: trainings, predictions, checks and walkers with a model then run one a
    device, beside the tasks on the CPU."""
    retries: Annotated[int, Field(ge=0)] = 0
    """How often a task that failed is tried again."""
    lost_retries: Annotated[int, Field(ge=0)] = 5
    """How often a task whose node, job, worker or program was killed is begun again without
    having come further in between; it goes on where it was (trainings from their checkpoint,
    labels from their journal), and does so in the next run after the last of these tries."""
    limits_min: TimeLimits = TimeLimits()
    """Longest time a task may take, minutes, by kind."""
    address: str | None = None
    """Name or address under which compute nodes reach this machine; none: found by trying."""
    provider: dict[str, Any] = Field(default_factory=dict)
    """Options of Parsl's provider, passed through: partition, account, walltime,
    nodes_per_block, max_blocks, scheduler_options, worker_init, ..."""
    gpu_provider: dict[str, Any] = Field(default_factory=dict)
    """Other options for the jobs that have GPUs; what it leaves out is taken from
    ``provider``."""

    @model_validator(mode="after")
    def _fits(self) -> Execution:
        if self.kind == "local" and (self.provider or self.gpu_provider):
            raise ValueError('provider belongs to a scheduler, and kind is "local"')
        if self.gpu_provider and not self.gpus:
            raise ValueError("gpu_provider needs gpus = 1 or more")
        return self
