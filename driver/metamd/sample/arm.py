"""Arms and walkers: folders that run by hand, tasks that run them, frames with provenance."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write

from metamd import deck, dump
from metamd.bonds import BondGraph
from metamd.config import Reference, Sample, System
from metamd.deck import Forces, model_commands
from metamd.errors import InputError, TaskError
from metamd.execution import Executor, Failure, Task, last_useful_line, run_lmp, run_program
from metamd.forcefields import reference_forces
from metamd.frames import Frames, concatenate, load_npz, save_npz
from metamd.plugins import plumed_actions_library
from metamd.reference import fingerprint

WALKER_TASK = "metamd.sample.arm:walker_task"


@dataclass(frozen=True)
class SampleResult:
    """What an arm gave.

    Attributes:
        arm: its table of the run file.
        frames: good frames of all walkers, in order of walker and step, unbiased labels where
            the engine gives them.
        stopped: walker and reason, for each that stopped early.
        path: the frames on disk.
    """

    arm: Sample
    frames: Frames
    stopped: list[dict[str, Any]]
    path: Path


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
        for walker in range(arm.walkers):
            tasks.append(
                Task(
                    WALKER_TASK,
                    folder / arm.name / f"walker-{walker}",
                    _walker_arguments(arm, system, reference, atoms, walker),
                    f"arm {arm.name}, walker {walker}",
                )
            )
    outcomes = dict(zip([t.title for t in tasks], executor.run("sample", tasks), strict=True))
    return [_collect(arm, reference, system, folder, outcomes) for arm in arms]


def _walker_arguments(
    arm: Sample, system: System, reference: Reference, atoms: Atoms, walker: int
) -> dict[str, Any]:
    return {
        "arm": arm.model_dump(mode="json"),
        "reference": reference.model_dump(mode="json"),
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
    """Task: write the folder of one walker, run it, keep its good frames."""
    sample, method = Sample.model_validate(arm), Reference.model_validate(reference)
    atoms = Atoms(symbols, positions, cell=cell, pbc=cell is not None)
    # An interrupted try is begun anew with the same seed: the frames come out the same.
    for leftover in folder.iterdir():
        if not leftover.name.startswith("."):
            leftover.unlink() if leftover.is_file() else shutil.rmtree(leftover)
    write_walker(folder, sample, method, atoms, walker, charge, multiplicity)
    if _callback(sample, method):
        run_program(
            [sys.executable, "-m", "metamd.sample.walker", str(folder)], folder, "walker.log"
        )
        outcome: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
    else:
        outcome = _run_lmp(folder, sample, atoms, _forces(sample, method, atoms).units)
    if outcome["frames"] == 0:
        raise TaskError(f"no good frame: {outcome['stopped'] or 'nothing was written'}")
    return outcome


def write_walker(
    folder: Path,
    arm: Sample,
    reference: Reference,
    atoms: Atoms,
    walker: int,
    charge: int = 0,
    multiplicity: int = 1,
) -> None:
    """Write a self-contained folder: deck, data file, PLUMED file and what they need."""
    species = sorted(set(atoms.get_chemical_symbols()))
    forces = _forces(arm, reference, atoms)
    if arm.model is not None:
        shutil.copy2(arm.model, folder / _model_name(arm.model))
    deck.write_data(atoms, species, folder / deck.DATA, forces.atom_style)
    write(folder / "start.xyz", atoms, format="extxyz")
    text = (
        arm.deck.read_text()
        if arm.deck is not None
        else deck.sampling_deck(arm, atoms, forces, arm.seed + 1000 * walker)
    )
    (folder / deck.DECK).write_text(text)
    plugin = plumed_actions_library()
    if arm.plumed is not None:
        own = arm.plumed.read_text()
        text = deck.with_plugin(own, plugin) if plugin is not None else own
        (folder / deck.PLUMED_FILE).write_text(text)
    elif arm.bias is not None:
        if plugin is None:
            raise InputError(
                "The PLUMED actions of metamd are not built in this installation; "
                "`metamd doctor` says what is missing."
            )
        (folder / deck.PLUMED_FILE).write_text(
            deck.plumed_file(arm.bias, atoms, arm.temperature_k, plugin, arm.stride)
        )
        if arm.bias.hills:
            deck.carry_hills(arm.bias.hills[walker % len(arm.bias.hills)], folder / deck.HILLS)
    for path in (*arm.files, *(reference.files if arm.engine != "model" else ())):
        shutil.copy2(path, folder / path.name)
    if _callback(arm, reference):
        (folder / "walker.json").write_text(
            json.dumps(
                {
                    "calculator": reference.calculator,
                    "arguments": reference.arguments,
                    "charge": charge,
                    "multiplicity": multiplicity,
                    "stride": arm.stride,
                    "steps": arm.steps,
                    "allow_bond_breaking": arm.allow_bond_breaking,
                    "max_force_ev_per_ang": arm.max_force_ev_per_ang,
                },
                indent=2,
            )
        )


def _callback(arm: Sample, reference: Reference) -> bool:
    """Whether an ASE calculator drives LAMMPS, through the walker's program."""
    return arm.engine == "reference" and reference.kind == "ase"


def _forces(arm: Sample, reference: Reference, atoms: Atoms) -> Forces:
    if _callback(arm, reference):
        return Forces()
    if arm.engine == "model":
        assert arm.model is not None
        species = sorted(set(atoms.get_chemical_symbols()))
        return Forces(model_commands(_model_name(arm.model), species))
    if arm.commands:
        return Forces(arm.commands, reference.atom_style, reference.units)
    if reference.kind == "lammps":
        return reference_forces(reference, atoms)
    return Forces((), reference.atom_style, reference.units)


def _model_name(model: Path) -> str:
    return f"model{model.suffix}"


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
    if not arm.allow_bond_breaking and frames.cell is None:
        bonds = BondGraph.of(atoms.get_chemical_symbols(), atoms.positions)
        bad = ~bonds.intact_mask(frames.positions)
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
    parts, stopped = [], []
    for walker in range(arm.walkers):
        outcome = outcomes[f"arm {arm.name}, walker {walker}"]
        if isinstance(outcome, Failure):
            stopped.append({"walker": walker, "reason": outcome.reason})
            continue
        if outcome["stopped"]:
            stopped.append({"walker": walker, "reason": outcome["stopped"]})
        frames = load_npz(folder / arm.name / f"walker-{walker}" / "frames.npz")
        parts.append(frames.with_info(walker=walker))
    if not parts:
        raise TaskError(
            f"arm {arm.name}: no walker gave a frame; the first: {stopped[0]['reason']}"
        )
    source = ""
    own_lines = bool(arm.commands or arm.deck)
    if _callback(arm, reference) or (
        arm.engine != "model" and reference.kind == "lammps" and not own_lines
    ):
        source = fingerprint(reference, system)
    frames = concatenate(parts).with_info(
        arm=arm.name, method=arm.method, temperature_k=arm.temperature_k, label_source=source
    )
    path = folder / arm.name / "frames.npz"
    save_npz(frames, path)
    return SampleResult(arm, frames, stopped, path)
