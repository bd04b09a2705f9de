"""Tasks: independent pieces of work, each in a folder of its own, carried by Parsl.

A task is a function ``f(folder, **arguments) -> dict`` named ``module:function``.  It runs in a
worker process, writes its files into its folder and returns a small JSON result; the manifest is
renamed into place when it is complete.  Finished tasks are never run again; an interrupted one
starts in the folder it left (labels and training go on from there), a failed one is kept aside,
as is what a task with other arguments left.
"""

from __future__ import annotations

import os
import queue
import socket
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console

from metamd.blocks import Kernel
from metamd.config import Execution
from metamd.errors import TaskError
from metamd.programs import (
    die_with_parent,
    last_useful_line,
    program_environment,
    run_lmp,
    run_program,
    thread_settings,
)
from metamd.progress import ProgressFile, TaskProgress
from metamd.worker import process_start, report_progress, run_task
from metamd.workspace import finished_result, read_manifest, set_aside, task_fingerprint

__all__ = [
    "Executor",
    "Failure",
    "Task",
    "die_with_parent",
    "last_useful_line",
    "program_environment",
    "report_progress",
    "run_lmp",
    "run_program",
    "thread_settings",
]

#: Fingerprint of the task that was begun in a folder; hidden, as a walker clears what is not.
BEGUN = ".begun"
#: Tasks handed to Parsl at a time; more only cost memory.
IN_FLIGHT = 1000
#: Tasks whose own progress is looked at, so that a look stays cheap.
_LOOKED_AT = 64
#: Kinds of tasks that use a GPU where there is one: the module below ``metamd`` they live in.
_ON_GPU = ("train", "ensemble", "validate")
_LIMIT_OF = {"ensemble": "predict", "validate": "validate_"}


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
        return task_fingerprint(self.function, self.arguments, self.folder.resolve())

    @property
    def kind(self) -> str:
        """``sample``, ``label``, ``train``, ``ensemble``, ``validate``: the module it is of."""
        parts = self.function.partition(":")[0].split(".")
        return parts[1] if parts[0] == "metamd" and len(parts) > 1 else parts[0]

    @property
    def uses_gpu(self) -> bool:
        arm = self.arguments.get("arm")
        by_model = isinstance(arm, dict) and arm.get("engine") == "model"
        return self.kind in _ON_GPU or by_model

    def finished(self) -> dict[str, Any] | None:
        """The stored result, where this very task has been done."""
        return finished_result(self.folder, self.fingerprint)


@dataclass(frozen=True)
class Failure:
    """A task that gave no result, with the reason a person can use."""

    title: str
    folder: Path
    reason: str


@dataclass
class _Tries:
    """How often a task has failed, and how often it was lost through no fault of its own.

    ``progress`` is the furthest it had come when it was lost.
    """

    failed: int = 0
    lost: int = 0
    progress: float = 0.0


class Executor:
    """Runs tasks through Parsl; started at the first task that is not done yet."""

    def __init__(self, config: Execution, log_folder: Path, console: Console | None = None) -> None:
        self.config = config
        self.log_folder = log_folder
        self.console = console or Console(stderr=True)
        self._kernel: Kernel | None = None
        pid = os.getpid()
        self._owner = f"{socket.gethostname()}|{pid}|{process_start(pid)}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop_kernel()

    def _stop_kernel(self) -> None:
        if self._kernel is not None:
            self._kernel.stop()
            self._kernel = None

    def run(self, title: str, tasks: Sequence[Task]) -> list[dict[str, Any] | Failure]:
        """Results in the order of ``tasks``; a failed task's place holds a Failure.

        Raises:
            TaskError: no task can go on: the disk is full, or no worker can be started.
        """
        results: dict[int, dict[str, Any] | Failure] = {
            k: result for k, task in enumerate(tasks) if (result := task.finished()) is not None
        }
        if len(results) == len(tasks):
            return [results[k] for k in range(len(tasks))]
        with (
            TaskProgress(self.console, title, len(tasks), len(results)) as bar,
            ProgressFile(self.log_folder, title, len(tasks), len(results)) as file,
        ):
            waiting = [k for k in range(len(tasks)) if k not in results]
            self._work(tasks, waiting, results, bar, file)
        return [results[k] for k in range(len(tasks))]

    def _work(
        self,
        tasks: Sequence[Task],
        waiting: list[int],
        results: dict[int, dict[str, Any] | Failure],
        bar: TaskProgress,
        file: ProgressFile,
    ) -> None:
        waiting.reverse()
        ended: queue.SimpleQueue[tuple[int, Future[dict[str, Any]]]] = queue.SimpleQueue()
        running: dict[int, Future[dict[str, Any]]] = {}
        tries: dict[int, _Tries] = {}
        while waiting or running:
            while waiting and len(running) < IN_FLIGHT:
                k = waiting.pop()
                running[k] = future = self._submit(tasks[k])
                future.add_done_callback(lambda f, k=k: ended.put((k, f)))  # type: ignore[misc]
            k, back = _next(ended)
            if back is not None and running.get(k) is back:
                del running[k]
                outcome = self._outcome(tasks[k], back, tries.setdefault(k, _Tries()))
                if outcome is None:
                    waiting.append(k)
                else:
                    results[k] = outcome
            elif running and self._kernel is not None and not self._kernel.lives():
                # One of Parsl's own was killed: a new kernel, all that was out goes out again.
                self._stop_kernel()
                waiting += sorted(running, reverse=True)
                running.clear()
            if bar.due or file.due:
                partly = sum(_progress_of(tasks[k].folder) for k in sorted(running)[:_LOOKED_AT])
                bar.update(len(results) + partly)
                file.update(len(results) + partly)

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
        _begin(task)
        if self._kernel is None:
            self._kernel = Kernel(self.config, self.log_folder / "parsl")
        limit_min = getattr(self.config.limits_min, _LIMIT_OF.get(task.kind, task.kind), None)
        limit_s = None if limit_min is None else 60 * limit_min
        arguments = (task.function, str(task.folder), task.arguments, self._owner, limit_s)
        future: Future[dict[str, Any]] = self._kernel.submit(
            run_task, arguments, gpu=bool(self.config.gpus) and task.uses_gpu
        )
        return future

    def _outcome(
        self, task: Task, future: Future[dict[str, Any]], tries: _Tries
    ) -> dict[str, Any] | Failure | None:
        """The result, a Failure, or None where the task is to be begun again."""
        error = future.exception()
        if error is not None:
            if type(error).__name__ == "BadStateException":
                raise TaskError(f"no worker could be started: {_reason_of_jobs(error)}")
            lost = f"its worker was lost ({error})"
            answer: dict[str, Any] = {"error": lost, "interrupted": True}
        else:
            answer = future.result()
        if "result" in answer:
            result: dict[str, Any] = answer["result"]
            return result
        if answer.get("fatal"):
            raise TaskError(
                f"{task.title}: {answer['error']}; free some space, the same command goes on."
            )
        if answer.get("interrupted"):
            # Not the task's fault: it goes on in the folder that it left, now or in another run.
            if (progress := _progress_of(task.folder)) > tries.progress:
                tries.lost, tries.progress = 0, progress
            if tries.lost < self.config.lost_retries:
                tries.lost += 1
                return None
            reason = f"{answer['error']}; the same command goes on from what it left"
            return Failure(task.title, task.folder, reason)
        folder = set_aside(task.folder, "failed") if task.folder.exists() else task.folder
        if tries.failed < self.config.retries:
            tries.failed += 1
            return None
        reason = answer["error"].replace(str(task.folder), str(folder))
        return Failure(task.title, folder, reason)


def _begin(task: Task) -> None:
    """Make a task's folder and note whose it is; what another task left there is set aside.

    Half a training on other data, or half the labels of other frames, must not be gone on with.
    """
    folder, print_ = task.folder, task.fingerprint
    if folder.exists() and any(folder.iterdir()):
        begun, manifest = folder / BEGUN, read_manifest(folder)
        if manifest is not None:
            known = manifest["fingerprint"]
        else:
            known = begun.read_text() if begun.exists() else ""
        if known != print_:
            set_aside(folder, "old")
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{BEGUN}.part"
    partial.write_text(print_)
    partial.replace(folder / BEGUN)


def _next(
    ended: queue.SimpleQueue[tuple[int, Future[dict[str, Any]]]],
) -> tuple[int, Future[dict[str, Any]] | None]:
    """The next task that came back; none after a moment without."""
    try:
        return ended.get(timeout=0.2)
    except queue.Empty:
        return -1, None


def _reason_of_jobs(error: BaseException) -> str:
    """What the scheduler or the jobs said last."""
    text = str(getattr(error, "reason", "") or getattr(error, "exception", "") or error)
    lines = [line.strip() for line in text.replace("\\n", "\n").splitlines() if line.strip()]
    useful = [line for line in lines if "rror" in line] or lines
    return useful[-1][:300] if useful else "the jobs ended without a word"


def _progress_of(folder: Path) -> float:
    try:
        return min(1.0, float((folder / ".progress").read_text()))
    except (OSError, ValueError):
        return 0.0
