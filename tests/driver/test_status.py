"""``metamd status``: read from the folder alone, also while another process works in it."""

from __future__ import annotations

import errno
import json
import os
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
from metamd.workspace import STOPPED, Workspace, set_aside, write_json

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


def test_stages_of_a_copied_folder_are_in_their_order(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever time each folder has; iterations are numbered as their folders are."""
    names = ("validate", "train.old-1", "train", "dataset", "label", "select", "deviation")
    for age, name in enumerate(names):
        folder = work / "iteration-1" / name
        folder.mkdir()
        os.utime(folder, (age, age))
    shown = ["sample", "deviation", "select", "label", "dataset", "train", "validate"]
    assert [s.stage for s in read_status(work).stages] == [*shown, "train.old-1"]
    monkeypatch.setattr("sys.argv", ["metamd", "status", str(work)])
    cli.main()
    text = capsys.readouterr().out
    assert "iterations 0 to 2" in " ".join(text.split())
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    rows = {row[1]: row for row in rows if len(row) == 6}
    assert rows["sample"][:5] == ["1", "sample", "1", "0", "1"]
    # Nobody does tasks there.
    assert rows["select"][:5] == ["1", "select", "", "", ""]


def test_a_person_s_stop_is_no_failure(work: Path) -> None:
    write_json(work / "summary.json", {"status": "failed", "failure": STOPPED})
    assert read_status(work).state == "stopped"
    write_json(work / "summary.json", {"status": "failed", "failure": "no frame"})
    assert read_status(work).state == "failed"


def test_other_folders_beside_iterations_do_not_hinder(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("iteration-0.bak", "iteration-old", "iteration-"):
        (work / name / "sample").mkdir(parents=True)
    (work / "iteration-7").write_text("a file")
    assert [s.iteration for s in read_status(work).stages] == [1]
    monkeypatch.setattr("sys.argv", ["metamd", "status", str(work)])
    cli.main()
    # And the try that failed is told from the task that has finished since.
    assert "(tried again, and finished)" in capsys.readouterr().out
    assert read_status(work).stages[0].recovered == ["md/walker-0.failed-1"]
    (work / "iteration-1" / "sample" / "md" / "walker-0" / "manifest.json").unlink()
    assert read_status(work).stages[0].recovered == []


def test_in_the_first_iteration_the_time_left_is_that_of_the_tasks(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(work / "seconds.json", {"iteration-0/sample": 100.0})
    config = load_config(work.parent / "run.toml")
    with Workspace(work, config), ProgressFile(work / "logs", "train", 4, 1) as file:
        file.data["started"] = time.time() - 60
        file._last = 0.0
        file.update(2.5)
        assert read_status(work).left_of_tasks
        monkeypatch.setattr("sys.argv", ["metamd", "status", str(work)])
        cli.main()
        assert "about 60 s left of these tasks" in capsys.readouterr().out
        write_json(work / "seconds.json", {"iteration-0/sample": 9.0, "iteration-1/sample": 9.0})
        assert not read_status(work).left_of_tasks


@pytest.mark.parametrize("title", ["validate", "dynamics", "liquid", "deviation"])
def test_all_parts_of_validate_are_it(title: str) -> None:
    """What the stage at work took in the last iteration is not counted beside its own pace."""
    now = {"title": title, "tasks": 2, "done": 1.0, "done_before": 0, "seconds": 5.0}
    seconds = {f"iteration-0/{stage}": 100.0 for stage in ("sample", "train", "validate")}
    seconds |= {"iteration-1/sample": 100.0, "iteration-1/train": 100.0}
    assert _left(now, seconds, 2) == pytest.approx(5.0)


def test_an_old_failure_is_no_news_of_a_run_that_goes_on(work: Path) -> None:
    write_json(work / "summary.json", {"status": "failed", "failure": "no worker"})
    assert read_status(work).stop == "no worker"
    with Workspace(work, load_config(work.parent / "run.toml")):
        state = read_status(work)
    assert state.state == "running"
    assert state.stop is None


def test_a_run_that_ended_after_a_stage_is_not_interrupted(
    work: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As ``--until select`` leaves it: its summary says running, and nothing has begun."""
    write_json(work / "seconds.json", {"iteration-0/sample": 9.0, "iteration-0/select": 1.0})
    assert read_status(work).state == "ended after select"
    monkeypatch.setattr("sys.argv", ["metamd", "status", str(work)])
    cli.main()
    assert "without --until if it had one" in " ".join(capsys.readouterr().out.split())
    # A driver that was killed leaves its progress behind; a task of its, a folder that has begun.
    (work / "logs").mkdir()
    write_json(work / "logs" / "progress.json", {})
    assert read_status(work).state == "interrupted"
    (work / "logs" / "progress.json").unlink()
    (work / "iteration-1" / "sample" / "md" / "walker-0" / "manifest.json").unlink()
    assert read_status(work).state == "interrupted"


def test_without_locks_on_the_file_system_work_goes_on(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lustre without ``-o flock``: every call says that there is no such function."""

    def missing(*_: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", missing)
    folder = work / "iteration-1" / "sample" / "md" / "walker-1"
    assert run_task("status_tasks:works", str(folder), {}, "elsewhere|1|1") == {
        "result": {"frames": 3}
    }
    events = [line.split()[3] for line in (folder / ".task-lock").read_text().splitlines()]
    assert events == ["without-lock", "begun", "finished"]
    assert not read_status(work).running
    workspace = Workspace(work, load_config(work.parent / "run.toml"))
    with pytest.warns(UserWarning, match="flock not supported"):
        workspace.__enter__()
    assert read_status(work).running
    assert read_status(work).running
    workspace.__exit__(None, None, None)
    assert not read_status(work).running


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
