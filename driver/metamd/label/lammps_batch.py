"""Labels of one batch by a LAMMPS force field: ``rerun`` of the frames, without any bias."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metamd.config import Reference
from metamd.forcefields import reference_forces
from metamd.frames import load_npz, save_npz
from metamd.rerun import rerun


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
    # The box and the boundaries are those of the frames.
    atoms = (frames if structure is None else load_npz(Path(structure))).to_atoms(0)
    labelled = rerun(frames, reference_forces(method, atoms), folder, method.files, atoms)
    save_npz(labelled, folder / "labels.npz")
    return {"labelled": len(frames), "failures": []}
