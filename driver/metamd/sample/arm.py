"""Arms and walkers: folders that run by hand, tasks that run them, frames with provenance."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from metamd import deck, dump
from metamd.bonds import BondGraph
from metamd.config import Reference, Sample, System, Wte
from metamd.errors import TaskError
from metamd.execution import Executor, Failure, Task, last_useful_line, run_lmp, run_program
from metamd.frames import Frames, concatenate, load_npz, save_npz
from metamd.identity import task_argument
from metamd.reference import fingerprint
from metamd.sample.folder import brings_labels, engine_forces, has_callback, write_walker
from metamd.sample.static import run_static
from metamd.structure import walker_starts

WALKER_TASK = "metamd.sample.arm:walker_task"


@dataclass(frozen=True)
class SampleResult:
    """What an arm gave.

    Attributes:
        arm: its table of the run file.
        frames: good frames of all walkers, in order of walker and step, unbiased labels where
            the engine gives them.
        stopped: walker and reason, for each that stopped early.
        notes: what else there is to say, by walker: modes left out, a measured sigma.
        path: the frames on disk.
    """

    arm: Sample
    frames: Frames
    stopped: list[dict[str, Any]]
    path: Path
    notes: list[dict[str, Any]] = field(default_factory=list)


def sample_arms(
    arms: tuple[Sample, ...],
    system: System,
    reference: Reference,
    atoms: Atoms,
    folder: Path,
    executor: Executor,
) -> list[SampleResult]:
    """Sample all arms, their walkers side by side.

    Raises:
        TaskError: an arm gave no frame at all.
    """
    tasks: list[Task] = []
    for arm in arms:
        starts = walker_starts(arm.starts, atoms, arm.walkers, f"sample {arm.name!r}: starts")
        for walker, start in enumerate(starts):
            tasks.append(
                Task(
                    WALKER_TASK,
                    folder / arm.name / f"walker-{walker}",
                    _walker_arguments(arm, system, reference, start, walker),
                    f"arm {arm.name}, walker {walker}",
                )
            )
    outcomes = dict(zip([t.title for t in tasks], executor.run("sample", tasks), strict=True))
    return [_collect(arm, reference, system, folder, outcomes) for arm in arms]


def _walker_arguments(
    arm: Sample, system: System, reference: Reference, atoms: Atoms, walker: int
) -> dict[str, Any]:
    # What the walker starts from is below, whatever file it came from.
    return {
        "arm": task_argument(arm.model_copy(update={"starts": None})),
        "reference": task_argument(reference),
        "charge": system.charge,
        "multiplicity": system.multiplicity,
        "walker": walker,
        "symbols": atoms.get_chemical_symbols(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist() if atoms.pbc.any() else None,
    }


def walker_task(
    folder: Path,
    arm: dict[str, Any],
    reference: dict[str, Any],
    charge: int,
    multiplicity: int,
    walker: int,
    symbols: list[str],
    positions: list[list[float]],
    cell: list[list[float]] | None,
) -> dict[str, Any]:
    """Task: write the folder of one walker, run it, keep its good frames.

    Returns: ``frames`` (number), ``stopped`` (None or why it stopped early) and ``notes``.
    """
    sample, method = Sample.model_validate(arm), Reference.model_validate(reference)
    atoms = Atoms(symbols, positions, cell=cell, pbc=cell is not None)
    # An interrupted try is begun anew with the same seed: the frames come out the same.
    for leftover in folder.iterdir():
        if not leftover.name.startswith("."):
            leftover.unlink() if leftover.is_file() else shutil.rmtree(leftover)
    state = (method, atoms, walker, charge, multiplicity)
    notes: list[str] = []
    if sample.static:
        outcome = run_static(folder, sample, *state)
    else:
        if sample.method == "wte":
            sample = _with_sigma(folder / "nvt", sample, *state, notes)
        outcome = _run_dynamics(folder, sample, *state)
    if outcome["frames"] == 0:
        raise TaskError(f"no good frame: {outcome['stopped'] or 'nothing was written'}")
    return {"notes": notes, **outcome}


def _run_dynamics(
    folder: Path,
    sample: Sample,
    method: Reference,
    atoms: Atoms,
    walker: int,
    charge: int,
    multiplicity: int,
) -> dict[str, Any]:
    write_walker(folder, sample, method, atoms, walker, charge, multiplicity)
    if has_callback(sample, method):
        run_program(
            [sys.executable, "-m", "metamd.sample.walker", str(folder)], folder, "walker.log"
        )
        outcome: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
        return outcome
    return _run_lmp(folder, sample, atoms, engine_forces(sample, method, atoms).units)


def _with_sigma(
    folder: Path,
    arm: Sample,
    method: Reference,
    atoms: Atoms,
    walker: int,
    charge: int,
    multiplicity: int,
    notes: list[str],
) -> Sample:
    """The WTE arm with SIGMA; where none is given, the spread of the energy in an NVT run.

    Raises:
        TaskError: that run stopped early, or its energy did not vary.
    """
    wte = arm.wte or Wte()
    if wte.sigma_ev is None:
        folder.mkdir()
        stride = max(1, wte.measure_steps // 400)
        changes = {"method": "md", "wte": None, "steps": wte.measure_steps, "stride": stride}
        plain = arm.model_copy(update={**changes, "ensemble": "nvt"})
        outcome = _run_dynamics(folder, plain, method, atoms, walker, charge, multiplicity)
        if outcome["stopped"] or not outcome["frames"]:
            raise TaskError(f"the NVT run that measures sigma_ev stopped ({outcome['stopped']})")
        energy = load_npz(folder / "frames.npz").energy
        assert energy is not None
        sigma = float(energy.std())
        if sigma <= 0:
            raise TaskError("the energy of the NVT run that measures sigma_ev does not vary")
        notes.append(f"sigma_ev = {sigma:.4g}, the spread of the energy in {len(energy)} frames")
        wte = wte.model_copy(update={"sigma_ev": sigma})
    return arm.model_copy(update={"wte": wte})


def _run_lmp(folder: Path, arm: Sample, atoms: Atoms, units: str) -> dict[str, Any]:
    """Run ``lmp`` on the deck; keep the frames before an explosion."""
    status = run_lmp(folder, deck.DECK, "screen.log", check=False)
    stopped = None if status == 0 else f"LAMMPS: {last_useful_line(folder / 'screen.log')}"
    if not (folder / deck.DUMP).exists():
        return {"stopped": stopped or f"the deck wrote no {deck.DUMP}", "frames": 0}
    frames = dump.read_dump(folder / deck.DUMP)
    if (folder / deck.THERMO).exists():
        frames = dump.add_thermo(frames, dump.read_thermo(folder / deck.THERMO), units)
    frames, reason = _good_part(frames, arm, atoms)
    if len(frames):
        save_npz(frames, folder / "frames.npz")
    if stopped is None and "halt" in (folder / "screen.log").read_text(errors="replace").lower():
        last = frames.info["step"][-1] if len(frames) else 0
        if last + arm.stride <= arm.steps:
            reason = reason or f"stopped after step {last}: a force exceeded the limit"
    return {"stopped": stopped or reason, "frames": len(frames)}


def _good_part(frames: Frames, arm: Sample, atoms: Atoms) -> tuple[Frames, str | None]:
    """The trajectory before its first bad frame, and what was bad about it."""
    bad = np.zeros(len(frames), dtype=bool)
    reason = "a bond of the starting structure broke"
    bonds = BondGraph.of_atoms(atoms)
    if not arm.allow_bond_breaking and not bonds.network:
        bad = ~bonds.intact_frames(frames)
    if frames.forces is not None:
        largest = np.abs(frames.forces).max(axis=(1, 2))
        exploded = largest > arm.max_force_ev_per_ang
        if exploded.any() and (not bad.any() or exploded.argmax() <= bad.argmax()):
            reason = f"exploded, a force reached {largest[exploded.argmax()]:.0f} eV/A"
        bad |= exploded
    if not bad.any():
        return frames, None
    first = int(bad.argmax())
    return frames[:first], f"step {frames.info['step'][first]}: {reason}"


def _collect(
    arm: Sample,
    reference: Reference,
    system: System,
    folder: Path,
    outcomes: dict[str, dict[str, Any] | Failure],
) -> SampleResult:
    """Join the walkers of an arm; labels are marked with the method they come from."""
    parts, stopped, notes = [], [], []
    for walker in range(arm.walkers):
        outcome = outcomes[f"arm {arm.name}, walker {walker}"]
        if isinstance(outcome, Failure):
            stopped.append({"walker": walker, "reason": outcome.reason})
            continue
        if outcome["stopped"]:
            stopped.append({"walker": walker, "reason": outcome["stopped"]})
        notes += [{"walker": walker, "note": note} for note in outcome.get("notes", [])]
        frames = load_npz(folder / arm.name / f"walker-{walker}" / "frames.npz")
        parts.append(frames.with_info(walker=walker))
    if not parts:
        raise TaskError(
            f"arm {arm.name}: no walker gave a frame; the first: {stopped[0]['reason']}"
        )
    source = fingerprint(reference, system) if brings_labels(arm, reference) else ""
    frames = concatenate(parts).with_info(
        arm=arm.name, method=arm.method, temperature_k=arm.temperature_k, label_source=source
    )
    path = folder / arm.name / "frames.npz"
    save_npz(frames, path)
    return SampleResult(arm, frames, stopped, path, notes)
