"""MATRIX_METAD in a live run through lmp: ranks, split runs, restart, frozen hills."""

from __future__ import annotations

import ase.io
import numpy as np
import pytest
from lmp_host import FORMAT, lj_liquid, run_lmp
from plumed_host import actions_library

DYNAMICS = f"""fix p all plumed plumedfile plumed.dat outfile p.log
fix i all nve
thermo_style custom step pe ke etotal f_p press
{FORMAT}
thermo 1
"""
# the atoms of the matrix are spread over the cell, so that ranks share it
ATOMS = ",".join(str(k) for k in range(1, 253, 12))


def plumed_input(restart: str = "", pace: int = 5) -> str:
    return f"""LOAD FILE={actions_library()}
UNITS NATURAL
{restart}
m: MATRIX_METAD GROUP={ATOMS} SIGMA=0.3 HEIGHT=20 PACE={pace} BIASFACTOR=20 TEMP=1.2 FILE=HILLS
PRINT ARG=m.bias,m.nhills FILE=COLVAR STRIDE=1 FMT=%.15g
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("system")
    run_lmp(folder, lj_liquid() + "run 0\nwrite_data liquid.data nocoeff\n")
    return f"""units lj
atom_style charge
read_data {folder / "liquid.data"}
pair_style lj/cut 2.5
pair_coeff 1 1 1 1
timestep 0.002
"""


@pytest.fixture(scope="module")
def serial(system, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serial")
    return run_lmp(folder, system + DYNAMICS + "run 122\n", plumed_input())


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_agree(tmp_path, system, serial, ranks):
    done = run_lmp(tmp_path, system + DYNAMICS + "run 42\n", plumed_input(), ranks=ranks)
    one, many = serial.table("COLVAR"), done.table("COLVAR")
    assert many["m.bias"].max() > 10.0
    assert many["m.nhills"][-1] == len(ase.io.read(done.folder / "HILLS", ":")) == 8
    np.testing.assert_allclose(many["m.bias"], one["m.bias"][:43], rtol=1e-9, atol=1e-9)
    for column in ("f_p", "PotEng", "Press"):
        np.testing.assert_allclose(
            done.thermo()[column], serial.thermo()[column][:43], rtol=1e-9, atol=1e-7
        )


def test_consecutive_runs_deposit_once(tmp_path, system, serial):
    deck = system + DYNAMICS + "run 10\nrun 0\nrun 15\nrun 97\n"
    done = run_lmp(tmp_path, deck, plumed_input())
    assert len(ase.io.read(done.folder / "HILLS", ":")) == 24
    np.testing.assert_allclose(
        done.table("COLVAR")["m.bias"], serial.table("COLVAR")["m.bias"], rtol=1e-9, atol=1e-9
    )


def test_restart(tmp_path, system, serial):
    run_lmp(tmp_path, system + DYNAMICS + "run 22\nwrite_restart r.bin\n", plumed_input())
    deck = "read_restart r.bin\ntimestep 0.002\n" + DYNAMICS + "run 100\n"
    done = run_lmp(tmp_path, deck, plumed_input("RESTART"))
    assert len(ase.io.read(tmp_path / "HILLS", ":")) == 24
    np.testing.assert_allclose(
        done.thermo()["f_p"], serial.thermo()["f_p"][22:], rtol=1e-8, atol=1e-8
    )


def test_frozen_hills_conserve_energy(tmp_path, system, serial):
    """NVE with a fixed set of hills: energy + bias drifts no more than energy without them."""
    smooth = "pair_style lj/smooth/linear 2.5\npair_coeff 1 1 1 1\n"
    deck = system + smooth + DYNAMICS + "thermo 5\nrun 400\n"
    plain = run_lmp(
        tmp_path / "0", deck.replace("fix p all plumed", "#").replace("f_p ", "")
    ).thermo()
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "HILLS").write_text((serial.folder / "HILLS").read_text())
    biased = run_lmp(tmp_path / "1", deck, plumed_input("RESTART", pace=1000000)).thermo()
    assert np.ptp(biased["f_p"]) > 10.0
    assert np.std(biased["TotEng"]) < 2.0 * np.std(plain["TotEng"]) + 1e-6 * np.ptp(biased["f_p"])
