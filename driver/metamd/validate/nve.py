"""Energy conservation: an NVE run with any ASE calculator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet

from metamd.disk import is_disk_full
from metamd.errors import InputError, TaskError
from metamd.frames import Array
from metamd.units import KB_EV_PER_K, MEV_PER_EV
from metamd.validate.check import Check


def nve_energies(
    atoms: Atoms,
    calculator: Any,
    temperature_k: float = 300.0,
    timestep_fs: float = 0.5,
    steps: int = 2000,
    stride: int = 10,
    seed: int = 1,
) -> tuple[Array, Array]:
    """Time in ps and total energy in eV along an NVE run, [n] each, up to a failure if any.

    Velocities are drawn at twice the temperature, since half of it goes into the potential
    energy of a relaxed structure.

    Raises:
        TaskError: there is no energy at the start.
    """
    if steps < stride or timestep_fs <= 0:
        raise InputError("An NVE run needs a positive time step and at least stride steps.")
    image = atoms.copy()
    image.calc = calculator
    rng = np.random.default_rng(seed)
    width = np.sqrt(2.0 * temperature_k * KB_EV_PER_K * image.get_masses())[:, None]
    image.set_momenta(width * rng.normal(size=(len(image), 3)))
    Stationary(image)
    if not image.pbc.any() and len(image) > 2:
        ZeroRotation(image)
    time, energy = [], []
    dynamics = VelocityVerlet(image, timestep_fs * units.fs)
    for k in range(0, steps + 1, stride):
        try:
            if k:
                dynamics.run(stride)
            total = float(image.get_total_energy())
        except (MemoryError, ImportError):
            raise
        except Exception as error:
            if is_disk_full(error):
                raise
            if not k:
                raise TaskError(f"no energy at the start: {error}") from error
            # A model that has blown up makes calculators fail in many ways: the run ends here.
            break
        if not np.isfinite(total):
            if not k:
                raise TaskError("no energy at the start: it is no number")
            break
        time.append(k * timestep_fs * 1e-3)
        energy.append(total)
    return np.array(time), np.array(energy)


def drift_mev_per_atom_ps(time_ps: Array, energy_ev: Array, n_atoms: int) -> float:
    """Slope of the total energy by least squares, meV per atom and ps."""
    return float(np.polyfit(time_ps, energy_ev, 1)[0]) * MEV_PER_EV / n_atoms


def nve_check(calculators: Mapping[str, Any], atoms: Atoms, **settings: Any) -> Check:
    """NVE runs from one structure with each calculator; settings as in ``nve_energies``.

    Returns:
        A Check with the drift (meV per atom and ps) and the RMS fluctuation about it (meV/atom).

    Raises:
        TaskError: no calculator gives an energy at the start.
    """
    curves: dict[str, tuple[Array, Array]] = {}
    numbers: dict[str, float | None] = {}
    notes = []
    stride = int(settings.get("stride", 10))
    step_ps = float(settings.get("timestep_fs", 0.5)) * 1e-3
    planned = int(settings.get("steps", 2000)) // stride * stride * step_ps
    for name, calculator in calculators.items():
        try:
            time, energy = nve_energies(atoms, calculator, **settings)
        except TaskError as error:
            notes.append(f"{name}: {error}")
            continue
        per_atom = (energy - energy[0]) * MEV_PER_EV / len(atoms)
        curves[name] = time, per_atom
        if time[-1] < planned - 0.5 * step_ps:
            notes.append(f"{name}: ended after {time[-1]:.3g} of {planned:.3g} ps")
        if len(time) > 2:
            slope = drift_mev_per_atom_ps(time, energy, len(atoms))
            rest = per_atom - np.polyval(np.polyfit(time, per_atom, 1), time)
            numbers[f"{name}: drift / meV/(atom ps)"] = slope
            numbers[f"{name}: fluctuation / meV/atom"] = float(rest.std())
    if not curves:
        raise TaskError("; ".join(notes) or "no potential to run")
    return Check(
        key="nve",
        title="Energy conservation",
        caption="Total energy of an NVE run from the same structure and velocities.",
        x_label="time / ps",
        y_label="total energy − start / (meV/atom)",
        curves=curves,
        numbers=numbers,
        notes=notes,
    )
