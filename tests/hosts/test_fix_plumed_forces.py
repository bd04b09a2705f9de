"""Forces and virial of fix plumed against finite differences and against plumed driver."""

from __future__ import annotations

import numpy as np
import pytest
from lmp_host import FORMAT, plumed_driver, run_lmp

N_ATOMS = 7
STEP = 1e-5
STRAINS = ["x", "y", "z", "xy", "xz", "yz"]

# lengths and energies of LAMMPS's units in PLUMED's words; masses and charges enter by COM and DIPOLE
UNITS = {
    "real": "UNITS LENGTH=A ENERGY=kcal/mol",
    "metal": "UNITS LENGTH=A ENERGY=eV",
    "lj": "UNITS NATURAL",
}
NKTV2P = {"real": 68568.415, "metal": 1.6021765e6, "lj": 1.0}


def plumed_input(units: str) -> str:
    return f"""{UNITS[units]}
d: DISTANCE ATOMS=1,4 COMPONENTS
t: TORSION ATOMS=1,2,3,5
a: ANGLE ATOMS=6,2,7
c: COM ATOMS=1,3,5,7
g: DISTANCE ATOMS=c,2
q: DIPOLE GROUP=1,2,3,4
n: COORDINATION GROUPA=1-3 GROUPB=4-7 R_0=2.5
v: VOLUME
r: RESTRAINT ARG=d.x,d.y,d.z,t,a,g,q,n AT=0.4,-0.3,0.7,0.2,1.1,2.0,0.3,1.0 KAPPA=1.1,0.7,1.3,2,3,1.7,0.9,2.2
w: RESTRAINT ARG=v AT=800 KAPPA=0.001
PRINT ARG=r.bias,w.bias FILE=COLVAR FMT=%.15f
"""


def configuration(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions [n_atoms, 3] in a cell of about 9 and charges [n_atoms]."""
    random = np.random.default_rng(seed)
    return random.uniform(0.5, 8.5, (N_ATOMS, 3)), random.normal(size=N_ATOMS)


def system(units: str, tilt: tuple[float, float, float] | None, seed: int) -> str:
    positions, charges = configuration(seed)
    box = "region box block 0 9 0 8.6 0 9.3"
    if tilt:
        box = f"region box prism 0 9 0 8.6 0 9.3 {tilt[0]} {tilt[1]} {tilt[2]}"
    lines = [
        f"units {units}",
        "atom_style charge",
        "atom_modify map array",
        box,
        "create_box 2 box",
        *(
            f"create_atoms {1 + k % 2} single {x:.15g} {y:.15g} {z:.15g}"
            for k, (x, y, z) in enumerate(positions)
        ),
        "mass 1 1.5",
        "mass 2 12.0",
        *(f"set atom {k + 1} charge {q:.15g}" for k, q in enumerate(charges)),
        "pair_style zero 3.0",
        "pair_coeff * *",
        "fix p all plumed plumedfile plumed.dat outfile p.log",
        "fix i all nve",
        "compute w all pressure NULL virial",
        "thermo_style custom step pe c_w[1]",
        FORMAT,
    ]
    return "\n".join(lines) + "\n"


def differences(triclinic: bool) -> str:
    """Every coordinate and every strain moved by +-STEP; the bias is printed each time."""
    deck = ""
    for atom in range(1, N_ATOMS + 1):
        for axis in range(3):
            for size in (STEP, -2 * STEP):
                move = ["0", "0", "0"]
                move[axis] = repr(size)
                deck += f"group one id {atom}\ndisplace_atoms one move {' '.join(move)} units box\n"
                deck += "run 0 post no\nprint 'force: $(f_p:%.16g)'\n"
            move[axis] = repr(STEP)
            deck += f"displace_atoms one move {' '.join(move)} units box\ngroup one delete\n"
    for name in STRAINS if triclinic else STRAINS[:3]:
        for size in (STEP, -2 * STEP, STEP):
            deck += strained(name, size, triclinic)
            deck += "run 0 post no\nprint 'strain: $(f_p:%.16g)'\n"
    return deck


def strained(name: str, size: float, triclinic: bool) -> str:
    """x' = x + size * y for xy, and so on: what that does to LAMMPS's cell parameters."""
    # cell vectors a = (lx, 0, 0), b = (xy, ly, 0), c = (xz, yz, lz)
    changes = {
        "x": {"x": "lx0", "xy": "xy0", "xz": "xz0"},
        "y": {"y": "ly0", "yz": "yz0"},
        "z": {"z": "lz0"},
        "xy": {"xy": "ly0", "xz": "yz0"},
        "xz": {"xz": "lz0"},
        "yz": {"yz": "lz0"},
    }[name]
    deck, words = "", ""
    for parameter, length in changes.items():
        if parameter in ("x", "y", "z") or triclinic:
            deck += f"variable d{parameter} equal {size!r}*v_{length}\n"
            zero = "0 " if len(parameter) == 1 else ""
            words += f" {parameter} delta {zero}$(v_d{parameter}:%.16g)"
    return deck + f"change_box all{words} remap units box\n"


def base_run() -> str:
    return """run 0
variable lx0 equal $(lx:%.16g)
variable ly0 equal $(ly:%.16g)
variable lz0 equal $(lz:%.16g)
variable xy0 equal $(xy:%.16g)
variable xz0 equal $(xz:%.16g)
variable yz0 equal $(yz:%.16g)
print 'bias: $(f_p:%.16g)'
print 'pressure: $(c_w[1]:%.16g) $(c_w[2]:%.16g) $(c_w[3]:%.16g) $(c_w[4]:%.16g) $(c_w[5]:%.16g) $(c_w[6]:%.16g)'
print 'volume: $(vol:%.16g)'
write_dump all custom f.dump id fx fy fz modify sort id format float %.16g
"""


@pytest.mark.parametrize("tilt", [None, (1.3, -0.8, 1.9)], ids=["orthogonal", "triclinic"])
@pytest.mark.parametrize("units", ["real", "metal", "lj"])
def test_forces_and_virial_are_gradients(tmp_path, units, tilt):
    deck = system(units, tilt, seed=3) + base_run() + differences(bool(tilt))
    done = run_lmp(tmp_path, deck, plumed_input(units))

    bias = done.printed("force")[:, 0].reshape(N_ATOMS, 3, 2)
    expected = -(bias[..., 0] - bias[..., 1]) / (2 * STEP)
    forces = done.dump("f.dump")
    assert np.abs(forces).min(axis=1).max() > 0.1
    np.testing.assert_allclose(forces, expected, atol=1e-6 * np.abs(expected).max())

    biases = done.printed("strain")[:, 0].reshape(-1, 3)
    expected = -(biases[:, 0] - biases[:, 1]) / (2 * STEP)
    virial = done.printed("pressure")[0] * done.printed("volume")[0, 0] / NKTV2P[units]
    assert np.abs(expected).min() > 1e-3
    np.testing.assert_allclose(
        virial[: len(expected)], expected, atol=1e-6 * np.abs(expected).max()
    )


@pytest.mark.parametrize("tilt", [None, (1.3, -0.8, 1.9)], ids=["orthogonal", "triclinic"])
def test_agrees_with_plumed_driver(tmp_path, tilt):
    """The same input through plumed driver, which shares no code with the fix."""
    done = run_lmp(tmp_path, system("metal", tilt, seed=4) + base_run(), plumed_input("metal"))
    positions, charges = configuration(4)
    xy, xz, yz = tilt or (0.0, 0.0, 0.0)
    cell = np.array([[9.0, 0, 0], [xy, 8.6, 0], [xz, yz, 9.3]])
    atoms = "\n".join(f"X {x:.15f} {y:.15f} {z:.15f}" for x, y, z in positions)
    numbers = " ".join(f"{x:.15f}" for x in cell.ravel())
    (tmp_path / "frame.xyz").write_text(f"{N_ATOMS}\n{numbers}\n{atoms}\n")
    masses = "".join(f"{k} {1.5 if k % 2 == 0 else 12.0} {q:.15g}\n" for k, q in enumerate(charges))
    (tmp_path / "mc").write_text("#! FIELDS index mass charge\n" + masses)
    plumed_driver(
        tmp_path,
        plumed_input("metal").replace("COLVAR", "DRIVER"),
        [
            "--ixyz",
            "frame.xyz",
            "--length-units",
            "A",
            "--mc",
            "mc",
            "--dump-forces",
            "forces",
            "--dump-forces-fmt",
            "%.12f",
            "--dump-full-virial",
        ],
    )
    text = (tmp_path / "forces").read_text().splitlines()
    # driver writes kJ/mol/A and the virial -sum r (x) f in kJ/mol, row by row
    ev = 96.48530749925792
    driver_virial = -np.array([float(x) for x in text[1].split()]).reshape(3, 3) / ev
    expected_virial = driver_virial[[0, 1, 2, 1, 2, 2], [0, 1, 2, 0, 0, 1]]
    virial = done.printed("pressure")[0] * done.printed("volume")[0, 0] / NKTV2P["metal"]
    assert np.abs(expected_virial).min() > 1e-3
    np.testing.assert_allclose(virial, expected_virial, atol=1e-7)
    expected = np.array([[float(x) for x in line.split()[1:4]] for line in text[2:]]) / ev
    np.testing.assert_allclose(done.dump("f.dump"), expected, atol=1e-8)
    assert np.abs(expected).max() > 0.1
    expected_bias = done.table("DRIVER")["r.bias"][0]
    assert expected_bias > 0.1
    assert done.table("COLVAR")["r.bias"][0] == pytest.approx(expected_bias, rel=1e-8)


def test_energy_bias_gives_the_gradient_of_pe(tmp_path):
    """Biasing ENERGY scales LAMMPS's forces and virial: both are gradients of pe with bias."""
    positions, _ = configuration(5)
    positions = np.array([[2.0 * (k % 2), 2.1 * (k // 2 % 2), 2.2 * (k // 4)] for k in range(8)])
    random = np.random.default_rng(0)
    positions = positions[:N_ATOMS] + 2 + random.normal(scale=0.15, size=(N_ATOMS, 3))
    atoms = "\n".join(f"create_atoms 1 single {x:.15g} {y:.15g} {z:.15g}" for x, y, z in positions)
    deck = f"""units metal
atom_style atomic
region box prism 0 9 0 8.6 0 9.3 0.4 0.3 0.2
create_box 1 box
{atoms}
mass 1 10
pair_style morse 4.0
pair_coeff * * 0.5 1.5 2.0
fix p all plumed plumedfile plumed.dat outfile p.log
fix i all nve
compute w all pressure NULL virial
thermo_style custom step pe c_w[1]
{FORMAT}
"""
    plumed = """UNITS LENGTH=A ENERGY=eV
e: ENERGY
d: DISTANCE ATOMS=1,5
RESTRAINT ARG=e,d AT=1,2 KAPPA=0.3,1.5
PRINT ARG=e FILE=COLVAR FMT=%.15f
"""
    deck += base_run().replace("f_p", "pe") + differences(True).replace("f_p", "pe")
    done = run_lmp(tmp_path, deck, plumed)
    energy = done.printed("force")[:, 0].reshape(N_ATOMS, 3, 2)
    expected = -(energy[..., 0] - energy[..., 1]) / (2 * STEP)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(done.dump("f.dump"), expected, atol=1e-6 * np.abs(expected).max())
    energies = done.printed("strain")[:, 0].reshape(-1, 3)
    expected = -(energies[:, 0] - energies[:, 1]) / (2 * STEP)
    virial = done.printed("pressure")[0] * done.printed("volume")[0, 0] / NKTV2P["metal"]
    np.testing.assert_allclose(virial, expected, atol=1e-6 * np.abs(expected).max())
