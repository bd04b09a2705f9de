"""The temperature that is asked for is the one that molecules vibrate with.

Velocities are created without drift and rotation.  Without friction and noise an isolated molecule
keeps that, so 3N - 6 motions share the energy (one in two atoms), and each harmonic term of the
potential holds kB T / 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from metamd.config import Reference, Sample
from metamd.deck import Forces, sampling_deck
from metamd.frames import Frames, load_npz
from metamd.sample.arm import _run_lmp
from metamd.sample.folder import write_walker
from metamd.units import KB_EV_PER_K

KELVIN = 300.0


def springs(bond: str, angle: str | None = None) -> Reference:
    """Harmonic bonds (eV/A^2, A) and angles (eV/rad^2, degrees), as K (x - x0)^2."""
    lines = ["pair_style zero 10.0", "pair_coeff * *", "bond_style harmonic"]
    lines.append(f"bond_coeff 1 {bond}")
    if angle is not None:
        lines += ["angle_style harmonic", f"angle_coeff 1 {angle}"]
    return Reference(kind="lammps", commands=tuple(lines), atom_style="full")


def water() -> Atoms:
    """At rest in its minimum."""
    atoms = molecule("H2O")
    for hydrogen in (1, 2):
        atoms.set_distance(0, hydrogen, 0.9572, fix=0)
    atoms.set_angle(1, 0, 2, 104.52)
    return atoms


WATER = springs("20.0 0.9572", "2.5 104.52")
CARBON_DIOXIDE = springs("30.0 1.16", "1.5 180.0")


def run(folder: Path, atoms: Atoms, reference: Reference, **settings: Any) -> Frames:
    """Frames of dynamics with LAMMPS."""
    folder.mkdir()
    defaults = {"temperature_k": KELVIN, "damping_fs": 50.0, "timestep_fs": 0.5, "stride": 10}
    arm = Sample.model_validate({"name": "md", **defaults, **settings})
    write_walker(folder, arm, reference, atoms, 0)
    outcome = _run_lmp(folder, arm, atoms, reference.units)
    assert outcome["stopped"] is None
    return load_npz(folder / "frames.npz")


def runs(folder: Path, atoms: Atoms, reference: Reference, **settings: Any) -> list[Frames]:
    """Six walks of 20 ps, after 2 ps."""
    length = {"equilibration_steps": 4000, "steps": 40_000}
    return [
        run(folder / str(seed), atoms, reference, seed=seed, **length, **settings)
        for seed in range(1, 7)
    ]


@pytest.mark.parametrize("thermostat", ["langevin", "csvr", "nose-hoover"])
def test_water_vibrates_at_the_temperature_asked_for(thermostat: str, tmp_path: Path) -> None:
    """Three springs hold 3/2 kB T; LAMMPS's own count of 3N - 3 would give twice that."""
    walks = runs(tmp_path, water(), WATER, thermostat=thermostat)
    energy = np.concatenate([frames.energy for frames in walks])
    # 120 ps with a correlation time of 0.1 ps: 2.5 %.
    assert energy.mean() == pytest.approx(1.5 * KB_EV_PER_K * KELVIN, rel=0.1)
    kinetic = np.concatenate([frames.info["kinetic_temperature_k"] for frames in walks])
    assert kinetic.mean() == pytest.approx(KELVIN, rel=0.1)


def test_a_linear_molecule_bends(tmp_path: Path) -> None:
    """3N - 6 for carbon dioxide too: 3N - 5 would put 4/3 of kB T / 2 into each bond."""
    walks = runs(tmp_path, molecule("CO2"), CARBON_DIOXIDE, thermostat="csvr")
    x = np.concatenate([frames.positions for frames in walks])
    c = walks[0].symbols.index("C")
    bonds = np.linalg.norm(np.delete(x, c, axis=1) - x[:, [c]], axis=2)
    energy = 30.0 * (bonds - 1.16) ** 2
    assert energy.mean() == pytest.approx(0.5 * KB_EV_PER_K * KELVIN, rel=0.15)


def test_two_atoms_have_one_vibration(tmp_path: Path) -> None:
    walks = runs(tmp_path, molecule("N2"), springs("20.0 1.1"), thermostat="nose-hoover")
    energy = np.concatenate([frames.energy for frames in walks])
    assert energy.mean() == pytest.approx(0.5 * KB_EV_PER_K * KELVIN, rel=0.15)


def test_a_free_run_starts_with_the_energy_asked_for(tmp_path: Path) -> None:
    """From the minimum, half of 3/2 kB T goes into the springs."""
    settings = {"ensemble": "nve", "steps": 20_000}
    walks = [run(tmp_path / str(k), water(), WATER, seed=k, **settings) for k in range(1, 4)]
    energy = np.mean([frames.energy for frames in walks])
    assert energy == pytest.approx(0.75 * KB_EV_PER_K * KELVIN, rel=0.1)


def test_nothing_drifts_or_turns(tmp_path: Path) -> None:
    """Scaling of all velocities would let both grow, from rounding errors."""
    settings = {"thermostat": "csvr", "steps": 400_000, "stride": 1000}
    frames = run(tmp_path / "md", water(), WATER, **settings)
    centre = np.average(frames.positions, axis=1, weights=water().get_masses())
    assert np.abs(centre - centre[0]).max() < 1e-8
    bonds = frames.positions[:, 1:] - frames.positions[:, :1]
    plane = np.cross(bonds[:, 0], bonds[:, 1])
    plane /= np.linalg.norm(plane, axis=1)[:, None]
    assert np.abs(plane - plane[0]).max() < 1e-8


def deck_of(atoms: Atoms, **settings: Any) -> str:
    arm = Sample.model_validate({"name": "md", "equilibration_steps": 10, **settings})
    return sampling_deck(arm, atoms, Forces(), 1)


@pytest.mark.parametrize(("thermostat", "compute"), [("csvr", "bath"), ("nose-hoover", "motion")])
def test_decks_of_isolated_molecules_count_what_moves(thermostat: str, compute: str) -> None:
    for atoms, rest in ((molecule("N2"), 5), (water(), 6), (molecule("CO2"), 6)):
        text = deck_of(atoms, thermostat=thermostat)
        assert text.count(f"compute_modify thermo_temp extra/dof {rest}\n") == 1
        # In the equilibration and after it.
        assert text.count(f"compute_modify {compute}_temp extra/dof {rest}\n") == 2
        assert text.count("fix still all momentum") == 2
        assert text.count("unfix still") == 1
    crystal = bulk("Cu", cubic=True)
    for ensemble in ("nvt", "npt", "nve"):
        text = deck_of(crystal, thermostat=thermostat, ensemble=ensemble)
        assert "extra/dof" not in text
        assert "momentum" not in text


def test_decks_with_friction_count_everything() -> None:
    for atoms in (water(), bulk("Cu", cubic=True)):
        last = [line for line in deck_of(atoms).splitlines() if "extra/dof" in line][-1]
        assert last == "compute_modify thermo_temp extra/dof 0"
