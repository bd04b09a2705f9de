"""``metamd status``: how far a run is, read from its folder alone, also from another terminal."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from metamd.errors import WorkspaceError
from metamd.progress import PROGRESS_FILE
from metamd.worker import FAILURE, LOCK
from metamd.workspace import MANIFEST, RUN_FILE

#: Stages of an iteration in order; a loop's later iterations are guessed from these.
_STAGES = ("sample", "select", "label", "dataset", "train", "validate")


@dataclass(frozen=True)
class StageStatus:
    """Tasks of one stage: finished, at work or begun, failed tries with their reasons."""

    iteration: int
    stage: str
    done: int
    begun: int
    failed: list[tuple[str, str]]


@dataclass(frozen=True)
class RunStatus:
    """State of a work folder.

    Attributes:
        running: a driver holds its lock.
        state: that of its summary; ``interrupted`` where no driver runs any more.
        stages: tasks by iteration and stage.
        seconds: wall seconds by ``iteration-k/stage``.
        iterations: planned in the run file.
        now: the stage at work: title, tasks, done, seconds; None where none is.
        left_s: estimated seconds left; None where nothing is known to go by.
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
    if state in ("running", "started") and not running:
        state = "interrupted"
    elif running:
        state = "running"
    seconds = _json(workdir / "seconds.json")
    loop = _json(workdir / RUN_FILE).get("config", {}).get("loop", {})
    iterations = int(loop.get("iterations", 1))
    now = _at_work(workdir) if running else None
    return RunStatus(
        running=running,
        state=state,
        stages=_stages(workdir),
        seconds=seconds,
        iterations=iterations,
        now=now,
        left_s=_left(now, seconds, iterations) if running else None,
        errors=_errors(summary),
        stop=_stop(summary),
    )


def _locked(path: Path) -> bool:
    lock = FileLock(path)
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True
    except OSError:
        return False  # a read-only copy of a work folder: nobody works in it


def _json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _stages(workdir: Path) -> list[StageStatus]:
    found = []
    for iteration in sorted(workdir.glob("iteration-*"), key=lambda p: int(p.name[10:])):
        number = int(iteration.name[10:])
        folders = [p for p in iteration.iterdir() if p.is_dir()]
        for folder in sorted(folders, key=lambda p: p.stat().st_mtime):
            found.append(_stage(folder, number))
    return found


def _stage(folder: Path, iteration: int) -> StageStatus:
    tasks = {p.parent for p in folder.rglob(LOCK)}
    failed = [
        (str(t.relative_to(folder)), _reason(t)) for t in sorted(tasks) if ".failed-" in t.name
    ]
    current = [t for t in tasks if ".failed-" not in t.name and ".old-" not in t.name]
    done = sum((t / MANIFEST).exists() for t in current)
    return StageStatus(iteration, folder.name, done, len(current) - done, failed)


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
    booked = {key.partition("/")[0] for key in seconds if key.startswith("iteration-")}
    number = max((int(name[10:]) for name in booked), default=0)
    here = {k.rpartition("/")[2] for k in seconds if k.startswith(f"iteration-{number}/")}
    if here >= set(_STAGES) and number + 1 < iterations:
        number, here = number + 1, set()
    known = {
        stage: seconds[f"iteration-{number - 1}/{stage}"]
        for stage in _STAGES
        if f"iteration-{number - 1}/{stage}" in seconds
    }
    if known:
        at_work = now["title"].split()[0]
        coming = [s for s in known if s not in here and s != at_work]
        left += sum(known[s] for s in coming)
        left += (iterations - number - 1) * sum(known.values())
    return left


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
