"""``summary.json`` of a comparison: the keys of a run's, and ``compare`` (docs/summary.md)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from metamd import __version__
from metamd.bonds import BondGraph
from metamd.config import CompareConfig, Sample
from metamd.frames import Frames, content_hash, load_npz
from metamd.label import LabelResult
from metamd.loop.account import fields, labelled, sampled, trained
from metamd.sample import SampleResult
from metamd.summary import stage_seconds, system_entry, versions
from metamd.train import Model
from metamd.validate.citations import run_citations
from metamd.validate.comparison import comparison_verdict, generality
from metamd.validate.models import Validation
from metamd.validate.sampling import arm_energies, arm_numbers, energy_zero
from metamd.workspace import Workspace

#: Beside the DeePMD systems of a training set: the print of their frames, once all are written.
COMPLETE = "complete"


@dataclass
class State:
    """What the stages have given so far.

    Samplers and arms repeated with a seed go by ``key_of(name, seed)``; training sets by arm, seed
    and size.  ``sampled`` has the frames of each sampler, of all its seeds.
    """

    atoms: Atoms
    samples: dict[str, SampleResult] = field(default_factory=dict)
    sampled: dict[str, Frames] = field(default_factory=dict)
    pools: dict[str, Frames] = field(default_factory=dict)
    tests: dict[str, Frames] = field(default_factory=dict)
    chosen: dict[tuple[str, int, int], NDArray[np.intp]] = field(default_factory=dict)
    labels: dict[str, LabelResult] = field(default_factory=dict)
    label_failures: list[dict[str, Any]] = field(default_factory=list)
    test_files: dict[str, Path] = field(default_factory=dict)
    systems: dict[tuple[str, int, int], list[Path]] = field(default_factory=dict)
    models: list[tuple[str, int, Model]] = field(default_factory=list)
    validation: dict[int, Validation] = field(default_factory=dict)


def key_of(name: str, seed: int) -> str:
    """Name of a repetition."""
    return f"{name}.seed-{seed}"


def stage_given(stage: str, state: State) -> Any:
    """What a stage gave, for ``metamd.loop.account.Account.passed``."""
    if stage == "sample":
        return sampled(state.samples.values())
    if stage == "select":
        tests = {name: content_hash(frames) for name, frames in state.tests.items()}
        return [tests, [[*key, rows] for key, rows in state.chosen.items()]]
    if stage == "label":
        tests = {name: content_hash(load_npz(path)) for name, path in state.test_files.items()}
        return [labelled(state.labels), state.label_failures, tests]
    if stage == "dataset":
        return [[*key, paths[0].parent / COMPLETE] for key, paths in state.systems.items()]
    if stage == "train":
        return trained(model for _, _, model in state.models)
    return [[size, fields(found)] for size, found in state.validation.items()]


def comparison_summary(config: CompareConfig, state: State, workspace: Workspace) -> dict[str, Any]:
    """Everything the state has values for."""
    root, full = workspace.path, config.compare.sizes[-1]
    summary: dict[str, Any] = {
        "kind": "compare",
        "metamd_version": __version__,
        "system": system_entry(config, state.atoms),
        "reference": config.reference.model_dump(mode="json"),
        "arms": _samplers(config, state, root),
        "compare": {
            "seeds": list(config.compare.seeds),
            "sizes": list(config.compare.sizes),
            "budget_labels": full,
            "arms": [_arm(config, arm.name) for arm in config.arms],
        },
        "seconds": stage_seconds(workspace.seconds()),
        "versions": versions(),
        "seeds": {
            "compare": list(config.compare.seeds),
            "sample": {s.name: s.seed for s in config.sample},
            "select": config.select.seed,
            "validate": config.validation.seed,
        },
        "config_toml": workspace.run_file_text,
        "citations": run_citations(config),
    }
    if state.labels:
        summary["labels"] = _labels(state)
    if state.models:
        summary["models"] = [
            {
                "train": arm if size == full else f"{arm} ({size} frames)",
                "seed": model.seed,
                "path": str(model.path.relative_to(root)),
                "seconds": model.seconds,
                "lcurve": str(model.lcurve.relative_to(root)),
            }
            for arm, size, model in state.models
        ]
    if state.validation:
        _add_validation(config, state, root, summary)
    return summary


def _add_validation(
    config: CompareConfig, state: State, root: Path, summary: dict[str, Any]
) -> None:
    full = config.compare.sizes[-1]
    compare = summary["compare"]
    compare["learning"] = [
        {"arm": row["train"], "size": size, **{k: v for k, v in row.items() if k != "train"}}
        for size, found in state.validation.items()
        for row in found.cross_errors
    ]
    compare["tests"] = list(state.test_files)
    compare["generality"] = generality(compare)
    if full in state.validation:
        found = state.validation[full]
        summary |= found.summary_entries(root, state.test_files)
        criterion = config.validation.usable_force_error_ev_per_ang
        summary["verdict"] = comparison_verdict(compare, summary["stability"], criterion)


def _samplers(config: CompareConfig, state: State, root: Path) -> list[dict[str, Any]]:
    """One entry a sampler, over the frames of all its seeds."""
    graph = BondGraph.of_atoms(state.atoms)
    tests = {name: state.test_files.get(name) for name in state.sampled}
    energies = {
        name: arm_energies(frames, load_npz(path) if (path := tests[name]) else None)
        for name, frames in state.sampled.items()
    }
    zero = energy_zero(list(energies.values()))
    rows = []
    for table in config.sample:
        if table.name not in state.sampled:
            continue
        frames, test = state.sampled[table.name], tests[table.name]
        path = sampled_file(root, table.name)
        stopped = [
            {**stop, "seed": int(name.rpartition("-")[2])}
            for name, result in state.samples.items()
            if name.rpartition(".seed-")[0] == table.name
            for stop in result.stopped
        ]
        rows.append(
            {
                "name": table.name,
                "method": table.method,
                "engine": table.engine,
                "role": table.role,
                "temperature_k": table.temperature_k,
                "timestep_fs": table.timestep_fs,
                "steps": table.steps,
                "n_frames": len(frames),
                "walkers": table.walkers,
                "stopped_walkers": stopped,
                "frames": str(path.relative_to(root)),
                "labelled": str(test.relative_to(root)) if test else None,
                **arm_numbers(frames, graph, energies[table.name], zero),
            }
        )
    return rows


def sampled_file(root: Path, name: str) -> Path:
    """Where the frames of a sampler, of all its seeds, lie for the report."""
    return root / "iteration-0" / "sample" / f"{name}.npz"


def _arm(config: CompareConfig, name: str) -> dict[str, Any]:
    """What an arm is, and what it costs in reference calculations for each seed."""
    arm = next(a for a in config.arms if a.name == name)
    table = next(s for s in config.sample if s.name == arm.sample)
    return {
        "name": arm.name,
        "sample": arm.sample,
        "method": table.method,
        "select": (arm.select or config.select).method,
        "augment": None if arm.augment is None else arm.augment.scheme,
        "augment_frames": 0 if arm.augment is None else arm.augment.frames,
        "labels": config.compare.sizes[-1],
        "sampling_steps": _steps(table),
    }


def _steps(table: Sample) -> int | None:
    """Steps of dynamics that the reference drives; None where it does not."""
    if table.engine != "reference" or table.method not in ("md", "metamd", "wte"):
        return None
    return (table.steps + table.equilibration_steps) * table.walkers


def _labels(state: State) -> dict[str, Any]:
    results = list(state.labels.values())
    return {
        "computed": sum(r.computed for r in results),
        "reused": sum(r.reused for r in results),
        "rechecked": sum(r.rechecked for r in results),
        "worst_recheck_ev_per_ang": max(r.worst_recheck_ev_per_ang for r in results),
        "worst_recheck_ev_per_atom": max(r.worst_recheck_ev_per_atom for r in results),
        "failed": len(state.label_failures),
        "failures": state.label_failures,
    }
