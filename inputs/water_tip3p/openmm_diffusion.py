"""Self-diffusion of the same rigid TIP3P from a second program, OpenMM: shares no code with metamd.

    uv run --with openmm python inputs/water_tip3p/openmm_diffusion.py --runs 6

The cell, density, temperature, time step and fit are those of diffusion.toml and diffusion.py; the
model is Jorgensen's TIP3P (no Lennard-Jones on hydrogen) with PME.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import openmm
from ase.io import read
from openmm import app, unit

HERE = Path(__file__).resolve().parent
TEMPERATURE_K = 300.0
TIMESTEP_FS = 2.0
FRAME_PS, FIT_PS = 0.2, (2.0, 10.0)


def simulation(seed: int) -> app.Simulation:
    """216 waters, equilibrated for 20 ps with a Langevin thermostat, under Nose-Hoover then."""
    atoms = read(HERE / "water216.xyz")
    topology = app.Topology()
    chain = topology.addChain()
    for _ in range(len(atoms) // 3):
        water = topology.addResidue("HOH", chain)
        oxygen = topology.addAtom("O", app.element.oxygen, water)
        for name in ("H1", "H2"):
            topology.addBond(oxygen, topology.addAtom(name, app.element.hydrogen, water))
    topology.setPeriodicBoxVectors(atoms.cell.array * 0.1 * unit.nanometer)
    system = app.ForceField("tip3p.xml").createSystem(
        topology,
        nonbondedMethod=app.PME,
        nonbondedCutoff=9 * unit.angstrom,
        rigidWater=True,
    )
    temperature, step = TEMPERATURE_K * unit.kelvin, TIMESTEP_FS * unit.femtosecond
    platform = openmm.Platform.getPlatformByName("CPU")
    start = app.Simulation(
        topology,
        system,
        openmm.LangevinMiddleIntegrator(temperature, 2 / unit.picosecond, step),
        platform,
        {"Threads": "1"},
    )
    start.integrator.setRandomNumberSeed(seed)
    start.context.setPositions(atoms.positions * unit.angstrom)
    start.minimizeEnergy(maxIterations=300)
    start.context.setVelocitiesToTemperature(temperature, seed)
    start.step(round(20e3 / TIMESTEP_FS))
    # Friction would slow the waters: a global, weak thermostat from here on.
    bath = openmm.NoseHooverIntegrator(temperature, 1 / unit.picosecond, step)
    run = app.Simulation(topology, system, bath, platform, {"Threads": "1"})
    run.context.setState(start.context.getState(getPositions=True, getVelocities=True))
    return run


def diffusion(seed: int, length_ps: float) -> float:
    """D of the oxygens in 1e-5 cm2/s, drift of the centre taken out."""
    run = simulation(seed)
    frames = []
    for _ in range(round(length_ps / FRAME_PS)):
        run.step(round(FRAME_PS * 1e3 / TIMESTEP_FS))
        state = run.context.getState(getPositions=True, enforcePeriodicBox=False)
        frames.append(state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)[::3])
    x = np.array(frames)
    x -= x.mean(axis=1, keepdims=True)
    lags = np.arange(round(FIT_PS[0] / FRAME_PS), round(FIT_PS[1] / FRAME_PS) + 1)
    msd = [((x[k:] - x[:-k]) ** 2).sum(axis=-1).mean() for k in lags]
    # 1 A2/ps is 1e-4 cm2/s.
    return float(np.polyfit(lags * FRAME_PS, msd, 1)[0] / 6 * 10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--length-ps", type=float, default=100.0)
    arguments = parser.parse_args()
    values = []
    for seed in range(1, arguments.runs + 1):
        values.append(diffusion(seed, arguments.length_ps))
        print(f"run {seed}: D = {values[-1]:.2f}e-5 cm2/s", flush=True)
    if len(values) > 1:
        error = np.std(values, ddof=1) / np.sqrt(len(values))
        print(f"in the box of 216 waters: D = {np.mean(values):.2f} +- {error:.2f} e-5 cm2/s")


if __name__ == "__main__":
    main()
