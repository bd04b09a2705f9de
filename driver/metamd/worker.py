"""One task in a worker process: from the lock on its folder to the manifest in it."""

from __future__ import annotations

import errno
import fcntl
import importlib
import os
import signal
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import Any, TextIO

from metamd import __version__
from metamd.disk import is_disk_full, no_room
from metamd.errors import DiskFull, MetamdError, ProgramKilled
from metamd.workspace import MANIFEST, finished_result, task_fingerprint, write_json

#: Seconds that a task waits for the last try's process to let go of its folder.
FOLDER_WAIT_S = 60.0
#: Seconds between two reports of a task's progress.
PROGRESS_PERIOD_S = 0.5
#: Seconds after which a time limit that was not heard is called out again.
RING_AGAIN_S = 10.0
#: What a file system answers that has no ``flock`` (Lustre without ``-o flock``).
NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
FAILURE = "failure.json"
LOCK = ".task-lock"


class OutOfTime(BaseException):
    """A task did not end within its limit.

    No ``Exception``: calculators and what calls them catch those, and one frame would be blamed.
    """


def run_task(
    function: str,
    folder: str,
    arguments: dict[str, Any],
    owner: str,
    limit_s: float | None = None,
) -> dict[str, Any]:
    """Run one task.  Never raises: says what went wrong, and whose fault it was.

    Returns: ``result``, or ``error`` with a reason and, where they hold, ``interrupted`` (no
        fault of the task, begin it again) or ``fatal`` (no task can go on: the disk is full).
    """
    where = Path(folder).resolve()
    try:
        _end_with_driver(owner)
        where.mkdir(parents=True, exist_ok=True)
        with (where / LOCK).open("a") as lock:
            if not _lock(lock):
                return {"error": f"{where} is still in use by an earlier try"}
            print_ = task_fingerprint(function, arguments, where)
            if (done := finished_result(where, print_)) is not None:
                return {"result": done}
            start = time.time()
            _note(lock, f"begun {function}")
            module, _, name = function.partition(":")
            # Calculators of programs write into the current folder: tasks must not share one.
            with chdir(where), _time_limit(limit_s):
                result = getattr(importlib.import_module(module), name)(where, **arguments)
            write_json(
                where / MANIFEST,
                {
                    "fingerprint": print_,
                    "function": function,
                    "result": result,
                    "seconds": round(time.time() - start, 3),
                    "finished": time.strftime("%Y-%m-%dT%H:%M:%S"),
                    "metamd_version": __version__,
                },
            )
            _note(lock, "finished")
            return {"result": result}
    except (Exception, OutOfTime) as error:
        return _explained(error, where, limit_s)


def _note(lock: TextIO, event: str) -> None:
    """One line in the lock file: every try of a task is on record."""
    now = time.strftime("%Y-%m-%dT%H:%M:%S")
    lock.write(f"{now} {socket.gethostname()} {os.getpid()} {event}\n")
    lock.flush()


def _explained(error: BaseException, where: Path, limit_s: float | None) -> dict[str, Any]:
    if isinstance(error, DiskFull):
        return {"error": str(error), "fatal": True}
    if is_disk_full(error) or no_room(where):
        return {"error": f"the disk of {where} is full", "fatal": True}
    if isinstance(error, OutOfTime):
        text = f"did not end within its limit of {(limit_s or 0) / 60:g} min"
    elif isinstance(error, MetamdError):
        text = str(error)
    else:
        text = repr(error)
    try:
        (where / "error.txt").write_text(traceback.format_exc())
        write_json(where / FAILURE, {"reason": text})
    except OSError:
        pass  # the reason travels back all the same
    return {"error": text, "interrupted": isinstance(error, ProgramKilled)}


@contextmanager
def _time_limit(limit_s: float | None) -> Iterator[None]:
    """Raise OutOfTime in the main thread when the time is up; programs started end with it."""
    if limit_s is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise OutOfTime("time is up")

    before = signal.signal(signal.SIGALRM, ring)
    # Again and again: the first may come where exceptions are swallowed (a C library's callback).
    signal.setitimer(signal.ITIMER_REAL, limit_s, RING_AGAIN_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def _lock(handle: TextIO) -> bool:
    """Wait until an orphan of a killed run has let go of the folder (it ends within seconds).

    A file system without locks is no reason not to work: it is noted in the file.
    """
    deadline = time.monotonic() + FOLDER_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            _note(handle, "without-lock")
            return True


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
        while process_start(int(pid)) == start:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="metamd-driver-watch").start()


def process_start(pid: int) -> str:
    """Start time of a process from /proc; a recycled pid has another one; empty when ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


_reported: dict[Path, float] = {}


def report_progress(folder: Path, fraction: float) -> None:
    """Called by a task as often as it likes; the driver's bar reads it.

    A rename costs as much as a GFN2-xTB label of ethanol, so it is done twice a second.
    """
    now = time.monotonic()
    if now - _reported.get(folder, -PROGRESS_PERIOD_S) < PROGRESS_PERIOD_S:
        return
    _reported[folder] = now
    partial = folder / ".progress.part"
    partial.write_text(f"{fraction:.4f}")
    partial.replace(folder / ".progress")
