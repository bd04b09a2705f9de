"""One deck, run by the reference or by a model: trajectories under the same conditions."""

from __future__ import annotations

import json
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.io import write

from metamd import deck, dump
from metamd.config import Reference, Sample
from metamd.deck import Forces, model_commands, model_name
from metamd.errors import DataError
from metamd.execution import last_useful_line, run_lmp, run_program
from metamd.forcefields import reference_forces, with_rigid_water
from metamd.frames import Frames, load_npz, save_npz
from metamd.topology import check_water, topology_of

#: The program that serves a deck's forces from an ASE calculator.
WALKER_PROGRAM = "metamd.sample.walker"


@dataclass(frozen=True)
class Outcome:
    """What a deck gave: its frames (None: not one) and why it ended early (None: it did not)."""

    frames: Frames | None
    stopped: str | None


def run_model(folder: Path, arm: Sample, atoms: Atoms, model: str) -> Outcome:
    """Run ``arm``'s deck in ``folder`` with a frozen DeePMD model, by ``lmp``."""
    species = sorted(set(atoms.get_chemical_symbols()))
    local = model_name(Path(model))
    shutil.copy2(model, folder / local)
    forces = Forces(model_commands(local, species))
    if arm.rigid_water:
        check_water(atoms, topology_of(atoms), "validate.rigid_water")
        forces = with_rigid_water(forces)
    return _run_lmp(folder, arm, atoms, forces)


def run_reference(
    folder: Path, arm: Sample, atoms: Atoms, reference: Reference, charge: int, multiplicity: int
) -> Outcome:
    """The same with the reference: an ASE calculator through ``fix external``, or pair styles."""
    if reference.kind == "lammps":
        for path in reference.files:
            shutil.copy2(path, folder / path.name)
        return _run_lmp(folder, arm, atoms, reference_forces(reference, atoms))
    _write(folder, arm, atoms, Forces())
    write(folder / "start.xyz", atoms, format="extxyz")
    deck.write_callback(folder, arm, reference, charge, multiplicity)
    run_program([sys.executable, "-m", WALKER_PROGRAM, "."], folder, "walker.log")
    outcome: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
    frames = load_npz(folder / "frames.npz") if outcome["frames"] else None
    return Outcome(frames, outcome["stopped"])


def _write(folder: Path, arm: Sample, atoms: Atoms, forces: Forces) -> None:
    for leftover in (deck.DUMP, deck.THERMO, "frames.npz", "outcome.json"):
        (folder / leftover).unlink(missing_ok=True)
    species = sorted(set(atoms.get_chemical_symbols()))
    deck.write_data(atoms, species, folder / deck.DATA, forces.atom_style)
    (folder / deck.DECK).write_text(deck.sampling_deck(arm, atoms, forces, arm.seed))


def _run_lmp(folder: Path, arm: Sample, atoms: Atoms, forces: Forces) -> Outcome:
    _write(folder, arm, atoms, forces)
    status = run_lmp(folder, deck.DECK, "screen.log", check=False)
    last = last_useful_line(folder / "screen.log")
    stopped = f"LAMMPS: {last}" if status else None
    try:
        _cut_at_nan(folder / deck.DUMP)
        table = dump.read_thermo(folder / deck.THERMO)
        table = table[np.isfinite(table).all(axis=1)]
        frames = dump.add_thermo(dump.read_dump(folder / deck.DUMP), table, forces.units)
    except (OSError, DataError):
        frames = None
    if frames is None or not len(frames):
        # Blown up before the first frame was whole.
        return Outcome(None, stopped or f"LAMMPS: {last}")
    if stopped is None and frames.info["step"][-1] + arm.stride <= arm.steps:
        halted = "halt" in (folder / "screen.log").read_text(errors="replace").lower()
        why = "a force exceeded all bounds" if halted else "positions or energy are no numbers"
        stopped = f"{why} after step {frames.info['step'][-1]}"
    save_npz(frames, folder / "frames.npz")
    (folder / deck.DUMP).unlink()
    return Outcome(frames, stopped)


def _cut_at_nan(path: Path) -> None:
    """Leave the frames of a dump before the first with a position or force that is no number.

    LAMMPS goes on with such positions where no neighbour list notices them.
    """
    text = path.read_text()
    found = re.search(r"\s-?(nan|inf)\b", text, flags=re.IGNORECASE)
    if found is not None:
        path.write_text(text[: max(0, text.rfind("ITEM: TIMESTEP", 0, found.start()))])
