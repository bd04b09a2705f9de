"""The work folder: what is on disk is the state.

One folder a stage and task.  A task is done when its ``manifest.json`` has been renamed into
place; a failed try is kept under another name; two runs in one folder are refused.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from metamd import __version__
from metamd.config import RunConfig
from metamd.disk import is_disk_full
from metamd.errors import TaskError, WorkspaceError
from metamd.identity import fingerprint, plain, table_identity, without_places

MANIFEST = "manifest.json"
RUN_FILE = "run.json"
SUMMARY = "summary.json"
#: What a summary gives as ``failure`` where the person ended the run.
STOPPED = "stopped by the person"


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that the file is complete or absent, also after a power cut."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("w") as handle:
            json.dump(data, handle, indent=2, default=plain)
            handle.write("\n")
            handle.flush()
            os.fsync(handle.fileno())
        partial.replace(path)
    except OSError:
        # On a full disk a torn part would be one more thing in the way.
        partial.unlink(missing_ok=True)
        raise


def task_fingerprint(function: str, arguments: dict[str, Any], folder: Path) -> str:
    """Names a task: the same function with the same arguments, also after the run has moved."""
    root = next((p for p in folder.parents if (p / RUN_FILE).exists()), None)
    return fingerprint([function, without_places(arguments, root)])


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The result of a finished task, or None."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    data: dict[str, Any] = json.loads(path.read_text())
    return data


def finished_result(folder: Path, print_: str) -> dict[str, Any] | None:
    """The stored result of the task with this fingerprint, where it has been done."""
    manifest = read_manifest(folder)
    if manifest is None or manifest["fingerprint"] != print_:
        return None
    result: dict[str, Any] = manifest["result"]
    return result


def set_aside(folder: Path, word: str) -> Path:
    """Rename a folder to the first free ``folder.word-N``: nothing is ever overwritten."""
    number = 1
    while (target := folder.with_name(f"{folder.name}.{word}-{number}")).exists():
        number += 1
    folder.rename(target)
    return target


class Workspace:
    """An opened work folder, locked against a second run for as long as it is open.

    Args:
        path: of the folder.
        config: the run it belongs to.
        run_file_text: kept in the folder as ``run.toml``.
        command: of a single stage (its ``--output`` is the folder): what it was given beside the
            run file, for JSON, files by content.  Only the same command goes on in the folder.
    """

    def __init__(
        self,
        path: Path,
        config: RunConfig,
        run_file_text: str = "",
        command: dict[str, Any] | None = None,
    ) -> None:
        self.path = path.resolve()
        self.config = config
        self.run_file_text = run_file_text
        self.command = command
        self._name = f"{'--workdir' if command is None else '--output'} {self.path}"
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        """Make or re-open the folder.

        Raises:
            WorkspaceError: not writable, not a work folder, of another run, or in use.
        """
        path = self.path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(f"{self._name}: cannot be made ({error.strerror}).") from error
        if not os.access(path, os.W_OK) or _read_only_mount(path):
            raise WorkspaceError(f"{self._name}: is not writable.")
        foreign = [p.name for p in path.iterdir() if not p.name.startswith(".")]
        if foreign and not (path / RUN_FILE).exists():
            if self.command is not None:
                raise self._not_empty()
            raise WorkspaceError(
                f"{self._name}: holds other files ({sorted(foreign)[0]} ...) and is no metamd "
                "work folder; name a new one."
            )
        self._lock = FileLock(path / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise WorkspaceError(
                f"{self._name}: another metamd run is using it; `metamd status {path}` "
                "shows how far it is."
            ) from None
        try:
            self._check_same_run()
        except BaseException:
            self._lock.release()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of the folder.

        Raises:
            TaskError: what ended the work is a full disk.
        """
        if self._lock is not None:
            self._lock.release()
        if isinstance(error, OSError) and is_disk_full(error):
            raise TaskError(
                f"{self.path}: the disk is full; free some space, the same command goes on from "
                "here."
            ) from error

    def _check_same_run(self) -> None:
        """A folder belongs to one run; only where it executes may change."""
        current = table_identity(self.config, exclude={"execution"})
        stored_path = self.path / RUN_FILE
        ours = {} if self.command is None else {"command": self.command}
        if not stored_path.exists():
            write_json(stored_path, {"metamd_version": __version__, **ours, "config": current})
            if self.run_file_text:
                (self.path / "run.toml").write_text(self.run_file_text)
            return
        stored = json.loads(stored_path.read_text())
        key = _first_difference(
            {"command": stored.get("command", {}), **stored["config"]},
            {"command": {}, **ours, **current},
        )
        if key is not None:
            if self.command is not None:
                raise self._not_empty()
            raise WorkspaceError(
                f"{self._name}: belongs to another run ({key} differs from the run file "
                "there); name a new folder, or the run file it was started with."
            )

    def _not_empty(self) -> WorkspaceError:
        return WorkspaceError(f"{self._name}: is not empty; nothing there is overwritten.")

    def add_seconds(self, stage: str, seconds: float) -> None:
        """Book wall time of a stage; a resumed run adds to what earlier tries took."""
        table = self.seconds()
        table[stage] = table.get(stage, 0.0) + seconds
        write_json(self.path / "seconds.json", table)

    def seconds(self) -> dict[str, float]:
        path = self.path / "seconds.json"
        return json.loads(path.read_text()) if path.exists() else {}


class StageClock:
    """``with StageClock(workspace, "train"):`` books the wall time, also of a failed stage.

    ``booked = False`` inside of it keeps the time off the books: nothing new was made.
    """

    def __init__(self, workspace: Workspace, stage: str) -> None:
        self.workspace, self.stage = workspace, stage
        self.booked = True

    def __enter__(self) -> Self:
        self.start = time.perf_counter()
        return self

    def __exit__(self, *exc: object) -> None:
        if self.booked:
            self.workspace.add_seconds(self.stage, time.perf_counter() - self.start)


def _read_only_mount(path: Path) -> bool:
    """root may write anywhere but on a read-only file system or a folder without write bits."""
    return not (path.stat().st_mode & 0o222) or bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _first_difference(a: Any, b: Any, key: str = "") -> str | None:
    """Name of the first key at which two run files differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        for name in sorted(set(a) | set(b)):
            if name not in a or name not in b:
                given = a.get(name, b.get(name))
                if isinstance(given, dict) and given:
                    return _first_difference({}, given, f"{key}.{name}")
                return f"{key}.{name}".lstrip(".")
            if (found := _first_difference(a[name], b[name], f"{key}.{name}")) is not None:
                return found
        return None
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for k, (x, y) in enumerate(zip(a, b, strict=True)):
            if (found := _first_difference(x, y, f"{key}[{k + 1}]")) is not None:
                return found
        return None
    return None if a == b else key.lstrip(".")
