"""Energies and forces of stored frames by a LAMMPS force field: ``rerun``, without any bias."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes

from metamd import deck, dump
from metamd.deck import Forces
from metamd.errors import TaskError
from metamd.execution import run_lmp
from metamd.frames import Array, Frames, from_atoms


def rerun(
    frames: Frames,
    forces: Forces,
    folder: Path,
    files: Sequence[Path] = (),
    structure: Atoms | None = None,
) -> Frames:
    """The frames with labels of this force field, virials in a cell among them.

    LAMMPS sees cells and atoms in its own axes; forces and virials are turned back.

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
    turned, rotation = _in_lammps_axes(frames)
    tilted = _tilted(turned, atoms)
    dump.write_dump(turned, folder / "frames-in.dump", tilted)
    (folder / deck.DECK).write_text(deck.rerun_deck(atoms, forces, "frames-in.dump", tilted))
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
    assert labelled.forces is not None
    back = np.swapaxes(rotation, 1, 2)
    return replace(
        frames,
        energy=labelled.energy,
        forces=labelled.forces @ back,
        virial=None if labelled.virial is None else rotation @ labelled.virial @ back,
        atomic_energy=labelled.atomic_energy,
    )


def _in_lammps_axes(frames: Frames) -> tuple[Frames, Array]:
    """The frames as LAMMPS takes them, and the rotation of each, [n_frames, 3, 3]."""
    if frames.cell is None:
        return frames, np.broadcast_to(np.eye(3), (len(frames), 3, 3))
    cell, rotation = dump.lammps_cells(frames.cell)
    return replace(frames, positions=frames.positions @ rotation, cell=cell), rotation


def _tilted(turned: Frames, structure: Atoms) -> bool:
    """Whether a box is triclinic: that of the data file, or of a frame."""
    if turned.cell is None:
        return False
    cells = np.concatenate([turned.cell, dump.lammps_cells(structure.cell.array[None])[0]])
    return bool(np.tril(cells, -1).any())


class RerunCalculator(Calculator):  # type: ignore[misc]
    """A LAMMPS force field as an ASE calculator; LAMMPS is started for each geometry.

    Args:
        forces, folder, files, structure: as for ``rerun``.
    """

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def __init__(
        self, forces: Forces, folder: Path, files: Sequence[Path], structure: Atoms
    ) -> None:
        super().__init__()
        self.lines, self.folder, self.files = forces, folder, files
        self.structure = structure.copy()

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        labelled = rerun(
            from_atoms([self.atoms], "one geometry"),
            self.lines,
            self.folder,
            self.files,
            self.structure,
        )
        assert labelled.energy is not None
        assert labelled.forces is not None
        self.results = {"energy": float(labelled.energy[0]), "forces": labelled.forces[0]}
