"""``metamd status``: how far a run is, read from its folder alone, also from another terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from metamd.errors import WorkspaceError
from metamd.workspace import MANIFEST, RUN_FILE


@dataclass(frozen=True)
class StageStatus:
    """Tasks of one stage: finished, at work or begun, failed tries with their reasons."""

    stage: str
    done: int
    begun: int
    failed: list[tuple[str, str]]


@dataclass(frozen=True)
class RunStatus:
    """State of a work folder: running (locked by a driver), its summary's state, its stages."""

    running: bool
    state: str
    stages: list[StageStatus]
    seconds: dict[str, float]


def read_status(workdir: Path) -> RunStatus:
    """Look into a work folder without touching it.

    Raises:
        WorkspaceError: not a metamd work folder.
    """
    if not (workdir / RUN_FILE).exists():
        raise WorkspaceError(f"{workdir}: is not a metamd work folder ({RUN_FILE} is missing).")
    lock = FileLock(workdir / ".lock")
    try:
        with lock.acquire(timeout=0):
            running = False
    except Timeout:
        running = True
    summary = workdir / "summary.json"
    state = json.loads(summary.read_text())["status"] if summary.exists() else "started"
    if state == "running" and not running:
        state = "interrupted"
    seconds_file = workdir / "seconds.json"
    seconds = json.loads(seconds_file.read_text()) if seconds_file.exists() else {}
    stages = [
        _stage(folder)
        for iteration in sorted(workdir.glob("iteration-*"))
        for folder in sorted(iteration.iterdir(), key=lambda p: p.stat().st_mtime)
        if folder.is_dir()
    ]
    return RunStatus(running, state, stages, seconds)


def _stage(folder: Path) -> StageStatus:
    tasks = {p.parent for p in folder.rglob(".task-lock")}
    failed = [
        (str(t.relative_to(folder)), _reason(t)) for t in sorted(tasks) if ".failed-" in t.name
    ]
    current = [t for t in tasks if ".failed-" not in t.name and ".old-" not in t.name]
    done = sum((t / MANIFEST).exists() for t in current)
    return StageStatus(folder.name, done, len(current) - done, failed)


def _reason(folder: Path) -> str:
    path = folder / "error.txt"
    lines = path.read_text().strip().splitlines() if path.exists() else []
    return lines[-1] if lines else "no reason was written"
