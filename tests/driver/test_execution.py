"""Tasks: done once, failures with their reason, nothing lost when a process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from metamd.config import Execution
from metamd.errors import TaskError
from metamd.execution import Executor, Failure, Task, last_useful_line, run_program
from metamd.workspace import read_manifest

HELPERS = """
import os, time
from pathlib import Path

def count(folder, value):
    with (folder / "calls").open("a") as f:
        f.write("x")
    if value < 0:
        raise ValueError("negative value")
    return {"square": value * value}

def slow(folder, seconds):
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(seconds)
    return {"pid": os.getpid()}
"""


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of task functions that the workers find too."""
    (tmp_path / "task_functions.py").write_text(HELPERS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path


def test_tasks_run_once_and_failures_say_why(helpers: Path) -> None:
    def tasks(values: list[int]) -> list[Task]:
        return [
            Task("task_functions:count", helpers / f"t{k}", {"value": v}, f"task {k}")
            for k, v in enumerate(values)
        ]

    with Executor(Execution(workers=2), helpers / "logs") as executor:
        first = executor.run("squares", tasks([2, 3, -1]))
        assert first[0] == {"square": 4}
        failure = first[2]
        assert isinstance(failure, Failure)
        assert "negative value" in failure.reason
        assert failure.folder.name == "t2.failed-1"
        assert (failure.folder / "error.txt").exists()
        again = executor.run("squares", tasks([2, 3]))
        assert again == [{"square": 4}, {"square": 9}]
        assert (helpers / "t0" / "calls").read_text() == "x"
        changed = executor.run("squares", tasks([5]))
        assert changed == [{"square": 25}]
        assert (helpers / "t0.old-1" / "manifest.json").exists()
        with pytest.raises(TaskError, match="task 0: ValueError"):
            executor.run_all("squares", tasks([-7]))


def test_workers_end_with_a_killed_driver(helpers: Path) -> None:
    script = f"""
from pathlib import Path
from metamd.config import Execution
from metamd.execution import Executor, Task
with Executor(Execution(workers=1), Path({str(helpers / "logs")!r})) as executor:
    executor.run("slow", [Task("task_functions:slow", Path({str(helpers / "slow")!r}),
                               {{"seconds": 300}}, "slow")])
"""
    driver = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.DEVNULL)
    pid_file = helpers / "slow" / "pid"
    wait_for(lambda: pid_file.exists() and pid_file.read_text() != "", 120)
    worker = int(pid_file.read_text())
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    wait_for(lambda: not running(worker), 20)
    assert read_manifest(helpers / "slow") is None


def wait_for(condition: object, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_failed_program_is_named_with_its_last_useful_line(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"sh ended with status 3: ERROR: out of paper"):
        run_program(["sh", "-c", "echo ERROR: out of paper; echo bye; exit 3"], tmp_path, "log")
    assert last_useful_line(tmp_path / "log") == "ERROR: out of paper"
    with pytest.raises(TaskError, match="cannot be started"):
        run_program(["no-such-program"], tmp_path, "log")
