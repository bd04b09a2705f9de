"""Labels of one batch by a LAMMPS force field: ``rerun`` of the frames, without any bias."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from metamd import deck, dump
from metamd.config import Reference
from metamd.execution import run_lmp
from metamd.forcefields import reference_forces
from metamd.frames import Frames, load_npz, save_npz


def label_batch(
    folder: Path,
    source: str,
    start: int,
    stop: int,
    reference: dict[str, Any],
    charge: int,
    multiplicity: int,
    structure: str | None = None,
) -> dict[str, Any]:
    """Task: labels of frames start..stop of ``source``, with virials in a cell.

    Per-atom energies come where the force field has them.
    Bonds are those of ``structure`` (its first frame), where the force field has bonds.
    ``charge`` and ``multiplicity`` mean nothing to a force field; they are there because every
    label task is called alike.
    """
    method = Reference.model_validate(reference)
    frames = load_npz(Path(source))[start:stop]
    for path in method.files:
        shutil.copy2(path, folder / path.name)
    species = frames.species
    # The box and the boundaries are those of the frames.
    atoms = (frames if structure is None else load_npz(Path(structure))).to_atoms(0)
    forces = reference_forces(method, atoms)
    deck.write_data(atoms, species, folder / deck.DATA, forces.atom_style)
    dump.write_dump(frames, folder / "frames-in.dump")
    (folder / deck.DECK).write_text(deck.rerun_deck(atoms, forces, "frames-in.dump"))
    for leftover in (deck.DUMP, deck.THERMO):
        (folder / leftover).unlink(missing_ok=True)
    run_lmp(folder, deck.DECK, "screen.log")
    labelled = dump.add_thermo(
        dump.read_dump(folder / deck.DUMP),
        dump.read_log_thermo(folder / "log.lammps"),
        forces.units,
    )
    row = labelled.info["step"]
    if not np.array_equal(row, np.arange(len(frames))):
        raise ValueError(f"rerun gave {len(row)} frames of {len(frames)}")
    save_npz(
        Frames(
            symbols=frames.symbols,
            positions=frames.positions,
            cell=frames.cell,
            energy=labelled.energy,
            forces=labelled.forces,
            virial=labelled.virial,
            atomic_energy=labelled.atomic_energy,
            info=frames.info,
            source=frames.source,
        ),
        folder / "labels.npz",
    )
    return {"labelled": len(frames), "failures": []}
