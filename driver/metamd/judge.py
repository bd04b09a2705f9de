"""``metamd validate``: any DeePMD models on any labelled frames, and a report of it."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms
from numpy.typing import NDArray

from metamd import __version__
from metamd.bonds import BondGraph
from metamd.config import Flatten, RunConfig
from metamd.errors import DataError
from metamd.execution import Executor
from metamd.frames import Frames, save_npz
from metamd.select.clusters import broad_clusters
from metamd.summary import system_entry, versions
from metamd.validate.citations import run_citations
from metamd.validate.models import validate_models
from metamd.validate.plan import ModelFile
from metamd.validate.sampling import arm_energies, arm_numbers, energy_zero
from metamd.validate.verdict import verdict
from metamd.workspace import write_json

#: What the one ensemble given by hand is called.
GIVEN = "model"


def cluster_labels(frames: Frames) -> NDArray[Any]:
    """Cluster of each frame by pair distances and energy (Fonseca 2021), [n_frames]."""
    return broad_clusters(frames, Flatten()).labels


def judge_files(
    config: RunConfig,
    atoms: Atoms,
    models: Sequence[Path],
    tests: Mapping[str, Frames | DataError],
    folder: Path,
    executor: Executor,
    run_file_text: str = "",
) -> dict[str, Any]:
    """Judge frozen models, the members of one ensemble, by the run file's [validate] table.

    Args:
        config, atoms: the run file and its structure.
        models: DeePMD model files; what is none is listed among the failed checks.
        tests: labelled frames by name, or why they could not be read.
        folder: a new folder; ``summary.json`` is written there.

    Returns: the summary, with the keys of a run's (docs/summary.md).
    """
    started, clock = time.strftime("%Y-%m-%dT%H:%M:%S"), time.perf_counter()
    readable = {name: f for name, f in tests.items() if isinstance(f, Frames) and len(f)}
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    files = {n: save_npz(f, folder / "tests" / f"{n}.npz") for n, f in readable.items()}
    found = validate_models(
        [ModelFile(GIVEN, number + 1, path.resolve()) for number, path in enumerate(models)],
        files,
        atoms,
        config.validation,
        folder / "validate",
        executor,
        reference=config.reference,
        system=config.system,
        clusters=cluster_labels,
    )
    entries = found.summary_entries(folder, files)
    entries["failed_checks"] = [
        {"check": f"test set {name}", "reason": str(f) if f else "holds no frames"}
        for name, f in tests.items()
        if name not in readable
    ] + entries["failed_checks"]
    seconds = round(time.perf_counter() - clock, 2)
    summary: dict[str, Any] = {
        "kind": "validate",
        "status": "finished",
        "metamd_version": __version__,
        "command": " ".join(["metamd", *sys.argv[1:]]),
        "started": started,
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
        "system": system_entry(config, atoms),
        "reference": config.reference.model_dump(mode="json"),
        "arms": _sets(atoms, readable, files, folder),
        "models": [
            {"train": GIVEN, "seed": number + 1, "path": str(path.resolve())}
            for number, path in enumerate(models)
        ],
        **entries,
        "seconds": {"validate": seconds, "total": seconds},
        "versions": versions(),
        "seeds": {"validate": config.validation.seed},
        "config_toml": run_file_text,
        "citations": run_citations(config),
    }
    criterion = config.validation.usable_force_error_ev_per_ang
    summary["verdict"] = verdict(summary, criterion).as_dict()
    write_json(folder / "summary.json", summary)
    return summary


def _sets(
    atoms: Atoms, sets: Mapping[str, Frames], files: Mapping[str, Path], folder: Path
) -> list[dict[str, Any]]:
    """The test sets as the summary's arms, so that the report draws how they spread."""
    graph = BondGraph.of_atoms(atoms)
    same = [f for f in sets.values() if f.symbols == graph.symbols]
    zero = energy_zero([arm_energies(f, None) for f in same])
    return [
        {
            "name": name,
            "method": None,
            "role": "test",
            "frames": str(files[name].relative_to(folder)),
            **arm_numbers(frames, graph, arm_energies(frames, None), zero),
        }
        for name, frames in sets.items()
        if frames.symbols == graph.symbols
    ]
