"""The label stage: take over what the reference already said, compute the rest in batches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from metamd.config import Label, Reference, System
from metamd.errors import NothingLabelled, TaskError
from metamd.execution import Executor, Failure, Task
from metamd.frames import Frames, content_hash, from_atoms, load_npz, save_npz
from metamd.identity import task_argument
from metamd.label.finished import label_from_outputs
from metamd.reference import fingerprint

Array = NDArray[np.float64]

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
        worst_recheck_ev_per_atom: the same of the energies.
        failures: ``frame`` (index in the input) and ``reason`` of each frame set aside.
        unchecked: the same of frames that kept their labels and could not be computed again.
    """

    frames: Frames
    computed: int = 0
    reused: int = 0
    rechecked: int = 0
    worst_recheck_ev_per_ang: float = 0.0
    worst_recheck_ev_per_atom: float = 0.0
    failures: list[dict[str, Any]] = field(default_factory=list)
    unchecked: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Rechecks:
    """How many taken-over labels were compared, and the largest differences found."""

    compared: int = 0
    worst_ev_per_ang: float = 0.0
    worst_ev_per_atom: float = 0.0


@dataclass
class _Labels:
    """Labels by frame of the input; rows of frames without one hold NaN.

    Attributes:
        energy: eV, [n_frames]; the others follow, None where no label has them.
        failures: ``frame`` and ``reason`` of each frame the reference failed for.
    """

    energy: Array
    forces: Array
    virial: Array | None = None
    atomic_energy: Array | None = None
    failures: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def none(cls, frames: Frames) -> _Labels:
        return cls(np.full(len(frames), np.nan), np.full(frames.positions.shape, np.nan))

    def take(self, rows: NDArray[Any], source: Frames) -> None:
        """Set the labels of these frames, one row of ``source`` each."""
        assert source.energy is not None
        assert source.forces is not None
        self.energy[rows], self.forces[rows] = source.energy, source.forces
        for name in ("virial", "atomic_energy"):
            if (value := getattr(source, name)) is None:
                continue
            if getattr(self, name) is None:
                setattr(self, name, np.full((len(self.energy), *value.shape[1:]), np.nan))
            getattr(self, name)[rows] = value


def label_frames(
    frames: Frames,
    config: Label,
    reference: Reference,
    system: System,
    folder: Path,
    executor: Executor,
    structure: Atoms | None = None,
) -> LabelResult:
    """Label ``frames`` with the reference.

    Frames whose ``label_source`` names this very reference keep their labels; of these a few are
    computed again, so that a biased force could not slip in unseen.

    Args:
        structure: the structure whose molecules a LAMMPS force field with bonds takes (cut or
            stretched bonds of a frame are bonds all the same); by default the first frame.

    Raises:
        NothingLabelled: not one frame was labelled.
        TaskError: taken-over labels disagree with the reference, or none of them could be computed
            again.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    reusable = reusable_labels(frames, config, fingerprint(reference, system))
    keep, todo = np.flatnonzero(reusable), np.flatnonzero(~reusable)
    evenly = np.linspace(0, max(0, len(keep) - 1), min(len(keep), config.recheck))
    check = keep[np.unique(evenly.astype(int))]
    wanted = np.concatenate([todo, check]).astype(int)
    labels = _Labels.none(frames)
    if reference.kind == "files":
        _from_outputs(frames, wanted, reference, labels)
    else:
        tasks = _tasks(frames, wanted, config, reference, system, folder, structure)
        _gather(tasks, executor.run(f"label {folder.name}", tasks), wanted, labels)
    rechecks = _compare(frames, check, labels, config)
    unchecked = [f for f in labels.failures if reusable[f["frame"]]]
    if len(unchecked) and not rechecks.compared and reference.kind != "files":
        raise TaskError(
            f"of {frames.source}, none of {len(unchecked)} frames with labels of the reference "
            f"could be computed again to check them; the first: {unchecked[0]['reason']}. "
            "Set label.reuse = false to compute all labels."
        )
    if len(keep):
        labels.take(keep, frames[keep])
    good = np.flatnonzero(np.isfinite(labels.energy))
    if not len(good):
        raise NothingLabelled(
            f"no frame could be labelled; the first: {labels.failures[0]['reason']}",
            labels.failures,
        )
    failures = [f for f in labels.failures if not reusable[f["frame"]]]
    return LabelResult(
        frames=_labelled(frames, labels, good, fingerprint(reference, system)),
        computed=len(todo) - len(failures),
        reused=len(keep),
        rechecked=rechecks.compared,
        worst_recheck_ev_per_ang=rechecks.worst_ev_per_ang,
        worst_recheck_ev_per_atom=rechecks.worst_ev_per_atom,
        failures=failures,
        unchecked=unchecked,
    )


def _from_outputs(
    frames: Frames, wanted: NDArray[Any], reference: Reference, labels: _Labels
) -> None:
    """Take what calculations have finished by now; nothing is kept, others may finish later."""
    labelled, rows, failures = label_from_outputs(frames[wanted], reference)
    if labelled is not None:
        labels.take(wanted[rows], labelled)
    labels.failures += [
        {"frame": int(wanted[row]), "reason": reason} for row, reason in failures.items()
    ]


def reusable_labels(frames: Frames, config: Label, source: str) -> NDArray[Any]:
    """Which frames carry labels of this very reference, [n_frames] bool."""
    if not (config.reuse and frames.labelled and "label_source" in frames.info):
        return np.zeros(len(frames), dtype=bool)
    return np.asarray(frames.info["label_source"] == source)


def _tasks(
    frames: Frames,
    wanted: NDArray[Any],
    config: Label,
    reference: Reference,
    system: System,
    folder: Path,
    structure: Atoms | None,
) -> list[Task]:
    """One task a batch, each with a file of its frames: many tasks do not all read them all."""
    if not len(wanted):
        return []
    arguments: dict[str, Any] = {
        "start": 0,
        "reference": task_argument(reference),
        "charge": system.charge,
        "multiplicity": system.multiplicity,
    }
    if reference.kind == "lammps" and structure is not None:
        start = folder / "structure.npz"
        _keep(replace(from_atoms([structure], "structure"), info={}).without_labels(), start)
        arguments["structure"] = str(start)
    bare, tasks = frames.without_labels(), []
    for number, first in enumerate(range(0, len(wanted), config.batch)):
        part = wanted[first : first + config.batch]
        source = folder / f"frames-{number:05d}.npz"
        _keep(replace(bare[part], info={"index": part}), source)
        tasks.append(
            Task(
                ASE_TASK if reference.kind == "ase" else LAMMPS_TASK,
                folder / f"batch-{number:05d}",
                {**arguments, "source": str(source), "stop": len(part)},
                f"label batch {number} of {folder.name}",
            )
        )
    return tasks


def _keep(frames: Frames, path: Path) -> None:
    """The frames on disk: written where no file, or one of other frames, is there."""
    if path.exists():
        stored = load_npz(path)
        same_order = all(np.array_equal(stored.info.get(k, ()), v) for k, v in frames.info.items())
        if same_order and content_hash(stored) == content_hash(frames):
            return
    save_npz(frames, path)


def _gather(
    tasks: list[Task],
    outcomes: Iterable[dict[str, Any] | Failure],
    wanted: NDArray[Any],
    labels: _Labels,
) -> None:
    """Put what the batches gave into ``labels``, failures with their reasons."""
    first = 0
    for task, outcome in zip(tasks, outcomes, strict=True):
        indices = wanted[first : first + task.arguments["stop"]]
        first += task.arguments["stop"]
        if isinstance(outcome, Failure):
            labels.failures += [{"frame": int(k), "reason": outcome.reason} for k in indices]
            continue
        labels.failures += [
            {"frame": int(indices[f["row"]]), "reason": f["reason"]} for f in outcome["failures"]
        ]
        if outcome["labelled"]:
            batch = load_npz(task.folder / "labels.npz")
            labels.take(batch.info["index"], batch)


def _compare(frames: Frames, check: NDArray[Any], labels: _Labels, config: Label) -> _Rechecks:
    """Differences between taken-over labels and the same frames computed again.

    Raises:
        TaskError: one is larger than the tolerance.
    """
    compared, worst_force, worst_energy = 0, 0.0, 0.0
    for k in check.tolist():
        if np.isnan(labels.energy[k]):
            continue
        assert frames.forces is not None
        assert frames.energy is not None
        compared += 1
        force = float(np.abs(labels.forces[k] - frames.forces[k]).max())
        energy = float(abs(labels.energy[k] - frames.energy[k])) / frames.n_atoms
        worst_force, worst_energy = max(worst_force, force), max(worst_energy, energy)
        if force > config.recheck_tolerance_ev_per_ang:
            raise TaskError(
                f"frame {k} of {frames.source}: the forces stored while sampling differ from the "
                f"reference by {force:.2g} eV/A; something else (a bias?) is in them. "
                "Set label.reuse = false to compute all labels."
            )
        if energy > config.recheck_tolerance_ev_per_atom:
            raise TaskError(
                f"frame {k} of {frames.source}: the energy stored with it differs from the "
                f"reference by {energy:.2g} eV an atom, the forces agree: another energy zero. "
                "Set label.reuse = false to compute all labels."
            )
    return _Rechecks(compared, worst_force, worst_energy)


def _labelled(frames: Frames, labels: _Labels, good: NDArray[Any], source: str) -> Frames:
    """The frames that have labels, each with its own; what only some have is left out."""

    def of_all(value: Array | None) -> Array | None:
        return None if value is None or np.isnan(value[good]).any() else value[good]

    return replace(
        frames.without_labels()[good],
        energy=labels.energy[good],
        forces=labels.forces[good],
        virial=None if frames.cell is None else of_all(labels.virial),
        atomic_energy=of_all(labels.atomic_energy),
    ).with_info(label_source=source)
