"""LAMMPS dumps and tables of energies: read, joined into frames, and written.

What is read back as forces and energy of our own runs comes from before the bias.
"""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from metamd.deck import ATOMIC_COLUMN
from metamd.errors import DataError
from metamd.frames import Frames, open_text
from metamd.units import LAMMPS_UNITS, virial_from_pressure

Array = NDArray[np.float64]

#: Columns of ``thermo.dat`` and of the rerun deck's log, in LAMMPS's units.
THERMO_COLUMNS = (
    *("step", "energy", "temp", "bias", "pxx", "pyy", "pzz", "pxy", "pxz", "pyz"),
    "tail",
)
#: Per-atom energies must add up to the energy this well, eV an atom.
ATOMIC_SUM_EV = 1e-6


@dataclass(frozen=True)
class _Snapshot:
    """One frame as it stands in a dump; ``cell`` [3, 3] (A) of any box, ``origin`` its corner."""

    step: int
    cell: Array
    origin: Array
    periodic: bool
    columns: list[str]
    table: NDArray[np.str_]


def read_dump(
    path: Path, type_map: Sequence[str] | None = None, total_forces: bool = False
) -> Frames:
    """Frames of a LAMMPS text dump, plain or compressed (gzip, bzip2, xz).

    Columns: id, element or type, one of xu yu zu, x y z, xsu ysu zsu or xs ys zs (the default of
    ``dump atom``), optionally forces.  Forces are the columns f_unbiased[1..3] of our own runs;
    with ``total_forces`` also fx fy fz, which hold the bias of a biased run; units metal, unless
    the dump says real (``dump_modify units yes``).  A torn last frame, as a killed run leaves it,
    is left out with a warning.

    Args:
        type_map: elements of types 1, 2, ...; needed without an element column.

    Raises:
        DataError: no frame, missing columns, types without an element, or atoms that differ
            between frames.
    """
    frames: list[_Snapshot] = []
    units = "metal"
    with open_text(path) as handle:
        try:
            while (item := handle.readline()).startswith("ITEM: "):
                if item.startswith(("ITEM: UNITS", "ITEM: TIME\n")):
                    value = handle.readline().strip()
                    units = value if item.startswith("ITEM: UNITS") else units
                elif item.startswith("ITEM: TIMESTEP"):
                    frames.append(_read_dump_frame(handle))
                else:
                    break
            if item.strip():
                raise DataError(f"{path}: frame {len(frames)} is not a LAMMPS dump frame.")
        except DataError:
            raise
        except (ValueError, IndexError, EOFError, zlib.error):
            _refuse_torn_inside(path, handle, len(frames))
            warnings.warn(
                f"{path}: frame {len(frames)} is torn and left out; {len(frames)} are whole.",
                stacklevel=2,
            )
    if not frames:
        raise DataError(f"{path}: holds no complete frame.")
    if units not in LAMMPS_UNITS:
        raise DataError(f"{path}: has units {units}; {' and '.join(LAMMPS_UNITS)} are understood.")
    found = _dump_frames(path, frames, type_map, total_forces)
    if found.forces is None or units == "metal":
        return found
    return replace(found, forces=found.forces * LAMMPS_UNITS[units].energy_ev)


def _refuse_torn_inside(path: Path, handle: TextIO, frame: int) -> None:
    """A killed run tears the last frame only; one with frames behind it is a broken file."""
    try:
        more = any(line.startswith("ITEM: TIMESTEP") for line in handle)
    except (ValueError, EOFError, zlib.error):
        return  # a torn compressed file
    if more:
        raise DataError(f"{path}: frame {frame} is torn, and there are frames after it.")


def _read_dump_frame(handle: TextIO) -> _Snapshot:
    line = handle.readline
    step = int(line())
    line()
    n = int(line())
    bounds = line().split()
    box = np.array([[float(w) for w in line().split()] for _ in range(3)])
    columns = line().split()[2:]
    rows = [line() for _ in range(n)]
    if not rows[-1].endswith("\n"):
        raise EOFError
    table = np.array([row.split() for row in rows])
    if table.shape != (n, len(columns)):
        raise EOFError
    if "abc" in bounds:  # dump_modify triclinic/general: cell vectors and the origin
        cell, origin = box[:, :3], box[:, 3]
    else:
        cell, origin = _dump_cell(box, triclinic="xy" in bounds)
    return _Snapshot(step, cell, origin, "pp" in bounds, columns, table)


def _dump_cell(box: Array, triclinic: bool) -> tuple[Array, Array]:
    """Cell vectors, A, [3, 3], and the corner they start from, A, [3]."""
    lo, hi = box[:, 0].copy(), box[:, 1].copy()
    xy, xz, yz = box[:, 2] if triclinic else (0.0, 0.0, 0.0)
    # LAMMPS writes the bounding box of a tilted cell.
    lo[0] -= min(0.0, xy, xz, xy + xz)
    hi[0] -= max(0.0, xy, xz, xy + xz)
    lo[1] -= min(0.0, yz)
    hi[1] -= max(0.0, yz)
    lx, ly, lz = hi - lo
    return np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]]), lo


def _dump_frames(
    path: Path, frames: list[_Snapshot], type_map: Sequence[str] | None, total_forces: bool
) -> Frames:
    columns = frames[0].columns

    def find(*names: str) -> int | None:
        return next((columns.index(n) for n in names if n in columns), None)

    kinds = ("u", "", "su", "s")
    suffix = next((k for k in kinds if all(f"{a}{k}" in columns for a in "xyz")), None)
    ids = find("id")
    if ids is None or suffix is None:
        raise DataError(f"{path}: needs the columns id and x, y, z (or xu, xs, xsu and so on).")
    xyz = [columns.index(f"{a}{suffix}") for a in "xyz"]
    forces = [find(f"f_unbiased[{k}]") for k in (1, 2, 3)]
    if total_forces and None in forces:
        forces = [find(f"f{a}") for a in "xyz"]
    atomic = find(ATOMIC_COLUMN)
    positions, labels, shares, symbols = [], [], [], None
    for number, frame in enumerate(frames):
        if frame.columns != columns:
            raise DataError(f"{path}: frame {number} has other columns than frame 0.")
        if frame.periodic != frames[0].periodic:
            raise DataError(f"{path}: frame {number} differs from frame 0 in being periodic.")
        table = frame.table[np.argsort(frame.table[:, ids].astype(int))]
        names = _elements(f"{path}: frame {number}", columns, table, type_map)
        if symbols is not None and names != symbols:
            raise DataError(f"{path}: frame {number} has other atoms than frame 0.")
        symbols = names
        where = table[:, xyz].astype(float)
        # Scaled coordinates are fractions of the cell vectors from the box's corner.
        positions.append(frame.origin + where @ frame.cell if "s" in suffix else where)
        if None not in forces:
            labels.append(table[:, forces].astype(float))  # type: ignore[index]
        if atomic is not None:
            shares.append(table[:, atomic].astype(float))
    assert symbols is not None
    return Frames(
        symbols=symbols,
        positions=np.array(positions),
        cell=np.array([frame.cell for frame in frames]) if frames[0].periodic else None,
        forces=np.array(labels) if labels else None,
        atomic_energy=np.array(shares) if shares else None,
        info={"step": np.array([frame.step for frame in frames])},
        source=str(path),
    )


def _elements(
    where: str, columns: list[str], table: NDArray[np.str_], type_map: Sequence[str] | None
) -> tuple[str, ...]:
    """Elements of a frame's atoms: of its element column, else of its types.

    Raises:
        DataError: neither, types beyond the type map, or a type map that the column contradicts.
    """
    named: tuple[str, ...] | None = None
    if "element" in columns:
        named = tuple(str(s) for s in table[:, columns.index("element")])
    if not type_map or "type" not in columns:
        if named is None:
            raise DataError(f"{where} has no element column; give the type map.")
        return named
    types = table[:, columns.index("type")].astype(int)
    if types.min() < 1 or types.max() > len(type_map):
        beyond = types.min() if types.min() < 1 else types.max()
        raise DataError(
            f"{where} has atoms of type {beyond}, the type map names {len(type_map)} "
            f"({','.join(type_map)})."
        )
    mapped = tuple(type_map[t - 1] for t in types)
    if named is not None and named != mapped:
        k = next(k for k in range(len(mapped)) if named[k] != mapped[k])
        raise DataError(
            f"{where}: an atom of type {types[k]} is {named[k]} in the element column and "
            f"{mapped[k]} in the type map; they contradict each other."
        )
    return mapped


def read_thermo(path: Path) -> Array:
    """Rows of ``thermo.dat`` (fix ave/time): see ``add_thermo`` for the columns."""
    return _table(path, path.read_text().splitlines())


def read_log_thermo(path: Path) -> Array:
    """The same rows out of a log whose ``thermo_style`` prints them (the rerun deck's)."""
    lines = path.read_text().splitlines()
    start = max((k for k, line in enumerate(lines) if line.split()[:1] == ["Step"]), default=0)
    return _table(path, lines[start:])


def _table(path: Path, lines: Sequence[str]) -> Array:
    rows = []
    for line in lines:
        words = line.split()
        try:
            if len(words) == len(THERMO_COLUMNS):
                rows.append([float(w) for w in words])
        except ValueError:
            continue  # a header
    if not rows:
        raise DataError(f"{path}: holds no energies.")
    return np.array(rows)


def add_thermo(frames: Frames, table: Array, units: str = "metal") -> Frames:
    """Join energies (and virials in a cell) to the frames of a dump by step.

    Args:
        table: THERMO_COLUMNS, [n_rows, 11]: step, energy, temperature (K), bias, six virial
            pressures, tail correction, in LAMMPS's units.
        units: LAMMPS's units; the frames' forces and per-atom energies are converted as well.

    Frames without an energy line (a killed run) are left out.  The tail correction of a cutoff
    belongs to no atom in LAMMPS; every atom gets the same share, so that the sum is the energy.

    Raises:
        DataError: per-atom energies that do not add up to the energy.
    """
    steps = frames.info["step"]
    frames = frames[np.flatnonzero(np.isin(steps, table[:, 0].astype(int)))]
    match = {int(s): k for k, s in enumerate(table[:, 0])}
    lines = table[[match[int(s)] for s in frames.info["step"]]]
    unit, virial = LAMMPS_UNITS[units], None
    if frames.cell is not None:
        volumes = np.abs(np.linalg.det(frames.cell))
        virial = np.array(
            [
                virial_from_pressure(p * unit.pressure_bar, v)
                for p, v in zip(lines[:, 4:10], volumes, strict=True)
            ]
        )
    atomic = frames.atomic_energy
    if atomic is not None:
        atomic = (atomic + lines[:, 10:] / frames.n_atoms) * unit.energy_ev
        _check_sum(frames, atomic, lines[:, 1] * unit.energy_ev)
    return replace(
        frames,
        energy=lines[:, 1] * unit.energy_ev,
        forces=None if frames.forces is None else frames.forces * unit.energy_ev,
        virial=virial,
        atomic_energy=atomic,
        info={
            **frames.info,
            "kinetic_temperature_k": lines[:, 2],
            "bias_ev": lines[:, 3] * unit.energy_ev,
        },
    )


def _check_sum(frames: Frames, atomic: Array, energy: Array) -> None:
    off = np.abs(atomic.sum(axis=1) - energy) / frames.n_atoms
    if len(off) and not off.max() < ATOMIC_SUM_EV:
        k = int(off.argmax())
        raise DataError(
            f"{frames.source}: frame {k}: the per-atom energies add up to "
            f"{atomic[k].sum():.8g} eV, the energy is {energy[k]:.8g} eV; a style of this force "
            "field has none (set reference.atomic_energies = false)."
        )


def lammps_cells(cell: Array) -> tuple[Array, Array]:
    """Cells [n, 3, 3] as LAMMPS wants them, and the rotations [n, 3, 3] into its axes.

    LAMMPS has a along x and b in the xy plane: ``cell @ rotation``, and row vectors turn likewise,
    ``x @ rotation``.  Of a left-handed cell c is turned round, which leaves its lattice as it is.
    """
    right = cell.copy()
    right[np.linalg.det(cell) < 0, 2] *= -1
    q, r = np.linalg.qr(np.swapaxes(right, 1, 2))
    sign = np.where(np.diagonal(r, axis1=1, axis2=2) < 0, -1.0, 1.0)
    return np.swapaxes(r * sign[:, :, None], 1, 2), q * sign[:, None, :]


def write_dump(frames: Frames, path: Path, tilted: bool = False) -> None:
    """Write positions as a LAMMPS dump, step = frame number, with all digits.

    Molecules get a box around them that holds every frame.

    Args:
        tilted: write boxes as a triclinic simulation reads them, tilted or not.

    Raises:
        DataError: a cell that is not LAMMPS's lower triangle.
    """
    low, high = frames.positions.min(axis=(0, 1)) - 10, frames.positions.max(axis=(0, 1)) + 10
    with path.open("w") as handle:
        for k in range(len(frames)):
            if frames.cell is None:
                box = "ITEM: BOX BOUNDS ss ss ss\n" + "".join(
                    f"{lo!r} {hi!r}\n" for lo, hi in zip(low.tolist(), high.tolist(), strict=True)
                )
            else:
                box = _dump_box(frames.cell[k], f"{frames.source}: frame {k}", tilted)
            handle.write(f"ITEM: TIMESTEP\n{k}\nITEM: NUMBER OF ATOMS\n{frames.n_atoms}\n{box}")
            handle.write("ITEM: ATOMS id x y z\n")
            for i, (x, y, z) in enumerate(frames.positions[k].tolist()):
                handle.write(f"{i + 1} {x!r} {y!r} {z!r}\n")


def _dump_box(cell: Array, where: str, tilted: bool) -> str:
    if np.abs(np.triu(cell, 1)).max() > 1e-9 or (np.diag(cell) <= 0).any():
        raise DataError(f"{where}: LAMMPS needs the cell as a lower triangle (a along x, b in xy).")
    (lx, ly, lz), xy, xz, yz = (
        np.diag(cell).tolist(),
        *(float(cell[i]) for i in ((1, 0), (2, 0), (2, 1))),
    )
    if not (tilted or xy or xz or yz):
        return f"ITEM: BOX BOUNDS pp pp pp\n0 {lx!r}\n0 {ly!r}\n0 {lz!r}\n"
    xlo, xhi = min(0.0, xy, xz, xy + xz), lx + max(0.0, xy, xz, xy + xz)
    ylo, yhi = min(0.0, yz), ly + max(0.0, yz)
    return (
        "ITEM: BOX BOUNDS xy xz yz pp pp pp\n"
        f"{xlo!r} {xhi!r} {xy!r}\n{ylo!r} {yhi!r} {xz!r}\n0 {lz!r} {yz!r}\n"
    )
