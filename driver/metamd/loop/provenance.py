"""``provenance.json``: every model to its data sets, every data set to its frames' origin.

Each DeePMD system has a ``provenance.npz`` beside it with one entry a frame: iteration, arm,
walker, step and frame (its number in the arm's ``frames.npz``).  ``trace`` follows both.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from metamd.errors import InputError
from metamd.summary import State
from metamd.workspace import write_json

PROVENANCE = "provenance.json"
#: What is known of a frame, in this order in tables.
ORIGIN = ("iteration", "arm", "walker", "step", "frame", "label_source")


def write_provenance(root: Path, state: State) -> None:
    """Write what is known so far; a few kB, so it is written anew after every stage."""

    def relative(path: Path) -> str:
        return str(path.relative_to(root))

    datasets, models = [], []
    for iteration in state.iterations:
        for name, data in iteration.datasets.items():
            datasets.append(
                {
                    "name": name,
                    "iteration": iteration.number,
                    "train": None if data.train is None else relative(data.train),
                    "heldout": None if data.heldout is None else relative(data.heldout),
                    "n_train": data.n_train,
                    "n_heldout": data.n_heldout,
                    "sha256": data.sha256,
                }
            )
        for model in iteration.models:
            models.append(
                {
                    "path": relative(model.path),
                    "train": model.train,
                    "seed": model.seed,
                    "iteration": iteration.number,
                    "started_from": model.started_from and relative(Path(model.started_from)),
                    "datasets": [
                        {"path": relative(d.train), "frames": d.n_train, "sha256": d.sha256}
                        for d in iteration.train_data.get(model.train, [])
                        if d.train is not None
                    ],
                    "augmented": [
                        relative(system) for system in iteration.augmented_data.get(model.train, [])
                    ],
                }
            )
    decisions = [
        {
            "iteration": iteration.number,
            "selected": {name: p.as_dict() | {"indices": len(p.indices), "reasons": None}
                         for name, p in iteration.picked.items()},
            "reference_calls": iteration.reference_calls,
            "stop": iteration.stop,
        }
        for iteration in state.iterations
    ]  # fmt: skip
    write_json(root / PROVENANCE, {"datasets": datasets, "models": models, "decisions": decisions})


def trace_frame(root: Path, system: str, row: int) -> dict[str, Any]:
    """Where one frame of a DeePMD system of this run comes from.

    Args:
        root: work folder.
        system: path of the system, relative to it (``iteration-0/dataset/md/train``).
        row: number of the frame, from 0.

    Returns: ORIGIN's keys, and ``walker_folder`` and ``frames`` (paths) where an arm made it.

    Raises:
        InputError: no such system or frame.
    """
    path = root / system / "provenance.npz"
    if not path.exists():
        raise InputError(f"{root / system}: is not a data set of a metamd work folder.")
    with np.load(path, allow_pickle=False) as data:
        n = len(data["arm"])
        if not 0 <= row < n:
            raise InputError(f"{root / system}: frame {row} is not one of its {n}.")
        origin = {key: data[key][row].item() for key in ORIGIN if key in data.files}
    # Folders that metamd compare made before it kept the iteration have but this one.
    number = origin.get("iteration", 0)
    arm = root / f"iteration-{number}" / "sample" / str(origin["arm"])
    if arm.exists():
        origin["frames"] = str((arm / "frames.npz").relative_to(root))
        walker = arm / f"walker-{origin['walker']}"
        origin["walker_folder"] = str(walker.relative_to(root)) if walker.exists() else None
    return origin


def trace_model(root: Path, model: str) -> dict[str, Any]:
    """The entry of ``provenance.json`` for a model (its path, also below ``root``).

    Raises:
        InputError: no such run or model.
    """
    entries = models_of(root)
    for entry in entries:
        if entry["path"] == model or (root / entry["path"]).resolve() == Path(model).resolve():
            return entry
    known = ", ".join(entry["path"] for entry in entries) or "none"
    raise InputError(f"{model}: is not a model of {root}; its models are: {known}.")


def models_of(root: Path) -> list[dict[str, Any]]:
    """All models of a run, oldest first.

    Raises:
        InputError: no work folder of a run.
    """
    path = root / PROVENANCE
    if not path.exists():
        raise InputError(f"{root}: has no {PROVENANCE}; is it a work folder of metamd run?")
    entries: list[dict[str, Any]] = json.loads(path.read_text())["models"]
    return entries
