"""tests/cases through ``plumed driver``: values against the oracle, derivatives against
finite differences of the values PLUMED prints."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import plumed_cases
import pytest
from plumed_host import KJ_MOL_PER_EV, Frame, drive

BIAS = plumed_cases.load("bias.json")
CV = plumed_cases.load("cv.json")


def test_there_are_enough_cases() -> None:
    assert len(BIAS) >= 60
    assert len(CV) >= 40
    kinds = {(c["metric"], c["cutoff_ang"] is not None, c["cell_ang"] is not None) for c in BIAS}
    assert len(kinds) == 8


def displaced(x: np.ndarray, cell: np.ndarray | None, atoms: list[int], h: float) -> list[Frame]:
    """The frame itself, then four displacements for every coordinate and every strain."""
    frames: list[Frame] = [(x, cell)]
    for atom, k, step in itertools.product(atoms, range(3), (2, 1, -1, -2)):
        moved = x.copy()
        moved[atom, k] += step * h
        frames.append((moved, cell))
    for k, m, step in itertools.product(range(3), range(3), (2, 1, -1, -2)):
        strain = np.eye(3)
        strain[k, m] += step * h
        frames.append((x @ strain, None if cell is None else cell @ strain))
    return frames


def slopes(values: np.ndarray, atoms: int, h: float) -> tuple[np.ndarray, np.ndarray]:
    """Fourth-order differences of what displaced() gave: dV/dx [atoms, 3] and dV/dstrain [3, 3]."""
    v = values[1:].reshape(-1, 4)
    d = (8 * (v[:, 1] - v[:, 2]) - (v[:, 0] - v[:, 3])) / (12 * h)
    return d[: 3 * atoms].reshape(atoms, 3), d[3 * atoms :].reshape(3, 3)


@pytest.mark.parametrize("case", BIAS, ids=[c["name"] for c in BIAS])
def test_bias(case: plumed_cases.Case, tmp_path: Path) -> None:
    x, cell = plumed_cases.positions(case), plumed_cases.cell_of(case)
    plumed_cases.write_hills(tmp_path / "HILLS.xyz", case)
    atoms = [k - 1 for k in plumed_cases.group(case)]
    h = 1e-3
    done = drive(
        tmp_path,
        "UNITS LENGTH=A ENERGY=eV\n"
        f"b: MATRIX_METAD {plumed_cases.matrix_keywords(case)} SIGMA={case['sigma']} PACE=0\n"
        "PRINT ARG=b.bias FILE=COLVAR FMT=%.17g\n",
        displaced(x, cell, atoms, h),
    )
    values = done.table()["b.bias"]
    forces, virial = done.forces()
    expected = case["expected"]
    want = np.array(expected["forces_ev_per_ang"])
    scale = np.abs(want).max()
    assert scale > 1e-3
    assert expected["energy_ev"] > 1e-4
    assert values[0] == pytest.approx(expected["energy_ev"], rel=1e-11)
    assert forces[0] == pytest.approx(want, abs=1e-9 * scale)
    # PLUMED's own virial is + sum r (x) dV/dr: the opposite of W.
    want_virial = np.array(expected["virial_ev"])
    assert np.abs(want_virial).max() > 1e-3
    assert -virial[0] == pytest.approx(want_virial, abs=1e-8 * scale)

    gradient, strain = slopes(values, len(atoms), h)
    assert -forces[0][atoms] == pytest.approx(gradient, abs=1e-6 * scale)
    assert virial[0] == pytest.approx(strain, abs=1e-6 * np.abs(want_virial).max())


@pytest.mark.parametrize("case", CV, ids=[c["name"] for c in CV])
def test_variable(case: plumed_cases.Case, tmp_path: Path) -> None:
    """A RESTRAINT with a slope of 1 eV per unit of D makes the gradient a force."""
    x, cell = plumed_cases.positions(case), plumed_cases.cell_of(case)
    keywords = plumed_cases.matrix_keywords(case)
    if case["reference"] is not None:
        plumed_cases.write_reference(tmp_path / "ref.xyz", case)
        keywords += " REFERENCE=ref.xyz"
    atoms = [k - 1 for k in plumed_cases.group(case)]
    h = 1e-3
    done = drive(
        tmp_path,
        "UNITS LENGTH=A ENERGY=eV\n"
        f"m: INVERSE_DISTANCE_MATRIX {keywords}\n"
        f"r: RESTRAINT ARG=m.{case['component']} AT=0 SLOPE=1 KAPPA=0\n"
        f"PRINT ARG=m.{case['component']} FILE=COLVAR FMT=%.17g\n",
        displaced(x, cell, atoms, h),
    )
    values = done.table()[f"m.{case['component']}"]
    forces, virial = done.forces()
    expected = case["expected"]
    gradient = np.array(expected["gradient"])
    scale = np.abs(gradient).max()
    assert scale > 1e-3
    assert values[0] == pytest.approx(expected["value"], rel=1e-11)
    assert -forces[0] == pytest.approx(gradient, abs=1e-9 * scale)
    assert -virial[0] == pytest.approx(np.array(expected["virial"]), abs=1e-8 * scale)
    by_difference, strain = slopes(values, len(atoms), h)
    assert -forces[0][atoms] == pytest.approx(by_difference, abs=1e-6 * scale)
    assert virial[0] == pytest.approx(strain, abs=1e-6 * np.abs(virial[0]).max())


def test_other_units_give_the_same_bias(tmp_path: Path) -> None:
    """PLUMED's default nm and kJ/mol: the file is in Angstrom and eV all the same."""
    case = next(c for c in BIAS if c["name"].startswith("inverse-cutoff-all-one"))
    x, cell = plumed_cases.positions(case), plumed_cases.cell_of(case)
    plumed_cases.write_hills(tmp_path / "HILLS.xyz", case)
    nm = {**case, "cutoff_ang": case["cutoff_ang"] / 10, "r_on_ang": None}
    if case["r_on_ang"] is not None:
        nm["r_on_ang"] = case["r_on_ang"] / 10
    done = drive(
        tmp_path,
        f"b: MATRIX_METAD {plumed_cases.matrix_keywords(nm)} "
        f"SIGMA={10 * float(case['sigma'])} PACE=0\n"
        "PRINT ARG=b.bias FILE=COLVAR FMT=%.17g\n",
        [(x, cell)],
    )
    expected = case["expected"]
    assert done.table()["b.bias"][0] / KJ_MOL_PER_EV == pytest.approx(
        expected["energy_ev"], rel=1e-10
    )
    want = np.array(expected["forces_ev_per_ang"])
    assert done.forces()[0][0] == pytest.approx(want, abs=1e-9 * np.abs(want).max())
