"""``metamd status``: read from the folder alone, also while another process works in it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from metamd import cli
from metamd.config import load_config
from metamd.programs import run_program
from metamd.progress import ProgressFile
from metamd.status import _left, read_status
from metamd.template import run_file_text
from metamd.worker import run_task
from metamd.workspace import Workspace, set_aside, write_json

from .conftest import ETHANOL

HELPERS = """
from metamd.programs import run_program

def fails(folder):
    run_program(["sh", "-c", "echo ERROR: Lost atoms 12 to 11; echo Last command: run; exit 3"],
                folder, "screen.log")

def works(folder):
    return {"frames": 3}
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A loop in its second iteration: a failed walker set aside, its next try finished."""
    (tmp_path / "status_tasks.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "run.toml").write_text(run_file_text(str(ETHANOL)) + "\n[loop]\niterations = 3\n")
    folder = tmp_path / "work"
    with Workspace(folder, load_config(tmp_path / "run.toml")):
        pass
    walker = folder / "iteration-1" / "sample" / "md" / "walker-0"
    answer = run_task("status_tasks:fails", str(walker), {}, "elsewhere|1|1")
    assert "Lost atoms" in answer["error"]
    set_aside(walker, "failed")
    assert run_task("status_tasks:works", str(walker), {}, "elsewhere|1|1") == {
        "result": {"frames": 3}
    }
    write_json(
        folder / "summary.json",
        {
            "status": "running",
            "iterations": [
                {"iteration": 0, "force_rmse_ev_per_ang": {"all on hot": 0.25}, "stop": None}
            ],
        },
    )
    seconds = {"iteration-0/sample": 100.0, "iteration-0/train": 50.0, "iteration-0/validate": 10.0}
    write_json(folder / "seconds.json", seconds | {"iteration-1/sample": 90.0})
    return folder


def test_reasons_errors_and_iterations(work: Path) -> None:
    state = read_status(work)
    assert not state.running
    assert state.state == "interrupted"
    assert state.iterations == 3
    (stage,) = state.stages
    assert (stage.iteration, stage.stage, stage.done, stage.begun) == (1, "sample", 1, 0)
    ((task, reason),) = stage.failed
    assert task == "md/walker-0.failed-1"
    assert reason.startswith("sh ended with status 3: ERROR: Lost atoms 12 to 11")
    assert state.errors == {0: {"all on hot": 0.25}}


def test_seen_while_it_runs(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load_config(work.parent / "run.toml")
    with Workspace(work, config), ProgressFile(work / "logs", "train", 4, 1) as file:
        file.data["started"] = time.time() - 60
        file._last = 0.0
        file.update(2.5)
        state = read_status(work)
        assert state.running
        assert state.state == "running"
        assert state.now is not None
        assert state.now["done"] == 2.5
        # 1.5 tasks took 60 s, 1.5 are left; then a check (10 s) and a whole iteration (160 s).
        assert state.left_s == pytest.approx(60 + 10 + 160, abs=3)
        monkeypatch.setattr("sys.argv", ["metamd", "status", str(work)])
        cli.main()
    printed = capsys.readouterr().out
    assert "now: train, 2.5 of 4 tasks, about 4 min left" in printed
    assert "ERROR: Lost atoms 12 to 11" in printed
    assert "all on hot 0.25" in printed
    assert not (work / "logs" / "progress.json").exists()


def test_no_estimate_without_anything_to_go_by() -> None:
    now = {"title": "train", "tasks": 4, "done": 1.0, "done_before": 1, "seconds": 9.0}
    assert _left(now, {}, 3) is None
    assert _left(None, {}, 3) is None
    assert _left(now | {"done": 2.0}, {}, 3) == pytest.approx(18.0)


def test_every_try_of_a_task_is_on_record(work: Path) -> None:
    folder = work / "iteration-1" / "sample" / "md"
    lines = (folder / "walker-0" / ".task-lock").read_text().splitlines()
    assert [line.split()[3] for line in lines] == ["begun", "finished"]
    failed = (folder / "walker-0.failed-1" / ".task-lock").read_text().splitlines()
    assert [line.split()[3] for line in failed] == ["begun"]
    assert json.loads((folder / "walker-0.failed-1" / "failure.json").read_text())["reason"]
    assert run_program(["true"], work, "log") == 0
