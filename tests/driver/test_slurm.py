"""Tasks and the loop through a real Slurm on this machine: lost jobs, drained nodes, restarts.

Skipped where Slurm is not installed; ``.ci/run`` installs it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from metamd.config import Execution
from metamd.errors import InputError, TaskError
from metamd.execution import Executor, Task
from metamd.workspace import read_manifest

from .slurm_here import Slurm, missing, slurm
from .test_execution import wait_for

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(bool(missing()), reason=missing() or "Slurm is here"),
]

STEPS = '''
import time

def steps(folder, n, seconds):
    """Goes on where it was: one line a step."""
    path = folder / "steps"
    done = len(path.read_text().split()) if path.exists() else 0
    with (folder / "begun").open("a") as f:
        f.write(f"{done}\\n")
    for k in range(done, n):
        time.sleep(seconds)
        with path.open("a") as f:
            f.write(f"{k}\\n")
    return {"steps": n}
'''


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    with slurm(tmp_path_factory.mktemp("slurm"), cpus=2) as found:
        yield found


@pytest.fixture
def cluster(here: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Slurm:
    (tmp_path / "step_task.py").write_text(STEPS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    for key in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(key, here.env[key])
    return here


def execution(**changes: Any) -> Execution:
    provider = {"partition": "main", "walltime": "00:30:00", "exclusive": False}
    table = {"kind": "slurm", "workers": 2, "address": "127.0.0.1", "provider": provider}
    return Execution.model_validate(table | changes)


def in_thread(work: Callable[[], None]) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    return thread, errors


def test_cancelled_job_drained_node_and_restarted_controller(
    cluster: Slurm, tmp_path: Path
) -> None:
    """One run of two tasks through all of it; each task goes on in the folder it left."""
    tasks = [
        Task("step_task:steps", tmp_path / f"t{k}", {"n": 40, "seconds": 0.25}, f"task {k}")
        for k in range(2)
    ]
    results: list[Any] = []

    def run() -> None:
        with Executor(execution(), tmp_path / "logs") as executor:
            results.extend(executor.run("steps", tasks))

    thread, errors = in_thread(run)
    steps = tmp_path / "t0" / "steps"
    wait_for(lambda: errors or steps.exists(), 60)
    assert not errors, errors
    # The controller is restarted: the job runs on and the driver notices nothing.
    cluster.stop("slurmctld")
    time.sleep(1)
    cluster.start_control()
    wait_for(lambda: len(cluster.jobs()) == 1, 30)
    # The node is drained and the job cancelled: the next job waits until the node is back.
    cluster.command("scontrol", "update", "nodename=localhost", "state=drain", "reason=test")
    first = cluster.jobs()
    cluster.command("scancel", *first)
    wait_for(lambda: cluster.jobs() not in ([], first), 90)
    assert "PENDING" in cluster.command("squeue", "-h", "-o", "%T")
    assert read_manifest(tmp_path / "t0") is None
    cluster.command("scontrol", "update", "nodename=localhost", "state=resume")
    thread.join(120)
    assert not errors, errors
    assert results == [{"steps": 40}, {"steps": 40}]
    for k in range(2):
        assert (tmp_path / f"t{k}" / "steps").read_text().split() == [str(n) for n in range(40)]
        begun = (tmp_path / f"t{k}" / "begun").read_text().split()
        assert len(begun) == 2
        assert int(begun[1]) > 0
    assert not list(tmp_path.glob("*.failed-*"))
    wait_for(lambda: cluster.jobs() == [], 30)


def test_options_that_slurm_refuses_are_named(cluster: Slurm, tmp_path: Path) -> None:
    from metamd.blocks import check_execution

    with pytest.raises(InputError, match=r"execution\.provider\.partitoin"):
        check_execution(execution(provider={"partitoin": "main"}))
    bad = execution(provider={"partition": "nowhere"})
    task = Task("step_task:steps", tmp_path / "t", {"n": 1, "seconds": 0.0}, "task")
    with (
        pytest.raises(TaskError, match=r"no worker could be started: .*partition"),
        Executor(bad, tmp_path / "logs") as executor,
    ):
        executor.run("steps", [task])


@pytest.mark.timeout(1500)
def test_the_ethanol_loop_through_slurm(cluster: Slurm, tmp_path: Path) -> None:
    """The run file of the local loop test, with one table more; a job is cancelled on the way."""
    from .test_loop import LOOP, nothing_redone, provenance_holds, start, write_run

    table = """
[execution]
kind = "slurm"
workers = 2
address = "127.0.0.1"
provider = { partition = "main", walltime = "00:30:00", exclusive = false }
"""
    write_run(tmp_path, LOOP + table)
    work = tmp_path / "work"
    process = start(tmp_path, work)
    train = work / "iteration-0" / "train" / "all" / "seed-1"
    wait_for(lambda: process.poll() is not None or (train / "train.log").exists(), 300)
    assert process.poll() is None, (tmp_path / "screen.log").read_text()[-3000:]
    cluster.command("scancel", *cluster.jobs())
    assert process.wait(1000) == 0, (tmp_path / "screen.log").read_text()[-3000:]
    nothing_redone(work)
    provenance_holds(work)
    wait_for(lambda: cluster.jobs() == [], 30)
    # The same folder goes on here without Slurm: only [execution] differs.
    write_run(tmp_path)
    assert start(tmp_path, work).wait(200) == 0
