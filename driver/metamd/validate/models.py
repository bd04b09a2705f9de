"""The validation stage: every model on every test set, and every ensemble in dynamics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ase import Atoms

from metamd.config import Validate
from metamd.execution import Executor, Failure, Task
from metamd.frames import load_npz
from metamd.predict import predict
from metamd.validate.errors import Errors, cross_errors, prediction_errors, save_predictions

ERRORS_TASK = "metamd.validate.models:model_errors"
STABILITY_TASK = "metamd.validate.stability:run_stability"


@dataclasses.dataclass(frozen=True)
class ModelFile:
    """A frozen model to judge: what it was trained on, its seed, its file."""

    train: str
    seed: int
    path: Path


@dataclasses.dataclass(frozen=True)
class Validation:
    """``cross_errors`` and ``stability`` as in ``summary.json``, and the checks that failed."""

    cross_errors: list[dict[str, Any]]
    stability: list[dict[str, Any]]
    failures: list[dict[str, Any]]


def validate_models(
    models: Sequence[ModelFile],
    tests: Mapping[str, Path],
    start: Atoms,
    config: Validate,
    folder: Path,
    executor: Executor,
) -> Validation:
    """Judge models by the checks of the run file.

    Args:
        models: all members of all ensembles.
        tests: labelled frames (npz) by name; no model was trained on them.
        start: structure that dynamics starts from.

    A check that fails is listed with its reason, and the others are still made.
    """
    errors = _error_tasks(models, tests, folder) if "cross_errors" in config.checks else []
    runs = _stability_tasks(models, start, config, folder) if "stability" in config.checks else []
    outcomes = executor.run("validate", [*errors, *runs])
    failures = [
        {"check": outcome.title, "reason": outcome.reason}
        for outcome in outcomes
        if isinstance(outcome, Failure)
    ]
    rows = []
    if errors:
        for model, outcome in zip(models, outcomes, strict=False):
            if not isinstance(outcome, Failure):
                rows += [
                    (model.train, test, model.seed, Errors(**numbers))
                    for test, numbers in outcome["tests"].items()
                ]
    stability = []
    for task, outcome in zip(runs, outcomes[len(errors) :], strict=True):
        about = {key: task.arguments[key] for key in ("train", "seed", "temperature_k")}
        if isinstance(outcome, Failure):
            outcome = {"intact": False, "failure": outcome.reason, "time_ps": 0.0}
        stability.append({**about, **outcome, "folder": str(task.folder)})
    return Validation(cross_errors(rows), stability, failures)


def _error_tasks(
    models: Sequence[ModelFile], tests: Mapping[str, Path], folder: Path
) -> list[Task]:
    return [
        Task(
            ERRORS_TASK,
            folder / "errors" / f"{model.train}-seed-{model.seed}",
            {"model": str(model.path), "tests": {k: str(v) for k, v in tests.items()}},
            f"errors of {model.train}, seed {model.seed}",
        )
        for model in models
    ]


def _stability_tasks(
    models: Sequence[ModelFile], start: Atoms, config: Validate, folder: Path
) -> list[Task]:
    """Dynamics with the first member of each ensemble."""
    first: dict[str, ModelFile] = {}
    for model in models:
        first.setdefault(model.train, model)
    return [
        Task(
            STABILITY_TASK,
            folder / "stability" / f"{model.train}-{temperature:g}K",
            {
                "model": str(model.path),
                "train": model.train,
                "seed": config.seed,
                "temperature_k": temperature,
                "steps": config.steps,
                "timestep_fs": config.timestep_fs,
                "symbols": start.get_chemical_symbols(),
                "positions": start.positions.tolist(),
                "cell": start.cell.array.tolist() if start.pbc.any() else None,
            },
            f"{temperature:g} K dynamics of {model.train}",
        )
        for model in first.values()
        for temperature in config.temperatures_k
    ]


def model_errors(folder: Path, model: str, tests: dict[str, str]) -> dict[str, Any]:
    """Task: errors of one model on every test set; its predictions are kept for the report."""
    table = {}
    for name, path in tests.items():
        frames = load_npz(Path(path))
        predictions = predict([model], frames)
        assert predictions.energy is not None
        energy, forces = predictions.energy[0], predictions.forces[0]
        save_predictions(folder / f"{name}.npz", energy, forces)
        table[name] = dataclasses.asdict(prediction_errors(frames, energy, forces))
    return {"tests": table}
