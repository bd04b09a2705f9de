"""One, two and four ranks give the same; atoms may migrate and have any ids."""

from __future__ import annotations

import numpy as np
import pytest
from lmp_host import FORMAT, lj_liquid, run_lmp

PLUMED = """UNITS NATURAL
c: COM ATOMS=1-20
d: DISTANCE ATOMS=c,200
t: TORSION ATOMS=3,77,150,222
n: COORDINATION GROUPA=1-30 GROUPB=200-256 R_0=1.5
m: METAD ARG=d,t SIGMA=0.2,0.3 HEIGHT=2.0 PACE=5 FILE=HILLS GRID_MIN=0,-pi GRID_MAX=12,pi
RESTRAINT ARG=n AT=15 KAPPA=1
PRINT ARG=d,t,n,m.bias FILE=COLVAR STRIDE=1 FMT=%.14g
"""

DYNAMICS = f"""fix p all plumed plumedfile plumed.dat outfile p.log
fix i all nve
thermo_style custom step pe f_p press pxy
{FORMAT}
thermo 1
"""


SYSTEM = """units lj
atom_style charge
read_data {data}
pair_style lj/cut 2.5
pair_coeff 1 1 1 1
pair_modify shift yes
timestep 0.002
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory) -> str:
    """A deck that reads one data file: create_atoms numbers atoms differently on more ranks."""
    folder = tmp_path_factory.mktemp("system")
    run_lmp(folder, lj_liquid() + "run 0\nwrite_data liquid.data nocoeff\n")
    return SYSTEM.format(data=folder / "liquid.data")


@pytest.fixture(scope="module")
def serial(system, tmp_path_factory):
    return run_lmp(tmp_path_factory.mktemp("serial"), system + DYNAMICS + "run 40\n", PLUMED)


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_agree(tmp_path, system, serial, ranks):
    done = run_lmp(tmp_path, system + DYNAMICS + "run 40\n", PLUMED, ranks=ranks)
    one, many = serial.table("COLVAR"), done.table("COLVAR")
    assert one["m.bias"].max() > 1.0
    for column in one:
        np.testing.assert_allclose(many[column], one[column], rtol=1e-9, atol=1e-9)
    for column in ("f_p", "PotEng", "Press", "Pxy"):
        np.testing.assert_allclose(
            done.thermo()[column], serial.thermo()[column], rtol=1e-9, atol=1e-7
        )


@pytest.mark.parametrize("ranks", [2])
def test_atoms_migrate(tmp_path, system, ranks):
    """Atoms fly through the cell across ranks while PLUMED holds them with springs."""
    flight = """
pair_style zero 1.5
pair_coeff * *
velocity all create 3000.0 12345 loop geom
neighbor 0.5 bin
neigh_modify every 1 delay 0 check yes
"""
    deck = system + flight + DYNAMICS + "compute r all property/atom proc\nrun 0\n"
    deck += "write_dump all custom before id c_r\nrun 80\nwrite_dump all custom after id c_r\n"
    one = run_lmp(tmp_path / "1", deck, PLUMED)
    many = run_lmp(tmp_path / "n", deck, PLUMED, ranks=ranks)
    moved = many.dump("before")[:, 0] != many.dump("after")[:, 0]
    assert moved.sum() > 50
    assert moved[:20].any()
    reference = one.table("COLVAR")
    assert reference["m.bias"].max() > 1.0
    for column, values in many.table("COLVAR").items():
        np.testing.assert_allclose(values, reference[column], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("ranks", [1, 2])
def test_ids_in_any_order(tmp_path, system, serial, ranks):
    """The same atoms under permuted ids, with PLUMED's atom lists permuted alike."""
    write = "write_dump all custom x.dump id x y z vx vy vz modify format float %.17g\n"
    rows = run_lmp(tmp_path / "0", system + write).dump("x.dump")
    new_id = np.random.default_rng(1).permutation(len(rows)) + 1
    order = np.random.default_rng(2).permutation(len(rows))

    def numbers(k: int, first: int) -> str:
        return " ".join(f"{value:.17g}" for value in rows[k, first : first + 3])

    atoms = "".join(f"{new_id[k]} 1 0 {numbers(k, 0)}\n" for k in order)
    speeds = "".join(f"{new_id[k]} {numbers(k, 3)}\n" for k in order)
    side = f"0 {4 * (4 / 0.8442) ** (1 / 3):.17g}"
    (tmp_path / "data").write_text(
        f"permuted\n\n{len(rows)} atoms\n1 atom types\n{side} xlo xhi\n{side} ylo yhi\n"
        f"{side} zlo zhi\n\nMasses\n\n1 1.0\n\nAtoms # charge\n\n{atoms}\n"
        f"Velocities\n\n{speeds}"
    )

    def renamed(first: int, last: int) -> str:
        return ",".join(str(new_id[k - 1]) for k in range(first, last + 1))

    plumed = PLUMED.replace("1-20", renamed(1, 20)).replace("1-30", renamed(1, 30))
    plumed = plumed.replace("200-256", renamed(200, 256)).replace("c,200", f"c,{new_id[199]}")
    plumed = plumed.replace("3,77,150,222", ",".join(str(new_id[k - 1]) for k in (3, 77, 150, 222)))
    deck = SYSTEM.format(data="data") + DYNAMICS + "run 40\n"
    done = run_lmp(tmp_path, deck, plumed, ranks=ranks)
    reference = serial.table("COLVAR")
    for column, values in done.table("COLVAR").items():
        np.testing.assert_allclose(values, reference[column], rtol=1e-8, atol=1e-8)


def test_more_ranks_than_places(tmp_path):
    """Ranks without atoms take part: all atoms sit in one corner."""
    deck = (
        """units lj
atom_style atomic
processors 4 1 1
region box block 0 40 0 5 0 5
create_box 1 box
create_atoms 1 single 1 1 1
create_atoms 1 single 2.2 1 1.5
create_atoms 1 single 1 2.3 1
mass 1 1
pair_style lj/cut 2.5
pair_coeff 1 1 1 1
"""
        + DYNAMICS
        + "run 20\n"
    )
    plumed = "UNITS NATURAL\nd: DISTANCE ATOMS=1,3\nRESTRAINT ARG=d AT=2 KAPPA=5\n"
    plumed += "PRINT ARG=d FILE=COLVAR FMT=%.14g\n"
    one = run_lmp(tmp_path / "1", deck.replace("processors 4", "processors 1"), plumed)
    four = run_lmp(tmp_path / "4", deck, plumed, ranks=4)
    np.testing.assert_allclose(four.table("COLVAR")["d"], one.table("COLVAR")["d"], rtol=1e-10)
    assert np.ptp(one.table("COLVAR")["d"]) > 1e-3
