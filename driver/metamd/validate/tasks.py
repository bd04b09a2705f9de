"""The tasks behind the further checks; each gives ``{"checks": [...]}`` as the summary holds them.

A task gets plain JSON: the starting structure, the reference's table and the models' files by
name.  What one calculator cannot do becomes a note of its check.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from metamd.config import Reference, Sample
from metamd.config.validate import Scan, Trajectory
from metamd.errors import DataError, TaskError
from metamd.forcefields import reference_forces
from metamd.frames import Frames, load_npz
from metamd.predict import predict
from metamd.reference import make_calculator
from metamd.rerun import RerunCalculator
from metamd.units import PS_PER_FS
from metamd.validate.check import Check
from metamd.validate.frequencies import compare_frequencies
from metamd.validate.nve import nve_check
from metamd.validate.scan import angle_scan, bond_scan, usual_scans
from metamd.validate.structure import diffusion_check, rdf_check
from metamd.validate.trajectory import run_model, run_reference

REFERENCE = "reference"
#: Frames of a trajectory whose deviation is computed.
DEVIATION_FRAMES = 250


def scans_task(folder: Path, system: dict[str, Any], scans: list[dict[str, Any]]) -> dict[str, Any]:
    """Task: rigid scans of bonds and angles with every potential."""
    atoms, calculators = _atoms(system), _calculators(system, folder)
    checks = []
    for scan in [Scan.model_validate(s) for s in scans] or usual_scans(atoms):
        indices = [a - 1 for a in scan.atoms]
        values = np.linspace(scan.low, scan.high, scan.points).tolist()
        if len(indices) == 2:
            i, j = indices
            checks.append(bond_scan(calculators, atoms, i, j, values))
        else:
            i, j, k = indices
            checks.append(angle_scan(calculators, atoms, i, j, k, values))
    return {"checks": [_marked(check, REFERENCE in calculators) for check in checks]}


def frequencies_task(folder: Path, system: dict[str, Any]) -> dict[str, Any]:
    """Task: harmonic frequencies of every potential at its own minimum."""
    atoms = _atoms(system)
    if atoms.pbc.any():
        raise DataError("Harmonic frequencies are for isolated molecules.")
    calculators = _calculators(system, folder)
    if REFERENCE not in calculators:
        raise DataError("Frequencies are compared with a reference that can be called.")
    return {"checks": [compare_frequencies(calculators, atoms).as_dict()]}


def nve_task(folder: Path, system: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Task: energy conservation of every potential that ASE calls without starting a program."""
    calculators = _calculators(system)
    check = nve_check(calculators, _atoms(system), **settings)
    return {"checks": [check.as_dict() | {"has_reference": REFERENCE in check.curves}]}


def trajectory_task(
    folder: Path,
    system: dict[str, Any],
    name: str,
    settings: dict[str, Any],
    rigid_water: bool = False,
) -> dict[str, Any]:
    """Task: one NVT trajectory, of the reference or of a model, by the same deck."""
    table = Trajectory.model_validate(settings)
    atoms = _atoms(system)
    model = None if name == REFERENCE else Path(system["models"][name])
    arm = Sample(
        name="trajectory",
        engine="reference" if model is None else "model",
        model=model,
        temperature_k=table.temperature_k,
        thermostat=table.thermostat,
        damping_fs=table.damping_fs,
        timestep_fs=table.timestep_fs,
        equilibration_steps=table.equilibration_steps,
        steps=table.steps,
        stride=table.stride,
        seed=table.seed,
        allow_bond_breaking=True,
        max_force_ev_per_ang=1000.0,
        # The reference's own force field says whether its water is rigid.
        rigid_water=rigid_water and model is not None,
    )
    if model is not None:
        outcome = run_model(folder, arm, atoms, str(model))
    else:
        reference = Reference.model_validate(system["reference"])
        outcome = run_reference(
            folder, arm, atoms, reference, system["charge"], system["multiplicity"]
        )
    if outcome.frames is None:
        raise TaskError(f"the dynamics gave no frame: {outcome.stopped}")
    return {"frames": len(outcome.frames), "stopped": outcome.stopped}


def liquid_task(
    folder: Path, trajectories: dict[str, str], checks: list[str], settings: dict[str, Any]
) -> dict[str, Any]:
    """Task: radial distributions and self-diffusion of trajectories, the reference first."""
    table = Trajectory.model_validate(settings)
    systems = {name: load_npz(Path(path)) for name, path in trajectories.items()}
    first = next(iter(systems.values()))
    out: list[Check] = []
    if "rdf" in checks:
        pairs = [tuple(p.split("-")) for p in table.pairs] or list(
            combinations_with_replacement(first.species, 2)
        )
        out += [rdf_check(systems, a, b) for a, b in pairs if _enough(first, a, b)]
    of_reference = REFERENCE in trajectories
    if "diffusion" in checks:
        out.append(
            diffusion_check(
                systems,
                table.stride * table.timestep_fs * PS_PER_FS,
                table.element,
                table.blocks,
                table.temperature_k,
                table.viscosity_pa_s,
            )
        )
    # Self-diffusion is each trajectory's own; deviations of g(r) are from the reference.
    return {
        "checks": [
            check.as_dict() | {"has_reference": of_reference}
            if check.key == "diffusion"
            else _marked(check, of_reference)
            for check in out
        ]
    }


def deviation_task(
    folder: Path, models: list[str], trajectory: str, until_ps: float, timestep_fs: float
) -> dict[str, Any]:
    """Task: ``time_ps`` and ``deviation_ev_per_ang`` of an ensemble along a trajectory."""
    frames = load_npz(Path(trajectory))
    time = np.asarray(frames.info["step"], float) * timestep_fs * PS_PER_FS
    keep = np.flatnonzero(time <= until_ps)
    keep = keep[np.unique(np.linspace(0, len(keep) - 1, DEVIATION_FRAMES).round().astype(int))]
    deviation = predict(models, frames[keep]).max_force_deviation()
    return {"time_ps": time[keep].tolist(), "deviation_ev_per_ang": deviation.tolist()}


def _enough(frames: Frames, a: str, b: str) -> bool:
    """A radial distribution of an element with itself needs two atoms of it."""
    return a != b or frames.symbols.count(a) > 1


def _atoms(system: Mapping[str, Any]) -> Atoms:
    cell = system["cell"]
    return Atoms(system["symbols"], system["positions"], cell=cell, pbc=cell is not None)


def _calculators(system: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """ASE calculators by name: the reference where it can be called, then the models.

    Args:
        folder: where LAMMPS computes one geometry after the other for a reference of LAMMPS; None
            leaves such a one out.

    Raises:
        DataError: nothing to call.
    """
    out: dict[str, Any] = {}
    if system["reference"] is not None:
        reference = Reference.model_validate(system["reference"])
        if reference.kind == "ase":
            assert reference.calculator is not None
            out[REFERENCE] = make_calculator(
                reference.calculator, reference.arguments, system["charge"], system["multiplicity"]
            )
        elif reference.kind == "lammps" and folder is not None:
            atoms = _atoms(system)
            forces = reference_forces(reference, atoms)
            if forces.constraints:
                raise DataError(
                    "The reference holds its molecules rigid: it has neither bonds to scan nor "
                    "harmonic frequencies."
                )
            out[REFERENCE] = RerunCalculator(forces, folder, reference.files, atoms)
    if system["models"]:
        from deepmd.calculator import DP

        out |= {name: DP(model=path) for name, path in system["models"].items()}
    if not out:
        raise DataError("Neither a reference that can be called nor a model to check.")
    return out


def _marked(check: Check, of_reference: bool) -> dict[str, Any]:
    """A check whose numbers are deviations from the first curve: they need the reference."""
    if of_reference:
        return check.as_dict()
    notes = (*check.notes, "without a reference there is nothing to deviate from")
    return replace(check, numbers={}, notes=list(notes)).as_dict() | {"has_reference": False}
