"""One contract for every reference: order, units, failures set aside, nothing changed or lost."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.lj import LennardJones
from rich.console import Console

from metamd.config import Execution, Label, Reference, System
from metamd.errors import InputError, TaskError
from metamd.execution import Executor
from metamd.frames import Frames, from_atoms, load_npz
from metamd.label import LabelResult, label_frames
from metamd.reference import fingerprint

STEP_ANG = 1e-3


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Executor]:
    """One for all: starting workers takes longer than the labels."""
    folder = tmp_path_factory.mktemp("label")
    with Executor(Execution(workers=1), folder, Console(quiet=True)) as running:
        yield running


def gaussian_log(frames: Frames, k: int, path: Path) -> None:
    """What dpdata reads of a Gaussian output, with the labels of a frame; turned and sorted."""
    assert frames.energy is not None
    assert frames.forces is not None
    turn = np.linalg.qr(np.random.default_rng(k).normal(size=(3, 3)))[0]
    turn *= np.sign(np.linalg.det(turn))
    order = np.argsort(np.array(frames.symbols), kind="stable")[::1]
    numbers = Atoms(frames.symbols).numbers[order]
    x = (frames.positions[k] @ turn + [1.0, 2.0, 3.0])[order]
    f = (frames.forces[k] @ turn)[order] * units.Bohr / units.Hartree
    rule = " " + 69 * "-"
    lines = ["                          Input orientation:", rule, " Center", " Number", rule]
    lines += [
        f"{i + 1:7d}{z:11d}           0{p[0]:16.6f}{p[1]:12.6f}{p[2]:12.6f}"
        for i, (z, p) in enumerate(zip(numbers, x, strict=True))
    ]
    energy = frames.energy[k] / units.Hartree
    lines += [rule, f" SCF Done:  E(RPBE) = {energy:.10f}     A.U. after   9 cycles"]
    lines += [" Center     Atomic                   Forces (Hartrees/Bohr)", " Number", rule]
    lines += [
        f"{i + 1:7d}{z:9d}      {g[0]:15.9f}{g[1]:15.9f}{g[2]:15.9f}"
        for i, (z, g) in enumerate(zip(numbers, f, strict=True))
    ]
    path.write_text("\n".join([*lines, rule, " Normal termination"]) + "\n")


def ladder(atoms: Atoms) -> list[Atoms]:
    """The structure, atom 1 moved along x by +h and -h, and one that no reference can compute."""
    out = [atoms]
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[1, 0] += sign * STEP_ANG
        out.append(moved)
    torn = atoms.copy()
    torn.positions[1] = torn.positions[0]
    return [*out[:2], torn, *out[2:]]


def water() -> Atoms:
    atoms = molecule("H2O")
    atoms.rattle(0.05, seed=1)
    return atoms


def salt() -> Atoms:
    atoms = bulk("NaCl", "rocksalt", a=5.7, cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=2)
    return atoms


def case(name: str, folder: Path) -> tuple[Reference, Frames]:
    """A reference, and frames to label: number 2 must fail."""
    if name == "ase":
        arguments = {"method": "GFN2-xTB", "accuracy": 1e-3}
        return Reference(calculator="tblite.ase:TBLite", arguments=arguments), from_atoms(
            ladder(water()), name
        )
    if name == "pyscf":
        pytest.importorskip("pyscf")
        arguments = {"method": "HF", "basis": "sto-3g"}
        return Reference(calculator="metamd.calculators:PySCF", arguments=arguments), from_atoms(
            ladder(water()), name
        )
    if name == "lammps":
        return Reference(kind="lammps", potential="nacl-bmhtf"), from_atoms(ladder(salt()), name)
    if name == "lammps lines":
        lines = ("pair_style lj/cut 8.0", "pair_coeff * * 0.01 2.5", "pair_modify shift yes")
        crystal = bulk("Cu", a=3.7, cubic=True) * (2, 2, 2)
        crystal.rattle(0.1, seed=3)
        return Reference(kind="lammps", commands=lines), from_atoms(ladder(crystal), name)
    assert name == "files"
    frames = from_atoms(ladder(water()), name)
    labels = [(0.0, np.zeros((3, 3)))] * len(frames)
    for k in (0, 1, 3):
        atoms = frames.to_atoms(k)
        atoms.calc = LennardJones(epsilon=0.1, sigma=1.0, rc=20.0)
        labels[k] = (atoms.get_potential_energy(), atoms.get_forces())
    known = replace(
        frames, energy=np.array([e for e, _ in labels]), forces=np.array([f for _, f in labels])
    )
    for k in (3, 1, 0):
        gaussian_log(known, k, folder / f"{9 - k}.log")
    (folder / "broken.log").write_text(" Error termination\n")
    outputs = (str(folder / "*.log"),)
    return Reference(kind="files", outputs=outputs, format="gaussian/log"), frames


def label(
    frames: Frames, reference: Reference, folder: Path, executor: Executor, **changes: Any
) -> LabelResult:
    system = System(structure=Path("start.xyz"))
    return label_frames(frames, Label(**changes), reference, system, folder, executor)


@pytest.mark.parametrize("name", ["ase", "pyscf", "lammps", "lammps lines", "files"])
def test_contract(name: str, tmp_path: Path, executor: Executor) -> None:
    reference, frames = case(name, tmp_path)
    frames = frames.with_info(number=np.arange(4))
    before = frames.positions.copy()
    result = label(frames, reference, tmp_path / "label", executor)
    np.testing.assert_array_equal(frames.positions, before)
    # The failing frame is set aside with its reason, the others are there in their order.
    assert result.computed == 3
    assert [f["frame"] for f in result.failures] == [2]
    assert len(result.failures[0]["reason"]) > 10
    labelled = result.frames
    assert labelled.info["number"].tolist() == [0, 1, 3]
    assert set(labelled.info["label_source"]) != {""}
    np.testing.assert_array_equal(labelled.positions, frames.positions[[0, 1, 3]])
    energy, forces = labelled.energy, labelled.forces
    assert energy is not None
    assert forces is not None
    assert forces.shape == labelled.positions.shape
    assert (labelled.virial is None) == (labelled.cell is None)
    # Units and frames belong together: the force is the slope of the energy.
    slope = -(energy[1] - energy[2]) / (2 * STEP_ANG)
    assert abs(slope) > 0.01
    assert forces[0, 1, 0] == pytest.approx(slope, rel=0.01, abs=0.01)
    assert np.abs(forces.sum(axis=1)).max() < 1e-2
    if reference.kind == "lammps":
        assert labelled.atomic_energy is not None
        np.testing.assert_allclose(labelled.atomic_energy.sum(axis=1), energy, atol=1e-5)


def general_cells() -> list[Atoms]:
    """Argon in cells of any shape and orientation, one of them left-handed, one orthogonal."""
    rng = np.random.default_rng(3)
    crystal = bulk("Ar", a=5.3, cubic=True) * (3, 3, 3)
    crystal.rattle(0.15, rng=rng)
    images = [crystal]
    for handed in (1.0, -1.0):
        turned = crystal.copy()
        cell = turned.cell.array.copy()
        cell[2] = handed * cell[2] + 0.4 * cell[0]  # the same lattice has other points on it
        turned.set_cell(cell)
        strain = rng.uniform(-0.03, 0.03, (3, 3))
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
        turned.set_cell(turned.cell.array @ (np.eye(3) + strain) @ turn, scale_atoms=True)
        images.append(turned)
    assert np.linalg.det(images[1].cell) * np.linalg.det(images[2].cell) < 0
    return images


@pytest.mark.parametrize("first", [0, 1])
def test_any_cell_is_labelled(first: int, tmp_path: Path, executor: Executor) -> None:
    """LAMMPS takes lower triangles alone; ASE's Lennard-Jones takes all."""
    images = general_cells()[first:]
    lines = ("pair_style lj/cut 7.0", "pair_coeff * * 0.0104 3.4", "pair_modify shift yes")
    arguments = {"sigma": 3.4, "epsilon": 0.0104, "rc": 7.0}
    frames = from_atoms(images, "cells")
    found = [
        label(frames, reference, tmp_path / reference.kind, executor).frames
        for reference in (
            Reference(kind="lammps", commands=lines),
            Reference(calculator="ase.calculators.lj:LennardJones", arguments=arguments),
        )
    ]
    assert [len(f) for f in found] == [len(images)] * 2
    np.testing.assert_array_equal(found[0].positions, frames.positions)
    np.testing.assert_array_equal(found[0].cell, frames.cell)
    assert np.abs(found[1].forces).max() > 0.1
    assert np.abs(np.triu(found[1].virial, 1)).max() > 0.1
    for name in ("energy", "forces", "virial"):
        mine, theirs = (getattr(f, name) for f in found)
        np.testing.assert_allclose(mine, theirs, rtol=1e-6, atol=1e-6, err_msg=name)


def test_outputs_that_come_later_are_found(tmp_path: Path, executor: Executor) -> None:
    reference, frames = case("files", tmp_path)
    away = tmp_path / "away"
    away.mkdir()
    for path in tmp_path.glob("[0-9].log"):
        path.rename(away / path.name)
    with pytest.raises(TaskError, match="no finished calculation of this geometry"):
        label(frames, reference, tmp_path / "label", executor)
    (away / "8.log").rename(tmp_path / "8.log")
    result = label(frames, reference, tmp_path / "label", executor)
    assert [f["frame"] for f in result.failures] == [0, 2, 3]
    assert "broken.log" in result.failures[0]["reason"]


def test_a_mirror_image_is_another_molecule(tmp_path: Path, executor: Executor) -> None:
    rng = np.random.default_rng(1)
    atoms = Atoms("CHFClBr", rng.normal(size=(5, 3)) * 1.5)
    frames = from_atoms([atoms], "chiral")
    known = replace(frames, energy=np.array([-1.0]), forces=rng.normal(size=(1, 5, 3)))
    gaussian_log(known, 0, tmp_path / "a.log")
    reference = Reference(kind="files", outputs=(str(tmp_path / "a.log"),), format="gaussian/log")
    result = label(frames, reference, tmp_path / "label", executor)
    np.testing.assert_allclose(result.frames.forces, known.forces, atol=1e-3)
    mirrored = replace(frames, positions=frames.positions * [1, 1, -1])
    with pytest.raises(TaskError, match="no finished calculation"):
        label(mirrored, reference, tmp_path / "mirror", executor)


def test_a_deck_that_is_wrong_says_so(tmp_path: Path, executor: Executor) -> None:
    reference = Reference(kind="lammps", commands=("pair_style lj/cut", "pair_coeff * * 1 1"))
    frames = from_atoms([bulk("Ar", a=5.3, cubic=True)] * 40, "argon")
    with pytest.raises(TaskError, match="pair_style"):
        label(frames, reference, tmp_path / "label", executor)


def test_pyscf_against_known_energies(tmp_path: Path) -> None:
    """Water at the geometry and with the energies of textbooks' programs; an open shell; no SCF."""
    pytest.importorskip("pyscf")
    from ase.calculators.calculator import CalculationFailed

    from metamd.calculators import PySCF

    # Crawford's programming projects: HF/STO-3G, -74.942079928192 hartree.
    positions = np.array([[0.0, -0.143225816552, 0.0], [1.638036840407, 1.136548822547, 0.0],
                          [-1.638036840407, 1.136548822547, 0.0]]) * units.Bohr  # fmt: skip
    atoms = Atoms("OHH", positions)
    atoms.calc = PySCF(method="HF", basis="sto-3g")
    assert atoms.get_potential_energy() / units.Hartree == pytest.approx(-74.942079928, abs=1e-6)
    atoms.calc = PySCF(method="PBE", basis="sto-3g", grid_level=1)
    pbe = atoms.get_potential_energy()
    assert pbe < -75.1 * units.Hartree
    cation = atoms.copy()
    cation.calc = PySCF(method="HF", basis="sto-3g", charge=1, multiplicity=2)
    assert 5 < cation.get_potential_energy() - (-74.942079928 * units.Hartree) < 20
    cell = Atoms("OHH", positions, cell=[8.0, 8.0, 8.0], pbc=True)
    cell.calc = PySCF(method="HF", basis="sto-3g")
    with pytest.raises(InputError, match="PySCF computes isolated molecules, these atoms are peri"):
        cell.get_potential_energy()
    atoms.calc = PySCF(method="HF", basis="sto-3g", max_cycle=1)
    with pytest.raises(CalculationFailed, match="no SCF convergence"):
        atoms.get_potential_energy()


def test_energy_only_leaves_forces_out_of_the_loss() -> None:
    from metamd.config import Train
    from metamd.train import deepmd_input

    for energy_only in (True, False):
        sel = {"H": 4, "O": 2}
        config = Train(energy_only=energy_only)
        loss = deepmd_input(config, [Path("a")], [Path("b")], ["H", "O"], sel, 1)["loss"]
        assert (loss["start_pref_f"] == loss["limit_pref_f"] == 0) == energy_only
        assert loss["start_pref_e"] > 0


def test_labels_lie_on_disk_by_frame(tmp_path: Path, executor: Executor) -> None:
    """Batches of one frame give what one batch gives, atomic energies included."""
    reference, frames = case("lammps", tmp_path)
    one = label(frames, reference, tmp_path / "one", executor, batch=1).frames
    all_ = label(frames, reference, tmp_path / "all", executor).frames
    np.testing.assert_allclose(one.forces, all_.forces, atol=1e-9)
    np.testing.assert_allclose(one.atomic_energy, all_.atomic_energy, atol=1e-9)
    assert load_npz(tmp_path / "all" / "batch-00000" / "labels.npz").atomic_energy is not None


LJ = Reference(calculator="ase.calculators.lj:LennardJones", arguments={"sigma": 0.8, "rc": 20.0})


def lj_waters(n: int, seed: int, reference: Reference = LJ) -> Frames:
    """Frames with the reference's own labels, as loop.data or an engine gives them."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(n):
        atoms = molecule("H2O")
        atoms.positions += rng.normal(0, 0.05, (3, 3))
        atoms.calc = LennardJones(**LJ.arguments)
        atoms.get_forces()
        images.append(atoms)
    source = fingerprint(reference, System(structure=Path("start.xyz")))
    return from_atoms(images, "given").with_info(label_source=source)


def test_half_a_batch_of_other_frames_is_not_read(tmp_path: Path, executor: Executor) -> None:
    first, second = lj_waters(4, 1), lj_waters(4, 2)
    label(first, LJ, tmp_path / "label", executor, reuse=False)
    # As a kill leaves it between the last label and the end of the batch.
    (tmp_path / "label" / "batch-00000" / "manifest.json").unlink()
    result = label(second, LJ, tmp_path / "label", executor, reuse=False)
    np.testing.assert_allclose(result.frames.energy, second.energy, rtol=0, atol=1e-9)
    assert (tmp_path / "label" / "batch-00000.old-1" / "labels.jsonl").exists()


def test_taken_over_energies_are_checked_too(tmp_path: Path, executor: Executor) -> None:
    frames = lj_waters(8, 1)
    result = label(frames, LJ, tmp_path / "good", executor)
    assert (result.reused, result.rechecked, result.unchecked) == (8, 5, [])
    assert result.worst_recheck_ev_per_atom < 1e-9
    assert frames.energy is not None
    shifted = replace(frames, energy=frames.energy + 10.0)
    with pytest.raises(TaskError, match=r"by 3\.3 eV an atom, the forces agree: another energy"):
        label(shifted, LJ, tmp_path / "shifted", executor)


def test_rechecks_that_fail_do_not_count_as_made(tmp_path: Path, executor: Executor) -> None:
    frames = lj_waters(3, 1)
    positions = frames.positions.copy()
    positions[1, 1] = positions[1, 0]
    torn = replace(frames, positions=positions)
    with np.errstate(all="ignore"):
        result = label(torn, LJ, tmp_path / "one", executor)
        assert (result.reused, result.rechecked, result.failures) == (3, 2, [])
        assert [f["frame"] for f in result.unchecked] == [1]
        with pytest.raises(TaskError, match=r"of given, none of 1 frames with labels of the refer"):
            label(torn[[1]], LJ, tmp_path / "none", executor)
    # Finished calculations need not be there for frames that have their labels already.
    files = Reference(kind="files", outputs=(str(tmp_path / "*.log"),))
    kept = label(lj_waters(3, 1, files), files, tmp_path / "files", executor)
    assert (kept.reused, kept.rechecked, len(kept.unchecked)) == (3, 0, 3)
