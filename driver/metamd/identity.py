"""What makes two inputs the same, wherever they lie: a run may move to another folder or machine.

Files that a run file names count by name and content, files in the work folder by their place in
it and content.  Nothing here depends on where either of them is.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

#: Of larger files the beginning, the end and the size stand for the content.  The end of an npz
#: file holds the check sums of all its arrays.
WHOLE_BYTES = 64 * 2**20
_PART_BYTES = 2**20
#: A file changed so recently may change again without a new time stamp.
_SETTLED_S = 2.0


def fingerprint(data: Any) -> str:
    """Short hash of anything JSON can hold (paths and arrays as well)."""
    text = json.dumps(data, sort_keys=True, default=plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def plain(value: Any) -> Any:
    """JSON for what numpy and pathlib give."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


_known: dict[tuple[int, ...], str] = {}


def file_hash(path: Path) -> str:
    """``content_hash`` of a file, which is read once while it stays as it is."""
    stat = path.stat()
    key = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
    if (known := _known.get(key)) is not None:
        return known
    found = content_hash(path)
    if time.time() - stat.st_mtime > _SETTLED_S:
        _known[key] = found
    return found


def content_hash(path: Path) -> str:
    """Short hash of a file, or of all files below a folder and their names."""
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
        digest.update(file.relative_to(path).as_posix().encode())
        for part in _content(file):
            digest.update(part)
    return digest.hexdigest()[:16]


def _content(file: Path) -> Iterator[bytes]:
    size = file.stat().st_size
    with file.open("rb") as handle:
        if size <= WHOLE_BYTES:
            while part := handle.read(_PART_BYTES):
                yield part
            return
        yield handle.read(_PART_BYTES)
        handle.seek(-_PART_BYTES, 2)
        yield handle.read(_PART_BYTES)
        yield str(size).encode()


def table_identity(table: BaseModel, exclude: set[str]) -> dict[str, Any]:
    """A run file's content for JSON, without defaults and without places.

    A key that a later version adds leaves it as it is; a file of other content changes it.

    Args:
        table: the checked run file, its paths absolute and there.
        exclude: tables that may change within a run.
    """
    values = table.model_dump(by_alias=True, exclude_defaults=True, exclude=exclude)
    identity: dict[str, Any] = _files_by_content(values)
    return identity


def task_argument(table: BaseModel) -> dict[str, Any]:
    """A table of the run file as a task takes it, for JSON, without defaults.

    A key that a later version adds is not in it, so that finished tasks stay what they were.  A
    version that changes a default must rename the key, or old results would pass for new ones.
    """
    return table.model_dump(mode="json", exclude_defaults=True)


def _files_by_content(value: Any, key: str = "") -> Any:
    if isinstance(value, Path):
        return {"file": value.name, "content": content_hash(value)}
    if isinstance(value, dict):
        # What is below a calculator's arguments is untyped: files are named by plain strings.
        below = "arguments" if key == "arguments" else ""
        return {k: _files_by_content(v, below or k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_files_by_content(v, key) for v in value]
    if key == "arguments" and _is_place(value) and os.path.isfile(value):
        return _with_content(value, Path(value).name)
    return value


def _is_place(value: Any) -> bool:
    return isinstance(value, Path) or (isinstance(value, str) and value.startswith("/"))


def _with_content(path: str | Path, name: str) -> Any:
    """The name of a file with its content; the name alone of anything else, and of programs.

    A program of another version, or the same on another machine, is no other method.
    """
    if not (os.path.isfile(path) and os.access(path, os.R_OK)):
        return name
    with open(path, "rb") as handle:
        if handle.read(4).startswith((b"\x7fELF", b"#!")):
            return name
    return {"file": name, "content": file_hash(Path(path))}


def without_places(value: Any, root: Path | None) -> Any:
    """``value`` with absolute paths below ``root`` relative to it, and others as file names.

    A path to a file becomes its name and content: other frames or another model under the same
    name are another input.

    Args:
        value: what JSON can hold.
        root: the work folder; None keeps every path as it is.
    """
    if isinstance(value, dict):
        return {k: without_places(v, root) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(v, root) for v in value]
    if not _is_place(value):
        return value
    path = Path(value)
    if root is None:
        return _with_content(path, str(path))
    inside = path.is_relative_to(root)
    return _with_content(path, str(path.relative_to(root)) if inside else path.name)
