"""``metamd status``: how far a run is, read from its folder alone, also from another terminal."""

from __future__ import annotations

import fcntl
import json
import re
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from metamd.errors import WorkspaceError
from metamd.progress import PROGRESS_FILE
from metamd.worker import FAILURE, LOCK, NO_LOCKS, process_start
from metamd.workspace import MANIFEST, RUN_FILE, STOPPED

#: Stages of an iteration in order; a loop's later iterations are guessed from these.
_STAGES = ("sample", "select", "label", "dataset", "train", "validate")
#: All folders of an iteration in the order in which they are made.
_ORDER = ("sample", "deviation", "select", "label", "dataset", "augment", "train", "validate")
#: Stages by the first word of a title at work, where that is another.
_STAGE_OF = {
    "predict": "select",
    "dynamics": "validate",
    "liquid": "validate",
    "deviation": "validate",
}


@dataclass(frozen=True)
class StageStatus:
    """Tasks of one stage: finished, at work or begun, failed tries with their reasons.

    Stages that the driver does by itself have no tasks, all numbers are 0 then.
    ``recovered`` names those failed tries whose task has finished in a later one.
    """

    iteration: int
    stage: str
    done: int
    begun: int
    failed: list[tuple[str, str]]
    recovered: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunStatus:
    """State of a work folder.

    Attributes:
        running: a driver holds its lock.
        state: that of its summary; ``stopped`` where the person ended it; where no driver runs any
            more ``interrupted``, or ``ended after STAGE`` where a stage of iteration 0 was
            completed and none begun (``--until``).
        stages: tasks by iteration and stage.
        seconds: wall seconds by ``iteration-k/stage``.
        iterations: planned in the run file.
        now: the stage at work: title, tasks, done, seconds; None where none is.
        left_s: estimated seconds left; None where nothing is known to go by.
        left_of_tasks: ``left_s`` is that of the tasks at work: no earlier iteration tells how
            long what follows takes.
        errors: by iteration, force RMSE (eV/A) by ``train on test``.
        stop: why the loop ended, or the run failed.
    """

    running: bool
    state: str
    stages: list[StageStatus]
    seconds: dict[str, float]
    iterations: int = 1
    now: dict[str, Any] | None = None
    left_s: float | None = None
    left_of_tasks: bool = False
    errors: dict[int, dict[str, float]] = field(default_factory=dict)
    stop: str | None = None


def read_status(workdir: Path) -> RunStatus:
    """Look into a work folder without touching it.

    Raises:
        WorkspaceError: not a metamd work folder.
    """
    if not (workdir / RUN_FILE).exists():
        raise WorkspaceError(f"{workdir}: is not a metamd work folder ({RUN_FILE} is missing).")
    running = _locked(workdir / ".lock")
    summary = _json(workdir / "summary.json")
    state = summary.get("status", "started")
    if state == "failed" and summary.get("failure") == STOPPED:
        state = "stopped"
    if state in ("running", "started") and not running:
        state = "interrupted"
    elif running:
        state = "running"
    seconds = _json(workdir / "seconds.json")
    stages = _stages(workdir)
    if state == "interrupted" and (ended := _ended_after(workdir, stages, seconds)) is not None:
        state = f"ended after {ended}"
    loop = _json(workdir / RUN_FILE).get("config", {}).get("loop", {})
    iterations = int(loop.get("iterations", 1))
    now = _at_work(workdir) if running else None
    left = _left(now, seconds, iterations) if running else None
    return RunStatus(
        running=running,
        state=state,
        stages=stages,
        seconds=seconds,
        iterations=iterations,
        now=now,
        left_s=left,
        left_of_tasks=left is not None and not _before(_at(seconds, iterations)[0], seconds),
        errors=_errors(summary),
        # What ended an earlier try is no news of a run that goes on.
        stop=_stop({**summary, "failure": None} if running else summary),
    )


def _ended_after(workdir: Path, stages: list[StageStatus], seconds: dict[str, float]) -> str | None:
    """The last stage, where a run seems to have ended with it: ``--until``, in iteration 0 only.

    A run that was killed leaves a task that has begun, or the file of its progress.
    """
    if (workdir / "logs" / PROGRESS_FILE).exists() or any(s.begun for s in stages):
        return None
    if any(key.startswith("iteration-") and not key.startswith("iteration-0/") for key in seconds):
        return None
    done = [stage for stage in _STAGES if f"iteration-0/{stage}" in seconds]
    return done[-1] if done else None


def _locked(path: Path) -> bool:
    """Whether a driver holds the lock; looked at without making or changing anything."""
    try:
        with path.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
    except BlockingIOError:
        return True
    except OSError as error:
        # None there; or a file system without locks, where the driver writes its name into it.
        return error.errno in NO_LOCKS and _named_lives(path)


def _named_lives(path: Path) -> bool:
    pid, host, *_ = [*path.read_text().splitlines(), "", ""]
    return pid.isdigit() and (host != socket.gethostname() or bool(process_start(int(pid))))


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _stages(workdir: Path) -> list[StageStatus]:
    found = []
    numbered = {
        int(name[1]): path
        for path in workdir.glob("iteration-*")
        if (name := re.fullmatch(r"iteration-(\d+)", path.name)) and path.is_dir()
    }
    for number, iteration in sorted(numbered.items()):
        folders = [p for p in iteration.iterdir() if p.is_dir()]
        # By name, not by time: a copied folder has other times.
        for folder in sorted(folders, key=_place):
            found.append(_stage(folder, number))
    return found


def _place(folder: Path) -> tuple[int, str]:
    """Where a stage comes in an iteration; what is none (a folder set aside) comes last."""
    name = folder.name
    return (_ORDER.index(name) if name in _ORDER else len(_ORDER)), name


def _stage(folder: Path, iteration: int) -> StageStatus:
    tasks = {p.parent for p in folder.rglob(LOCK)}
    failed = [
        (str(t.relative_to(folder)), _reason(t)) for t in sorted(tasks) if ".failed-" in t.name
    ]
    current = [t for t in tasks if ".failed-" not in t.name and ".old-" not in t.name]
    done = sum((t / MANIFEST).exists() for t in current)
    recovered = [name for name, _ in failed if (folder / _task_of(name) / MANIFEST).exists()]
    return StageStatus(iteration, folder.name, done, len(current) - done, failed, recovered)


def _task_of(failed: str) -> str:
    """The folder of the task that a failed try was set aside from."""
    return failed.rpartition(".failed-")[0]


def _reason(folder: Path) -> str:
    if reason := _json(folder / FAILURE).get("reason"):
        return str(reason).replace(str(folder) + "/", "")
    path = folder / "error.txt"
    lines = path.read_text().strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "its worker was lost before it could say why"


def _at_work(workdir: Path) -> dict[str, Any] | None:
    data = _json(workdir / "logs" / PROGRESS_FILE)
    if not data:
        return None
    return {
        "title": data["title"],
        "tasks": data["tasks"],
        "done": data["done"],
        "done_before": data["done_before"],
        "seconds": time.time() - data["started"],
    }


def _left(now: dict[str, Any] | None, seconds: dict[str, float], iterations: int) -> float | None:
    """Seconds left: the stage at work by its own pace, what follows by earlier iterations."""
    if now is None:
        return None
    fresh = now["done"] - now["done_before"]
    if fresh <= 0:
        return None
    left = float(now["seconds"] * max(0.0, now["tasks"] - now["done"]) / fresh)
    number, here = _at(seconds, iterations)
    known = _before(number, seconds)
    if known:
        title = now["title"].split()[0]
        at_work = _STAGE_OF.get(title, title)
        coming = [s for s in known if s not in here and s != at_work]
        left += sum(known[s] for s in coming)
        left += (iterations - number - 1) * sum(known.values())
    return left


def _at(seconds: dict[str, float], iterations: int) -> tuple[int, set[str]]:
    """The iteration at work and the stages that are booked in it."""
    booked = {key.partition("/")[0] for key in seconds if key.startswith("iteration-")}
    number = max((int(name[10:]) for name in booked), default=0)
    here = {k.rpartition("/")[2] for k in seconds if k.startswith(f"iteration-{number}/")}
    if here >= set(_STAGES) and number + 1 < iterations:
        return number + 1, set()
    return number, here


def _before(number: int, seconds: dict[str, float]) -> dict[str, float]:
    """What the stages of the iteration before ``number`` took."""
    return {
        stage: seconds[f"iteration-{number - 1}/{stage}"]
        for stage in _STAGES
        if f"iteration-{number - 1}/{stage}" in seconds
    }


def _errors(summary: dict[str, Any]) -> dict[int, dict[str, float]]:
    rows = summary.get("iterations") or []
    if rows:
        return {
            int(row["iteration"]): row["force_rmse_ev_per_ang"]
            for row in rows
            if "force_rmse_ev_per_ang" in row
        }
    table = {
        f"{row['train']} on {row['test']}": row["force_rmse_ev_per_ang"]["mean"]
        for row in summary.get("cross_errors") or []
    }
    return {0: table} if table else {}


def _stop(summary: dict[str, Any]) -> str | None:
    if summary.get("failure"):
        return str(summary["failure"])
    stops = [row["stop"] for row in summary.get("iterations") or [] if row.get("stop")]
    return stops[-1] if stops else None
