"""Labels of one batch by an ASE calculator; every finished label is on disk at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from metamd.config import Reference
from metamd.errors import ReferenceFailed
from metamd.execution import report_progress
from metamd.frames import Frames, load_npz, save_npz
from metamd.reference import make_calculator, single_point

JOURNAL = "labels.jsonl"


def label_batch(
    folder: Path,
    source: str,
    start: int,
    stop: int,
    reference: dict[str, Any],
    charge: int,
    multiplicity: int,
) -> dict[str, Any]:
    """Task: label frames start..stop of ``source``; goes on where an interrupted try ended.

    Returns: ``labelled`` (number) and ``failures`` (``row`` in the batch and ``reason``).
    """
    method = Reference.model_validate(reference)
    assert method.calculator is not None
    frames = load_npz(Path(source))[start:stop]
    done = read_journal(folder / JOURNAL)
    calculator = make_calculator(method.calculator, method.arguments, charge, multiplicity)
    with (folder / JOURNAL).open("a") as journal:
        for row in range(len(frames)):
            if row in done:
                continue
            entry: dict[str, Any] = {"row": row}
            try:
                point = single_point(calculator, frames.to_atoms(row))
                entry["energy"], entry["forces"] = point.energy_ev, point.forces.tolist()
                if point.virial is not None:
                    entry["virial"] = point.virial.tolist()
            except ReferenceFailed as error:
                entry["reason"] = str(error)
                # A failed SCF may leave a poor starting guess behind.
                calculator = make_calculator(
                    method.calculator, method.arguments, charge, multiplicity
                )
            journal.write(json.dumps(entry) + "\n")
            journal.flush()
            done[row] = entry
            report_progress(folder, len(done) / len(frames))
    return write_labels(folder, frames, done)


def read_journal(path: Path) -> dict[int, dict[str, Any]]:
    """Entries of an earlier try; a torn last line is cut off."""
    if not path.exists():
        return {}
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return {entry["row"]: entry for entry in map(json.loads, whole.splitlines())}


def write_labels(folder: Path, frames: Frames, done: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Write ``labels.npz`` of the frames that have labels; count and explain the others."""
    good = [row for row in sorted(done) if "energy" in done[row]]
    failures = [
        {"row": row, "reason": done[row]["reason"]} for row in sorted(done) if "reason" in done[row]
    ]
    if good:
        part = frames[good]
        virial = None
        if all("virial" in done[row] for row in good):
            virial = np.array([done[row]["virial"] for row in good])
        save_npz(
            Frames(
                symbols=part.symbols,
                positions=part.positions,
                cell=part.cell,
                energy=np.array([done[row]["energy"] for row in good]),
                forces=np.array([done[row]["forces"] for row in good]),
                virial=virial,
                info=part.info,
                source=part.source,
            ),
            folder / "labels.npz",
        )
    return {"labelled": len(good), "failures": failures}
