"""What can go wrong, by whose hand: the exit status of the command follows the class."""

from __future__ import annotations

from typing import Any


class MetamdError(Exception):
    """Base of all errors that metamd raises on purpose; the message is for the person."""

    exit_status = 1


class InputError(MetamdError, ValueError):
    """Something a person gave is wrong: the message names the file and the key."""

    exit_status = 2


class DataError(InputError):
    """Frames that cannot be used: the message names the file and the frame."""


class WorkspaceError(InputError):
    """A work folder that cannot be used: of another run, in use, or not writable."""


class TaskError(MetamdError, RuntimeError):
    """A program or task failed; the message carries the last useful line of its log."""


class NothingLabelled(TaskError):
    """Not one of the frames got a label; ``failures`` has each frame's reason."""

    def __init__(self, message: str, failures: list[dict[str, Any]]) -> None:
        super().__init__(message)
        self.failures = failures


class ProgramKilled(TaskError):
    """A program was killed from outside: no fault of its input, so it is begun again."""


class DiskFull(MetamdError, RuntimeError):
    """The disk is full or a quota used up: whatever failed by it is to be begun again."""


class ReferenceFailed(MetamdError, RuntimeError):
    """The reference method gave no energy for a frame (no SCF convergence, say)."""
