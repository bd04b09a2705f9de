"""Decks that LAMMPS's own fix plumed and ours must answer alike, and what is compared.

Run as a program it writes the reference: ``fix_plumed_reference.py FOLDER``, where FOLDER holds
LAMMPS's own fix as a plugin (tests/data/fix_plumed_of_lammps/README.md says how it is made).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from lmp_host import FORMAT, environment, lj_liquid, run_lmp
from test_fix_plumed_forces import base_run, plumed_input, system

from metamd import plugins

REFERENCE = Path(__file__).resolve().parents[1] / "data/fix_plumed_of_lammps/reference.json"
TILTS = {"orthogonal": None, "triclinic": (1.3, -0.8, 1.9)}
STATIC = [f"{units} {shape}" for units in ("real", "metal", "lj") for shape in TILTS]

# Theirs puts the bias of the step before into pe: what lags is left out, and for ENERGY,
# which theirs reads with its own bias in it, thermo_energy is off.
DYNAMICS = f"""fix p all plumed plumedfile plumed.dat outfile p.log
{{fixes}}
thermo_style custom step ke vol press pxx pyy pzz pxy pxz pyz
{FORMAT}
thermo 2
run 20
"""


def invariant(units: str) -> str:
    """For a bias that changes under rotation the two differ in the virial's off-diagonal
    elements: ours are derivatives by the tilt factors (docs/building.md)."""
    text = plumed_input(units).replace(" COMPONENTS", "").replace("d.x,d.y,d.z", "d")
    return text.replace("0.4,-0.3,0.7", "2.4").replace("1.1,0.7,1.3", "1.1")


METAD = """UNITS NATURAL
c: COM ATOMS=1-20
d: DISTANCE ATOMS=c,200
t: TORSION ATOMS=3,77,150,222
v: VOLUME
m: METAD ARG=d,t SIGMA=0.2,0.3 HEIGHT=2.0 PACE=5 FILE=HILLS
w: RESTRAINT ARG=v AT=290 KAPPA=0.05
PRINT ARG=d,t,m.bias,w.bias FILE=COLVAR STRIDE=2 FMT=%.14g
"""
ENERGY = """UNITS NATURAL
e: ENERGY
m: METAD ARG=e SIGMA=40 HEIGHT=8 PACE=4 BIASFACTOR=8 TEMP=1.2 FILE=HILLS
PRINT ARG=e,m.bias FILE=COLVAR STRIDE=2 FMT=%.14g
"""
NPT = "fix i all npt temp 1.2 1.2 0.2 {} 1 1 0.5"
RUNS = {
    "npt": (lj_liquid(), NPT.format("iso"), METAD),
    "npt triclinic": (
        lj_liquid(extra="change_box all triclinic\nchange_box all xy final 0.9 remap units box"),
        NPT.format("tri"),
        METAD,
    ),
    "nve on energy": (lj_liquid(), "fix_modify p energy no\nfix i all nve", ENERGY),
}
CASES = STATIC + list(RUNS)


def measure(case: str, folder: Path, env: dict[str, str] | None = None) -> dict[str, list]:
    """Named arrays of a case, with the fix plumed of ``env``."""
    if case in STATIC:
        units, shape = case.split()
        deck = system(units, TILTS[shape], seed=7) + base_run()
        done = run_lmp(folder, deck, invariant(units), env=env)
        return {
            "forces": done.dump("f.dump").tolist(),
            "virial pressure": done.printed("pressure")[0].tolist(),
            "bias": done.table("COLVAR")["r.bias"].tolist(),
        }
    deck, fixes, plumed = RUNS[case]
    done = run_lmp(folder, deck + DYNAMICS.format(fixes=fixes), plumed, env=env)
    columns = {**done.thermo(), **done.table("COLVAR")}
    return {name: np.asarray(values).tolist() for name, values in columns.items()}


def main() -> None:
    kernel = plugins.plumed_kernel()
    assert kernel is not None
    env = environment(**plugins.plumed_environment(kernel))
    env["LD_LIBRARY_PATH"] += ":" + environment()["LD_LIBRARY_PATH"]
    env["LAMMPS_PLUGIN_PATH"] = sys.argv[1]
    with tempfile.TemporaryDirectory() as scratch:
        found = {c: measure(c, Path(scratch) / str(k), env) for k, c in enumerate(CASES)}
    REFERENCE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
