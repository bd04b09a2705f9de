"""The improved training of flatten: with a model that is cheap to fit, and with DeePMD."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from metamd.commands.selection import register
from metamd.config import Flatten, Select
from metamd.errors import DataError, InputError, WorkspaceError
from metamd.frames import Frames, save_npz
from metamd.improve import Improved
from metamd.select.picks import Indices
from metamd.select.rounds import Round, flatten_rounds, round_sizes

from .conftest import printed_by

FLATTEN = Flatten(geometry_clusters=3, energy_clusters=2, fine_clusters=30, start=20, step=10)


def two_wells(n: int = 600, rare: int = 40) -> Frames:
    """A chain of three atoms in one of two wells of different stiffness; few are in the second."""
    rng = np.random.default_rng(0)
    other = np.arange(n) >= n - rare
    base = np.where(
        other[:, None, None],
        np.array([[0.0, 0, 0], [1.2, 0, 0], [1.2, 1.2, 0]]),
        np.array([[0.0, 0, 0], [1.2, 0, 0], [2.4, 0, 0]]),
    )
    shift = 0.05 * rng.normal(size=(n, 3, 3))
    k = np.where(other, 60.0, 20.0)
    energy = 0.5 * k * np.einsum("nax,nax->n", shift, shift)
    forces = -k[:, None, None] * shift
    return Frames(tuple("COH"), base + shift, energy=energy, forces=forces, source="wells")


class NearestFrame:
    """A model that gives the forces of the nearest training frame; counts what it is asked."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.sets: list[Indices] = []
        self.asked: list[Indices] = []

    def __call__(self, number: int, indices: Indices, last: bool):  # type: ignore[no-untyped-def]
        assert number == len(self.sets)
        self.sets.append(indices)
        points, forces = self.frames.distances_ang, self.frames.forces
        assert forces is not None

        def errors_of(wanted: Indices) -> np.ndarray:
            self.asked.append(wanted)
            gap = np.linalg.norm(points[wanted][:, None] - points[indices][None], axis=2)
            guess = forces[indices[gap.argmin(axis=1)]]
            return np.asarray(np.sqrt(np.mean((guess - forces[wanted]) ** 2, axis=(1, 2))))

        return errors_of


def test_the_rare_well_is_learned_better_than_at_random() -> None:
    frames = two_wells()
    config = Select(method="flatten", count=60, seed=2, flatten=FLATTEN)
    model, told = NearestFrame(frames), []
    rounds = flatten_rounds(frames, config, model, after=told.append)
    assert [len(done.indices) for done in rounds] == round_sizes(20, 10, 60) == [20, 30, 40, 50, 60]
    assert told == rounds
    for before, after in pairwise(rounds):
        assert set(before.indices) < set(after.indices)
        assert set(after.reasons) == set(after.indices) - set(before.indices)
    for indices, asked in zip(model.sets, model.asked, strict=True):
        assert not set(indices) & set(asked)
    rare = np.arange(len(frames)) >= 560
    random = np.random.default_rng(7).choice(len(frames), 60, replace=False)
    assert rare[rounds[-1].indices].sum() > 3 * max(1, rare[random].sum())
    plain = NearestFrame(frames)(0, random, True)
    left = np.setdiff1d(np.flatnonzero(rare), np.union1d(random, rounds[-1].indices))
    ours = NearestFrame(frames)(0, rounds[-1].indices, True)
    assert np.mean(ours(left) ** 2) < 0.8 * np.mean(plain(left) ** 2)


def test_the_same_seed_gives_the_same_rounds_also_with_a_subset() -> None:
    frames = two_wells()
    flatten = FLATTEN.model_copy(update={"error_subset": 8, "weighted": True, "pca_components": 2})
    config = Select(method="flatten", count=45, seed=3, flatten=flatten)
    model = NearestFrame(frames)
    one = flatten_rounds(frames, config, model)
    two = flatten_rounds(frames, config, NearestFrame(frames))
    assert [list(r.indices) for r in one] == [list(r.indices) for r in two]
    assert len(one[-1].indices) == 45  # a last step of five
    predicted = len(np.unique(np.concatenate(model.asked[:2])))
    assert predicted < 0.6 * len(frames)


def test_sets_that_cannot_grow_are_refused() -> None:
    frames = two_wells(100, 10)
    fit = NearestFrame(frames)
    for count, start in ((100, 20), (10, 20)):
        config = Select(count=count, flatten=FLATTEN.model_copy(update={"start": start}))
        with pytest.raises(DataError, match=f"wells: cannot grow from {start} to {count} frames"):
            flatten_rounds(frames, config, fit)
    with pytest.raises(DataError, match="wells: has no energies"):
        flatten_rounds(frames.without_labels(), Select(count=30, flatten=FLATTEN), fit)


def test_rounds_in_json_have_no_nan() -> None:
    done = Round(0, np.arange(3), {}, np.array([0.1, np.nan]), 0.1)
    assert json.loads(json.dumps(done.as_dict(), allow_nan=False))["cluster_rmse_ev_per_ang"] == [
        0.1,
        None,
    ]


RUN = """
[system]
structure = "start.xyz"
[reference]
calculator = "tblite.ase:TBLite"
[[sample]]
name = "pool"
[select]
method = "{method}"
count = 24
[select.flatten]
start = 16
step = 8
geometry_clusters = 2
energy_clusters = 2
round_steps = 20
warm_start = true
[train]
models = 1
steps = 30
compress = false
cutoff_ang = 4.0
[execution]
workers = 1
"""


def start(folder: Path, method: str = "flatten") -> tuple[Path, Path]:
    """A run file and a pool."""
    (folder / "start.xyz").write_text("3\n\nC 0 0 0\nO 1.2 0 0\nH 2.4 0 0\n")
    (folder / "run.toml").write_text(RUN.format(method=method))
    return folder / "run.toml", save_npz(two_wells(80, 8), folder / "wells.npz")


def command(*words: object) -> str:
    return printed_by(register, *words)


def test_another_method_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    run_file, pool = start(tmp_path, "fps")
    with pytest.raises(InputError, match=r"select\.method: flatten-train needs"):
        command("flatten-train", run_file, pool, "-o", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_sizes_on_the_command_line_go_before_the_run_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_file, pool = start(tmp_path)
    asked: list[Select] = []

    def fake(frames: Frames, select: Select, *rest: object) -> Improved:
        asked.append(select)
        return Improved([], [])

    monkeypatch.setattr("metamd.improve.improved_training", fake)
    sizes = ("--initial", 10, "--step", 5, "--count", 40)
    command("flatten-train", run_file, pool, "-o", tmp_path / "out", *sizes)
    (used,) = asked
    assert (used.flatten.start, used.flatten.step, used.count) == (10, 5, 40)
    assert used.flatten.geometry_clusters == 2
    with pytest.raises(InputError, match=r"flatten\.step"):
        command("flatten-train", run_file, pool, "-o", tmp_path / "out2", "--step", 0)


def rounds_of(text: str) -> list[str]:
    """What was said of the rounds, without the progress of tasks that run the first time only."""
    return [line for line in text.splitlines() if line.startswith("round")]


@pytest.mark.slow
def test_two_rounds_of_deepmd_and_what_is_done_stays_done(tmp_path: Path) -> None:
    run_file, pool = start(tmp_path)
    out = tmp_path / "out"
    text = command("flatten-train", run_file, pool, "-o", out)
    assert "round 0: 16 frames" in text
    assert "round 1: 24 frames" in text
    table = json.loads((out / "rounds.json").read_text())
    assert len(table["indices"]) == len(table["reasons"]) == 24
    assert (out / "rounds.png").stat().st_size > 5000
    first, second = (out / f"round-{k}" / "models" / "seed-1" for k in (0, 1))
    said = [(folder / "train.log").read_text() for folder in (first, second)]
    assert "initialize model from scratch" in said[0]
    assert f"initialize from model {first}" in said[1]
    manifests = {p: p.stat().st_mtime_ns for p in out.rglob("manifest.json")}
    assert len(manifests) == 2 + 2
    again = command("flatten-train", run_file, pool, "-o", out)
    assert rounds_of(again) == rounds_of(text)
    assert len(rounds_of(again)) == 2
    assert manifests == {p: p.stat().st_mtime_ns for p in out.rglob("manifest.json")}
    other = save_npz(two_wells(90, 8), tmp_path / "other.npz")
    with pytest.raises(InputError, match="holds rounds of other data than"):
        command("flatten-train", run_file, other, "-o", out)
    run_file.write_text(run_file.read_text().replace("steps = 30", "steps = 40"))
    with pytest.raises(WorkspaceError, match=r"train\.steps"):
        command("flatten-train", run_file, pool, "-o", out)
