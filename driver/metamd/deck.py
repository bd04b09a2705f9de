"""LAMMPS decks, data files and dumps, and PLUMED files: what a person can run by hand.

The order of the fixes is the physics: reference forces, then a store of them, then the bias,
then the thermostat (design section 3).  What is read back as forces and energy comes from before
the bias, so that no bias reaches a label.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from metamd.config import Bias, Sample
from metamd.errors import DataError
from metamd.frames import Frames
from metamd.units import LAMMPS_UNITS, LammpsUnits, virial_from_pressure

Array = NDArray[np.float64]

#: Parts of a LAMMPS energy or pressure that are the force field's own: no ``fix``, so no bias.
UNBIASED_PARTS = "pair bond angle dihedral improper kspace"
DUMP_COLUMNS = "id element xu yu zu f_unbiased[1] f_unbiased[2] f_unbiased[3]"
THERMO_COLUMNS = ("step", "energy", "temp", "bias", "pxx", "pyy", "pzz", "pxy", "pxz", "pyz")
DECK, DATA, PLUMED_FILE, DUMP, THERMO, HILLS = (
    "in.lammps",
    "system.data",
    "plumed.dat",
    "frames.dump",
    "thermo.dat",
    "hills.xyz",
)


@dataclass(frozen=True)
class Forces:
    """Where the forces of a deck come from: ``commands`` of a force field, or a callback.

    ``commands`` empty means ``fix reference all external``, which the walker's program serves.
    """

    commands: tuple[str, ...] = ()
    atom_style: str = "atomic"
    units: str = "metal"


def model_commands(model: str, species: Sequence[str]) -> tuple[str, ...]:
    """Pair lines for a frozen DeePMD model; LAMMPS types follow ``species``."""
    return (f"pair_style deepmd {model}", f"pair_coeff * * {' '.join(species)}")


def write_data(atoms: Atoms, species: Sequence[str], path: Path, atom_style: str) -> None:
    """LAMMPS data file (A, g/mol: metal and real units alike); type k is ``species[k-1]``.

    An isolated molecule gets a box with room around it (its boundaries shrink-wrap in the deck).
    """
    from ase.io.lammpsdata import write_lammps_data

    atoms = atoms.copy()
    if not atoms.pbc.any():
        atoms.set_cell(np.ptp(atoms.positions, axis=0) + 20.0)
        atoms.positions += atoms.cell.lengths() / 2 - atoms.positions.mean(axis=0)
    write_lammps_data(
        path, atoms, specorder=list(species), masses=True, units="metal", atom_style=atom_style
    )


def sampling_deck(arm: Sample, atoms: Atoms, forces: Forces, seed: int) -> str:
    """The deck of one walker."""
    unit = LAMMPS_UNITS[forces.units]
    external = not forces.commands
    lines = [
        f"# metamd: arm {arm.name}, {arm.method}, {arm.ensemble} {arm.temperature_k:g} K",
        *_setup(atoms, forces),
        f"timestep {arm.timestep_fs / unit.time_fs:.10g}",
        f"velocity all create {arm.temperature_k} {seed} mom yes rot yes dist gaussian",
        "",
        "# 1. true forces, 2. a store of them: everything below may not touch a label",
    ]
    if external:
        lines += ["fix reference all external pf/callback 1 1", "fix_modify reference energy yes"]
        if atoms.pbc.any():
            lines.append("fix_modify reference virial yes")
    lines += ["fix unbiased all store/force", "", f"thermo {max(1, arm.steps // 20)}"]
    lines.append("thermo_modify lost error flush yes")
    if arm.equilibration_steps:
        lines += [
            "",
            "# equilibration, without bias",
            *_dynamics(arm, unit, seed + 1),
            f"run {arm.equilibration_steps}",
            *_stop_dynamics(arm),
            "reset_timestep 0",
        ]
    if arm.method == "metamd" or arm.plumed is not None:
        lines += [
            "",
            "# 3. the bias",
            f"fix bias all plumed plumedfile {PLUMED_FILE} outfile plumed.log",
            "fix_modify bias energy no",
        ]
    lines += ["", "# 4. motion and heat bath", *_dynamics(arm, unit, seed + 2)]
    if not external:
        lines += _output(arm, atoms, unit, biased=arm.method == "metamd" or arm.plumed is not None)
    lines += ["", f"run {arm.steps}", ""]
    return "\n".join(lines)


def _setup(atoms: Atoms, forces: Forces) -> list[str]:
    periodic = bool(atoms.pbc.any())
    lines = [
        f"units {forces.units}",
        f"atom_style {forces.atom_style}",
        "atom_modify map array",
        f"boundary {'p p p' if periodic else 's s s'}",
        f"read_data {DATA}",
        "",
    ]
    # Without a force field LAMMPS still wants a pair style to size its ghost shell.
    lines += list(forces.commands) or ["pair_style zero 3.0", "pair_coeff * *"]
    # A shrink-wrapped planar molecule has no room for bins.
    search = "bin" if periodic else "nsq"
    return [*lines, f"neighbor 2.0 {search}", "neigh_modify every 1 delay 0 check yes"]


def _dynamics(arm: Sample, unit: LammpsUnits, seed: int) -> list[str]:
    t, damp = arm.temperature_k, arm.damping_fs / unit.time_fs
    if arm.ensemble == "npt":
        # A barostat a thousand steps slow, LAMMPS's own advice.
        pressure, slow = arm.pressure_bar / unit.pressure_bar, 1000 * arm.timestep_fs / unit.time_fs
        p = f"iso {pressure:g} {pressure:g} {slow:g}"
        return [f"fix motion all npt temp {t} {t} {damp:g} {p}"]
    if arm.ensemble == "nvt" and arm.thermostat == "nose-hoover":
        return [f"fix motion all nvt temp {t} {t} {damp:g}"]
    lines = ["fix motion all nve"]
    if arm.ensemble == "nvt":
        style = {"langevin": "langevin", "csvr": "temp/csvr"}[arm.thermostat]
        lines.append(f"fix bath all {style} {t} {t} {damp:g} {seed}")
    return lines


def _stop_dynamics(arm: Sample) -> list[str]:
    bath = arm.ensemble == "nvt" and arm.thermostat != "nose-hoover"
    return ["unfix motion", *(["unfix bath"] if bath else [])]


def _output(arm: Sample, atoms: Atoms, unit: LammpsUnits, biased: bool) -> list[str]:
    """Dump and energies from before the bias, with all digits."""
    lines = [
        "",
        "# output: forces of the store, energy and virial of the force field alone",
        *_computes(),
        f"dump frames all custom {arm.stride} {DUMP} {DUMP_COLUMNS}",
        "dump_modify frames sort id format float %.17g flush yes "
        f"element {' '.join(_species(atoms))}",
        "variable bias_energy equal " + ("f_bias" if biased else "0.0"),
        f"fix thermo all ave/time {arm.stride} 1 {arm.stride} c_energy c_thermo_temp v_bias_energy "
        + " ".join(f"c_virial[{k}]" for k in range(1, 7))
        + f' file {THERMO} format " %.17g"',
        "# an explosion ends the run; what was written until then is kept",
        "compute force_norm all property/atom fx fy fz",
        'variable force2 atom "c_force_norm[1]^2+c_force_norm[2]^2+c_force_norm[3]^2"',
        "compute largest all reduce max v_force2",
        'variable largest equal "sqrt(c_largest)"',
        f"fix explosion all halt {min(10, arm.stride)} v_largest > "
        f"{10 * arm.max_force_ev_per_ang / unit.energy_ev:g} error soft message yes",
    ]
    return lines


def _computes() -> list[str]:
    return [
        f"compute energy all pe {UNBIASED_PARTS}",
        f"compute virial all pressure NULL {UNBIASED_PARTS}",
    ]


def _species(atoms: Atoms) -> list[str]:
    return sorted(set(atoms.get_chemical_symbols()))


def plumed_file(bias: Bias, atoms: Atoms, temperature_k: float, plugin: Path, stride: int) -> str:
    """PLUMED input for MATRIX_METAD on the pair distances (eV, A, ps)."""
    chosen = bias.atoms or tuple(range(1, len(atoms) + 1))
    group = f"1-{len(atoms)}" if not bias.atoms else ",".join(str(a) for a in chosen)
    words = [
        f"GROUP={group}",
        f"METRIC={bias.metric}",
        f"SIGMA={bias.sigma:g}",
        f"HEIGHT={bias.height_ev:g}",
        f"PACE={bias.pace}",
        f"TEMP={temperature_k:g}",
        f"FILE={HILLS}",
        "SPECIES=" + ",".join(atoms[a - 1].symbol for a in chosen),
    ]
    if bias.biasfactor is not None:
        words.append(f"BIASFACTOR={bias.biasfactor:g}")
    if bias.cutoff_ang is not None:
        words.append(f"CUTOFF={bias.cutoff_ang:g}")
    if not atoms.pbc.any():
        words.append("NOPBC")
    lines = [
        f"LOAD FILE={plugin}",
        "UNITS LENGTH=A ENERGY=eV TIME=ps",
        f"metad: MATRIX_METAD {' '.join(words)}",
    ]
    printed = "metad.bias,metad.nhills"
    if bias.wall_ang is not None:
        lines += _wall_lines(bias.wall_ang, len(atoms))
    lines.append(f"PRINT ARG={printed} FILE=COLVAR STRIDE={stride}")
    return "\n".join(lines) + "\n"


def _wall_lines(wall_ang: float, n_atoms: int) -> list[str]:
    """A half-harmonic wall on each atom's distance from the centre: a cluster cannot evaporate."""
    lines = [f"centre: CENTER ATOMS=1-{n_atoms}"]
    names = []
    for k in range(1, n_atoms + 1):
        lines.append(f"from_centre{k}: DISTANCE ATOMS=centre,{k} NOPBC")
        names.append(f"from_centre{k}")
    ones = ",".join(f"{wall_ang:g}" for _ in names)
    kappa = ",".join("10.0" for _ in names)
    lines.append(f"wall: UPPER_WALLS ARG={','.join(names)} AT={ones} KAPPA={kappa}")
    return lines


def with_plugin(text: str, plugin: Path) -> str:
    """A person's PLUMED file, with our actions loaded where it uses them and does not itself."""
    ours = ("MATRIX_METAD", "INVERSE_DISTANCE_MATRIX")
    if any(name in text for name in ours) and "LOAD" not in text:
        return f"LOAD FILE={plugin}\n{text}"
    return text


def read_dump(
    path: Path, type_map: Sequence[str] | None = None, total_forces: bool = False
) -> Frames:
    """Frames of a LAMMPS text dump (id, element or type, x|xu, optionally forces).

    Forces are the columns f_unbiased[1..3] of our own runs; with ``total_forces`` also fx fy fz
    (units metal), which hold the bias of a biased run.  A torn last frame, as a killed run leaves
    it, is left out with a warning.

    Raises:
        DataError: no frame, missing columns, or atoms that differ between frames.
    """
    frames: list[tuple[int, Array, Array]] = []
    header: list[str] = []
    with path.open() as handle:
        while (item := handle.readline()).startswith("ITEM: TIMESTEP"):
            try:
                frame = _read_dump_frame(handle)
            except (ValueError, IndexError, EOFError):
                _refuse_torn_inside(path, handle, len(frames))
                warnings.warn(
                    f"{path}: frame {len(frames)} is torn and left out; {len(frames)} are whole.",
                    stacklevel=2,
                )
                break
            header = frame[3]
            frames.append(frame[:3])
        else:
            if item.strip():
                raise DataError(f"{path}: frame {len(frames)} is not a LAMMPS dump frame.")
    if not frames:
        raise DataError(f"{path}: holds no complete frame.")
    return _dump_frames(path, frames, header, type_map, total_forces)


def _refuse_torn_inside(path: Path, handle: TextIO, frame: int) -> None:
    """A killed run tears the last frame only; one with frames behind it is a broken file."""
    if any(line.startswith("ITEM: TIMESTEP") for line in handle):
        raise DataError(f"{path}: frame {frame} is torn, and there are frames after it.")


def _read_dump_frame(handle: object) -> tuple[int, Array, Array, list[str]]:
    line = handle.readline  # type: ignore[attr-defined]
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
    periodic = "pp" in bounds
    cell = _dump_cell(box, triclinic="xy" in bounds) if periodic else np.zeros((3, 3))
    return step, cell, table, columns


def _dump_cell(box: Array, triclinic: bool) -> Array:
    lo, hi = box[:, 0].copy(), box[:, 1].copy()
    xy, xz, yz = box[:, 2] if triclinic else (0.0, 0.0, 0.0)
    # LAMMPS writes the bounding box of a tilted cell.
    lo[0] -= min(0.0, xy, xz, xy + xz)
    hi[0] -= max(0.0, xy, xz, xy + xz)
    lo[1] -= min(0.0, yz)
    hi[1] -= max(0.0, yz)
    lx, ly, lz = hi - lo
    return np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])


def _dump_frames(
    path: Path,
    frames: list[tuple[int, Array, Array]],
    columns: list[str],
    type_map: Sequence[str] | None,
    total_forces: bool,
) -> Frames:
    def find(*names: str) -> int | None:
        return next((columns.index(n) for n in names if n in columns), None)

    xyz = [find(f"{a}u", a) for a in "xyz"]
    ids = find("id")
    if ids is None or any(c is None for c in xyz):
        raise DataError(f"{path}: needs the columns id, x, y, z (or xu, yu, zu).")
    forces = [find(f"f_unbiased[{k}]") for k in (1, 2, 3)]
    if total_forces and None in forces:
        forces = [find(f"f{a}") for a in "xyz"]
    element, kind = find("element"), find("type")
    positions, labels, symbols = [], [], None
    for number, (_, _, table) in enumerate(frames):
        table = table[np.argsort(table[:, ids].astype(int))]
        if element is not None:
            names = tuple(str(s) for s in table[:, element])
        elif kind is not None and type_map:
            names = tuple(type_map[int(t) - 1] for t in table[:, kind])
        else:
            raise DataError(f"{path}: has no element column; give the type map.")
        if symbols is not None and names != symbols:
            raise DataError(f"{path}: frame {number} has other atoms than frame 0.")
        symbols = names
        positions.append(table[:, xyz].astype(float))  # type: ignore[index]
        if None not in forces:
            labels.append(table[:, forces].astype(float))  # type: ignore[index]
    assert symbols is not None
    cells = np.array([cell for _, cell, _ in frames])
    return Frames(
        symbols=symbols,
        positions=np.array(positions),
        cell=cells if cells.any() else None,
        forces=np.array(labels) if labels else None,
        info={"step": np.array([step for step, _, _ in frames])},
        source=str(path),
    )


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
        table: THERMO_COLUMNS, [n_rows, 10]: step, energy, temperature (K), bias, six virial
            pressures, in LAMMPS's units.
        units: LAMMPS's units; the frames' forces are converted as well.

    Frames without an energy line (a killed run) are left out.
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
    return replace(
        frames,
        energy=lines[:, 1] * unit.energy_ev,
        forces=None if frames.forces is None else frames.forces * unit.energy_ev,
        virial=virial,
        info={
            **frames.info,
            "kinetic_temperature_k": lines[:, 2],
            "bias_ev": lines[:, 3] * unit.energy_ev,
        },
    )


def rerun_deck(atoms: Atoms, forces: Forces, dump: str) -> str:
    """Deck that evaluates stored frames; steps of the dump are frame numbers."""
    virial = " ".join(f"c_virial[{k}]" for k in range(1, 7))
    lines = [
        "# metamd: labels of stored frames, no bias",
        *_setup(atoms, forces),
        "fix unbiased all store/force",
        *_computes(),
        "variable no_bias equal 0.0",
        "thermo 1",
        f"thermo_style custom step c_energy temp v_no_bias {virial}",
        "thermo_modify line one format float %.17g",
        f"dump frames all custom 1 {DUMP} {DUMP_COLUMNS}",
        f"dump_modify frames sort id format float %.17g element {' '.join(_species(atoms))}",
        f"rerun {dump} dump x y z box yes",
        "",
    ]
    return "\n".join(lines)


def write_dump(frames: Frames, path: Path) -> None:
    """Write positions as a LAMMPS dump, step = frame number, with all digits.

    Molecules get a box around them that holds every frame.

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
                box = _dump_box(frames.cell[k], f"{frames.source}: frame {k}")
            handle.write(f"ITEM: TIMESTEP\n{k}\nITEM: NUMBER OF ATOMS\n{frames.n_atoms}\n{box}")
            handle.write("ITEM: ATOMS id x y z\n")
            for i, (x, y, z) in enumerate(frames.positions[k].tolist()):
                handle.write(f"{i + 1} {x!r} {y!r} {z!r}\n")


def _dump_box(cell: Array, where: str) -> str:
    if np.abs(np.triu(cell, 1)).max() > 1e-9 or (np.diag(cell) <= 0).any():
        raise DataError(f"{where}: LAMMPS needs the cell as a lower triangle (a along x, b in xy).")
    (lx, ly, lz), xy, xz, yz = (
        np.diag(cell).tolist(),
        *(float(cell[i]) for i in ((1, 0), (2, 0), (2, 1))),
    )
    if not (xy or xz or yz):
        return f"ITEM: BOX BOUNDS pp pp pp\n0 {lx!r}\n0 {ly!r}\n0 {lz!r}\n"
    xlo, xhi = min(0.0, xy, xz, xy + xz), lx + max(0.0, xy, xz, xy + xz)
    ylo, yhi = min(0.0, yz), ly + max(0.0, yz)
    return (
        "ITEM: BOX BOUNDS xy xz yz pp pp pp\n"
        f"{xlo!r} {xhi!r} {xy!r}\n{ylo!r} {yhi!r} {xz!r}\n0 {lz!r} {yz!r}\n"
    )
