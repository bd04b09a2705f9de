"""Samplers beyond plain dynamics: normal modes, well-tempered ensemble, displacements, walls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.io import write
from ase.vibrations import Vibrations
from tblite.ase import TBLite

from metamd.bonds import BondGraph
from metamd.config import Execution, Reference, Sample, System
from metamd.deck import PLUMED_FILE
from metamd.errors import TaskError
from metamd.execution import Executor
from metamd.forcefields import reference_forces
from metamd.frames import Frames, concatenate, from_atoms, load_npz, minimum_image
from metamd.plumed_input import with_plugin
from metamd.rerun import rerun
from metamd.sample.arm import _walker_arguments, sample_arms, walker_task
from metamd.units import KB_EV_PER_K

XTB = Reference(calculator="tblite.ase:TBLite", arguments={"method": "GFN2-xTB", "accuracy": 1e-3})
WATER = Reference(kind="lammps", potential="tip3p-flexible")
LJ = Reference(kind="lammps", commands=("pair_style lj/cut 6.0", "pair_coeff * * 0.0104 3.4"))


class Saddle(Calculator):
    """Linear H-O-H: harmonic bonds, and a bend that pushes outwards."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012

    def calculate(
        self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes
    ) -> None:
        super().calculate(atoms, properties, system_changes)
        x = self.atoms.positions
        energy, forces = 0.0, np.zeros_like(x)
        for h in (1, 2):
            r = x[h] - x[0]
            d = np.linalg.norm(r)
            energy += 0.5 * 40.0 * (d - 0.9572) ** 2
            f = -40.0 * (d - 0.9572) * r / d
            forces[h] += f
            forces[0] -= f
        bend = x[1] + x[2] - 2 * x[0]
        bend[0] = 0.0
        energy -= 0.5 * 2.0 * bend @ bend
        for k, weight in enumerate((-2.0, 1.0, 1.0)):
            forces[k] += 2.0 * weight * bend
        self.results = {"energy": energy, "forces": forces}


def run(
    folder: Path, reference: Reference, atoms: Atoms, **settings: Any
) -> tuple[Frames, dict[str, Any]]:
    """Frames and outcome of one walker."""
    folder.mkdir()
    arm = Sample.model_validate({"name": "arm", **settings})
    system = System(structure=Path("start.xyz"))
    outcome = walker_task(folder, **_walker_arguments(arm, system, reference, atoms, 0))
    return load_npz(folder / "frames.npz"), outcome


def energies_above_minimum(frames: Frames, reference: Reference, minimum: Atoms, folder: Path):
    """Energies of frames by the force field, above the minimum's, eV."""
    folder.mkdir()
    forces = reference_forces(reference, minimum)
    both = concatenate([from_atoms([minimum], "minimum"), frames])
    energy = rerun(both, forces, folder, structure=minimum).energy
    assert energy is not None
    return energy[1:] - energy[0]


def test_modes_are_those_of_ase(ethanol: Atoms, tmp_path: Path) -> None:
    """Frequencies within 1 cm-1 of ASE's Vibrations, by the same finite differences."""
    settings = {"method": "nms", "frames": 5, "nms": {"max_force_ev_per_ang": 1e-3}}
    frames, outcome = run(tmp_path / "nms", XTB, ethanol, **settings)
    assert len(frames) == 5
    found = json.loads((tmp_path / "nms" / "modes.json").read_text())
    minimum = ethanol.copy()
    minimum.positions = found["positions_ang"]
    minimum.calc = TBLite(method="GFN2-xTB", accuracy=1e-3, verbosity=0)
    oracle = Vibrations(minimum, name=str(tmp_path / "vib"), delta=0.01)
    oracle.run()
    expected = np.sort(oracle.get_frequencies().real)[-21:]
    np.testing.assert_allclose(found["wavenumbers_cm1"], expected, atol=1.0)
    assert "21 modes; 6 rigid-body motions" in outcome["notes"][0]


def test_energies_of_normal_mode_frames(tmp_path: Path) -> None:
    """On a harmonic surface the energy is 3/2 N kT sum(c), with sum(c) uniform in 0..1."""
    water = molecule("H2O")
    settings = {"method": "nms", "frames": 400, "nms": {"kt_ev": 1e-4}}
    frames, _ = run(tmp_path / "nms", WATER, water, **settings)
    minimum = water.copy()
    minimum.positions = json.loads((tmp_path / "nms" / "modes.json").read_text())["positions_ang"]
    energy = energies_above_minimum(frames, WATER, minimum, tmp_path / "energies")
    share = energy / (1.5 * 3 * 1e-4)
    assert share.min() > 0
    assert share.max() < 1.05, "more than sum(c) = 1 allows"
    assert share.mean() == pytest.approx(0.5, abs=0.06)
    assert share.std() == pytest.approx(np.sqrt(1 / 12), abs=0.04)
    again, _ = run(tmp_path / "again", WATER, water, **settings)
    np.testing.assert_array_equal(again.positions, frames.positions)


def test_normal_modes_of_conformers(ethanol: Atoms, tmp_path: Path) -> None:
    """Each walker is displaced from the minimum that its own starting structure leads to."""
    gauche = ethanol.copy()
    gauche.set_dihedral(0, 1, 2, 3, 60.0, indices=[3])
    write(tmp_path / "both.xyz", [ethanol, gauche])
    arm = Sample(
        name="modes", method="nms", frames=40, walkers=2, temperature_k=50.0,
        starts=tmp_path / "both.xyz",
    )  # fmt: skip
    system = System(structure=Path("start.xyz"))
    with Executor(Execution(workers=1), tmp_path / "logs") as executor:
        (found,) = sample_arms((arm,), system, XTB, ethanol, tmp_path / "work", executor)
    torsion = np.array([f.get_dihedral(0, 1, 2, 3) for f in map(found.frames.to_atoms, range(80))])
    walker = found.frames.info["walker"]
    assert np.abs(torsion[walker == 0] - 180.0).max() < 40
    bent = torsion[walker == 1]
    assert np.abs(np.minimum(bent, 360.0 - bent) - 60.0).max() < 40


def test_temperature_sets_the_width_of_normal_mode_sampling(tmp_path: Path) -> None:
    spread = []
    for temperature_k in (100.0, 400.0):
        frames, _ = run(tmp_path / f"{temperature_k}", WATER, molecule("H2O"), method="nms",
                        frames=300, temperature_k=temperature_k)  # fmt: skip
        spread.append(frames.distances_ang.std(axis=0))
    np.testing.assert_allclose(spread[1] / spread[0], 2.0, rtol=0.15)


def test_imaginary_and_soft_modes_are_left_out_and_reported(tmp_path: Path) -> None:
    """A linear water is a saddle: two bends, both imaginary, and one rotation less."""
    linear = Atoms("OHH", [[0, 0, 0], [0.9572, 0, 0], [-0.9572, 0, 0]])
    reference = Reference(calculator=f"{__name__}:Saddle")
    frames, outcome = run(
        tmp_path / "nms", reference, linear, method="nms", frames=20, nms={"kt_ev": 1e-3}
    )
    assert outcome["notes"][0].startswith("2 modes; 5 rigid-body motions")
    assert "imaginary or too soft" in outcome["notes"][1]
    assert outcome["notes"][1].count("i,") + outcome["notes"][1].count("i cm-1") == 2
    assert np.abs(frames.positions[:, :, 1:]).max() < 1e-6, "it moved along an imaginary mode"


def test_normal_modes_in_a_turned_cell(tmp_path: Path) -> None:
    """A cell that LAMMPS takes in its own axes alone: minimum and modes are in the structure's."""
    crystal = bulk("Ar", a=5.2) * (3, 3, 3)
    crystal.rattle(0.05, seed=1)
    settings = {"method": "nms", "frames": 5, "temperature_k": 1.0, "allow_bond_breaking": True}
    frames, outcome = run(tmp_path / "nms", LJ, crystal, **settings)
    assert outcome["notes"][0].startswith("78 modes; 3 rigid-body")
    assert frames.cell is not None
    np.testing.assert_allclose(frames.cell, crystal.cell.array[None].repeat(5, axis=0))
    gap = minimum_image(frames.positions - crystal.positions, frames.cell)
    assert np.abs(gap - gap.mean(axis=1, keepdims=True)).max() < 0.5


def test_rigid_water_has_no_modes(tmp_path: Path) -> None:
    rigid = Reference(kind="lammps", potential="tip3p")
    with pytest.raises(TaskError, match="held rigid"):
        run(tmp_path / "nms", rigid, molecule("H2O"), method="nms")


def test_rattle(tmp_path: Path) -> None:
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    settings = {"method": "rattle", "frames": 300, "rattle": {"displacement_ang": 0.1}}
    frames, _ = run(tmp_path / "plain", LJ, crystal, **settings)
    assert frames.cell is not None
    assert (frames.positions - crystal.positions).std() == pytest.approx(0.1, rel=0.05)
    assert np.ptp(frames.cell, axis=0).max() == 0
    settings["rattle"] = {"displacement_ang": 0.1, "strain": 0.04}
    frames, _ = run(tmp_path / "strained", LJ, crystal, **settings)
    assert frames.cell is not None
    strain = frames.cell @ np.linalg.inv(crystal.cell.array) - np.eye(3)
    np.testing.assert_allclose(strain, np.swapaxes(strain, 1, 2), atol=1e-12)
    assert 0.02 < np.abs(strain).max() <= 0.04
    assert set(frames.info) >= {"step", "bias_ev"}
    # The reference of this arm can label them.
    (tmp_path / "label").mkdir()
    labelled = rerun(frames[:3], reference_forces(LJ, crystal), tmp_path / "label")
    assert labelled.energy is not None
    assert np.ptp(labelled.energy) > 0


def test_rattle_draws_torn_molecules_again(tmp_path: Path) -> None:
    settings = {"method": "rattle", "frames": 30, "rattle": {"displacement_ang": 0.25}}
    frames, outcome = run(tmp_path / "rattle", XTB, molecule("CH3CH2OH"), **settings)
    graph = BondGraph.of(frames.symbols, molecule("CH3CH2OH").positions)
    assert len(frames) == 30
    assert graph.intact_frames(frames).all()
    assert "drawn again" in outcome["notes"][0]
    assert outcome["stopped"] is None


def test_rattle_says_when_frames_are_missing(tmp_path: Path) -> None:
    settings = {"method": "rattle", "frames": 20, "rattle": {"displacement_ang": 0.65}}
    frames, outcome = run(tmp_path / "rattle", XTB, molecule("CH3OH"), **settings)
    assert 0 < len(frames) < 20
    assert outcome["stopped"] == (
        f"{len(frames)} of 20 frames: 400 draws came apart; displace less"
    )


def nitrogen_on_the_border() -> Atoms:
    """One molecule, half of it in the next cell, which LAMMPS wraps into the first."""
    return Atoms("N2", [[7.4, 4, 4], [8.5, 4, 4]], cell=[8.0] * 3, pbc=True)


EMT = Reference(calculator="ase.calculators.emt:EMT")


def test_a_molecule_may_cross_the_border_of_the_cell(tmp_path: Path) -> None:
    settings = {"temperature_k": 100.0, "steps": 40, "stride": 10}
    frames, outcome = run(tmp_path / "md", EMT, nitrogen_on_the_border(), **settings)
    assert (outcome["stopped"], len(frames)) == (None, 5)


def apart(energy_ev: float) -> Reference:
    """LAMMPS lines that push atoms of one kind apart."""
    return Reference(
        kind="lammps", commands=("pair_style born 6.0", f"pair_coeff * * {energy_ev} 1.0 1.1 0 0")
    )


@pytest.mark.parametrize("breaking", [False, True])
def test_a_molecule_in_a_cell_that_breaks_ends_its_walker(breaking: bool, tmp_path: Path) -> None:
    settings = {"temperature_k": 10.0, "steps": 400, "stride": 10, "allow_bond_breaking": breaking}
    frames, outcome = run(tmp_path / "md", apart(1.0), nitrogen_on_the_border(), **settings)
    if breaking:
        assert (outcome["stopped"], len(frames)) == (None, 41)
        return
    assert outcome["stopped"].endswith("a bond of the starting structure broke")
    assert 1 < len(frames) < 41
    graph = BondGraph.of(frames.symbols, frames.positions[0], frames.cell[0])
    assert graph.intact_frames(frames).all()


def test_bonds_of_a_metal_may_change(tmp_path: Path) -> None:
    """Hot copper: its atoms change their neighbours, which is no end of a walker."""
    crystal = bulk("Cu", cubic=True) * (2, 2, 2)
    settings = {"temperature_k": 6000.0, "timestep_fs": 2.0, "steps": 300, "stride": 20}
    frames, outcome = run(tmp_path / "md", EMT, crystal, **settings)
    graph = BondGraph.of(frames.symbols, crystal.positions, crystal.cell.array)
    assert not graph.intact_frames(frames).all()
    assert (outcome["stopped"], len(frames)) == (None, 16)


def argon() -> Atoms:
    return bulk("Ar", "fcc", a=5.4, cubic=True) * (3, 3, 3)


def test_wte_broadens_the_energy_distribution(tmp_path: Path) -> None:
    """By about the square root of the bias factor, at the same mean; sigma is measured."""
    common = {"temperature_k": 60.0, "timestep_fs": 5.0, "steps": 24000, "stride": 20,
              "equilibration_steps": 1000, "damping_fs": 200.0}  # fmt: skip
    plain, _ = run(tmp_path / "md", LJ, argon(), **common)
    wte = {"biasfactor": 16.0, "pace": 20, "measure_steps": 4000}
    frames, outcome = run(tmp_path / "wte", LJ, argon(), method="wte", wte=wte, **common)
    assert plain.energy is not None
    assert frames.energy is not None
    first = plain.energy.std()
    half = frames.energy[len(frames) // 2 :]
    assert 2.0 < half.std() / first < 6.0
    text = (tmp_path / "wte" / PLUMED_FILE).read_text()
    sigma = float(text.split("SIGMA=")[1].split()[0])
    assert sigma == pytest.approx(first, rel=0.3)
    assert f"HEIGHT={KB_EV_PER_K * 60:.6g}" in text
    assert "sigma_ev" in outcome["notes"][0]
    assert frames.info["bias_ev"].max() > 0
    assert abs(half.mean() - plain.energy.mean()) < 3 * half.std()


def test_wte_with_an_ase_calculator(ethanol: Atoms, tmp_path: Path) -> None:
    frames, _ = run(tmp_path / "wte", XTB, ethanol, method="wte", steps=60, stride=5,
                    wte={"sigma_ev": 0.05, "pace": 5, "height_ev": 0.02})  # fmt: skip
    assert len(frames) == 13
    assert frames.info["bias_ev"][0] == 0
    assert frames.info["bias_ev"][-1] > 0.01
    # What PLUMED saw as ENERGY is the reference's energy, without the bias.
    colvar = np.loadtxt(tmp_path / "wte" / "COLVAR")
    np.testing.assert_allclose(colvar[:, 1], frames.energy, atol=1e-5)
    np.testing.assert_allclose(colvar[:, 2], frames.info["bias_ev"], atol=1e-6)


@pytest.mark.parametrize("cv", ["mean", "dist"])
def test_metad_on_one_number_of_the_matrix(cv: str, ethanol: Atoms, tmp_path: Path) -> None:
    bias = {"cv": cv, "sigma": 0.02, "height_ev": 0.05, "pace": 5, "atoms": [1, 2, 3]}
    frames, _ = run(tmp_path / cv, XTB, ethanol, method="metamd", bias=bias, steps=40, stride=5)
    assert len((tmp_path / cv / "HILLS").read_text().splitlines()) > 5
    colvar = np.loadtxt(tmp_path / cv / "COLVAR")
    inverse = 1 / frames[:].distances_ang[:, [0, 1, 8]]
    d = inverse.mean(axis=1) if cv == "mean" else np.linalg.norm(inverse - inverse[0], axis=1)
    if cv == "mean":
        np.testing.assert_allclose(colvar[:, 1], d, atol=1e-5)
    else:
        np.testing.assert_allclose(colvar[:, 1], d, atol=1e-4)
    assert np.ptp(colvar[:, 1]) > 1e-3
    assert frames.info["bias_ev"].max() > 0.04


def cluster() -> Atoms:
    """Ten waters, loosely packed."""
    rng = np.random.default_rng(4)
    atoms = Atoms()
    for k in range(10):
        one = molecule("H2O")
        one.rotate(rng.uniform(0, 360), rng.normal(size=3))
        one.translate(3.1 * np.array([k % 3, k // 3 % 3, k // 9]))
        atoms += one
    return atoms


@pytest.mark.parametrize("method", ["metamd", "md", "free"])
def test_a_wall_keeps_ten_hot_waters_together(method: str, tmp_path: Path) -> None:
    """Without the wall they evaporate."""
    bias = {"height_ev": 0.05, "sigma": 0.5, "pace": 50, "wall_ang": 7.0}
    changes: dict[str, Any] = {"method": "metamd", "bias": bias}
    if method != "metamd":
        changes = {"wall_ang": 7.0 if method == "md" else None}
    frames, outcome = run(tmp_path / "cluster", WATER, cluster(), temperature_k=900.0, steps=8000,
                          stride=200, timestep_fs=0.5, allow_bond_breaking=True,
                          **changes)  # fmt: skip
    assert outcome["stopped"] is None
    centre = frames.positions.mean(axis=1, keepdims=True)
    farthest = np.linalg.norm(frames.positions - centre, axis=2).max()
    assert (farthest < 8.5) == (method != "free"), farthest


def test_restraint_of_a_persons_own_plumed_file(ethanol: Atoms, tmp_path: Path) -> None:
    own = tmp_path / "own.dat"
    own.write_text(
        "UNITS LENGTH=A ENERGY=eV\nd: DISTANCE ATOMS=1,3\n"
        "r: RESTRAINT ARG=d AT=2.6 KAPPA=100\nPRINT ARG=d FILE=COLVAR STRIDE=5\n"
    )
    frames, _ = run(tmp_path / "walker", XTB, ethanol, plumed=own, steps=200, stride=5)
    d = np.linalg.norm(frames.positions[20:, 2] - frames.positions[20:, 0], axis=1)
    assert d.mean() == pytest.approx(2.6, abs=0.06)
    assert np.linalg.norm(ethanol.positions[2] - ethanol.positions[0]) < 2.5


def test_hot_npt_has_a_volume_that_follows_the_pressure(tmp_path: Path) -> None:
    volume = []
    for pressure_bar in (1.0, 8000.0):
        frames, _ = run(tmp_path / f"{pressure_bar}", LJ, argon(), ensemble="npt",
                        pressure_bar=pressure_bar, temperature_k=40.0, timestep_fs=4.0,
                        steps=4000, stride=100, damping_fs=200)  # fmt: skip
        assert frames.cell is not None
        volume.append(np.linalg.det(frames.cell[-10:]).mean() / frames.n_atoms)
    assert volume[1] < 0.95 * volume[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"method": "nms", "bias": {}}, "bias belongs"),
        ({"method": "md", "wte": {}}, 'wte belongs to method = "wte"'),
        ({"method": "metamd", "bias": {"cv": "mean"}}, "its own sigma"),
        ({"method": "rattle", "plumed": sys.executable}, "no use for plumed"),
    ],
)
def test_keys_of_another_method_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Sample.model_validate({"name": "arm", **settings})


def test_a_walkers_folder_runs_by_hand_from_anywhere(ethanol: Atoms, tmp_path: Path) -> None:
    from metamd.sample.folder import write_walker

    (tmp_path / "walker").mkdir()
    write_walker(tmp_path / "walker", Sample(name="md", steps=10, stride=5), XTB, ethanol, 0)
    done = subprocess.run(
        [sys.executable, "-m", "metamd.sample.walker", "walker"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert "3 frames" in done.stdout
    assert len(load_npz(tmp_path / "walker" / "frames.npz")) == 3


def test_the_word_load_in_a_comment_loads_nothing() -> None:
    plugin = Path("metamd.so")
    ours = "# LOAD is not needed\nd: INVERSE_DISTANCE_MATRIX GROUP=1-3\n"
    assert with_plugin(ours, plugin) == f"LOAD FILE={plugin}\n{ours}"
    own = "UNITS LENGTH=A\n  LOAD FILE=own.so\nd: INVERSE_DISTANCE_MATRIX GROUP=1-3\n"
    assert with_plugin(own, plugin) == own
    other = "d: DISTANCE ATOMS=1,2\n"
    assert with_plugin(other, plugin) == other
