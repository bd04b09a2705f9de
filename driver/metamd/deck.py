"""LAMMPS decks and data files: what a person can run by hand.

The order of the fixes is the physics: reference forces, then a store of them, then the bias,
then the thermostat (design section 3).  What is read back as forces and energy comes from before
the bias, so that no bias reaches a label.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from metamd.config import Reference, Sample
from metamd.topology import write_full_data
from metamd.units import LAMMPS_UNITS, LammpsUnits

Array = NDArray[np.float64]

#: Parts of a LAMMPS energy or pressure that are the force field's own: no ``fix``, so no bias.
UNBIASED_PARTS = "pair bond angle dihedral improper kspace"
DUMP_COLUMNS = "id element xu yu zu f_unbiased[1] f_unbiased[2] f_unbiased[3]"
ATOMIC_COLUMN = "c_atomic_energy"
DECK, DATA, PLUMED_FILE, DUMP, THERMO = (
    "in.lammps",
    "system.data",
    "plumed.dat",
    "frames.dump",
    "thermo.dat",
)
#: What a callback's deck writes beside its frames: step, temperature, bias.
BIAS_TABLE = "bias.dat"
#: Steps between two removals of an isolated molecule's drift and rotation.
STILL_STEPS = 100
_VIRIAL = " ".join(f"c_virial[{k}]" for k in range(1, 7))


@dataclass(frozen=True)
class Forces:
    """Where the forces of a deck come from: ``commands`` of a force field, or a callback.

    ``commands`` empty means ``fix reference all external``, which the walker's program serves.
    ``constraints`` are fixes of the dynamics (SHAKE); a label knows nothing of them.
    """

    commands: tuple[str, ...] = ()
    atom_style: str = "atomic"
    units: str = "metal"
    constraints: tuple[str, ...] = ()
    atomic_energies: bool = False


def model_commands(model: str, species: Sequence[str]) -> tuple[str, ...]:
    """Pair lines for a frozen DeePMD model; LAMMPS types follow ``species``."""
    return (f"pair_style deepmd {model}", f"pair_coeff * * {' '.join(species)}")


def model_name(model: Path) -> str:
    """What a frozen model is called in a run's folder."""
    return f"model{model.suffix}"


def write_callback(
    folder: Path, arm: Sample, reference: Reference, charge: int, multiplicity: int
) -> None:
    """Write ``walker.json``, from which the walker's program serves a deck's forces."""
    settings = {
        "calculator": reference.calculator,
        "arguments": reference.arguments,
        "charge": charge,
        "multiplicity": multiplicity,
        "stride": arm.stride,
        "steps": arm.steps,
        "allow_bond_breaking": arm.allow_bond_breaking,
        "max_force_ev_per_ang": arm.max_force_ev_per_ang,
    }
    (folder / "walker.json").write_text(json.dumps(settings, indent=2))


def write_data(atoms: Atoms, species: Sequence[str], path: Path, atom_style: str) -> None:
    """LAMMPS data file (A, g/mol: metal and real units alike); type k is ``species[k-1]``.

    An isolated molecule gets a box with room around it (its boundaries shrink-wrap in the deck).
    Other cells than LAMMPS's lower triangles are turned into one, with their atoms.
    """
    from ase.io.lammpsdata import write_lammps_data

    atoms = atoms.copy()
    if atoms.pbc.any() and np.linalg.det(atoms.cell.array) < 0:
        # The same lattice, right-handed: ASE would write the mirror image.
        atoms.cell[2] *= -1
    if not atoms.pbc.any():
        atoms.set_cell(np.ptp(atoms.positions, axis=0) + 20.0)
        atoms.positions += atoms.cell.lengths() / 2 - atoms.positions.mean(axis=0)
    if atom_style == "full":
        write_full_data(atoms, species, path)
        return
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
        *_velocities(arm, atoms, seed),
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
        dynamics = _dynamics(arm, atoms, unit, seed + 1, forces.constraints)
        lines += [
            "",
            "# equilibration, without bias",
            *dynamics,
            f"run {arm.equilibration_steps}",
            *_stop_dynamics(dynamics),
            "reset_timestep 0",
        ]
    if arm.biased:
        lines += [
            "",
            "# 3. the bias",
            f"fix bias all plumed plumedfile {PLUMED_FILE} outfile plumed.log",
            "fix_modify bias energy no",
        ]
    lines += [
        "",
        "# 4. heat bath, constraints and motion",
        *_dynamics(arm, atoms, unit, seed + 2, forces.constraints),
    ]
    lines.append("variable bias_energy equal " + ("f_bias" if arm.biased else "0.0"))
    if external:
        lines.append(
            f"fix thermo all ave/time {arm.stride} 1 {arm.stride} c_thermo_temp v_bias_energy "
            f'file {BIAS_TABLE} format " %.17g"'
        )
    else:
        lines += _output(arm, atoms, forces)
    lines += ["", f"run {arm.steps}", ""]
    return "\n".join(lines)


def _setup(atoms: Atoms, forces: Forces, tilted: bool = False) -> list[str]:
    periodic = bool(atoms.pbc.any())
    lines = [
        f"units {forces.units}",
        f"atom_style {forces.atom_style}",
        "atom_modify map array",
        f"boundary {'p p p' if periodic else 's s s'}",
        f"read_data {DATA}",
        *(["change_box all triclinic"] if tilted else []),
        "",
    ]
    # Without a force field LAMMPS still wants a pair style to size its ghost shell.
    lines += list(forces.commands) or ["pair_style zero 3.0", "pair_coeff * *"]
    # A shrink-wrapped planar molecule has no room for bins.
    search = "bin" if periodic else "nsq"
    return [*lines, f"neighbor 2.0 {search}", "neigh_modify every 1 delay 0 check yes"]


def motions_at_rest(atoms: Atoms) -> int:
    """Degrees of freedom that velocities without drift and rotation leave at rest for good.

    In a cell the momentum is conserved: LAMMPS's own count.  Without one, so is the angular
    momentum.  Two atoms have no third axis to turn about; three in a line have, once they bend.
    Constraints (SHAKE) are taken off by LAMMPS itself.
    """
    if atoms.pbc.any():
        return 3
    return {1: 3, 2: 5}.get(len(atoms), 6)


def _velocities(arm: Sample, atoms: Atoms, seed: int) -> list[str]:
    """Velocities without drift and rotation; what is left moving has the arm's temperature."""
    create = f"velocity all create {arm.temperature_k} {seed} mom yes rot yes dist gaussian"
    if atoms.pbc.any():
        return [create]
    return [
        "# an isolated molecule neither drifts nor turns; LAMMPS by itself counts 3N - 3",
        f"compute_modify thermo_temp extra/dof {motions_at_rest(atoms)}",
        f"{create} temp thermo_temp",
    ]


def _global_bath(atoms: Atoms, compute: str) -> list[str]:
    """What a thermostat that scales all velocities needs to know of an isolated molecule.

    It scales drift and rotation too, which would grow from rounding errors, and from forces that
    do not add up to nothing.
    """
    if atoms.pbc.any():
        return []
    return [
        f"compute_modify {compute} extra/dof {motions_at_rest(atoms)}",
        f"fix still all momentum {STILL_STEPS} linear 1 1 1 angular",
    ]


def _dynamics(
    arm: Sample, atoms: Atoms, unit: LammpsUnits, seed: int, constraints: Sequence[str] = ()
) -> list[str]:
    """Heat bath, then constraints, then motion: SHAKE must see all forces, and come before npt."""
    t, damp = arm.temperature_k, arm.damping_fs / unit.time_fs
    if arm.ensemble == "npt":
        # A barostat a thousand steps slow, LAMMPS's own advice.
        pressure, slow = arm.pressure_bar / unit.pressure_bar, 1000 * arm.timestep_fs / unit.time_fs
        p = f"iso {pressure:g} {pressure:g} {slow:g}"
        return [*constraints, f"fix motion all npt temp {t} {t} {damp:g} {p}"]
    if arm.ensemble == "nvt" and arm.thermostat == "nose-hoover":
        motion = f"fix motion all nvt temp {t} {t} {damp:g}"
        return [*constraints, motion, *_global_bath(atoms, "motion_temp")]
    lines = [*constraints, "fix motion all nve"]
    if arm.ensemble == "nvt" and arm.thermostat == "csvr":
        bath = f"fix bath all temp/csvr {t} {t} {damp:g} {seed}"
        return [bath, *lines, *_global_bath(atoms, "bath_temp")]
    if arm.ensemble == "nvt":
        # Its noise moves and turns the whole too: no degree of freedom is missing, where LAMMPS
        # takes three off (12 % of nine atoms' temperature).
        bath = f"fix bath all langevin {t} {t} {damp:g} {seed}"
        return [bath, "compute_modify thermo_temp extra/dof 0", *lines]
    return lines


def _stop_dynamics(lines: Sequence[str]) -> list[str]:
    """Lines that end the fixes of these lines."""
    return [f"unfix {line.split()[1]}" for line in reversed(lines) if line.startswith("fix ")]


def _output(arm: Sample, atoms: Atoms, forces: Forces) -> list[str]:
    """Dump and energies from before the bias, with all digits."""
    unit = LAMMPS_UNITS[forces.units]
    lines = [
        "",
        "# output: forces of the store, energy and virial of the force field alone",
        *_computes(forces),
        f"dump frames all custom {arm.stride} {DUMP} {_columns(forces)}",
        "dump_modify frames sort id format float %.17g flush yes "
        f"element {' '.join(_species(atoms))}",
        f"fix thermo all ave/time {arm.stride} 1 {arm.stride} c_energy c_thermo_temp v_bias_energy "
        + f"{_VIRIAL} v_tail"
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


def _columns(forces: Forces) -> str:
    return f"{DUMP_COLUMNS} {ATOMIC_COLUMN}" if forces.atomic_energies else DUMP_COLUMNS


def _computes(forces: Forces) -> list[str]:
    """Energy and virial without any fix; the tail correction, which no atom's energy holds."""
    lines = [
        f"compute energy all pe {UNBIASED_PARTS}",
        f"compute virial all pressure NULL {UNBIASED_PARTS}",
        "variable tail equal " + ("etail" if forces.atomic_energies else "0.0"),
    ]
    if forces.atomic_energies:
        lines.append(f"compute atomic_energy all pe/atom {UNBIASED_PARTS}")
    return lines


def _species(atoms: Atoms) -> list[str]:
    return sorted(set(atoms.get_chemical_symbols()))


def deck_lines(text: str) -> list[str]:
    """Commands of a deck, continuation lines joined, comments and blank lines left out."""
    joined = text.replace("&\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip()[:1] not in ("", "#")]


def rerun_deck(atoms: Atoms, forces: Forces, dump: str, tilted: bool = False) -> str:
    """Deck that evaluates stored frames; steps of the dump are frame numbers.

    ``tilted``: the dump's boxes are triclinic, whatever the data file's is.
    """
    lines = [
        "# metamd: labels of stored frames, no bias",
        *_setup(atoms, forces, tilted),
        "fix unbiased all store/force",
        *_computes(forces),
        "variable no_bias equal 0.0",
        "thermo 1",
        f"thermo_style custom step c_energy temp v_no_bias {_VIRIAL} v_tail",
        "thermo_modify line one format float %.17g",
        f"dump frames all custom 1 {DUMP} {_columns(forces)}",
        f"dump_modify frames sort id format float %.17g element {' '.join(_species(atoms))}",
        f"rerun {dump} dump x y z box yes",
        "",
    ]
    return "\n".join(lines)


def minimise_deck(atoms: Atoms, forces: Forces) -> str:
    """Deck that goes to the nearest minimum and writes it to DUMP; the cell stays."""
    tolerance = 1e-6 / LAMMPS_UNITS[forces.units].energy_ev
    lines = [
        "# metamd: the nearest minimum",
        *_setup(atoms, forces),
        "min_style cg",
        "min_modify line quadratic",
        f"minimize 0 {tolerance:g} 20000 200000",
        "min_style fire",
        f"minimize 0 {tolerance:g} 20000 200000",
        f"write_dump all custom {DUMP} id element xu yu zu modify sort id format float %.17g "
        f"element {' '.join(_species(atoms))}",
        "",
    ]
    return "\n".join(lines)
