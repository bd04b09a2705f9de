"""What fix plumed costs a step of a 100 000-atom Lennard-Jones run.

    python benchmarks/bench_fix_plumed.py [--rounds 15] [--steps 20] [--cells 29] [--own PLUGIN]

One ``lmp`` process runs, turn by turn, short blocks without the fix, with an empty PLUMED file,
with DISTANCE+PRINT and with a 26-atom MATRIX_METAD.  Every block is compared with the plain
blocks just before and after it, by the processor time of LAMMPS's loop; the table has the medians.
"in the fix" is the growth of LAMMPS's Modify section.  Never a test.

--own names LAMMPS's own fix compiled as a plugin that registers it as plumed/own: the same run
then has it with an empty file too.
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "hosts"))

from lmp_host import environment, run_lmp

from metamd import plugins

DECK = """
units lj
atom_style atomic
lattice fcc 0.8442
region box block 0 {cells} 0 {cells} 0 {cells}
create_box 1 box
create_atoms 1 box
mass 1 1.0
velocity all create 1.44 87287 loop geom
pair_style lj/cut 2.5
pair_coeff 1 1 1.0 1.0 2.5
neighbor 0.3 bin
neigh_modify delay 0 every 20 check no
fix i all nve
thermo 100000
run 40
"""

BASE = "no fix"
OWN = "LAMMPS own, empty file"
TARGETS = {"empty file": 1.02, "DISTANCE+PRINT": 1.02, "26-atom MATRIX_METAD": 1.03}


def inputs() -> dict[str, str]:
    """PLUMED files."""
    decks = {
        "empty file": "# nothing\n",
        "DISTANCE+PRINT": "UNITS NATURAL\nd: DISTANCE ATOMS=1,100\nPRINT ARG=d FILE=COLVAR\n",
    }
    actions = plugins.plumed_actions_library()
    if actions:
        decks["26-atom MATRIX_METAD"] = (
            f"LOAD FILE={actions}\nUNITS NATURAL\n"
            "m: MATRIX_METAD GROUP=1-26 SIGMA=0.2 HEIGHT=0.001 PACE=10 FILE=HILLS\n"
            "PRINT ARG=m.bias FILE=COLVAR STRIDE=10\n"
        )
    return decks


def deck(cells: int, steps: int, rounds: int, names: list[str], own: Path | None) -> str:
    """Blocks in the order plain, one, plain, two, plain, ... for every round."""
    text = DECK.format(cells=cells)
    if own:
        text += f"plugin load {own}\n"
    for _ in range(rounds):
        for k in range(len(names)):
            text += f"print 'block: {BASE}'\nrun {steps}\n"
            style = "plumed/own" if names[k] == OWN else "plumed"
            text += f"fix p all {style} plumedfile input{k}.dat outfile p.log\n"
            # the first step of a fix gathers masses and charges: not what a run costs
            text += f"run {steps}\nprint 'block: {names[k]}'\nrun {steps}\nunfix p\n"
    return text + f"print 'block: {BASE}'\nrun {steps}\n"


def blocks(output: str, steps: int) -> list[tuple[str, float, float]]:
    """Name, seconds of the loop and of Modify a step of every named block."""
    found = []
    for part in output.split("block: ")[1:]:
        loop = re.search(rf"Loop time of (\S+) on \d+ procs for {steps} steps", part)
        modify = re.search(r"^Modify\s*\|\s*(\S+)", part, re.MULTILINE)
        used = re.search(r"(\S+)% CPU use", part)
        assert loop
        assert modify
        assert used
        # processor time, which other programs on the machine do not lengthen as they do the clock's
        share = float(used[1]) / 100.0 / steps
        found.append((part.split("\n")[0], float(loop[1]) * share, float(modify[1]) * share))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--cells", type=int, default=29, help="4 cells^3 atoms")
    parser.add_argument("--own", type=Path, help="LAMMPS's own fix as a plugin")
    arguments = parser.parse_args()
    files = inputs()
    own = arguments.own.resolve() if arguments.own else None
    if own:
        files[OWN] = "# nothing\n"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for k, text in enumerate(files.values()):
            (folder / f"input{k}.dat").write_text(text)
        text = deck(arguments.cells, arguments.steps, arguments.rounds, list(files), own)
        kernel = plugins.plumed_kernel()
        env = environment(**({"PLUMED_KERNEL": str(kernel)} if own else {}))
        done = run_lmp(folder, text, timeout=3600, env=env)
        timed = blocks(done.output.replace("print 'block:", ""), arguments.steps)

    print(f"{4 * arguments.cells**3} atoms, {arguments.rounds} rounds of {arguments.steps} steps")
    print(f"{'input':24}{'ms a step':>11}{'ratio':>8}{'target':>8}{'in the fix':>12}")
    plain = statistics.median(loop for name, loop, _ in timed if name == BASE)
    print(f"{BASE:24}{1e3 * plain:11.2f}{1.0:8.3f}")
    for name in files:
        here = [k for k, block in enumerate(timed) if block[0] == name]
        assert len(here) == arguments.rounds
        ratios, shares = [], []
        for k in here:
            base = (timed[k - 1][1] + timed[k + 1][1]) / 2
            modify = (timed[k - 1][2] + timed[k + 1][2]) / 2
            ratios.append(timed[k][1] / base)
            shares.append((timed[k][2] - modify) / base)
        loop = statistics.median(timed[k][1] for k in here)
        print(
            f"{name:24}{1e3 * loop:11.2f}{statistics.median(ratios):8.3f}"
            f"{TARGETS.get(name, float('nan')):8.2f}"
            f"{100 * statistics.median(shares):11.2f}%"
        )


if __name__ == "__main__":
    main()
