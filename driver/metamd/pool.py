"""A pool: files of one system, loaded, checked and joined; and frames written by suffix."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import atomic_numbers

from metamd.checks import align_zeros, check_energies, check_same_zero
from metamd.errors import DataError, InputError
from metamd.frames import (
    Frames,
    concatenate,
    load_frames,
    save_deepmd,
    save_extxyz,
    save_npz,
    takes_type_map,
)


def load_pool(
    paths: Sequence[Path],
    type_map: str = "",
    align: bool = False,
    energies: bool = True,
    warn: Callable[[str], None] = print,
    check: Callable[[Frames], None] | None = None,
) -> tuple[Frames, list[dict[str, Any]]]:
    """Load, check and join files; also which frames of the pool each of them holds.

    Args:
        paths: what ``load_frames`` reads; a folder that is no DeePMD system stands for all
            systems below it.
        type_map: elements of types, ``Na,Cl``, for LAMMPS dumps and DeePMD systems without them.
        align: shift energies of other zeros to those of the first file.
        energies: check energies (and align them); where not, labels that some files lack go.
        warn: takes what loaders warn of, a torn last frame say.
        check: of each file; joined frames have the provenance alone that all files have.

    Frames of several files get the column ``file``, the number of their file from 0: steps of one
    file say nothing about those of another.

    Raises:
        DataError: unreadable or mixed data, energies that jump, of a wrong unit or another zero.
        InputError: a type map of unknown elements, or with no file that takes one.
    """
    files = _expanded(paths)
    elements = _type_map(type_map, files)
    with _passed_on(warn):
        parts = [load_frames(f, elements if takes_type_map(f) else None) for f in files]
        if check is not None:
            for part in parts:
                check(part)
        pool = _joined(parts, align, energies)
    where, first = [], 0
    for part in parts:
        where.append({"path": part.source, "first": first, "frames": len(part)})
        first += len(part)
    if len(parts) > 1:
        pool = pool.with_info(file=np.repeat(np.arange(len(parts)), [len(p) for p in parts]))
    return pool, where


@contextmanager
def _passed_on(warn: Callable[[str], None]) -> Iterator[None]:
    """What is warned of inside goes to ``warn``, before an error if there is one."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for warning in said:
                if issubclass(warning.category, UserWarning):
                    warn(str(warning.message))


def _joined(parts: Sequence[Frames], align: bool, energies: bool) -> Frames:
    """One pool of all parts; labels must belong together where energies count."""
    if not energies:
        return concatenate(parts, drop_labels=True)
    for part in parts:
        check_energies(part)
    pool = concatenate(align_zeros(parts) if align else parts)
    if not align:
        check_same_zero(parts)
    return pool


def _type_map(text: str, files: Sequence[Path]) -> list[str] | None:
    if not text:
        return None
    elements = [e.strip() for e in text.split(",")]
    if unknown := [e for e in elements if e not in atomic_numbers]:
        raise InputError(f"--type-map {text}: {unknown[0]!r} is no element.")
    if not any(takes_type_map(path) or not path.exists() for path in files):
        raise InputError(
            f"--type-map {text}: {files[0]} has its own elements; LAMMPS dumps and DeePMD systems "
            "without type_map.raw take a type map."
        )
    return elements


def write_frames(frames: Frames, path: Path) -> None:
    """Write frames as the suffix says: .npz, .xyz / .extxyz, or a DeePMD folder; it is new."""
    refuse_existing("--output", path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".npz":
            save_npz(frames, path)
        elif path.suffix in (".xyz", ".extxyz"):
            save_extxyz(frames, path)
        else:
            save_deepmd(frames, path)
    except OSError as error:
        raise _unwritable("--output", path, error) from error


def refuse_existing(option: str, path: Path | None) -> None:
    """Refuse an output that is there already: it may be the only copy of labels."""
    if path is not None and path.exists():
        raise InputError(f"{option} {path}: is there already; nothing is overwritten.")


def check_writable(option: str, path: Path | None, data: Sequence[Path] = ()) -> None:
    """Refuse, before the work that it is for, a file that cannot be written.

    Results may be written again, but not over ``data``.

    Raises:
        InputError: one of ``data``, or a file that cannot be opened.
    """
    if path is None:
        return
    if any(path.resolve() == given.resolve() for given in data):
        raise InputError(f"{option} {path}: holds the data; nothing is overwritten.")
    there = path.exists()
    if there and not (path.is_file() or path.is_dir()):
        return  # a pipe or a terminal would notice
    try:
        path.open("a").close()
        if not there:
            path.unlink()
    except OSError as error:
        raise _unwritable(option, path, error) from error


def make_folder(option: str, path: Path) -> None:
    """Make a folder for results, before they are computed; one that is there is used."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(option, path, error) from error


def _unwritable(option: str, path: Path, error: OSError) -> InputError:
    return InputError(f"{option} {path}: cannot be written ({error.strerror}).")


def _expanded(paths: Sequence[Path]) -> list[Path]:
    out: list[Path] = []
    for path in paths:
        if path.is_dir() and not (path / "type.raw").exists():
            below = sorted(found.parent for found in path.rglob("type.raw"))
            if not below:
                raise DataError(f"{path}: no DeePMD system here or below (type.raw is missing).")
            out += below
        else:
            out.append(path)
    return out


def save_json(path: Path | None, value: dict[str, Any]) -> None:
    """Write JSON, where a path is given."""
    if path is not None:
        try:
            path.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise InputError(f"{path}: cannot be written ({error.strerror}).") from error
