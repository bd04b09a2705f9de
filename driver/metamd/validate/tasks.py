"""The tasks behind the further checks; each gives ``{"checks": [...]}`` as the summary holds them.

A task gets plain JSON: the starting structure, the reference's table and the models' files by
name.  What one calculator cannot do becomes a note of its check.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from metamd.config import Reference, Sample
from metamd.config.validate import Scan, Trajectory
from metamd.errors import DataError, TaskError
from metamd.frames import Frames, load_npz
from metamd.predict import predict
from metamd.reference import make_calculator
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
    atoms, calculators = _atoms(system), _calculators(system)
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
    return {"checks": [_marked(check, system) for check in checks]}


def frequencies_task(folder: Path, system: dict[str, Any]) -> dict[str, Any]:
    """Task: harmonic frequencies of every potential at its own minimum."""
    atoms = _atoms(system)
    if atoms.pbc.any():
        raise DataError("Harmonic frequencies are for isolated molecules.")
    return {"checks": [_marked(compare_frequencies(_calculators(system), atoms), system)]}


def nve_task(folder: Path, system: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """Task: energy conservation of every potential."""
    return {
        "checks": [_marked(nve_check(_calculators(system), _atoms(system), **settings), system)]
    }


def trajectory_task(
    folder: Path, system: dict[str, Any], name: str, settings: dict[str, Any]
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
    return {"checks": [check.as_dict() for check in out]}


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


def _calculators(system: Mapping[str, Any]) -> dict[str, Any]:
    """ASE calculators by name: the reference (where it is one of ASE's), then the models."""
    out: dict[str, Any] = {}
    if _has_reference(system):
        reference = Reference.model_validate(system["reference"])
        assert reference.calculator is not None
        out[REFERENCE] = make_calculator(
            reference.calculator, reference.arguments, system["charge"], system["multiplicity"]
        )
    if system["models"]:
        from deepmd.calculator import DP

        out |= {name: DP(model=path) for name, path in system["models"].items()}
    if not out:
        raise DataError("Neither a reference that ASE can call nor a model to check.")
    return out


def _has_reference(system: Mapping[str, Any]) -> bool:
    reference = system["reference"]
    return reference is not None and reference["kind"] == "ase"


def _marked(check: Check, system: Mapping[str, Any]) -> dict[str, Any]:
    return check.as_dict() | {"has_reference": _has_reference(system)}
