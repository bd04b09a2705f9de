"""One deck for reference and model: same trajectory from the same forces; what blows up is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from metamd.bonds import BondGraph
from metamd.frames import Frames, load_npz, minimum_image
from metamd.units import KB_EV_PER_K
from metamd.validate import trajectory
from metamd.validate.stability import first_failure, run_stability
from metamd.validate.structure import mean_square_displacement, radial_distribution, unwrapped
from metamd.validate.tasks import liquid_task, trajectory_task

LJ = ("pair_style lj/cut 8.0", "pair_coeff * * 0.0104 3.4")
SETTINGS = {
    "temperature_k": 90.0,
    "timestep_fs": 4.0,
    "equilibration_steps": 20,
    "steps": 200,
    "stride": 5,
    "blocks": 2,
}


def argon() -> dict[str, Any]:
    atoms = bulk("Ar", cubic=True, a=5.4) * (2, 2, 2)
    atoms.rattle(0.1, seed=3)
    return {
        "symbols": atoms.get_chemical_symbols(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "charge": 0,
        "multiplicity": 1,
        "models": {},
    }


def lammps() -> dict[str, Any]:
    return {"kind": "lammps", "commands": LJ}


def ase() -> dict[str, Any]:
    arguments = {"sigma": 3.4, "epsilon": 0.0104, "rc": 8.0, "smooth": False}
    return {"kind": "ase", "calculator": "ase.calculators.lj:LennardJones", "arguments": arguments}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same dynamics with LAMMPS's and with ASE's Lennard-Jones."""
    paths = {}
    for name, reference in (("lammps", lammps()), ("ase", ase())):
        folder = tmp_path_factory.mktemp(name)
        system = argon() | {"reference": reference}
        result = trajectory_task(folder, system, "reference", SETTINGS)
        assert result == {"frames": 41, "stopped": None}
        paths[name] = folder / "frames.npz"
    return paths


def test_the_same_deck_gives_the_same_trajectory(two: dict[str, Path]) -> None:
    a, b = (load_npz(path) for path in two.values())
    assert a.cell is not None
    gap = minimum_image(b.positions - a.positions, a.cell)
    assert np.abs(a.positions[-1] - a.positions[0]).max() > 0.5
    np.testing.assert_allclose(gap, 0, atol=1e-5)
    assert a.info["step"].tolist() == b.info["step"].tolist() == list(range(0, 201, 5))


def test_liquids_are_compared(two: dict[str, Path], tmp_path: Path) -> None:
    given = {"reference": str(two["lammps"]), "model": str(two["ase"])}
    settings = SETTINGS | {"viscosity_pa_s": 2e-4}
    checks = liquid_task(tmp_path, given, ["rdf", "diffusion"], settings)["checks"]
    rdf, diffusion = checks
    assert [c["key"] for c in checks] == ["rdf-Ar-Ar", "diffusion"]
    # Single precision may put a pair into the next bin.
    assert rdf["numbers"]["model: mean |Δg|"] < 0.05
    frames = load_npz(two["lammps"])
    _, g = radial_distribution(frames, "Ar", "Ar")
    np.testing.assert_allclose(rdf["curves"][0]["y"], g)
    moved = unwrapped(frames)
    msd = mean_square_displacement(moved - moved.mean(axis=1)[:, None])
    np.testing.assert_allclose(diffusion["curves"][0]["y"], msd[:20], rtol=1e-6, atol=1e-9)
    assert diffusion["curves"][0]["x"][1] == pytest.approx(0.02)
    numbers = diffusion["numbers"]
    assert numbers["model: D / cm²/s"] == pytest.approx(numbers["reference: D / cm²/s"], rel=1e-3)
    assert numbers["model: standard error of D / cm²/s"] > 0
    # D0 - D = 2.837297 kB T / (6 pi eta L)
    correction = 2.837297 * 1.380649e-23 * 90 / (6 * np.pi * 2e-4 * 10.8e-10) * 1e4
    key = "model: D corrected for the size of the box / cm²/s"
    assert numbers[key] - numbers["model: D / cm²/s"] == pytest.approx(correction, rel=1e-4)


@pytest.mark.parametrize(
    ("epsilon", "words", "time_ps"),
    [("1e200", "blew up at the first step", 0.0), ("1e6", "", None)],
)
def test_dynamics_that_blow_up(
    epsilon: str, words: str, time_ps: float | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real lmp with a force field that is none, in the place of a bad model."""
    lines = ("pair_style lj/cut 8.0", f"pair_coeff * * {epsilon} 3.4")
    monkeypatch.setattr(trajectory, "model_commands", lambda model, species: lines)
    (tmp_path / "bad.pb").write_bytes(b"")
    folder = tmp_path / "run"
    folder.mkdir()
    system = argon()
    where = {k: system[k] for k in ("symbols", "positions", "cell")}
    result = run_stability(folder, str(tmp_path / "bad.pb"), "bad", 1, 90.0, 50, 1.0, **where)
    assert result["intact"] is False
    assert words in result["failure"]
    assert result["time_ps"] <= 0.05 if time_ps is None else result["time_ps"] == time_ps


def test_no_frame_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that LAMMPS cannot even load: time 0, LAMMPS's own words, no trajectory."""
    lines = ("pair_style lj/cut 8.0", "pair_coeff * * what")
    monkeypatch.setattr(trajectory, "model_commands", lambda model, species: lines)
    (tmp_path / "bad.pb").write_bytes(b"")
    where = {k: v for k, v in argon().items() if k in ("symbols", "positions", "cell")}
    result = run_stability(tmp_path, str(tmp_path / "bad.pb"), "bad", 1, 90.0, 50, 1.0, **where)
    assert (result["intact"], result["time_ps"], result["trajectory"]) == (False, 0.0, None)
    assert result["failure"].startswith("blew up before the first frame; LAMMPS: ERROR")


WATER = Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])


def run_of(n: int = 6) -> tuple[Frames, np.ndarray]:
    """A calm run of water, and its kinetic temperatures."""
    positions = np.repeat(WATER.positions[None], n, axis=0)
    energy = -100.0 + 0.01 * np.arange(n)
    return Frames(("O", "H", "H"), positions, energy=energy), np.full(n, 310.0)


def test_every_way_to_fail_is_seen() -> None:
    frames, kinetic = run_of()
    assert first_failure(WATER, frames, kinetic, 300.0) is None
    hot = kinetic.copy()
    hot[4] = 1600.0
    found = first_failure(WATER, frames, hot, 300.0)
    assert found is not None
    assert (found.index, found.what) == (4, "the temperature reached 1600 K")
    positions = frames.positions.copy()
    positions[3, 2] *= 2.0
    broken = Frames(frames.symbols, positions, energy=frames.energy)
    found = first_failure(WATER, broken, hot, 300.0)
    assert found is not None
    assert found.index == 3
    assert found.what.startswith("bond O1-H3 broken")
    positions[2, 1] *= 0.55
    found = first_failure(WATER, Frames(frames.symbols, positions), kinetic, 300.0)
    assert found is not None
    assert (found.index, found.what) == (2, "O1 and H2 came within 0.53 A")
    # Five times 3/2 n kB T is the bound, above and below.
    bound = 5.0 * 4.5 * KB_EV_PER_K * 300.0
    for sign, factor, bad in ((-1, 1.01, True), (1, 1.01, True), (-1, 0.98, False)):
        assert frames.energy is not None
        energy = np.full(6, -100.0)
        energy[1] += sign * factor * bound
        found = first_failure(
            WATER, Frames(frames.symbols, frames.positions, energy=energy), kinetic, 300.0
        )
        assert (found is not None and "potential energy" in found.what) is bad


def graph_of(atoms: Atoms) -> BondGraph:
    return BondGraph.of(atoms.get_chemical_symbols(), atoms.positions, atoms.cell.array)


def test_bonds_must_hold_in_molecules_only() -> None:
    box = WATER.copy()
    box.set_cell([4.0, 4.0, 4.0])
    box.pbc = True
    assert not graph_of(box).network
    box = box.repeat((2, 2, 2))
    box.positions += 3.5
    box.wrap()
    assert len(graph_of(box).bonds) == 16
    assert not graph_of(box).network, "molecules on the border of the cell are whole"
    metal = bulk("Cu", cubic=True) * (2, 2, 2)
    assert graph_of(metal).network
    assert graph_of(bulk("Si")).network
    assert not graph_of(bulk("NaCl", "rocksalt", a=5.64, cubic=True)).network
    chain = Atoms("C2", [[0, 0, 0], [1.3, 0, 0]], cell=[2.6, 9, 9], pbc=True)
    assert graph_of(chain).network


def test_a_reference_known_by_name_runs_with_its_constraints(tmp_path: Path) -> None:
    """Rigid TIP3P: LAMMPS's real units, a topology from the structure, SHAKE."""
    rng = np.random.default_rng(5)
    box = Atoms(cell=[9.5] * 3, pbc=True)
    for cell in np.ndindex(3, 3, 3):
        water = molecule("H2O")
        water.rotate(rng.uniform(0, 360), rng.normal(size=3))
        water.translate(3.16 * np.array(cell))
        box += water
    system = {
        "symbols": box.get_chemical_symbols(),
        "positions": box.positions.tolist(),
        "cell": box.cell.array.tolist(),
        "charge": 0,
        "multiplicity": 1,
        "models": {},
        "reference": {"kind": "lammps", "potential": "tip3p"},
    }
    settings = {"timestep_fs": 1.0, "equilibration_steps": 0, "steps": 40, "stride": 20}
    assert trajectory_task(tmp_path, system, "reference", settings)["frames"] == 3
    last = load_npz(tmp_path / "frames.npz").positions[-1].reshape(27, 3, 3)
    bonds = np.linalg.norm(last[:, 1:] - last[:, :1], axis=2)
    np.testing.assert_allclose(bonds, 0.9572, atol=1e-5)


def test_langevin_holds_the_temperature_that_is_written(tmp_path: Path) -> None:
    """Four atoms: with three degrees of freedom taken off the mean would be 120 K."""
    four = bulk("Ar", cubic=True, a=5.4)
    system = argon() | {
        "symbols": four.get_chemical_symbols(),
        "positions": four.positions.tolist(),
        "cell": (20.0 * np.eye(3)).tolist(),
        "reference": lammps(),
    }
    settings = {"thermostat": "langevin", "damping_fs": 40.0, "steps": 40000, "stride": 20}
    trajectory_task(tmp_path, system, "reference", SETTINGS | settings)
    mean = load_npz(tmp_path / "frames.npz").info["kinetic_temperature_k"].mean()
    # 2000 independent values of 12 degrees of freedom: 0.8 K.
    assert mean == pytest.approx(90.0, abs=4.0)


def test_stability_reports_the_temperature_of_the_thermostat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectory, "model_commands", lambda model, species: LJ)
    (tmp_path / "m.pb").write_bytes(b"")
    four = bulk("Ar", cubic=True, a=5.4)
    where = {"symbols": four.get_chemical_symbols(), "positions": four.positions.tolist()}
    where["cell"] = (20.0 * np.eye(3)).tolist()
    (tmp_path / "run").mkdir()
    model = str(tmp_path / "m.pb")
    result = run_stability(tmp_path / "run", model, "m", 1, 90.0, 40000, 4.0, **where)
    assert result["mean_temperature_k"] == pytest.approx(90.0, abs=7.0)
