"""``metamd doctor``: is everything a run needs really there, and does it work?"""

from __future__ import annotations

import importlib.metadata
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from metamd.execution import last_useful_line, program_environment, run_program
from metamd.plugins import plugin_library, plumed_actions_library, plumed_kernel

#: A deck that runs one step with our fix and our bias on argon: the whole chain in a second.
_DECK = """units metal
atom_style atomic
atom_modify map array
boundary f f f
region box block 0 20 0 20 0 20
create_box 1 box
create_atoms 1 single 8 8 8
create_atoms 1 single 12 8 8
create_atoms 1 single 8 12 8
mass 1 39.948
pair_style zero 5.0
pair_coeff * *
fix bias all plumed plumedfile plumed.dat outfile plumed.log
fix motion all nve
run 2
"""
_PLUMED = """LOAD FILE={actions}
UNITS LENGTH=A ENERGY=eV TIME=ps
metad: MATRIX_METAD GROUP=1-3 SIGMA=0.2 HEIGHT=0.01 PACE=1 TEMP=300 FILE=hills.xyz
"""


@dataclass(frozen=True)
class Check:
    """One line of the doctor's answer; ``advice`` says what to do where it failed."""

    what: str
    ok: bool
    found: str
    advice: str = ""


def examine() -> list[Check]:
    """Every check, in the order in which one depends on another."""
    checks = [_program("lmp", "LAMMPS"), _program("dp", "DeePMD-kit")]
    checks.append(_version("lammps"))
    checks.append(_version("deepmd-kit"))
    checks.append(
        _file("PLUMED kernel", plumed_kernel, "set PLUMED_KERNEL, or install hillclimber==0.1.8")
    )
    checks.append(_file("fix plumed plugin", plugin_library, "build metamd again: uv sync"))
    checks.append(_file("PLUMED actions", plumed_actions_library, "build metamd again: uv sync"))
    if all(check.ok for check in checks):
        checks += [_biased_step(), _deepmd_style()]
    return checks


def _program(name: str, what: str) -> Check:
    path = shutil.which(name, path=program_environment()["PATH"])
    return Check(
        f"{what} ({name})", path is not None, path or "not on PATH", "install metamd again"
    )


def _version(package: str) -> Check:
    try:
        return Check(f"{package} version", True, importlib.metadata.version(package))
    except importlib.metadata.PackageNotFoundError:
        return Check(f"{package} version", False, "not installed", f"pip install {package}")


def _file(what: str, find: Callable[[], Path | None], advice: str) -> Check:
    path = find()
    return Check(what, path is not None, str(path or "not found"), advice)


def _biased_step() -> Check:
    """Run LAMMPS with fix plumed and MATRIX_METAD; a failed plugin load is only logged by lmp."""
    what = "lmp with fix plumed and MATRIX_METAD"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.lammps").write_text(_DECK)
        (folder / "plumed.dat").write_text(_PLUMED.format(actions=plumed_actions_library()))
        status = run_program(["lmp", "-in", "in.lammps"], folder, "screen.log", check=False)
        hills = folder / "hills.xyz"
        if status == 0 and hills.exists() and hills.stat().st_size > 0:
            return Check(what, True, "two steps, hills written")
        return Check(what, False, last_useful_line(folder / "screen.log"), "see the line above")


def _deepmd_style() -> Check:
    what = "lmp with pair_style deepmd"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.lammps").write_text("info styles pair\n")
        run_program(["lmp", "-in", "in.lammps"], folder, "screen.log", check=False)
        ok = "deepmd" in (folder / "screen.log").read_text().split()
    return Check(what, ok, "loaded" if ok else "not loaded", 'pip install "deepmd-kit[lmp]==3.2.0"')
