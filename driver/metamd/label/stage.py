"""The label stage: take over what the reference already said, compute the rest in batches."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamd.config import Label, Reference, System
from metamd.errors import TaskError
from metamd.execution import Executor, Failure, Task
from metamd.frames import Frames, load_npz, save_npz
from metamd.reference import fingerprint

ASE_TASK = "metamd.label.ase_batch:label_batch"
LAMMPS_TASK = "metamd.label.lammps_batch:label_batch"


@dataclass(frozen=True)
class LabelResult:
    """Labelled frames, and an account of every frame that has none.

    Attributes:
        frames: labelled frames, in the order given.
        computed, reused, rechecked: numbers of frames.
        worst_recheck_ev_per_ang: largest force difference between a taken-over label and the
            same frame computed again.
        failures: ``frame`` (index in the input) and ``reason`` of each frame set aside.
    """

    frames: Frames
    computed: int = 0
    reused: int = 0
    rechecked: int = 0
    worst_recheck_ev_per_ang: float = 0.0
    failures: list[dict[str, Any]] = field(default_factory=list)


def label_frames(
    frames: Frames,
    config: Label,
    reference: Reference,
    system: System,
    folder: Path,
    executor: Executor,
) -> LabelResult:
    """Label ``frames`` with the reference.

    Frames whose ``label_source`` names this very reference keep their labels; of these a few are
    computed again, so that a biased force could not slip in unseen.

    Raises:
        TaskError: taken-over labels disagree with the reference, or not one frame was labelled.
    """
    reusable = _reusable(frames, config, fingerprint(reference, system))
    keep, todo = np.flatnonzero(reusable), np.flatnonzero(~reusable)
    check = keep[np.unique(np.linspace(0, len(keep) - 1, config.recheck).astype(int))]
    check = check if len(keep) else keep
    wanted = np.concatenate([todo, check]).astype(int)
    energy, forces, virial, failures = _compute(
        frames, wanted, config, reference, system, folder, executor
    )
    worst = _compare(frames, check, energy, forces, config)
    failed = {f["frame"] for f in failures} & set(todo.tolist())
    good = np.array([k for k in range(len(frames)) if k not in failed], dtype=int)
    if not len(good):
        raise TaskError(f"no frame could be labelled; the first: {failures[0]['reason']}")
    labelled = _merge(frames, reusable, energy, forces, virial)[good]
    return LabelResult(
        frames=labelled.with_info(label_source=fingerprint(reference, system)),
        computed=len(todo) - len(failed),
        reused=len(keep),
        rechecked=len(check),
        worst_recheck_ev_per_ang=worst,
        failures=[f for f in failures if f["frame"] in failed],
    )


def _reusable(frames: Frames, config: Label, source: str) -> NDArray[Any]:
    """Which frames carry labels of this very reference, [n_frames] bool."""
    if not (config.reuse and frames.labelled and "label_source" in frames.info):
        return np.zeros(len(frames), dtype=bool)
    return np.asarray(frames.info["label_source"] == source)


def _compute(
    frames: Frames,
    wanted: NDArray[Any],
    config: Label,
    reference: Reference,
    system: System,
    folder: Path,
    executor: Executor,
) -> tuple[dict[int, float], dict[int, Any], dict[int, Any], list[dict[str, Any]]]:
    """Labels by frame index, and the frames that failed with their reasons."""
    energy: dict[int, float] = {}
    forces: dict[int, Any] = {}
    virial: dict[int, Any] = {}
    failures: list[dict[str, Any]] = []
    if not len(wanted):
        return energy, forces, virial, failures
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / "to-label.npz"
    bare = replace(frames.without_labels()[wanted], info={"index": wanted})
    if not source.exists():
        save_npz(bare, source)
    tasks = [
        Task(
            ASE_TASK if reference.kind == "ase" else LAMMPS_TASK,
            folder / f"batch-{number:05d}",
            {
                "source": str(source),
                "start": start,
                "stop": min(start + config.batch, len(wanted)),
                "reference": reference.model_dump(mode="json"),
                "charge": system.charge,
                "multiplicity": system.multiplicity,
            },
            f"label batch {number} of {folder.name}",
        )
        for number, start in enumerate(range(0, len(wanted), config.batch))
    ]
    for task, outcome in zip(tasks, executor.run(f"label {folder.name}", tasks), strict=True):
        indices = wanted[task.arguments["start"] : task.arguments["stop"]]
        if isinstance(outcome, Failure):
            failures += [{"frame": int(k), "reason": outcome.reason} for k in indices]
            continue
        failures += [
            {"frame": int(indices[f["row"]]), "reason": f["reason"]} for f in outcome["failures"]
        ]
        if outcome["labelled"] == 0:
            continue
        batch = load_npz(task.folder / "labels.npz")
        assert batch.energy is not None
        assert batch.forces is not None
        for row, k in enumerate(batch.info["index"].tolist()):
            energy[k], forces[k] = float(batch.energy[row]), batch.forces[row]
            if batch.virial is not None:
                virial[k] = batch.virial[row]
    return energy, forces, virial, failures


def _compare(
    frames: Frames,
    check: NDArray[Any],
    energy: dict[int, float],
    forces: dict[int, Any],
    config: Label,
) -> float:
    """Largest force difference between taken-over labels and the same frames computed again."""
    worst = 0.0
    for k in check.tolist():
        if k not in energy:
            continue
        assert frames.forces is not None
        difference = float(np.abs(forces[k] - frames.forces[k]).max())
        worst = max(worst, difference)
        if difference > config.recheck_tolerance_ev_per_ang:
            raise TaskError(
                f"frame {k} of {frames.source}: the forces stored while sampling differ from the "
                f"reference by {difference:.2g} eV/A; something else (a bias?) is in them. "
                "Set label.reuse = false to compute all labels."
            )
    return worst


def _merge(
    frames: Frames,
    reusable: NDArray[Any],
    energy: dict[int, float],
    forces: dict[int, Any],
    virial: dict[int, Any],
) -> Frames:
    n = len(frames)
    all_energy, all_forces = np.zeros(n), np.zeros(frames.positions.shape)
    all_virial = np.zeros((n, 3, 3))
    has_virial = frames.cell is not None and (bool(virial) or frames.virial is not None)
    if frames.energy is not None and frames.forces is not None:
        all_energy[reusable], all_forces[reusable] = (
            frames.energy[reusable],
            frames.forces[reusable],
        )
    if frames.virial is not None:
        all_virial[reusable] = frames.virial[reusable]
    for k in energy:
        if not reusable[k]:
            all_energy[k], all_forces[k] = energy[k], forces[k]
            if k in virial:
                all_virial[k] = virial[k]
    return replace(
        frames, energy=all_energy, forces=all_forces, virial=all_virial if has_virial else None
    )
