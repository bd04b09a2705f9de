"""The one place that joins the stages: structure, frames, labels, models, verdict."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ase import Atoms
from ase.io import read
from rich.console import Console

from metamd.config import RunConfig
from metamd.dataset import make_dataset
from metamd.errors import InputError, MetamdError, ReferenceFailed
from metamd.execution import Executor
from metamd.frames import check_distances, save_npz
from metamd.judge import cluster_labels
from metamd.label import label_frames
from metamd.plugins import plumed_kernel
from metamd.reference import make_calculator, single_point
from metamd.sample import sample_arms
from metamd.select import select
from metamd.summary import State, summarise
from metamd.train import train_all, train_ensemble
from metamd.validate.models import ModelFile, validate_models
from metamd.validate.verdict import verdict
from metamd.workspace import RUN_FILE, StageClock, Workspace, write_json

STAGES = ("sample", "select", "label", "dataset", "train", "validate", "report")
POOLED = "all"
SUMMARY = "summary.json"


def load_structure(config: RunConfig) -> Atoms:
    """The starting structure.

    Raises:
        InputError: not readable, empty, or with atoms on top of each other.
    """
    path = config.system.structure
    try:
        atoms = read(path)
    except Exception as error:
        raise InputError(
            f"{path}: system.structure cannot be read as a structure ({error})."
        ) from error
    if len(atoms) == 0:
        raise InputError(f"{path}: system.structure holds no atoms.")
    check_distances(atoms.positions, atoms.get_chemical_symbols(), str(path))
    periodic = config.system.periodic
    if periodic and abs(atoms.get_volume() if atoms.cell.rank == 3 else 0.0) < 1e-6:
        raise InputError(f"{path}: system.periodic = true, but the file has no cell.")
    atoms.pbc = bool(atoms.pbc.any()) if periodic is None else periodic
    if not atoms.pbc.any():
        atoms.cell = None
    return atoms


def check_run(config: RunConfig) -> Atoms:
    """Everything that can be found wrong before the first task runs."""
    atoms = load_structure(config)
    reference = config.reference
    if reference.kind == "ase":
        assert reference.calculator is not None
        make_calculator(
            reference.calculator,
            reference.arguments,
            config.system.charge,
            config.system.multiplicity,
        )
    for k, arm in enumerate(config.sample):
        too_far = [a for a in (arm.bias.atoms if arm.bias else ()) if a > len(atoms)]
        if too_far:
            raise InputError(
                f"sample[{k + 1}].bias.atoms: atom {too_far[0]} is not in the structure of "
                f"{len(atoms)} atoms."
            )
        if (arm.bias or arm.plumed) and plumed_kernel() is None:
            raise InputError(
                f"sample[{k + 1}].method: {arm.name!r} needs PLUMED, and no kernel was found; set "
                "PLUMED_KERNEL or `pip install --no-deps hillclimber==0.1.8`."
            )
    return atoms


def check_reference(config: RunConfig, atoms: Atoms) -> None:
    """One single point of the starting structure, before a new run makes anything.

    Many calculators look at their arguments only when they compute.

    Raises:
        InputError: the reference cannot compute the structure.
    """
    reference = config.reference
    if reference.kind != "ase" or reference.calculator is None:
        return
    calculator = make_calculator(
        reference.calculator,
        reference.arguments,
        config.system.charge,
        config.system.multiplicity,
    )
    try:
        single_point(calculator, atoms)
    except ReferenceFailed as error:
        raise InputError(
            f"reference.arguments: {reference.calculator} cannot compute "
            f"{config.system.structure} ({error})."
        ) from error


def run(
    config: RunConfig,
    workdir: str | Path,
    *,
    until: str = "report",
    console: Console | None = None,
    run_file_text: str = "",
) -> dict[str, Any]:
    """Do what ``metamd run`` does, from where the work folder stands.

    Args:
        config: a checked run file (``load_config``).
        workdir: work folder; made where it is missing, gone on with where it is this run's.
        until: last stage to do, one of STAGES.
        console: where progress goes; standard error by default.
        run_file_text: the run file as written, kept for the report.

    Returns: the content of ``summary.json``.

    Raises:
        InputError: something given is wrong; nothing was written.
        TaskError: a task that everything else needs failed; the work folder keeps the rest.
    """
    if until not in STAGES:
        raise InputError(f"until: {until!r} is none of {', '.join(STAGES)}.")
    console = console or Console(stderr=True)
    atoms = check_run(config)
    if not (Path(workdir) / RUN_FILE).exists():
        check_reference(config, atoms)
    with (
        Workspace(Path(workdir), config, run_file_text) as workspace,
        Executor(config.execution, workspace.path / "logs", console) as executor,
    ):
        run_ = _Run(config, workspace, executor, console, State(atoms))
        return run_.go(until)


class _Run:
    """One pass over the stages; every finished task is found again on disk."""

    def __init__(
        self,
        config: RunConfig,
        workspace: Workspace,
        executor: Executor,
        console: Console,
        state: State,
    ) -> None:
        self.config, self.workspace, self.executor = config, workspace, executor
        self.console, self.state = console, state
        self.folder = workspace.path / "iteration-0"
        self.started = time.strftime("%Y-%m-%dT%H:%M:%S")

    def go(self, until: str) -> dict[str, Any]:
        stages: dict[str, Callable[[], None]] = {
            "sample": self.sample,
            "select": self.select,
            "label": self.label,
            "dataset": self.dataset,
            "train": self.train,
            "validate": self.validate,
        }
        try:
            for name in STAGES[: STAGES.index(until) + 1]:
                if name in stages:
                    with StageClock(self.workspace, name):
                        stages[name]()
                    self.write_summary("running")
        except (MetamdError, KeyboardInterrupt) as error:
            reason = str(error) or "stopped by the person"
            with contextlib.suppress(OSError):
                self.write_summary("failed", reason)
            raise
        if until != "report":
            return self.write_summary("running")
        summary = self.write_summary("finished")
        from metamd.report import write_report  # matplotlib loads only where figures are made

        with StageClock(self.workspace, "report"):
            write_report(self.workspace.path)
        return summary

    def sample(self) -> None:
        c = self.config
        self.state.samples = sample_arms(
            c.sample, c.system, c.reference, self.state.atoms, self.folder / "sample", self.executor
        )
        for result in self.state.samples:
            for stop in result.stopped:
                self.console.print(
                    f"arm {result.arm.name}, walker {stop['walker']} stopped early: "
                    f"{stop['reason']}; its good frames are kept"
                )

    def select(self) -> None:
        for result in self.state.samples:
            name, frames = result.arm.name, result.frames
            config = self.config.select
            if result.arm.role == "test":
                config = config.model_copy(update={"method": "time"})
            count = min(config.count, len(frames))
            if count < config.count:
                self.console.print(
                    f"arm {name}: select.count = {config.count}, but there are only {count} frames"
                )
            chosen = select(frames, config.model_copy(update={"count": count}))
            folder = self.folder / "select"
            folder.mkdir(parents=True, exist_ok=True)
            write_json(
                folder / f"{name}.json",
                {"indices": chosen.indices.tolist(), "reasons": chosen.reasons},
            )
            self.state.selected[name] = frames[chosen.indices]

    def label(self) -> None:
        c = self.config
        for name, frames in self.state.selected.items():
            result = label_frames(
                frames, c.label, c.reference, c.system, self.folder / "label" / name, self.executor
            )
            save_npz(result.frames, self.folder / "label" / name / "labelled.npz")
            self.state.labels[name] = result
            for failure in result.failures[:3]:
                self.console.print(
                    f"arm {name}, frame {failure['frame']} set aside: {failure['reason']}"
                )

    def dataset(self) -> None:
        roles = {arm.name: arm.role for arm in self.config.sample}
        for name, labels in self.state.labels.items():
            self.state.datasets[name] = make_dataset(
                name,
                labels.frames,
                self.config.dataset,
                self.folder / "dataset" / name,
                test_only=roles[name] == "test",
            )

    def train(self) -> None:
        data = {name: d for name, d in self.state.datasets.items() if d.train is not None}
        groups = {name: [d] for name, d in data.items()}
        if self.config.train.datasets == "all":
            groups = {POOLED: list(data.values())}
        tasks = {
            name: train_ensemble(
                name,
                [d.train for d in group if d.train is not None],
                [d.heldout for d in group],
                self.config.train,
                self.folder / "train",
            )
            for name, group in groups.items()
        }
        self.state.models = train_all(tasks, self.executor)

    def validate(self) -> None:
        models = [ModelFile(m.train, m.seed, m.path) for m in self.state.models]
        tests = {name: d.heldout_frames for name, d in self.state.datasets.items()}
        self.state.validation = validate_models(
            models,
            tests,
            self.state.atoms,
            self.config.validation,
            self.folder / "validate",
            self.executor,
            reference=self.config.reference,
            system=self.config.system,
            clusters=cluster_labels,
        )

    def write_summary(self, status: str, failure: str | None = None) -> dict[str, Any]:
        """Write ``summary.json`` with what there is; every stage adds to it."""
        summary = summarise(self.config, self.state, self.workspace)
        summary |= {
            "status": status,
            "command": " ".join(["metamd", *sys.argv[1:]]),
            "started": self.started,
            "finished": time.strftime("%Y-%m-%dT%H:%M:%S") if status == "finished" else None,
        }
        if failure is not None:
            summary["failure"] = failure
        if self.state.validation is not None:
            criterion = self.config.validation.usable_force_error_ev_per_ang
            summary["verdict"] = verdict(summary, criterion).as_dict()
        write_json(self.workspace.path / SUMMARY, summary)
        return summary
