"""Energies and forces of stored frames by a LAMMPS force field: ``rerun``, without any bias."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from metamd import deck, dump
from metamd.deck import Forces
from metamd.errors import TaskError
from metamd.execution import run_lmp
from metamd.frames import Frames


def rerun(
    frames: Frames,
    forces: Forces,
    folder: Path,
    files: Sequence[Path] = (),
    structure: Atoms | None = None,
) -> Frames:
    """The frames with labels of this force field, virials in a cell among them.

    Args:
        folder: where deck, data file and dumps go; a person can run them by hand.
        files: what the force field's lines need; copied there.
        structure: whose molecules a force field with bonds takes; by default the first frame.

    Raises:
        TaskError: LAMMPS failed, with its last error.
        DataError: an energy or a force that is not a number.
    """
    for path in files:
        shutil.copy2(path, folder / path.name)
    atoms = frames.to_atoms(0) if structure is None else structure
    deck.write_data(atoms, frames.species, folder / deck.DATA, forces.atom_style)
    dump.write_dump(frames, folder / "frames-in.dump")
    (folder / deck.DECK).write_text(deck.rerun_deck(atoms, forces, "frames-in.dump"))
    (folder / deck.DUMP).unlink(missing_ok=True)
    run_lmp(folder, deck.DECK, "screen.log")
    labelled = dump.add_thermo(
        dump.read_dump(folder / deck.DUMP),
        dump.read_log_thermo(folder / "log.lammps"),
        forces.units,
    )
    row = labelled.info["step"]
    if not np.array_equal(row, np.arange(len(frames))):
        raise TaskError(f"rerun gave {len(row)} frames of {len(frames)}")
    return replace(
        frames,
        energy=labelled.energy,
        forces=labelled.forces,
        virial=labelled.virial,
        atomic_energy=labelled.atomic_energy,
    )
