"""The JSON cases through lmp: the actions inside fix plumed give the oracle's numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lmp_host import run_lmp
from plumed_cases import Case, cell_of, load, matrix_keywords, positions, write_hills
from plumed_host import actions_library

CASES = load("bias.json")
NKTV2P_METAL = 1.6021765e6


def deck(case: Case) -> str:
    """units metal; open systems get a box without periodic directions."""
    elements = sorted(set(case["species"]))
    cell = cell_of(case)
    x = positions(case)
    if cell is None:
        low, high = float(x.min()) - 5.0, float(x.max()) + 5.0
        box = f"boundary f f f\nregion box block {low} {high} {low} {high} {low} {high}"
    else:
        assert np.allclose(cell, np.tril(cell)), "LAMMPS wants a lower triangular cell"
        (lx, _, _), (xy, ly, _), (xz, yz, lz) = cell.tolist()
        box = f"region box prism 0 {lx!r} 0 {ly!r} 0 {lz!r} {xy!r} {xz!r} {yz!r}"
        x = x - np.floor(x @ np.linalg.inv(cell)) @ cell
    atoms = "".join(
        f"create_atoms {elements.index(name) + 1} single {p[0]:.17g} {p[1]:.17g} {p[2]:.17g}\n"
        for name, p in zip(case["species"], x, strict=True)
    )
    return f"""units metal
atom_style atomic
{box}
create_box {len(elements)} box
{atoms}
mass * 1.0
pair_style zero 3.0
pair_coeff * *
timestep 0.0005
fix p all plumed plumedfile plumed.dat outfile p.log
fix i all nve
compute w all pressure NULL virial
thermo_style custom step c_w[1]
run 0
print 'bias: $(f_p:%.17g)'
print 'pressure: $(c_w[1]:%.16g) $(c_w[2]:%.16g) $(c_w[3]:%.16g) $(c_w[4]:%.16g) $(c_w[5]:%.16g) $(c_w[6]:%.16g)'
print 'volume: $(vol:%.16g)'
write_dump all custom f.dump id fx fy fz modify format float %.17g
"""


def plumed_input(case: Case) -> str:
    return f"""LOAD FILE={actions_library()}
UNITS LENGTH=A ENERGY=eV
RESTART
m: MATRIX_METAD {matrix_keywords(case)} SIGMA={case["sigma"]} HEIGHT=0.1 PACE=1000000 FILE=HILLS
"""


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_bias_case(tmp_path: Path, case: Case):
    write_hills(tmp_path / "HILLS", case)
    done = run_lmp(tmp_path, deck(case), plumed_input(case))
    expected = case["expected"]
    assert abs(expected["energy_ev"]) > 1e-6
    assert done.printed("bias")[0, 0] == pytest.approx(expected["energy_ev"], rel=1e-9)

    forces = np.array(expected["forces_ev_per_ang"])
    largest = np.abs(forces).max()
    assert largest > 1e-6
    np.testing.assert_allclose(done.dump("f.dump"), forces, atol=1e-9 * largest)

    # tests/cases: W = -sum r (x) dV/dr, which is LAMMPS's virial
    w = np.array(expected["virial_ev"])
    virial = done.printed("pressure")[0] * done.printed("volume")[0, 0] / NKTV2P_METAL
    expected_virial = w[[0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]]
    np.testing.assert_allclose(virial, expected_virial, atol=2e-8 * np.abs(w).max())
