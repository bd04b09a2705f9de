"""PLUMED's ENERGY is LAMMPS's potential energy without the bias, at every step."""

from __future__ import annotations

import numpy as np
import pytest
from lmp_host import FORMAT, lj_liquid, run_lmp, run_python

UNITS = {
    "lj": "UNITS NATURAL",
    "real": "UNITS LENGTH=A ENERGY=kcal/mol",
    "metal": "UNITS ENERGY=eV",
}

# the well-tempered ensemble: METAD on the energy, hills at every other step so that it acts
WTE = """{units}
e: ENERGY
m: METAD ARG=e SIGMA={sigma} HEIGHT={height} PACE=2 BIASFACTOR=8 {temperature}
PRINT ARG=e,m.bias FILE=COLVAR STRIDE=1 FMT=%.14g
"""


def wte(units: str, sigma: float, height: float) -> str:
    temperature = "TEMP=1.2" if units == "lj" else "TEMP=144"
    return WTE.format(units=UNITS[units], sigma=sigma, height=height, temperature=temperature)


def run_deck(units: str, thermo: str = "1") -> str:
    return f"""fix p all plumed plumedfile plumed.dat outfile p.log
fix i all nve
thermo_style custom step pe f_p etotal press
{FORMAT}
thermo {thermo}
run 25
"""


def check(done, rows: int = 26) -> None:
    thermo, colvar = done.thermo(), done.table("COLVAR")
    assert len(colvar["e"]) == rows
    assert np.abs(thermo["f_p"]).max() > 1e-2
    unbiased = thermo["PotEng"] - thermo["f_p"]
    np.testing.assert_allclose(colvar["e"], unbiased, rtol=1e-10)
    np.testing.assert_allclose(colvar["m.bias"], thermo["f_p"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("units", "ranks"), [("lj", 1), ("real", 1), ("metal", 1), ("metal", 2), ("lj", 4)]
)
def test_energy_is_pe_without_bias(tmp_path, units, ranks):
    height = {"lj": 5.0, "real": 1.0, "metal": 0.05}[units]
    done = run_lmp(
        tmp_path,
        lj_liquid(units=units) + run_deck(units),
        wte(units, sigma=50 * height, height=height),
        ranks=ranks,
    )
    check(done)


@pytest.mark.parametrize("ranks", [1, 2])
def test_with_a_long_range_solver(tmp_path, ranks):
    deck = lj_liquid(
        units="real",
        extra="""
group odd id <> 1 128
set group all charge -0.3
set group odd charge 0.3
pair_style lj/cut/coul/long 8.0
pair_coeff 1 1 0.238 3.405
kspace_style pppm 1e-4
""",
    )
    done = run_lmp(tmp_path, deck + run_deck("real"), wte("real", 50.0, 1.0), ranks=ranks)
    assert "PPPM initialization" in done.output
    check(done)


EXTERNAL = """
def total(mine):  # MPICH: MPI_DOUBLE, MPI_SUM, MPI_COMM_WORLD
    send, out = ctypes.c_double(mine), ctypes.c_double()
    mpi.MPI_Allreduce(
        ctypes.byref(send), ctypes.byref(out), 1, 0x4C00080B, 0x58000003, 0x44000000)
    return out.value

def callback(caller, step, nlocal, tag, x, f):
    f[:, :] = -0.05 * (x - 8.0)
    caller.fix_external_set_energy_global("x", total(0.025 * float(((x - 8.0) ** 2).sum())))

lmp.set_fix_external_callback("x", callback, lmp)
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_energy_of_fix_external_is_kept(tmp_path, ranks):
    """The driver's engine: forces and energy come from a callback."""
    deck = lj_liquid(extra="fix x all external pf/callback 1 1\nfix_modify x energy yes\n")
    deck += "# callback\n" + run_deck("lj")
    done = run_python(tmp_path, deck, wte("lj", 250.0, 5.0), EXTERNAL, ranks=ranks)
    check(done)
    # the callback's part is not small: the liquid alone has about -7 an atom
    assert done.table("COLVAR")["e"][0] > -6.0 * 256


def test_energy_at_a_stride_of_its_own(tmp_path):
    """PLUMED needs the energy only now and then: LAMMPS must still have it in time."""
    plumed = "UNITS NATURAL\ne: ENERGY\nPRINT ARG=e FILE=COLVAR STRIDE=7 FMT=%.14g\n"
    done = run_lmp(tmp_path, lj_liquid() + run_deck("lj"), plumed)
    steps = np.arange(0, 26, 7)
    np.testing.assert_allclose(
        done.table("COLVAR")["e"], done.thermo()["PotEng"][steps], rtol=1e-10
    )


def test_energy_in_an_included_file(tmp_path):
    tmp_path.joinpath("inner.dat").write_text("e: ENERGY\n")
    plumed = "UNITS NATURAL\nINCLUDE FILE=inner.dat\nPRINT ARG=e FILE=COLVAR FMT=%.14g\n"
    done = run_lmp(tmp_path, lj_liquid() + run_deck("lj", thermo="1"), plumed)
    np.testing.assert_allclose(done.table("COLVAR")["e"], done.thermo()["PotEng"], rtol=1e-10)


TALLIED = """
def callback(caller, step, nlocal, tag, x, f):
    f[:, :] = 0.0
    for name in "thermo_pe", "thermo_press":
        try:
            lmp.extract_compute(name, 0, 0)
            tallied = 1
        except Exception:  # LAMMPS: was not tallied on needed timestep
            tallied = 0
        print(f"{name}: {step} {tallied}", flush=True)

lmp.set_fix_external_callback("x", callback, lmp)
"""


def test_energy_and_virial_are_not_asked_for_without_need(tmp_path):
    """LAMMPS tallies energy between thermo outputs only for an input with ENERGY, virial never."""
    deck = lj_liquid(extra="fix x all external pf/callback 1 1\n")
    deck += "# callback\n" + run_deck("lj", thermo="100")
    distance = "UNITS NATURAL\nd: DISTANCE ATOMS=1,2\nRESTRAINT ARG=d AT=1 KAPPA=1\n"
    energy = distance + "e: ENERGY\nPRINT ARG=e FILE=COLVAR STRIDE=100\n"
    plain = run_python(tmp_path / "distance", deck, distance, TALLIED)
    asked = run_python(tmp_path / "energy", deck, energy, TALLIED)
    inner = slice(1, 25)  # the first and the last step are thermo output
    assert plain.printed("thermo_pe")[0, 1] == 1
    assert plain.printed("thermo_pe")[inner, 1].sum() == 0
    assert asked.printed("thermo_pe")[inner, 1].sum() == 24
    assert asked.printed("thermo_press")[0, 1] == 1
    assert asked.printed("thermo_press")[inner, 1].sum() == 0


def test_a_later_fix_with_energy_is_refused(tmp_path):
    deck = lj_liquid() + run_deck("lj").replace(
        "fix i all nve", "fix s all spring/self 1.0\nfix_modify s energy yes\nfix i all nve"
    )
    done = run_lmp(tmp_path, deck, wte("lj", 250.0, 5.0), ok=False)
    assert done.returncode != 0
    assert "must be defined before fix plumed" in done.output


def test_pressure_contains_the_scaled_virial(tmp_path):
    """Two ranks and one give the same pressure under a bias on the energy."""
    one = run_lmp(tmp_path / "1", lj_liquid() + run_deck("lj"), wte("lj", 250.0, 5.0))
    two = run_lmp(tmp_path / "2", lj_liquid() + run_deck("lj"), wte("lj", 250.0, 5.0), ranks=2)
    plain = run_lmp(
        tmp_path / "0", lj_liquid() + run_deck("lj").replace("fix p", "#").replace("f_p", "")
    )
    np.testing.assert_allclose(one.thermo()["Press"], two.thermo()["Press"], rtol=1e-8)
    assert np.abs(one.thermo()["Press"] - plain.thermo()["Press"]).max() > 1e-2
