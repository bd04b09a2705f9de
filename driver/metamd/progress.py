"""What people see while a run works: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

#: Seconds between plain lines when the output is no terminal.
PLAIN_INTERVAL_S = 30.0


class TaskProgress:
    """Progress of one stage's tasks; ``update`` takes tasks done, fractions included."""

    def __init__(self, console: Console, title: str, total: int, done: int = 0) -> None:
        self.console, self.title, self.total = console, title, total
        self.already = done
        self._bar: Progress | None = None
        self._last = self._start = 0.0

    def __enter__(self) -> Self:
        self._start = self._last = time.monotonic()
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description:<12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.percentage:>3.0f} %"),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._bar.start()
            self._id = self._bar.add_task(self.title, total=self.total, completed=self.already)
        else:
            again = f", {self.already} done before" if self.already else ""
            self.console.print(f"{self.title}: {self.total} tasks{again}")
        return self

    def update(self, done: float) -> None:
        if self._bar is not None:
            self._bar.update(self._id, completed=done)
            return
        now = time.monotonic()
        if now - self._last >= PLAIN_INTERVAL_S:
            self._last = now
            self.console.print(
                f"{self.title}: {100 * done / max(1, self.total):.0f} % "
                f"({int(done)} of {self.total} tasks) after {now - self._start:.0f} s"
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            if kind is None:
                self._bar.update(self._id, completed=self.total)
            self._bar.stop()
        elif kind is None:
            self.console.print(f"{self.title}: done in {time.monotonic() - self._start:.1f} s")
