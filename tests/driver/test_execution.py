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
from typing import Any

import numpy as np
import psutil
import pytest

from metamd import blocks
from metamd.config import Execution, Reference, RunConfig, Sample, System
from metamd.errors import DiskFull, TaskError
from metamd.execution import Executor, Failure, Task, last_useful_line, run_program
from metamd.frames import Frames, save_npz
from metamd.programs import program_environment
from metamd.worker import OutOfTime, _time_limit, run_task
from metamd.workspace import Workspace, read_manifest, write_json

from .conftest import ETHANOL

OWNER = "elsewhere|1|1"

HELPERS = """
import os, time
from pathlib import Path
from metamd.programs import run_program

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

def swallows(folder):
    # As a C library's callback does.
    for _ in range(2):
        try:
            time.sleep(60)
        except BaseException:
            (folder / "swallowed").touch()
            if folder.name == "heard":
                raise
            folder = folder.with_name("heard")
            folder.mkdir()

def environment(folder):
    names = ["PATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS"]
    run_program(["sh", "-c", "; ".join(f"echo ${n}" for n in names)], folder, "log")
    return dict(zip(names, (folder / "log").read_text().splitlines()))

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


CALCULATORS = """
import errno, os, time
from ase.calculators.lj import LennardJones

class Hangs(LennardJones):
    # The second frame's SCF never ends; whatever is raised meanwhile, it is tried again.
    calls = 0
    def calculate(self, *args, **kwargs):
        Hangs.calls += 1
        if Hangs.calls > 1:
            time.sleep(60)
        super().calculate(*args, **kwargs)

class NoRoom(LennardJones):
    # A program's calculator whose input file finds no room after some calls.
    calls = 0
    def calculate(self, *args, **kwargs):
        NoRoom.calls += 1
        if NoRoom.calls > 5:
            try:
                raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
            except OSError as error:
                raise RuntimeError("cannot write the input") from error
        super().calculate(*args, **kwargs)
"""
ARGON = {"sigma": 3.4, "epsilon": 0.0104, "rc": 12.0}


@pytest.fixture
def argon(helpers: Path) -> Frames:
    """Eight argon dimers, and calculators for them in a module that workers find."""
    (helpers / "trouble.py").write_text(CALCULATORS)
    sys.modules.pop("trouble", None)
    distance = np.linspace(3.6, 4.0, 8)
    positions = np.zeros((8, 2, 3))
    positions[:, 1, 0] = distance
    return Frames(("Ar", "Ar"), positions)


def label_arguments(frames: Frames, folder: Path, calculator: str) -> dict[str, Any]:
    reference = Reference(calculator=calculator, arguments=ARGON)
    return {
        "source": str(save_npz(frames, folder / "argon.npz")),
        "start": 0,
        "stop": len(frames),
        "reference": reference.model_dump(mode="json"),
        "charge": 0,
        "multiplicity": 1,
    }


def walker_arguments(frames: Frames, reference: Reference, **keys: Any) -> dict[str, Any]:
    arm = Sample(name="md", method="md", **keys)
    return {
        "arm": arm.model_dump(mode="json"),
        "reference": reference.model_dump(mode="json"),
        "charge": 0,
        "multiplicity": 1,
        "walker": 0,
        "symbols": list(frames.symbols),
        "positions": frames.positions[0].tolist(),
        "cell": None,
    }


LABEL, WALKER = "metamd.label.ase_batch:label_batch", "metamd.sample.arm:walker_task"


def test_a_time_limit_is_no_fault_of_a_frame(helpers: Path, argon: Frames) -> None:
    """A calculator that hangs ends its batch; the frame it hangs at is not set aside for it."""
    start = time.monotonic()
    arguments = label_arguments(argon, helpers, "trouble:Hangs")
    answer = run_task(LABEL, str(helpers / "batch"), arguments, OWNER, 1.0)
    assert time.monotonic() - start < 30
    assert "did not end within its limit" in answer["error"]
    assert not answer["interrupted"]
    journal = (helpers / "batch" / "labels.jsonl").read_text().splitlines()
    assert [list(json.loads(line)) for line in journal] == [["row", "energy", "forces"]]


def test_a_time_limit_that_was_swallowed_is_called_out_again(
    helpers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metamd.worker.RING_AGAIN_S", 0.5)
    answer = run_task("task_functions:swallows", str(helpers / "deaf"), {}, OWNER, 0.5)
    assert "did not end within its limit" in answer["error"]
    assert (helpers / "deaf" / "swallowed").exists()
    assert (helpers / "heard" / "swallowed").exists()


def test_a_quota_used_up_in_a_calculator_is_no_fault_of_a_frame(
    helpers: Path, argon: Frames
) -> None:
    """Nothing is booked: no failure in the journal, no manifest; what was labelled is kept."""
    task = Task(
        LABEL, helpers / "batch", label_arguments(argon, helpers, "trouble:NoRoom"), "batch 0"
    )
    with (
        Executor(Execution(workers=1), helpers / "logs") as executor,
        pytest.raises(TaskError, match=r"batch 0: the reference found no room .*; free some"),
    ):
        executor.run("label", [task])
    journal = (helpers / "batch" / "labels.jsonl").read_text()
    assert len(journal.splitlines()) == 5
    assert "reason" not in journal
    assert read_manifest(helpers / "batch") is None
    # The same in dynamics: no walker that "stopped early" with the few frames it has.
    reference = Reference(calculator="trouble:NoRoom", arguments=ARGON)
    arguments = walker_arguments(argon, reference, steps=40, stride=1, timestep_fs=2.0)
    answer = run_task(WALKER, str(helpers / "walker"), arguments, OWNER)
    assert answer["fatal"]
    assert "quota exceeded" in answer["error"]


@pytest.mark.parametrize("engine", ["reference", "lammps"])
def test_a_full_disk_stops_a_walker_and_is_named(
    engine: str, small_disk: Path, argon: Frames
) -> None:
    reference = Reference(calculator="ase.calculators.lj:LennardJones", arguments=ARGON)
    lines = ("pair_style lj/cut 12.0", "pair_coeff * * 0.0104 3.4")
    keys = {"engine": "lammps", "commands": lines} if engine == "lammps" else {}
    arguments = walker_arguments(argon, reference, steps=20_000, stride=1, **keys)
    answer = run_task(WALKER, str(small_disk / "walker"), arguments, OWNER)
    assert answer.get("fatal"), answer
    assert read_manifest(small_disk / "walker") is None


def test_programs_that_speak_of_a_quota_found_no_room(tmp_path: Path) -> None:
    """Their log is all there is: the quota may be that of another file system."""
    script = "echo dp: cannot write checkpoint: Disk quota exceeded; echo giving up; exit 1"
    for check in (True, False):
        with pytest.raises(DiskFull, match="found no room on the disk"):
            run_program(["sh", "-c", script], tmp_path, "log", check=check)
    # The next try's log begins below: what an earlier one said is not its reason.
    with pytest.raises(TaskError, match="status 3"):
        run_program(["sh", "-c", "echo ERROR: out of paper; exit 3"], tmp_path, "log")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes, of which a task that failed needs one to be believed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1900k", "tmpfs", str(disk)]
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


def test_programs_of_a_task_get_the_threads_of_execution(
    helpers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``execution.threads`` reaches dp, lmp and walkers, whatever the person's shell says."""
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with Executor(Execution(workers=1, threads=3), helpers / "logs") as executor:
        task = Task("task_functions:environment", helpers / "t", {}, "t")
        (seen,) = executor.run_all("threads", [task])
    assert seen["OMP_NUM_THREADS"] == seen["DP_INTRA_OP_PARALLELISM_THREADS"] == "3"
    assert program_environment()["OMP_NUM_THREADS"] == "1"


@pytest.mark.parametrize("kind", ["slurm", "pbs", "lsf"])
def test_what_worker_init_sets_stays(kind: str, tmp_path: Path) -> None:
    """As ``module load orca`` does; the shell of a job runs the lines."""
    module = 'export PATH="/opt/orca 6/bin:$PATH" LD_LIBRARY_PATH=/opt/orca/lib OMP_NUM_THREADS=64'
    config = Execution.model_validate(
        {"kind": kind, "threads": 2, "provider": {"worker_init": module}}
    )
    lines = blocks._provider(config, {}).worker_init
    script = f'{lines}\necho "$PATH"; echo "$LD_LIBRARY_PATH"; echo $OMP_NUM_THREADS'
    before = {"PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["/bin/sh", "-c", script], env=before, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        f"{sys.prefix}/bin:/opt/orca 6/bin:/usr/bin:/bin",
        f"{sys.prefix}/lib:/opt/orca/lib",
        "2",
    ]
    bare = script.replace(module, "")
    done = subprocess.run(
        ["/bin/sh", "-c", bare], env=before, capture_output=True, text=True, check=True
    )
    # No empty part at the end: it would stand for the current folder.
    assert done.stdout.splitlines()[1] == f"{sys.prefix}/lib"


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
