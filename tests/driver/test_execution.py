"""Tasks: done once, failures with their reason, nothing lost when a process is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from metamd.config import Execution, Reference, RunConfig, Sample, System
from metamd.errors import TaskError
from metamd.execution import Executor, Failure, Task, last_useful_line, run_program
from metamd.worker import OutOfTime, _time_limit, run_task
from metamd.workspace import Workspace, read_manifest, write_json

from .conftest import ETHANOL

OWNER = "elsewhere|1|1"

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

def dies_once(folder, how):
    # Kills its worker, or has its program killed, at the first try; then goes on.
    from metamd.execution import run_program
    tries = folder / "tries"
    n = len(tries.read_text()) if tries.exists() else 0
    with tries.open("a") as f:
        f.write("x")
    if how == "worker" and n == 0:
        os.kill(os.getpid(), 9)
    run_program(["sh", "-c", "kill -9 $$" if n == 0 else "echo fine"], folder, "log")
    return {"tries": n + 1}

def fills(folder):
    with (folder / "big").open("wb") as f:
        while True:
            f.write(bytes(1 << 16))
            f.flush()

def writes(folder):
    Path("output").write_text("as a program's calculator does")
    return {}

def gains(folder):
    # Comes a little further at every try, and is killed each time but the last.
    from metamd.execution import report_progress
    tries = folder / "tries"
    n = 1 + (len(tries.read_text()) if tries.exists() else 0)
    tries.write_text("x" * n)
    report_progress(folder, n / 4)
    if n < 4:
        os.kill(os.getpid(), 9)
    return {"tries": n}

def device(folder, arm=None):
    time.sleep(0.5)
    return {"device": os.environ.get("CUDA_VISIBLE_DEVICES", ""), "pid": os.getpid()}
"""


@pytest.fixture
def helpers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of task functions that the workers find too."""
    (tmp_path / "task_functions.py").write_text(HELPERS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
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


def test_a_task_works_in_its_own_folder(helpers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs behind ASE calculators write where they stand: two tasks must not share that."""
    monkeypatch.chdir(helpers)
    answers = [run_task("task_functions:writes", f"w{k}", {}, OWNER) for k in range(2)]
    assert answers == [{"result": {}}] * 2
    assert all((helpers / f"w{k}" / "output").exists() for k in range(2))
    assert Path.cwd() == helpers


def test_killed_workers_and_programs_go_on_in_their_folders(helpers: Path) -> None:
    """A SIGKILL is nobody's mistake: no failure, no new folder, the second try finds the first."""
    tasks = [
        Task("task_functions:dies_once", helpers / how, {"how": how}, how)
        for how in ("worker", "program")
    ]
    with Executor(Execution(workers=2), helpers / "logs") as executor:
        assert executor.run("dying", tasks) == [{"tries": 2}, {"tries": 2}]
        again = Task("task_functions:dies_once", helpers / "never", {"how": "worker"}, "never")
        executor.config = Execution(workers=2, lost_retries=0)
        (failure,) = executor.run("dying", [again])
        assert isinstance(failure, Failure)
        assert "its worker was lost" in failure.reason
        assert "the same command goes on" in failure.reason
        assert failure.folder == helpers / "never"
        # The same command later: not from the beginning.
        assert executor.run("dying", [again]) == [{"tries": 2}]
    assert not list(helpers.glob("worker.*"))
    assert not list(helpers.glob("never.*"))


def test_a_task_that_comes_further_is_not_given_up(helpers: Path) -> None:
    """Three losses, one allowed: a training of many jobs is one task."""
    task = Task("task_functions:gains", helpers / "long", {}, "long")
    with Executor(Execution(workers=1, lost_retries=1), helpers / "logs") as executor:
        assert executor.run("long", [task]) == [{"tries": 4}]


def test_what_another_task_left_half_is_not_gone_on_with(helpers: Path) -> None:
    def task(how: str) -> Task:
        return Task("task_functions:dies_once", helpers / "same", {"how": how}, how)

    with Executor(Execution(workers=1, lost_retries=0), helpers / "logs") as executor:
        (failure,) = executor.run("dying", [task("worker")])
        assert isinstance(failure, Failure)
        executor.config = Execution(workers=1, lost_retries=1)
        assert executor.run("dying", [task("program")]) == [{"tries": 2}]
    assert (helpers / "same.old-1" / "tries").read_text() == "x"


def test_a_killed_interchange_is_replaced(helpers: Path) -> None:
    """Parsl's process between driver and workers dies: the task is done all the same, once."""
    task = Task("task_functions:slow", helpers / "slow", {"seconds": 3}, "slow")
    with Executor(Execution(workers=1), helpers / "logs") as executor:
        executor.run_all("first", [Task("task_functions:count", helpers / "c", {"value": 1}, "c")])
        interchange = executor._kernel.parsl.executors["metamd"].interchange_proc

        def kill() -> None:
            wait_for(lambda: (helpers / "slow" / "pid").exists(), 60)
            interchange.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        (result,) = executor.run_all("slow", [task])
        thread.join()
        assert executor._kernel.parsl.executors["metamd"].interchange_proc is not interchange
        begun = time.monotonic()
    assert time.monotonic() - begun < 10
    assert result["pid"] > 0
    events = [x.split()[3] for x in (helpers / "slow" / ".task-lock").read_text().splitlines()]
    assert events.count("finished") == 1


def test_a_pool_that_lost_its_books_is_replaced(
    helpers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that Parsl's pool shares its state in is killed: no waiting for ever."""
    monkeypatch.setattr("metamd.blocks.MISSING_S", 6.0)
    tasks = [
        Task("task_functions:slow", helpers / f"t{k}", {"seconds": 2}, f"t{k}") for k in range(4)
    ]
    with Executor(Execution(workers=2), helpers / "logs") as executor:
        executor.run_all("first", [Task("task_functions:count", helpers / "c", {"value": 1}, "c")])
        (job,) = executor._kernel.parsl.executors["metamd"].blocks_to_job_id.values()
        kernel = executor._kernel

        def kill() -> None:
            wait_for(lambda: all((helpers / f"t{k}" / "pid").exists() for k in (0, 1)), 60)
            workers = {int((helpers / f"t{k}" / "pid").read_text()) for k in (0, 1)}
            below = psutil.Process(int(job)).children(recursive=True)
            (keeper,) = [
                p for p in below if p.pid not in workers and "spawn_main" in " ".join(p.cmdline())
            ]
            keeper.kill()

        thread = threading.Thread(target=kill)
        thread.start()
        results = executor.run_all("slow", tasks)
        thread.join()
        assert executor._kernel is not kernel
    assert len(results) == 4
    for k in range(4):
        lock = (helpers / f"t{k}" / ".task-lock").read_text().splitlines()
        assert [x.split()[3] for x in lock].count("finished") == 1


def test_time_limits_end_a_task_and_say_so(helpers: Path) -> None:
    task = Task("metamd.train:slow", helpers / "slow", {}, "slow")
    assert task.kind == "train"
    answer = run_task("task_functions:slow", str(helpers / "slow"), {"seconds": 60}, OWNER, 0.3)
    assert answer["error"] == "did not end within its limit of 0.005 min"
    assert json.loads((helpers / "slow" / "failure.json").read_text())["reason"] == answer["error"]
    sleeper = "sleep 1234.5"
    start = time.monotonic()
    with pytest.raises(OutOfTime), _time_limit(2.0):  # ample to start it on a busy machine
        run_program(sleeper.split(), helpers, "log")
    assert time.monotonic() - start < 30
    found = subprocess.run(["pgrep", "-f", f"^{sleeper}$"], capture_output=True, text=True)
    assert found.stdout == ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no right to mount a small file system")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_the_run_and_is_named(helpers: Path, small_disk: Path) -> None:
    """Nothing is booked as failed."""
    task = Task("task_functions:fills", small_disk / "task", {}, "filling")
    with (
        Executor(Execution(workers=1), helpers / "logs") as executor,
        pytest.raises(TaskError, match=r"filling: the disk of .*task is full; free some"),
    ):
        executor.run("fill", [task])
    assert sorted(p.name for p in small_disk.iterdir()) == ["task"]


def test_a_full_disk_of_the_driver_is_named_and_lets_go_of_the_folder(small_disk: Path) -> None:
    """Whatever works in a work folder: run, compare, flatten-train."""
    config = RunConfig(
        system=System(structure=ETHANOL),
        reference=Reference(calculator="tblite.ase:TBLite"),
        sample=(Sample(name="md", method="md"),),
    )
    work = small_disk / "work"
    with (
        pytest.raises(TaskError, match=rf"{work}: the disk is full; free some space"),
        Workspace(work, config),
    ):
        write_json(work / "large.json", ["x" * 1000] * 2000)
    assert sorted(p.name for p in work.iterdir()) == [".lock", "run.json"]
    with Workspace(work, config):
        write_json(work / "small.json", [])
    assert (work / "small.json").exists()


def test_one_training_a_device(helpers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two devices (names only, no GPU is needed): tasks of a GPU kind are pinned, others not."""
    monkeypatch.setattr("metamd.execution._ON_GPU", ("task_functions",))
    on = [Task("task_functions:device", helpers / f"g{k}", {}, f"g{k}") for k in range(4)]
    with Executor(Execution(workers=1, gpus=2), helpers / "logs") as executor:
        found = executor.run_all("devices", on)
        monkeypatch.setattr("metamd.execution._ON_GPU", ())
        off = Task("task_functions:device", helpers / "c", {}, "c")
        arm = Task("task_functions:device", helpers / "m", {"arm": {"engine": "model"}}, "m")
        plain, model = executor.run_all("devices", [off, arm])
    assert {f["device"] for f in found} == {"0", "1"}
    assert len({(f["device"], f["pid"]) for f in found}) == 2
    assert plain["device"] == ""
    assert model["device"] in ("0", "1")


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
