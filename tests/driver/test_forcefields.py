"""Named LAMMPS force fields: lattice energies, an independent sum over pairs, per-atom energies."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones

from metamd import deck
from metamd.config import Reference, Sample, System
from metamd.errors import InputError
from metamd.execution import run_lmp
from metamd.forcefields import named_forces
from metamd.frames import Frames, from_atoms, load_npz, save_deepmd, save_npz
from metamd.label.lammps_batch import label_batch
from metamd.sample.arm import _walker_arguments, walker_task
from metamd.topology import topology_of, whole_molecules
from metamd.units import KCAL_MOL_EV

COULOMB_KCAL_ANG = 332.06371  # LAMMPS's constant in real units
COULOMB_EV_ANG = 14.399645


def label(images: list[Atoms], potential: str, folder: Path, start: Atoms | None = None) -> Frames:
    folder.mkdir()
    frames = from_atoms(images, "test")
    source = save_npz(frames, folder / "source.npz")
    structure = None
    if start is not None:
        structure = str(save_npz(from_atoms([start], "start"), folder / "structure.npz"))
    reference = Reference(kind="lammps", potential=potential).model_dump()
    answer = label_batch(folder, str(source), 0, len(frames), reference, 0, 1, structure)
    assert answer["labelled"] == len(images)
    labelled = load_npz(folder / "labels.npz")
    assert labelled.atomic_energy is not None
    assert labelled.energy is not None
    np.testing.assert_allclose(labelled.atomic_energy.sum(axis=1), labelled.energy, atol=1e-8)
    return labelled


def water_box(side: int = 4) -> Atoms:
    """Water on a grid, turned at random, 31.0 A^3 a molecule."""
    rng = np.random.default_rng(7)
    box = Atoms()
    for cell in np.ndindex(side, side, side):
        one = molecule("H2O")
        one.set_distance(0, 1, 0.9572, fix=0)
        one.set_distance(0, 2, 0.9572, fix=0)
        one.set_angle(1, 0, 2, 104.52)
        one.rotate(rng.uniform(0, 360), rng.normal(size=3))
        one.translate(3.14 * np.array(cell))
        box += one
    box.set_cell([3.14 * side] * 3)
    box.pbc = True
    return box


def pair_energy_nacl(atoms: Atoms) -> float:
    """Born-Mayer-Huggins and Coulomb over all pairs, eV; the literature's own form and signs."""
    # C (eV A^6) and D (eV A^8) as positive dispersion coefficients, both attractive.
    table = {
        "NaNa": (0.263704, 2.340, 1.04857, 0.49932),
        "ClNa": (0.210963, 2.755, 6.99049, 8.67570),
        "ClCl": (0.158222, 3.170, 72.40151, 145.42716),
    }
    charge = {"Na": 1, "Cl": -1}
    total = 0.0
    for j in range(len(atoms)):
        for i in range(j):
            a, sigma, c, d = table["".join(sorted((atoms[i].symbol, atoms[j].symbol)))]
            r = atoms.get_distance(i, j)
            total += a * np.exp((sigma - r) / 0.317) - c / r**6 - d / r**8
            total += COULOMB_EV_ANG * charge[atoms[i].symbol] * charge[atoms[j].symbol] / r
    return total


def pair_energy_water(atoms: Atoms, flexible: bool) -> float:
    """TIP3P of molecules in the order O H H, all pairs between molecules, eV."""
    lj = {"OO": (0.1521, 3.1507), "HO": (0.0836, 1.7753), "HH": (0.0460, 0.4)}
    charge = {"O": -0.834, "H": 0.417}
    total = 0.0
    for j in range(len(atoms)):
        for i in range(j):
            if i // 3 == j // 3:
                continue
            eps, sigma = lj["".join(sorted((atoms[i].symbol, atoms[j].symbol)))]
            r = atoms.get_distance(i, j)
            total += 4 * eps * ((sigma / r) ** 12 - (sigma / r) ** 6)
            total += COULOMB_KCAL_ANG * charge[atoms[i].symbol] * charge[atoms[j].symbol] / r
    for o in range(0, len(atoms), 3) if flexible else ():
        for h in (o + 1, o + 2):
            total += 450.0 * (atoms.get_distance(o, h) - 0.9572) ** 2
        total += 55.0 * np.radians(atoms.get_angle(o + 1, o, o + 2) - 104.52) ** 2
    return total * KCAL_MOL_EV


def test_rocksalt_at_its_own_lattice_constant(tmp_path: Path) -> None:
    """E = -8.0621 eV a pair at a = 5.6175 A, where box/relax ends; with D > 0 neither holds."""
    atoms = bulk("NaCl", "rocksalt", a=5.55, cubic=True) * (3, 3, 3)
    forces = named_forces("nacl-bmhtf", atoms)
    deck.write_data(atoms, ["Cl", "Na"], tmp_path / deck.DATA, forces.atom_style)
    lines = [*deck._setup(atoms, forces), "fix relax all box/relax iso 0.0",
             "thermo_style custom step pe lx", "minimize 1e-12 1e-12 500 2000",
             'print "RELAXED $(pe/108:%.8f) $(lx/3:%.8f)"']  # fmt: skip
    (tmp_path / "in.relax").write_text("\n".join(lines) + "\n")
    run_lmp(tmp_path, "in.relax", "screen.log")
    found = re.findall(r"^RELAXED (\S+) (\S+)", (tmp_path / "screen.log").read_text(), re.M)[-1]
    assert float(found[0]) == pytest.approx(-8.0621, abs=1e-4)
    assert float(found[1]) == pytest.approx(5.6175, abs=2e-4)
    crystal = bulk("NaCl", "rocksalt", a=float(found[1]), cubic=True) * (3, 3, 3)
    labelled = label([crystal], "nacl-bmhtf", tmp_path / "label")
    assert labelled.energy is not None
    assert labelled.energy[0] / 108 == pytest.approx(float(found[0]), abs=1e-5)
    assert labelled.virial is not None
    assert np.abs(labelled.virial).max() < 0.05


def test_nacl_cluster_against_a_sum_over_pairs(tmp_path: Path) -> None:
    atoms = Atoms("NaClNaCl", [[0, 0, 0], [2.4, 0, 0], [2.6, 2.6, 0], [0.0, 2.7, 0.3]])
    labelled = label([atoms], "nacl-bmhtf", tmp_path / "label")
    assert labelled.energy is not None
    assert labelled.energy[0] == pytest.approx(pair_energy_nacl(atoms), abs=1e-5)


@pytest.mark.parametrize("potential", ["tip3p", "tip3p-flexible"])
def test_water_cluster_against_a_sum_over_pairs(potential: str, tmp_path: Path) -> None:
    one = molecule("H2O")
    two = molecule("H2O")
    two.rotate(40, "x")
    two.translate([2.8, 0.3, 0.4])
    for k, atoms in enumerate((one, one + two)):
        labelled = label([atoms], potential, tmp_path / f"label-{k}")
        assert labelled.energy is not None
        expected = pair_energy_water(atoms, flexible=potential.endswith("flexible"))
        assert labelled.energy[0] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("potential", ["nacl-bmhtf", "tip3p-flexible"])
def test_forces_and_virial_are_derivatives(potential: str, tmp_path: Path) -> None:
    """By finite differences in a cell: atoms moved, and the cell strained."""
    rng = np.random.default_rng(3)
    if potential == "nacl-bmhtf":
        start = bulk("NaCl", "rocksalt", a=5.7, cubic=True) * (2, 2, 2)
    else:
        start = water_box(3)
    base = start.copy()
    base.positions += rng.normal(0, 0.05, base.positions.shape)
    h, images = 1e-3, [base]
    moves = [(0, 0), (4, 1), (8, 2)]
    for atom, axis in moves:
        for sign in (1, -1):
            moved = base.copy()
            moved.positions[atom, axis] += sign * h
            images.append(moved)
    for sign in (1, -1):
        strained = base.copy()
        strained.set_cell(base.cell.array * (1 + sign * h), scale_atoms=True)
        images.append(strained)
    labelled = label(images, potential, tmp_path / "label", start)
    energy, forces, virial = labelled.energy, labelled.forces, labelled.virial
    assert energy is not None
    assert forces is not None
    assert virial is not None
    for k, (atom, axis) in enumerate(moves):
        slope = -(energy[2 * k + 1] - energy[2 * k + 2]) / (2 * h)
        # PPPM's forces are no exact gradient, and pairs cross the cutoff.
        assert forces[0, atom, axis] == pytest.approx(slope, abs=0.01)
    assert np.abs(forces[0]).max() > 0.3
    # W = -sum r dV/dr: its trace is -dE/d(strain), but for the pairs that cross the cutoff.
    assert np.trace(virial[0]) == pytest.approx(-(energy[-2] - energy[-1]) / (2 * h), rel=0.03)


def test_wrapping_does_not_cut_molecules(tmp_path: Path) -> None:
    start = water_box(3)
    whole = start.copy()
    whole.positions += np.random.default_rng(2).normal(0, 0.03, start.positions.shape)
    cut = whole.copy()
    cut.wrap()
    assert np.abs(cut.positions - whole.positions).max() > 1
    cut.positions[6:9] += [3.14 * 3, -2 * 3.14 * 3, 0]
    labelled = label([whole, cut], "tip3p-flexible", tmp_path / "label", start)
    assert labelled.energy is not None
    assert labelled.forces is not None
    np.testing.assert_allclose(labelled.energy[1], labelled.energy[0], atol=1e-8)
    np.testing.assert_allclose(labelled.forces[1], labelled.forces[0], atol=1e-8)


def test_atomic_energies_in_a_deepmd_system(tmp_path: Path) -> None:
    from metamd.frames import load_frames

    atoms = bulk("NaCl", "rocksalt", a=5.7, cubic=True)
    labelled = label([atoms * (2, 2, 2)], "nacl-bmhtf", tmp_path / "label")
    back = load_frames(save_deepmd(labelled, tmp_path / "system"))
    assert (tmp_path / "system" / "set.000" / "atom_ener.npy").exists()
    assert back.atomic_energy is not None
    np.testing.assert_array_equal(back.atomic_energy, labelled.atomic_energy)
    assert np.ptp(back.atomic_energy) > 0.01, "Na and Cl share the energy evenly?"


def sampled(
    folder: Path, potential: str, atoms: Atoms, **changes: object
) -> tuple[Frames, Reference]:
    reference = Reference(kind="lammps", potential=potential)
    settings: dict[str, object] = {"name": "arm", "steps": 200, "stride": 20, "timestep_fs": 1.0}
    arm = Sample.model_validate(settings | changes)
    folder.mkdir()
    system = System(structure=Path("box.xyz"))
    outcome = walker_task(folder, **_walker_arguments(arm, system, reference, atoms, 0))
    assert outcome == {"stopped": None, "frames": 11, "notes": []}
    return load_npz(folder / "frames.npz"), reference


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "npt"])
def test_rigid_water_stays_rigid(ensemble: str, tmp_path: Path) -> None:
    """SHAKE holds bonds in every ensemble, also through the change from equilibration to run."""
    box = water_box(3)
    thermostat = "langevin" if ensemble == "nvt" else "csvr"
    frames, _ = sampled(
        tmp_path / "walker",
        "tip3p",
        box,
        ensemble=ensemble,
        thermostat=thermostat,
        equilibration_steps=50,
    )
    for k in (0, 5, 10):
        atoms = frames.to_atoms(k)
        bonds = topology_of(box).bonds
        lengths = [atoms.get_distance(i, j, mic=True) for i, j in bonds]
        np.testing.assert_allclose(lengths, 0.9572, atol=1e-4)
    # The labels hold no constraint forces: a single point says the same.
    oracle = label([frames.to_atoms(k) for k in range(11)], "tip3p", tmp_path / "oracle", box)
    assert frames.forces is not None
    assert oracle.forces is not None
    tolerance = 1e-6 if ensemble != "npt" else 1e-3  # PPPM's grid is that of the first box
    np.testing.assert_allclose(frames.forces, oracle.forces, atol=tolerance)
    np.testing.assert_allclose(frames.energy, oracle.energy, atol=100 * tolerance)


def test_rigid_water_under_lines_of_your_own(tmp_path: Path) -> None:
    """As under a model: SHAKE holds the molecules, and pairs inside them still count."""
    lines = ("pair_style lj/cut 6.0", "pair_coeff * * 0.001 1.2", "pair_coeff 2 2 0.006 3.1")
    box = water_box(3)
    frames, _ = sampled(tmp_path / "walker", "tip3p", box, engine="lammps", commands=lines,
                        rigid_water=True, max_force_ev_per_ang=1000)  # fmt: skip
    bonds = topology_of(box).bonds
    lengths = [frames.to_atoms(10).get_distance(i, j, mic=True) for i, j in bonds]
    np.testing.assert_allclose(lengths, 0.9572, atol=1e-4)
    assert np.abs(frames.positions[10] - frames.positions[0]).max() > 0.1
    one = LennardJones(epsilon=1.0, sigma=1.2, rc=6.0)  # H-O inside a molecule, to tell whether
    single = Atoms("OH", [[0, 0, 0], [0.9572, 0, 0]], calculator=one)
    inside = 2 * 27 * 0.001 * single.get_potential_energy()
    assert frames.energy is not None
    assert inside > 0.5
    assert frames.energy[0] > 0.5 * inside, "the pairs inside molecules are left out"


def test_molten_salt_with_per_atom_energies(tmp_path: Path) -> None:
    salt = bulk("NaCl", "rocksalt", a=6.2, cubic=True) * (2, 2, 2)
    frames, reference = sampled(
        tmp_path / "walker", "nacl-bmhtf", salt, engine="reference", temperature_k=1400.0
    )
    assert frames.atomic_energy is not None
    assert frames.energy is not None
    np.testing.assert_allclose(frames.atomic_energy.sum(axis=1), frames.energy, atol=1e-8)
    oracle = label([frames.to_atoms(k) for k in range(len(frames))], reference.potential or "",
                   tmp_path / "oracle")  # fmt: skip
    np.testing.assert_allclose(frames.atomic_energy, oracle.atomic_energy, atol=1e-6)
    np.testing.assert_allclose(frames.forces, oracle.forces, atol=1e-6)


def test_elements_and_molecules_it_does_not_know() -> None:
    with pytest.raises(InputError, match="knows Cl and Na, not K"):
        named_forces("nacl-bmhtf", bulk("KCl", "rocksalt", a=6.3))
    with pytest.raises(InputError, match="molecule of atom 1 is HO"):
        named_forces("tip3p", Atoms("OH", [[0, 0, 0], [0, 0, 0.96]]))


def test_a_potential_and_commands_exclude_each_other() -> None:
    with pytest.raises(ValueError, match="not both"):
        Reference(kind="lammps", potential="tip3p", commands=("pair_style lj/cut 3",))
    with pytest.raises(ValueError, match="potential belongs"):
        Reference(calculator="a:B", potential="tip3p")


@pytest.mark.parametrize("shear", [0.0, 3.14])
def test_pictures_show_whole_molecules_in_the_cell(shear: float) -> None:
    """Atoms scattered over the images of a cell, also a skewed one, come back as molecules."""
    box = water_box()
    cell = box.cell.array.copy()
    cell[1, 0] = shear
    x = box.positions
    jumps = np.random.default_rng(3).integers(-2, 3, x.shape) @ cell
    frames = Frames(
        tuple(box.get_chemical_symbols()), np.array([x, x + jumps]), np.array([cell, cell])
    )
    shown = whole_molecules(frames).positions
    oxygen = np.arange(0, 192, 3)
    for hydrogen in (oxygen + 1, oxygen + 2):
        length = np.linalg.norm(shown[:, hydrogen] - shown[:, oxygen], axis=2)
        np.testing.assert_allclose(length, 0.9572, atol=1e-9)
    centre = shown.reshape(2, 64, 3, 3).mean(axis=2) @ np.linalg.inv(cell)
    assert centre.min() >= 0
    assert centre.max() < 1
    np.testing.assert_allclose(shown[0], shown[1], atol=1e-9)
    moved = (shown[0] - x) @ np.linalg.inv(cell)
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-9)


def test_pictures_leave_ions_and_molecules_without_a_cell() -> None:
    salt = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    cell = salt.cell.array
    frames = Frames(
        tuple(salt.get_chemical_symbols()), (salt.positions - 2 * cell[0])[None], cell[None]
    )
    shown = whole_molecules(frames).positions[0] @ np.linalg.inv(cell)
    np.testing.assert_allclose(shown, salt.get_scaled_positions(), atol=1e-9)
    free = Frames(frames.symbols, frames.positions)
    assert whole_molecules(free) is free
