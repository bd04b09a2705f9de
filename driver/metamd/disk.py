"""A full disk, or a quota used up: never a frame's or a task's fault, and free space mends it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from pathlib import Path

#: With less than this left a failure is the disk's.
DISK_FULL_BYTES = 1_000_000
_NUMBERS = (errno.ENOSPC, errno.EDQUOT)
#: How programs put it into words, in lower case.
_WORDS = ("no space left", "quota exceeded")


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception, or what it was raised from, says that there is no room."""
    return why_disk_full(error) is not None


def why_disk_full(error: BaseException) -> str | None:
    """The words of an exception, or of what it was raised from, that say there is no room."""
    seen: BaseException | None = error
    while seen is not None:
        if (isinstance(seen, OSError) and seen.errno in _NUMBERS) or says_disk_full(str(seen)):
            return str(seen)
        seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    return None


def says_disk_full(text: str) -> bool:
    """Whether a program's last words are of a full disk or a quota."""
    return any(words in text.lower() for words in _WORDS)


def no_room(folder: Path) -> bool:
    """Whether a megabyte more finds no place in ``folder``.

    The numbers of the file system know nothing of a person's quota: only writing tells.
    """
    with contextlib.suppress(OSError):
        if shutil.disk_usage(folder).free < DISK_FULL_BYTES:
            return True
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(DISK_FULL_BYTES))
            probe.flush()
            os.fsync(probe.fileno())
    except OSError as error:
        return error.errno in _NUMBERS
    return False
