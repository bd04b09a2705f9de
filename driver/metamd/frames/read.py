"""Frames of a file or folder of any kind that is known here."""

from __future__ import annotations

import bz2
import gzip
import lzma
import warnings
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO, cast

from ase import Atoms

from metamd.errors import DataError
from metamd.frames.core import Frames
from metamd.frames.deepmd import load_deepmd
from metamd.frames.images import LABEL_PREFIXES, from_atoms
from metamd.frames.npz import load_any_npz


def load_frames(path: str | Path, type_map: Sequence[str] | None = None) -> Frames:
    """Read frames from a DeePMD system, extended XYZ, LAMMPS dump, npz or anything ASE reads.

    Args:
        path: a file (dumps and what ASE reads also compressed), or the folder of a DeePMD npy
            system.
        type_map: elements of LAMMPS types 1, 2, ..., for dumps without an element column, or of
            DeePMD types 0, 1, ..., for systems without ``type_map.raw``.

    Raises:
        DataError: unreadable, empty, mixed or torn data, or a type map for data that have their
            own elements; the message names file and frame.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder.")
    if type_map and not takes_type_map(path):
        raise DataError(
            f"{path}: takes no type map, it has its own elements; LAMMPS dumps and DeePMD systems "
            "without type_map.raw take one."
        )
    if path.is_dir():
        return load_deepmd(path, type_map)
    if path.suffix == ".npz":
        return load_any_npz(path)
    if _is_dump(path):
        from metamd.dump import read_dump

        return read_dump(path, type_map, total_forces=True)
    from ase.io import iread

    images: list[Atoms] = []
    try:
        for atoms in iread(path, index=":"):
            images.append(atoms)
    except Exception as error:
        raise DataError(
            f"{path}: frame {len(images)} cannot be read ({error}); is the file torn?"
        ) from error
    frames = from_atoms(images, str(path))
    named = [k for k in frames.info if frames.energy is None and "energy" in k.lower()]
    named += [k for k in images[0].arrays if frames.forces is None and "force" in k.lower()]
    if named:
        warnings.warn(
            f"{path}: {named[0]} is not read as a label; energy and forces are, also with the "
            f"prefixes {', '.join(LABEL_PREFIXES)}.",
            stacklevel=2,
        )
    return frames


def takes_type_map(path: Path) -> bool:
    """Whether elements of types can be given: a LAMMPS dump, or DeePMD without type_map.raw."""
    if path.is_dir():
        return (path / "type.raw").is_file() and not (path / "type_map.raw").is_file()
    return path.is_file() and _is_dump(path)


#: First bytes of compressed files, and what opens them.
_COMPRESSED: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}


def open_text(path: Path) -> TextIO:
    """Open a text file for reading; gzip, bzip2 and xz are known by their first bytes."""
    with path.open("rb") as handle:
        first = handle.read(6)
    opener = next((o for magic, o in _COMPRESSED.items() if first.startswith(magic)), None)
    return cast(TextIO, opener(path, "rt")) if opener else path.open()


def _is_dump(path: Path) -> bool:
    """A LAMMPS text dump; units and time may stand before the first step."""
    try:
        with open_text(path) as handle:
            start = handle.read(14)
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError, zlib.error):
        return False
    return start.startswith(("ITEM: TIMESTEP", "ITEM: UNITS", "ITEM: TIME\n"))
