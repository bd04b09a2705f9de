"""The file between stages, and npz files in sGDML's layout."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from ase.data import chemical_symbols

from metamd.errors import DataError
from metamd.frames.core import Frames
from metamd.units import BOHR_ANG, KCAL_MOL_EV

_ENERGY_UNITS = {"kcal/mol": KCAL_MOL_EV, "eV": 1.0}
_LENGTH_UNITS = {"Ang": 1.0, "bohr": BOHR_ANG}


def load_any_npz(path: Path) -> Frames:
    """Our own file, or sGDML's layout.

    That is R and z, E and F where there are labels, and lattice (its vectors are columns) where
    there is a cell; in r_unit (A where not given) and e_unit (kcal/mol where not given).
    """
    try:
        data = dict(np.load(path, allow_pickle=False))
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise DataError(f"{path}: cannot be read ({error}).") from error
    if {"symbols", "positions"} <= set(data):
        return load_npz(path)
    if not {"R", "z"} <= set(data):
        raise DataError(f"{path}: needs arrays R (positions, A) and z (atomic numbers).")
    ev = _unit(path, data, "e_unit", "kcal/mol", _ENERGY_UNITS)
    ang = _unit(path, data, "r_unit", "Ang", _LENGTH_UNITS)
    n = len(data["R"])
    cell = None
    if "lattice" in data:
        cell = np.tile(np.asarray(data["lattice"], float).reshape(3, 3).T * ang, (n, 1, 1))
    return Frames(
        symbols=tuple(chemical_symbols[int(z)] for z in data["z"]),
        positions=np.asarray(data["R"], float) * ang,
        cell=cell,
        energy=np.asarray(data["E"], float).reshape(n) * ev if "E" in data else None,
        forces=np.asarray(data["F"], float) * (ev / ang) if "F" in data else None,
        source=str(path),
    )


def _unit(path: Path, data: dict[str, Any], key: str, usual: str, known: dict[str, float]) -> float:
    """The factor of a unit that the file names, or of the usual one."""
    name = str(data.get(key, usual))
    factors = {unit.lower(): factor for unit, factor in known.items()}
    if name.lower() not in factors:
        raise DataError(f"{path}: {key} is {name!r}; {' and '.join(known)} are understood.")
    return factors[name.lower()]


def save_npz(frames: Frames, path: str | Path) -> Path:
    """Write every array at full precision; the file between stages (extended XYZ rounds)."""
    path = Path(path)
    arrays: dict[str, Any] = {"symbols": np.asarray(frames.symbols), "positions": frames.positions}
    for name in ("cell", "energy", "forces", "virial", "atomic_energy"):
        if (value := getattr(frames, name)) is not None:
            arrays[name] = value
    arrays.update({f"info_{k}": v for k, v in frames.info.items()})
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as handle:
        np.savez(handle, **arrays)
    partial.replace(path)
    return path


def load_npz(path: str | Path) -> Frames:
    """Read what ``save_npz`` wrote."""
    path = Path(path)
    with np.load(path, allow_pickle=False) as data:
        arrays = {k: data[k] for k in data.files}
    info = {k[5:]: v for k, v in arrays.items() if k.startswith("info_")}
    named = {k: arrays.get(k) for k in ("cell", "energy", "forces", "virial", "atomic_energy")}
    return Frames(
        symbols=tuple(str(s) for s in arrays["symbols"]),
        positions=arrays["positions"],
        **named,
        info=info,
        source=str(path),
    )
