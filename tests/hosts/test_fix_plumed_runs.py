"""fix plumed over several runs: run 0, consecutive runs, clear, restart, minimisation, stops."""

from __future__ import annotations

import numpy as np
import pytest
from lmp_host import FORMAT, lj_liquid, run_lmp

METAD = """UNITS NATURAL
{restart}
d: DISTANCE ATOMS=1,200
m: METAD ARG=d SIGMA=0.2 HEIGHT=2.0 PACE=5 BIASFACTOR=10 TEMP=1.2 FILE=HILLS FMT=%25.17f
PRINT ARG=d,m.bias FILE=COLVAR STRIDE=1 FMT=%.14g
"""

DYNAMICS = f"""fix p all plumed plumedfile plumed.dat outfile p.log
fix i all nve
thermo_style custom step pe ke etotal f_p press
{FORMAT}
thermo 1
"""

FINAL = "write_dump all custom x.dump id xu yu zu vx vy vz modify format float %.16g\n"


def test_consecutive_runs_are_one_run(tmp_path):
    """No hill and no line twice, and the same trajectory, also right after a hill."""
    plumed = METAD.format(restart="")
    whole = run_lmp(tmp_path / "1", lj_liquid() + DYNAMICS + "run 40\n" + FINAL, plumed)
    parts = "run 20\nrun 0\nrun 13\nrun 7 pre no\n"
    split = run_lmp(tmp_path / "3", lj_liquid() + DYNAMICS + parts + FINAL, plumed)
    for name in ("HILLS", "COLVAR"):
        one, two = whole.table(name), split.table(name)
        assert len(one["time"]) == len(two["time"]) > 6
        for column in one:
            np.testing.assert_allclose(two[column], one[column], rtol=1e-9, atol=1e-12)
    assert whole.table("COLVAR")["m.bias"].max() > 1.0
    np.testing.assert_allclose(split.dump("x.dump"), whole.dump("x.dump"), atol=1e-9)


def test_run_0_after_a_move_is_a_new_state(tmp_path):
    deck = lj_liquid() + DYNAMICS + "group one id 1\n"
    deck += "run 0\ndisplace_atoms one move 0.1 0.05 0.02\nrun 0\n"
    done = run_lmp(tmp_path, deck, METAD.format(restart=""))
    distance = done.table("COLVAR")["d"]
    assert len(distance) == 2
    assert abs(distance[0] - distance[1]) > 1e-3


def test_clear_and_a_second_system(tmp_path):
    one = lj_liquid() + DYNAMICS + "run 10\n"
    first = run_lmp(tmp_path / "1", one, METAD.format(restart=""))
    both = run_lmp(tmp_path / "2", one + "clear\n" + one, METAD.format(restart=""))
    bias = both.thermo()["f_p"]
    assert bias.max() > 1.0
    np.testing.assert_allclose(bias[11:], first.thermo()["f_p"], rtol=1e-10)
    assert (tmp_path / "2" / "bck.0.HILLS").is_file()


def test_unfix_and_fix_again(tmp_path):
    deck = lj_liquid() + DYNAMICS + "run 10\nunfix p\nrun 5\n"
    deck = deck.replace("etotal f_p press", "etotal press")
    deck += "fix p all plumed plumedfile plumed.dat outfile p.log\nrun 5\n"
    done = run_lmp(tmp_path, deck, METAD.format(restart=""))
    assert len(done.table("COLVAR")["d"]) == 6


def test_restart_goes_on_where_it_was(tmp_path):
    """Part two reads LAMMPS's restart file and PLUMED's hills; bias and positions as unsplit."""
    plumed = METAD.format(restart="")
    whole = run_lmp(tmp_path / "1", lj_liquid() + DYNAMICS + "run 47\n" + FINAL, plumed)
    folder = tmp_path / "2"
    # 22 is no multiple of PACE: LAMMPS computes the forces of the restart step once more
    run_lmp(folder, lj_liquid() + DYNAMICS + "run 22\nwrite_restart r.bin\n", plumed)
    deck = "read_restart r.bin\npair_modify shift yes\ntimestep 0.002\n" + DYNAMICS
    second = run_lmp(folder, deck + "run 25\n" + FINAL, METAD.format(restart="RESTART"))
    hills, expected = second.table("HILLS"), whole.table("HILLS")
    assert len(hills["d"]) == len(expected["d"]) == 9
    np.testing.assert_allclose(hills["height"], expected["height"], rtol=1e-8)
    np.testing.assert_allclose(
        second.thermo()["f_p"], whole.thermo()["f_p"][22:], rtol=1e-8, atol=1e-10
    )
    np.testing.assert_allclose(second.dump("x.dump"), whole.dump("x.dump"), atol=1e-8)


def test_energy_and_bias_are_conserved(tmp_path):
    """NVE with a frozen bias drifts no more than without one."""
    frozen = """UNITS NATURAL
d: DISTANCE ATOMS=1,200
c: COORDINATION GROUPA=1-10 GROUPB=11-60 R_0=1.5 NN=6 MM=12
RESTRAINT ARG=d,c AT=2.5,60 KAPPA=20,0.4
"""
    deck = lj_liquid(extra="pair_style lj/smooth/linear 2.5\npair_coeff 1 1 1 1\n") + DYNAMICS
    plain = run_lmp(
        tmp_path / "0",
        deck.replace("fix p all plumed", "#").replace("f_p ", "").replace("thermo 1", "thermo 5")
        + "run 500\n",
    )
    biased = run_lmp(
        tmp_path / "1",
        deck.replace("thermo 1", "thermo 5") + "run 500\n",
        frozen,
    )
    bias = biased.thermo()["f_p"]
    assert np.ptp(bias) > 3.0

    def spread(done):
        return np.std(done.thermo()["TotEng"])

    assert spread(biased) < 2.0 * spread(plain) + 1e-6 * np.ptp(bias)


def test_minimise_with_a_bias(tmp_path):
    """The minimiser sees the bias in the energy; PLUMED prints once an iteration."""
    deck = (
        lj_liquid()
        + f"""fix p all plumed plumedfile plumed.dat outfile p.log
thermo_style custom step pe f_p fnorm
{FORMAT}
thermo 1
displace_atoms all random 0.1 0.1 0.1 4711
minimize 1e-12 1e-8 40 200
"""
    )
    plumed = "UNITS NATURAL\nd: DISTANCE ATOMS=1,2\nr: RESTRAINT ARG=d AT=1.4 KAPPA=500\n"
    done = run_lmp(tmp_path, deck, plumed + "PRINT ARG=d FILE=COLVAR\n")
    thermo = done.thermo()
    assert thermo["f_p"][0] > 1.0
    assert np.all(np.diff(thermo["PotEng"]) <= 1e-9)
    assert thermo["PotEng"][-1] < thermo["PotEng"][0] - 10
    times = done.table("COLVAR")["time"]
    assert len(np.unique(times)) == len(times) == len(thermo["Step"])


@pytest.mark.parametrize("ranks", [1, 2])
def test_plumed_stops_lammps(tmp_path, ranks):
    plumed = """UNITS NATURAL
t: TIME
COMMITTOR ARG=t STRIDE=1 BASIN_LL1=0.019 BASIN_UL1=1.0
"""
    done = run_lmp(tmp_path, lj_liquid() + DYNAMICS + "run 5000\n", plumed, ranks=ranks)
    assert done.thermo()["Step"][-1] in (10, 11)
    assert "PLUMED asks to stop at step 10" in done.output


def test_steps_without_anything_to_do_do_not_stop(tmp_path):
    """PLUMED raises its stop flag on steps where nothing is active; that is no request."""
    plumed = "UNITS NATURAL\nd: DISTANCE ATOMS=1,2\nPRINT ARG=d FILE=COLVAR STRIDE=10\n"
    done = run_lmp(tmp_path, lj_liquid() + DYNAMICS + "run 30\n", plumed)
    assert done.thermo()["Step"][-1] == 30
    assert len(done.table("COLVAR")["d"]) == 4


@pytest.mark.parametrize("plumed", ["", "# nothing\n", "UNITS NATURAL\n"])
def test_input_without_actions(tmp_path, plumed):
    (tmp_path / "plumed.dat").write_text(plumed)
    done = run_lmp(tmp_path, lj_liquid() + DYNAMICS + "run 5\n")
    assert done.thermo()["Step"][-1] == 5
    assert np.abs(done.thermo()["f_p"]).max() == 0.0


def test_fix_modify(tmp_path):
    """energy no / virial no take the bias out of pe and press, not out of the forces."""
    plumed = "UNITS NATURAL\nd: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=3 KAPPA=50\n"
    deck = lj_liquid() + DYNAMICS
    with_bias = run_lmp(tmp_path / "1", deck + "run 5\n", plumed).thermo()
    without = run_lmp(
        tmp_path / "2", deck + "fix_modify p energy no virial no\nrun 5\n", plumed
    ).thermo()
    assert np.abs(with_bias["f_p"]).min() > 1.0
    np.testing.assert_allclose(without["f_p"], with_bias["f_p"], rtol=1e-12)
    np.testing.assert_allclose(with_bias["PotEng"] - without["PotEng"], with_bias["f_p"], rtol=1e-9)
    assert np.abs(with_bias["Press"] - without["Press"]).max() > 1e-3


def test_scalar_is_the_bias_of_this_step(tmp_path):
    done = run_lmp(tmp_path, lj_liquid() + DYNAMICS + "run 12\n", METAD.format(restart=""))
    bias = done.table("COLVAR")["m.bias"]
    assert bias.max() > 1.0
    np.testing.assert_allclose(done.thermo()["f_p"], bias, rtol=1e-10, atol=1e-12)


def test_constant_pressure(tmp_path):
    """fix npt after fix plumed feels the bias: a wall on the volume holds the cell."""
    npt = "fix i all npt temp 1.2 1.2 0.2 iso 30 30 0.5"
    deck = lj_liquid() + DYNAMICS.replace("fix i all nve", npt).replace("press", "press vol")
    wall = "UNITS NATURAL\nv: VOLUME\nLOWER_WALLS ARG=v AT=290 KAPPA=5\n"
    held = run_lmp(tmp_path / "1", deck + "run 300\n", wall).thermo()["Volume"]
    free = run_lmp(tmp_path / "2", deck + "run 300\n", "v: VOLUME\nPRINT ARG=v\n")
    assert free.thermo()["Volume"][-100:].mean() < held[-100:].mean() - 5
