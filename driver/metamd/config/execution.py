"""Where tasks run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from metamd.config.base import Table


class Execution(Table):
    """Where tasks run (Parsl)."""

    kind: Literal["local"] = "local"
    """``local``: worker processes on this machine."""
    workers: PositiveInt | None = None
    """Tasks at a time; by default one a core."""
    threads: PositiveInt = 1
    """Threads a task."""
    retries: Annotated[int, Field(ge=0)] = 0
    """How often a failed task is tried again."""
