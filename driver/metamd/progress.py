"""What people see while a run works: bars on a terminal or in a notebook, plain lines elsewhere.

What ``metamd status`` sees from another terminal is ``progress.json``.
"""

from __future__ import annotations

import contextlib
import html
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from metamd.workspace import write_json

#: Seconds between plain lines when the output is no terminal.
PLAIN_INTERVAL_S = 30.0
#: Seconds between looks at running tasks for a bar, and between writes for ``metamd status``.
_BAR_INTERVAL_S = 0.5
_FILE_INTERVAL_S = 2.0
PROGRESS_FILE = "progress.json"


class _View(Protocol):
    """One way to show progress."""

    def start(self) -> None: ...
    def update(self, done: float) -> None: ...
    def stop(self, complete: bool) -> None: ...


class TaskProgress:
    """Progress of one stage's tasks; ``update`` takes tasks done, fractions included."""

    def __init__(self, console: Console, title: str, total: int, done: int = 0) -> None:
        view = _Bar if console.is_terminal else _Notebook if console.is_jupyter else _Lines
        self._view: _View = view(console, title, total, done)
        self._last = 0.0

    @property
    def due(self) -> bool:
        """Whether it is time to look again."""
        return time.monotonic() - self._last >= _BAR_INTERVAL_S

    def __enter__(self) -> Self:
        self._view.start()
        return self

    def update(self, done: float) -> None:
        self._last = time.monotonic()
        self._view.update(done)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._view.stop(kind is None)


class _Bar:
    """A bar on a terminal."""

    def __init__(self, console: Console, title: str, total: int, done: int) -> None:
        self.title, self.total, self.done = title, total, done
        self._bar = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )

    def start(self) -> None:
        self._bar.start()
        self._id = self._bar.add_task(self.title, total=self.total, completed=self.done)

    def update(self, done: float) -> None:
        self._bar.update(self._id, completed=done)

    def stop(self, complete: bool) -> None:
        if complete:
            self._bar.update(self._id, completed=self.total)
        self._bar.stop()


class _Lines:
    """A line at the beginning, one now and then, one at the end."""

    def __init__(self, console: Console, title: str, total: int, done: int) -> None:
        self.console, self.title, self.total, self.done = console, title, total, done
        self._start = self._last = time.monotonic()

    def start(self) -> None:
        again = f", {self.done} done before" if self.done else ""
        self.console.print(f"{self.title}: {self.total} tasks{again}")

    def update(self, done: float) -> None:
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL_S:
            self._last = now
            self.console.print(
                f"{self.title}: {100 * done / max(1, self.total):.0f} % "
                f"({int(done)} of {self.total} tasks) after {now - self._start:.0f} s"
            )

    def stop(self, complete: bool) -> None:
        if complete:
            seconds = time.monotonic() - self._start
            self.console.print(f"{self.title}: done in {seconds:.1f} s")


class _Notebook:
    """A bar in a notebook: one output that is changed in place, without ipywidgets."""

    def __init__(self, console: Console, title: str, total: int, done: int) -> None:
        self.title, self.total, self.done = title, total, done
        self._start = time.monotonic()
        self._handle: Any = None

    def _show(self, done: float, after: str) -> None:
        from IPython.display import HTML, display

        text = HTML(
            f"{html.escape(self.title)} <progress max={self.total} value={done:.3f}></progress> "
            f"{int(done)} of {self.total} tasks{after}"
        )
        if self._handle is None:
            self._handle = display(text, display_id=True)
        else:
            self._handle.update(text)

    def start(self) -> None:
        self._show(self.done, "")

    def update(self, done: float) -> None:
        self._show(done, f", {time.monotonic() - self._start:.0f} s")

    def stop(self, complete: bool) -> None:
        if complete:
            self._show(self.total, f", done in {time.monotonic() - self._start:.0f} s")


class ProgressFile:
    """``progress.json``: the stage at work, for ``metamd status`` in another terminal."""

    def __init__(self, folder: Path, title: str, total: int, done: int) -> None:
        self.path = folder / PROGRESS_FILE
        self.data: dict[str, Any] = {
            "title": title,
            "tasks": total,
            "done_before": done,
            "done": float(done),
            "started": time.time(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        self._last = 0.0

    @property
    def due(self) -> bool:
        return time.monotonic() - self._last >= _FILE_INTERVAL_S

    def __enter__(self) -> Self:
        self.update(self.data["done"])
        return self

    def update(self, done: float) -> None:
        if not self.due:
            return
        self._last = time.monotonic()
        # Only for the eye: a full disk is told by those who need the space.
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, {**self.data, "done": done, "updated": time.time()})

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
