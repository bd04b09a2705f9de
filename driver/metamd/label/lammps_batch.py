"""Labels of one batch by a LAMMPS force field: ``rerun`` of the frames, without any bias."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from metamd.config import Reference
from metamd.errors import DataError, TaskError
from metamd.forcefields import reference_forces
from metamd.frames import Frames, concatenate, load_npz, save_npz
from metamd.rerun import rerun

#: After so many failed frames and no good one it is the deck that is wrong.
_HOPELESS = 8


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
    forces = reference_forces(method, atoms)
    for path in method.files:
        shutil.copy2(path, folder / path.name)
    parts: list[tuple[list[int], Frames]] = []
    failures: list[dict[str, Any]] = []

    def label(rows: list[int]) -> None:
        """Label these rows; where LAMMPS fails, halve until the bad frame is alone."""
        try:
            parts.append((rows, rerun(frames[rows], forces, folder, structure=atoms)))
        except (TaskError, DataError) as error:
            if len(rows) == 1 or (not parts and len(failures) >= _HOPELESS):
                failures.extend({"row": row, "reason": str(error)} for row in rows)
                return
            label(rows[: len(rows) // 2])
            label(rows[len(rows) // 2 :])

    label(list(range(len(frames))))
    if parts:
        save_npz(concatenate([part for _, part in parts]), folder / "labels.npz")
    return {"labelled": len(frames) - len(failures), "failures": failures}
