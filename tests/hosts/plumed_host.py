"""Runs inputs through the real ``plumed driver`` with the actions, and reads back the output."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from metamd import plugins

REPOSITORY = Path(__file__).resolve().parents[2]
# The electronvolt of PLUMED's own UNITS ENERGY=eV.
KJ_MOL_PER_EV = 96.48530749925792

Frame = tuple[np.ndarray, np.ndarray | None]  # positions_ang [n_atoms, 3], cell_ang [3, 3]


@cache
def actions_library() -> Path:
    """METAMD_PLUMED_PLUGIN, the installed one, or one built now."""
    named = os.environ.get("METAMD_PLUMED_PLUGIN")
    library = Path(named) if named else plugins.plumed_actions_library()
    if library is None:
        folder = build("actions", "-DMETAMD_TESTS=OFF", f"-DPLUMED_INCLUDE_DIR={root()}/include")
        library = folder / "plumed_cvs" / "plumed" / plugins.PLUMED_PLUGIN_NAME
    assert library.is_file(), f"{library} is missing"
    return library


@cache
def core_tests() -> Path:
    """The C++ tests, built as on a cluster without Python; the folder for ctest."""
    # Not for speed: -O1 compiles in half the time.
    return build("core", "-DMETAMD_PLUMED_ACTIONS=OFF", "-DCMAKE_CXX_FLAGS_RELEASE=-O1")


def build(name: str, *options: str) -> Path:
    folder = REPOSITORY / "build" / f"tests-{name}"
    configure = ["cmake", "-S", REPOSITORY, "-B", folder, "-DMETAMD_LAMMPS_PLUGIN=OFF", *options]
    for command in (configure, ["cmake", "--build", folder, "--parallel", "2"]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


@cache
def root() -> Path:
    kernel = plugins.plumed_kernel()
    assert kernel is not None, "no PLUMED found"
    found = plugins.plumed_root(kernel)
    assert found is not None
    return found


def environment() -> dict[str, str]:
    env = dict(os.environ)
    env["LD_LIBRARY_PATH"] = str(root() / "lib")
    env["PLUMED_ROOT"] = str(root() / "lib" / "plumed")
    env["OMP_NUM_THREADS"] = env["PLUMED_NUM_THREADS"] = "1"
    return env


@dataclass
class Finished:
    folder: Path
    returncode: int
    output: str

    def table(self, name: str = "COLVAR") -> dict[str, np.ndarray]:
        """A PLUMED file with ``#! FIELDS``; a column a key."""
        lines = (self.folder / name).read_text().splitlines()
        names = next(line.split()[2:] for line in lines if line.startswith("#! FIELDS"))
        rows = np.array([[float(x) for x in line.split()] for line in lines if line[0] != "#"])
        assert rows.size, f"{name} has no lines"
        return {name: rows[:, k] for k, name in enumerate(names)}

    def forces(self) -> tuple[np.ndarray, np.ndarray]:
        """eV/A [n_frames, n_atoms, 3], and PLUMED's virial in eV [n_frames, 3, 3]."""
        lines = (self.folder / "FORCES").read_text().splitlines()
        atoms = int(lines[0])
        forces, virials = [], []
        for begin in range(0, len(lines), atoms + 2):
            virials.append([float(v) for v in lines[begin + 1].split()])
            rows = lines[begin + 2 : begin + 2 + atoms]
            forces.append([[float(v) for v in row.split()[1:]] for row in rows])
        assert forces, "no forces were written"
        return (
            np.array(forces) / KJ_MOL_PER_EV,
            np.array(virials).reshape(-1, 3, 3) / KJ_MOL_PER_EV,
        )


def write_trajectory(path: Path, frames: Sequence[Frame]) -> None:
    """The driver's own XYZ: the cell on the comment line, zero for none."""
    with path.open("w") as out:
        for x, cell in frames:
            box = np.zeros((3, 3)) if cell is None else np.asarray(cell)
            out.write(f"{len(x)}\n{' '.join(repr(float(v)) for v in box.ravel())}\n")
            for row in np.asarray(x):
                out.write("X " + " ".join(repr(float(v)) for v in row) + "\n")


def drive(
    folder: Path,
    plumed: str,
    frames: Sequence[Frame],
    *,
    first_step: int = 0,
    check: bool = True,
    load: bool = True,
    timeout_s: float = 60.0,
    program: Sequence[str] = (),
) -> Finished:
    """One ``plumed driver`` over the frames, one frame a step, from `first_step` on."""
    folder.mkdir(exist_ok=True, parents=True)
    head = f"LOAD FILE={actions_library()}\n" if load else ""
    (folder / "plumed.dat").write_text(head + plumed)
    write_trajectory(folder / "traj.xyz", frames)
    command = [
        *program,
        str(root() / "bin" / "plumed"),
        "--no-mpi",
        "driver",
        "--plumed",
        "plumed.dat",
        "--ixyz",
        "traj.xyz",
        "--length-units",
        "A",
        "--timestep",
        "0.001",
        "--initial-step",
        str(first_step),
        "--dump-forces",
        "FORCES",
        "--dump-forces-fmt",
        "%.17g",
        "--dump-full-virial",
    ]
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=timeout_s
    )
    out = Finished(folder, done.returncode, done.stdout + done.stderr)
    if check:
        assert done.returncode == 0, out.output
    return out


def sweep(folder: Path) -> None:
    """Remove what earlier runs left in a folder."""
    shutil.rmtree(folder, ignore_errors=True)


def atom_list(serials: Sequence[int]) -> str:
    return ",".join(str(k) for k in serials)
