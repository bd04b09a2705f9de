"""DeePMD's npy systems, plain and in the mixed format."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamd.errors import DataError
from metamd.frames.core import Array, Frames, concatenate

#: Arm, walker, step, bias ... of each frame, beside the sets.
PROVENANCE = "provenance.npz"


def load_deepmd(path: Path, given: Sequence[str] | None = None) -> Frames:
    """Read a system; ``given`` are the elements of types 0, 1, ... instead of ``type_map.raw``.

    Raises:
        DataError: no system, arrays missing, torn or of other sizes, frames of different atoms.
    """
    if not (path / "type.raw").is_file():
        raise DataError(f"{path}: not a DeePMD system (type.raw is missing).")
    map_file = path / "type_map.raw"
    if not given and not map_file.is_file():
        raise DataError(
            f"{path}: type_map.raw is missing; give the elements of types 0, 1, ... as type map."
        )
    type_map = list(given) if given else map_file.read_text().split()
    # One line of types for all frames; in the mixed format they are placeholders.
    of_all = np.loadtxt(path / "type.raw", dtype=int, ndmin=1)
    sets = sorted(path.glob("set.*"))
    if not sets:
        raise DataError(f"{path}: has no set.* folder.")
    parts = []
    for folder in sets:
        coord = _npy(folder, "coord.npy", True)
        assert coord is not None
        n = len(coord)
        types, where = _mixed_types(folder, n, len(of_all)), folder / "real_atom_types.npy"
        if types is None:
            types, where = of_all, path / "type.raw"
        if types.max(initial=0) >= len(type_map):
            raise DataError(
                f"{where}: type {types.max()} has no element in the type map "
                f"({' '.join(type_map)}); types count from 0."
            )
        # The mixed format fills systems of different sizes up with atoms of type -1.
        real = np.flatnonzero(types >= 0)
        symbols = tuple(type_map[t] for t in types[real])

        def shaped(name: str, *shape: int, folder: Path = folder, n: int = n) -> Array | None:
            value = _npy(folder, name, False)
            if value is None:
                return None
            if value.size != n * int(np.prod(shape or (1,))):
                raise DataError(f"{folder / name}: has {value.size} numbers for {n} frames.")
            return value.reshape(n, *shape)

        def by_atom(name: str, *shape: int, real: NDArray[np.intp] = real) -> Array | None:
            value = shaped(name, len(of_all), *shape)
            return None if value is None else value[:, real]

        positions = by_atom("coord.npy", 3)
        assert positions is not None
        isolated = (path / "nopbc").exists()
        parts.append(
            Frames(
                symbols=symbols,
                positions=positions,
                cell=None if isolated else shaped("box.npy", 3, 3),
                energy=shaped("energy.npy"),
                forces=by_atom("force.npy", 3),
                virial=shaped("virial.npy", 3, 3),
                atomic_energy=by_atom("atom_ener.npy"),
                source=str(folder),
            )
        )
    return _with_provenance(concatenate(parts, str(path)), path / PROVENANCE)


def _with_provenance(frames: Frames, path: Path) -> Frames:
    """The frames with what ``save_deepmd`` wrote on them, where they are still the same number."""
    if not path.exists():
        return frames
    try:
        with np.load(path, allow_pickle=False) as data:
            columns = {key: data[key] for key in data.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    if other := [key for key, column in columns.items() if len(column) != len(frames)]:
        # Another program changed the system since.
        warnings.warn(
            f"{path}: left out, it has {len(columns[other[0]])} entries for {len(frames)} frames.",
            stacklevel=3,
        )
        return frames
    return frames.with_info(**columns)


def _mixed_types(folder: Path, n_frames: int, n_atoms: int) -> NDArray[np.intp] | None:
    """Types of the atoms of a set in DeePMD's mixed format, [n_atoms]; None in the plain one.

    Raises:
        DataError: frames of different atoms.
    """
    stored = _npy(folder, "real_atom_types.npy", False)
    if stored is None:
        return None
    name = folder / "real_atom_types.npy"
    if stored.size != n_frames * n_atoms:
        raise DataError(f"{name}: has {stored.size} numbers for {n_frames} frames.")
    types = stored.reshape(n_frames, n_atoms).astype(np.intp)
    other = np.flatnonzero((types != types[0]).any(axis=1))
    if other.size:
        raise DataError(
            f"{folder}: frame {other[0]} has other elements than frame 0, or another order "
            "(real_atom_types.npy); one data set holds one system: write a DeePMD system for each "
            "(dpdata: MultiSystems.load_systems_from_file, then to deepmd/npy)."
        )
    first: NDArray[np.intp] = types[0]
    return first


def _npy(folder: Path, name: str, required: bool) -> Array | None:
    path = folder / name
    if not path.exists():
        if required:
            raise DataError(f"{path}: is missing.")
        return None
    try:
        return np.asarray(np.load(path), dtype=np.float64)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error


def save_deepmd(frames: Frames, folder: str | Path) -> Path:
    """Write a DeePMD npy system (one set); isolated molecules get ``nopbc``.  The folder is new.

    Provenance goes beside it into ``provenance.npz``, in the order of the frames;
    ``load_deepmd`` reads it back.
    """
    folder = Path(folder)
    (folder / "set.000").mkdir(parents=True)
    type_map = frames.species
    (folder / "type_map.raw").write_text("\n".join(type_map) + "\n")
    np.savetxt(folder / "type.raw", [type_map.index(s) for s in frames.symbols], fmt="%d")
    n = len(frames)
    if frames.cell is None:
        (folder / "nopbc").touch()
        # DeePMD wants a box file all the same; it is not used with nopbc.
        box = np.tile(np.eye(3).ravel() * 1000.0, (n, 1))
    else:
        box = frames.cell.reshape(n, 9)
    columns = {
        "coord": frames.positions.reshape(n, -1),
        "box": box,
        "energy": frames.energy,
        "force": None if frames.forces is None else frames.forces.reshape(n, -1),
        "virial": None if frames.virial is None else frames.virial.reshape(n, -1),
        "atom_ener": frames.atomic_energy,
    }
    for name, value in columns.items():
        if value is not None:
            np.save(folder / "set.000" / f"{name}.npy", value)
    if frames.info:
        columns_of_info: dict[str, Any] = dict(frames.info)
        np.savez(folder / PROVENANCE, **columns_of_info)
    return folder
