"""What an ensemble says of many frames, predicted by tasks and kept on disk."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metamd.execution import Executor, Task
from metamd.frames import Frames, load_npz
from metamd.predict import Predictions, predict

PREDICT_TASK = "metamd.ensemble:predict_part"
#: Frames a task: long enough to pay for the start of the back-end.
PART = 4000


def ensemble_predictions(
    models: Sequence[Path], source: Path, n_frames: int, folder: Path, executor: Executor
) -> Predictions:
    """Energies and forces of every model for the frames of an npz file.

    Args:
        models: frozen models of one ensemble.
        source: the frames, as ``save_npz`` wrote them.
        n_frames: how many there are.
        folder: one task folder below it for each part of the frames.

    Raises:
        TaskError: a prediction failed.
    """
    tasks = [
        Task(
            PREDICT_TASK,
            folder / f"part-{number:04d}",
            {
                "models": [str(m) for m in models],
                "source": str(source),
                "start": start,
                "stop": min(start + PART, n_frames),
            },
            f"predictions for {folder.name}, part {number}",
        )
        for number, start in enumerate(range(0, n_frames, PART))
    ]
    executor.run_all(f"predict {folder.name}", tasks)
    parts = []
    for task in tasks:
        with np.load(task.folder / "predictions.npz") as data:
            parts.append((data["energy"], data["forces"], data["atomic_energy"]))
    energy, forces, atomic = (np.concatenate(c, axis=1) for c in zip(*parts, strict=True))
    return Predictions(energy, forces, atomic, tuple(str(m) for m in models))


def predict_part(
    folder: Path, models: list[str], source: str, start: int, stop: int
) -> dict[str, Any]:
    """Task: predict frames start..stop of ``source``; ``predictions.npz`` holds the numbers."""
    frames: Frames = load_npz(Path(source))[start:stop]
    result = predict(models, frames, atomic=True)
    assert result.energy is not None
    assert result.atomic_energy is not None
    partial = folder / "predictions.part.npz"
    np.savez(
        partial,
        energy=result.energy,
        forces=result.forces,
        atomic_energy=result.atomic_energy,
    )
    partial.replace(folder / "predictions.npz")
    return {"frames": len(frames), "models": len(models)}
