"""The bias never reaches a label: what a biased run writes is a single point of what it wrote.

For every engine the written energies and forces (and virials in a cell) equal the unbiased force
field at the written coordinates to 1e-6, while the bias pulls with more than 1 eV/A.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from metamd import deck, dump
from metamd.config import Bias, Reference, Sample
from metamd.execution import run_lmp, run_program
from metamd.frames import Frames, load_frames, load_npz, save_npz
from metamd.label.ase_batch import label_batch as ase_batch
from metamd.label.lammps_batch import label_batch as lammps_batch
from metamd.sample.folder import write_walker
from metamd.units import LAMMPS_UNITS

TOLERANCE = 1e-6
XTB = Reference(calculator="tblite.ase:TBLite", arguments={"method": "GFN2-xTB", "accuracy": 1e-4})
REAXFF = Reference(
    kind="lammps",
    commands=(
        "pair_style reaxff NULL checkqeq no",
        "pair_coeff * * ffield.reax.cho C H O",
    ),
    atom_style="charge",
    units="real",
    files=(next(Path(sys.prefix).rglob("potentials/ffield.reax.cho")),),
)
LJ = Reference(kind="lammps", commands=("pair_style lj/cut 6.0", "pair_coeff * * 0.0104 3.4"))
#: Tall bumps, dropped often: the bias force is large within a few steps.
BIAS = Bias(height_ev=6.0, sigma=0.3, pace=4)


#: The same for METAD on one number of the matrix, and on the energy (sigma in eV).
METAD = {"cv": "mean", "sigma": 0.004, "height_ev": 1.5, "pace": 4}
WTE = {"sigma_ev": 0.3, "height_ev": 1.5, "pace": 4}
BIASES: dict[str, dict[str, object]] = {
    "MATRIX_METAD": {"method": "metamd", "bias": BIAS},
    "METAD": {"method": "metamd", "bias": METAD},
    "WTE": {"method": "wte", "wte": WTE},
}


def biased_arm(engine: str, **changes: object) -> Sample:
    settings: dict[str, object] = {
        "name": "biased",
        **BIASES["MATRIX_METAD"],
        "engine": engine,
        "temperature_k": 300.0,
        "steps": 30,
        "stride": 3,
        "allow_bond_breaking": True,
        "max_force_ev_per_ang": 1000.0,
    }
    if changes.get("method") == "wte":
        del settings["bias"]
    return Sample.model_validate(settings | changes)


def with_total_force(folder: Path) -> None:
    """Let the deck also write all forces there are: their excess over the label is the bias."""
    path = folder / deck.DECK
    text = path.read_text()
    lines = text.splitlines()
    last = max(k for k, line in enumerate(lines) if line.startswith("run"))
    lines.insert(last, "dump total all custom 3 total.dump id fx fy fz")
    lines.insert(last + 1, "dump_modify total sort id format float %.17g")
    path.write_text("\n".join(lines) + "\n")


def total_forces(folder: Path, steps: np.ndarray, n_atoms: int, units: str = "metal") -> np.ndarray:
    """Forces of total.dump at the given steps, eV/A, [n_frames, n_atoms, 3]."""
    out = {}
    lines = (folder / "total.dump").read_text().splitlines()
    block = 9 + n_atoms
    for start in range(0, len(lines) - block + 1, block):
        rows = lines[start + 9 : start + block]
        out[int(lines[start + 1])] = [[float(w) for w in row.split()[1:]] for row in rows]
    return np.array([out[int(s)] for s in steps]) * LAMMPS_UNITS[units].energy_ev


def run_lmp_walker(folder: Path, units: str) -> Frames:
    run_lmp(folder, deck.DECK, "screen.log")
    return dump.add_thermo(
        dump.read_dump(folder / deck.DUMP), dump.read_thermo(folder / deck.THERMO), units
    )


def single_points(frames: Frames, reference: Reference, folder: Path) -> Frames:
    """Labels of the written coordinates by the label stage, which knows no bias."""
    folder.mkdir()
    source = save_npz(frames.without_labels(), folder / "source.npz")
    label = ase_batch if reference.kind == "ase" else lammps_batch
    result = label(folder, str(source), 0, len(frames), reference.model_dump(), 0, 1)
    assert result["labelled"] == len(frames)
    return load_npz(folder / "labels.npz")


def check(frames: Frames, oracle: Frames, total: np.ndarray) -> None:
    assert frames.forces is not None
    assert frames.energy is not None
    assert oracle.forces is not None
    assert len(frames) == 11
    assert np.abs(total - frames.forces).max() > 1.0, "the bias is too weak for this test"
    assert np.abs(frames.forces).max() > 0.01
    np.testing.assert_allclose(frames.forces, oracle.forces, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(frames.energy, oracle.energy, rtol=0, atol=TOLERANCE)
    if frames.cell is not None:
        assert frames.virial is not None
        assert oracle.virial is not None
        assert np.abs(frames.virial).max() > 0.1
        np.testing.assert_allclose(frames.virial, oracle.virial, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("kind", BIASES)
def test_engine_reference(kind: str, ethanol: Atoms, tmp_path: Path) -> None:
    folder = tmp_path / "walker"
    folder.mkdir()
    arm = biased_arm("reference", ensemble="nve", **BIASES[kind])
    write_walker(folder, arm, XTB, ethanol, 0)
    with_total_force(folder)
    run_program([sys.executable, "-m", "metamd.sample.walker", str(folder)], folder, "walker.log")
    assert json.loads((folder / "outcome.json").read_text())["stopped"] is None
    frames = load_frames(folder / "frames.npz")
    total = total_forces(folder, frames.info["step"], 9)
    check(frames, single_points(frames, XTB, tmp_path / "oracle"), total)
    # The text file that is written while the walker runs says the same.
    text = load_frames(folder / "frames.extxyz")
    np.testing.assert_array_equal(text.forces, frames.forces)
    np.testing.assert_array_equal(text.positions, frames.positions)


@pytest.mark.parametrize(
    ("kind", "ensemble"),
    [("MATRIX_METAD", "nvt"), ("MATRIX_METAD", "nve"), ("METAD", "nvt"), ("WTE", "nve")],
)
def test_engine_lammps_reaxff(kind: str, ensemble: str, ethanol: Atoms, tmp_path: Path) -> None:
    folder = tmp_path / "walker"
    folder.mkdir()
    arm = biased_arm("lammps", ensemble=ensemble, **BIASES[kind])
    write_walker(folder, arm, REAXFF, ethanol, 0)
    with_total_force(folder)
    frames = run_lmp_walker(folder, "real")
    total = total_forces(folder, frames.info["step"], 9, "real")
    check(frames, single_points(frames, REAXFF, tmp_path / "oracle"), total)
    assert frames.info["bias_ev"].max() > 1.0


def argon() -> Atoms:
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True) * (3, 3, 3)
    rng = np.random.default_rng(5)
    atoms.positions += rng.normal(0, 0.08, atoms.positions.shape)
    return atoms


@pytest.mark.parametrize("kind", BIASES)
def test_engine_lammps_in_a_cell_with_virial(kind: str, tmp_path: Path) -> None:
    """Five atoms of argon under tall bumps; under WTE the forces of all are scaled."""
    atoms = argon()
    folder = tmp_path / "walker"
    folder.mkdir()
    bias = {"height_ev": 20.0, "sigma": 0.02, "pace": 5, "atoms": [1, 2, 3, 4, 5]}
    changes: dict[str, object] = {"bias": bias}
    if kind == "METAD":
        changes = {"bias": bias | {"cv": "mean", "sigma": 0.002}}
    elif kind == "WTE":
        changes = {"method": "wte", "wte": {"sigma_ev": 0.02, "height_ev": 2.0, "pace": 5}}
    arm = biased_arm("lammps", ensemble="nve", **changes)
    write_walker(folder, arm, LJ, atoms, 0)
    with_total_force(folder)
    frames = run_lmp_walker(folder, "metal")
    total = total_forces(folder, frames.info["step"], len(atoms))
    check(frames, single_points(frames, LJ, tmp_path / "oracle"), total)


def test_swapped_fixes_would_be_caught(ethanol: Atoms, tmp_path: Path) -> None:
    """With the store of forces after the bias, the check above must fail."""
    folder = tmp_path / "walker"
    folder.mkdir()
    write_walker(folder, biased_arm("lammps", ensemble="nve"), REAXFF, ethanol, 0)
    with_total_force(folder)
    path = folder / deck.DECK
    text = path.read_text()
    store = "fix unbiased all store/force\n"
    bias = "fix_modify bias energy no\n"
    assert store in text
    assert bias in text
    path.write_text(text.replace(store, "").replace(bias, bias + store))
    frames = run_lmp_walker(folder, "real")
    total = total_forces(folder, frames.info["step"], 9, "real")
    oracle = single_points(frames, REAXFF, tmp_path / "oracle")
    assert frames.forces is not None
    assert oracle.forces is not None
    np.testing.assert_allclose(frames.forces, total, atol=1e-12)
    assert np.abs(frames.forces - oracle.forces).max() > 1.0
