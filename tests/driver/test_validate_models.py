"""The validation stage on predictions that are given: what one bad model or set may cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.build import molecule

from metamd.config import Validate
from metamd.execution import Task
from metamd.frames import Frames, save_npz
from metamd.judge import cluster_labels
from metamd.validate import models
from metamd.validate.errors import prediction_errors, save_predictions
from metamd.validate.models import Validation, model_errors, validate_models
from metamd.validate.plan import ModelFile
from metamd.validate.verdict import verdict

WATER = molecule("H2O")


def labelled(seed: int) -> Frames:
    rng = np.random.default_rng(seed)
    return Frames(
        tuple(WATER.get_chemical_symbols()),
        WATER.positions + rng.normal(0, 0.05, (40, 3, 3)),
        energy=rng.normal(size=40),
        forces=rng.normal(size=(40, 3, 3)),
    )


SETS = {"md": labelled(1), "metamd": labelled(2)}


class Given:
    """Answers the tasks of errors: forces off by 0.01 eV/A, no numbers on what a model fails on."""

    def __init__(self, fails: dict[str, tuple[str, ...]]) -> None:
        self.fails = fails

    def run(self, stage: str, tasks: Sequence[Task]) -> list[dict[str, Any]]:
        return [self.errors(task) for task in tasks]

    def errors(self, task: Task) -> dict[str, Any]:
        task.folder.mkdir(parents=True)
        tests, failures = {}, {}
        for name, frames in SETS.items():
            if name in self.fails.get(task.folder.name, ()):
                failures[name] = "the model predicts forces that are no numbers"
                continue
            forces = frames.forces + 0.01
            save_predictions(task.folder / f"{name}.npz", frames.energy, forces)
            tests[name] = dataclasses.asdict(prediction_errors(frames, frames.energy, forces))
        return {"tests": tests, "failures": failures, "unlabelled": {}, "missing": []}


def validated(
    folder: Path,
    fails: dict[str, tuple[str, ...]],
    checks: tuple[str, ...] = ("cross_errors", "clusters"),
) -> Validation:
    files = {name: save_npz(frames, folder / f"{name}.npz") for name, frames in SETS.items()}
    return validate_models(
        [ModelFile(train, seed, folder / "m.pb") for train in ("a", "b") for seed in (1, 2)],
        files,
        WATER,
        Validate(checks=checks),
        folder / "validate",
        Given(fails),  # type: ignore[arg-type]
        clusters=cluster_labels,
    )


def test_one_prediction_without_numbers_costs_that_set_only(tmp_path: Path) -> None:
    found = validated(tmp_path, {"b-seed-1": ("metamd",)})
    assert {f["check"]: f["reason"] for f in found.failures} == {
        "errors of b, seed 1, on metamd": "the model predicts forces that are no numbers",
        "error by cluster, on metamd": "no predictions of b, seed 1",
    }
    (check,) = found.checks
    assert check["key"] == "clusters"
    assert {c["name"] for c in check["curves"]} == {"a", "b"}
    assert check["numbers"]["a: overall force RMSE / eV/Å"] == pytest.approx(0.01)
    # The verdict counts the set against the ensemble, though its other seed is right.
    summary = found.summary_entries(tmp_path, {n: tmp_path / f"{n}.npz" for n in SETS})
    text = verdict(summary, 0.1).text
    assert "Usable: the model trained on a." in text
    assert "trained on b is not usable: it gives no numbers on metamd frames" in text


def test_clusters_need_a_set_that_every_model_predicts(tmp_path: Path) -> None:
    found = validated(tmp_path, {"a-seed-1": ("md",), "b-seed-1": ("metamd",)})
    assert found.checks == []
    reasons = {f["check"]: f["reason"] for f in found.failures}
    assert "every model gives numbers" in reasons["error by cluster"]


def test_no_verdict_on_errors_that_nobody_asked_for(tmp_path: Path) -> None:
    found = validated(tmp_path, {"a-seed-1": ("md",)}, checks=("clusters",))
    assert verdict({"failed_checks": found.failures}, 0.1).text.startswith("No verdict")


def test_a_set_without_labels_is_not_the_model_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "known_elements", lambda path: ["H", "O"])
    path = save_npz(SETS["md"].without_labels(), tmp_path / "bare.npz")
    found = model_errors(tmp_path, "m.pb", {"bare": str(path)}, ["H", "O"])
    assert found["failures"] == {}
    assert "no energies and forces" in found["unlabelled"]["bare"]
