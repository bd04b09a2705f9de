"""Depositing, hills files, restarts, walkers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import ase.io
import numpy as np
import pytest
from plumed_host import KJ_MOL_PER_EV, actions_library, drive, environment, root
from plumed_trajectory import SPECIES, UNITS, ethanol, wander

import oracle

ELEMENTS = ["C", "C", "O"] + ["H"] * 6
BIAS = f"b: MATRIX_METAD GROUP=1-9 SPECIES={SPECIES} SIGMA=0.2 "
PRINT = "PRINT ARG=b.* FILE=COLVAR FMT=%.17g\n"
TEMPERED = "HEIGHT=0.05 PACE=5 TEMP=300 BIASFACTOR=12 "
KT_EV = 0.0083144621 * 300 / KJ_MOL_PER_EV


def test_well_tempered_run_is_what_the_formula_says(tmp_path: Path) -> None:
    frames = wander(60)
    done = drive(tmp_path, UNITS + BIAS + TEMPERED + "\n" + PRINT, frames)
    matrix = oracle.Matrix(ELEMENTS)
    hills: list[oracle.Hill] = []
    work = 0.0
    for step, (x, _) in enumerate(frames):
        v = float(np.real(oracle.bias(matrix, "0.2", hills, x, None)))
        assert done.table()["b.bias"][step] == pytest.approx(v, rel=1e-10, abs=1e-14)
        if step % 5 == 0 and step > 0:
            height = 0.05 * np.exp(-v / (KT_EV * 11))
            hills.append(oracle.Hill(height, x, None))
            work += height
    assert len(hills) == 11
    table = done.table()
    assert table["b.nhills"][-1] == 11
    assert table["b.active"][-1] == 11
    assert table["b.height"][-1] == pytest.approx(hills[-1].height_ev, rel=1e-10)
    assert table["b.work"][-1] == pytest.approx(work, rel=1e-10)
    assert 0.01 < hills[-1].height_ev < 0.05


def test_ase_reads_the_hills(tmp_path: Path) -> None:
    cell = np.array([[9.0, 0, 0], [2.0, 8.5, 0], [1.0, -1.0, 9.5]])
    frames = wander(21, cell=cell)
    drive(tmp_path, BIAS.replace("0.2", "2") + "HEIGHT=3 PACE=10\n", frames)  # nm, kJ/mol
    hills = ase.io.read(tmp_path / "HILLS.xyz", ":")
    assert [h.info["step"] for h in hills] == [10, 20]
    for hill in hills:
        x, _ = frames[hill.info["step"]]
        assert hill.get_chemical_symbols() == ELEMENTS
        assert hill.positions == pytest.approx(x, abs=1e-13)
        assert hill.cell.array == pytest.approx(cell, abs=1e-13)
        assert hill.pbc.all()
        assert hill.info["height"] == pytest.approx(3 / KJ_MOL_PER_EV, rel=1e-14)
        assert hill.info["sigma"] == pytest.approx(0.2, rel=1e-14)
        assert hill.info["time"] == pytest.approx(0.001 * hill.info["step"])
        assert hill.info["metric"] == "INVERSE"
        assert list(hill.arrays["id"]) == list(range(1, 10))


@pytest.mark.parametrize(
    "extra",
    [
        TEMPERED,
        "HEIGHT=0.05 PACE=5 RANDOM_HEIGHT SEED=3 ",
        "HEIGHT=0.05 PACE=5 CUTOFF=3.0 ",
        "HEIGHT=0.05 PACE=5 METRIC=DISTANCE ",
        "HEIGHT=0.05 PACE=5 METRIC=SCREENED ",
        "HEIGHT=0.05 PACE=5 MERGE=0.4 ",
    ],
)
@pytest.mark.parametrize("overlap", [0, 1])
def test_replay_in_two_parts(tmp_path: Path, extra: str, overlap: int) -> None:
    """With a shared frame at the border, as hosts do, and without one."""
    frames = wander(80)
    text = UNITS + "{}" + BIAS + extra + "\n" + PRINT
    whole = drive(tmp_path / "whole", text.format(""), frames).table()
    assert whole["b.bias"][-1] > 1e-3
    border = 40  # a multiple of PACE: the step at which a hill could be added twice, or never
    part = tmp_path / "part"
    drive(part, text.format(""), frames[: border + overlap])
    (part / "COLVAR").unlink()
    second = drive(part, text.format("RESTART\n"), frames[border:], first_step=border).table()
    assert second["b.nhills"][-1] == whole["b.nhills"][-1] == 15
    assert second["b.bias"][-39:] == pytest.approx(whole["b.bias"][-39:], rel=1e-10, abs=1e-13)
    assert len(second["b.bias"]) == 40
    assert (part / "HILLS.xyz").read_text() == (tmp_path / "whole" / "HILLS.xyz").read_text()


def test_a_step_number_gets_one_hill(tmp_path: Path) -> None:
    """Hosts repeat the last step when a run goes on; step 0 is the start, as in METAD."""
    frames = wander(11)
    text = UNITS + "{}" + BIAS + "HEIGHT=0.05 PACE=10\n" + PRINT
    drive(tmp_path, text.format(""), frames)
    drive(tmp_path, text.format("RESTART\n"), frames[10:], first_step=10)
    hills = ase.io.read(tmp_path / "HILLS.xyz", ":")
    assert [h.info["step"] for h in hills] == [10]


def test_torn_file_is_cut_and_the_rest_kept(tmp_path: Path) -> None:
    frames = wander(41)
    text = UNITS + "{}" + BIAS + "HEIGHT=0.05 PACE=10\n" + PRINT
    drive(tmp_path, text.format(""), frames)
    whole = (tmp_path / "HILLS.xyz").read_text()
    last = whole.rindex("9\nProperties")
    # Every place a crash can cut a frame at, the end of its last number included.
    cuts = [last + 1, last + 5, last + 100, len(whole) - 30, len(whole) - 1]
    for cut in cuts:
        (tmp_path / "HILLS.xyz").write_text(whole[:cut])
        done = drive(tmp_path, text.format("RESTART\n"), frames[30:], first_step=30)
        assert "WARNING" in done.output
        assert "torn" in done.output
        assert done.table()["b.nhills"][-10] == 3
        assert (tmp_path / "HILLS.xyz").read_text() == whole


def test_an_old_file_is_moved_away_without_restart(tmp_path: Path) -> None:
    text = UNITS + BIAS + "HEIGHT=0.05 PACE=10\n" + PRINT
    drive(tmp_path, text, wander(21))
    old = (tmp_path / "HILLS.xyz").read_text()
    done = drive(tmp_path, text, wander(11, seed=9))
    assert (tmp_path / "bck.0.HILLS.xyz").read_text() == old
    assert done.table()["b.nhills"][-1] == 0
    assert len(ase.io.read(tmp_path / "HILLS.xyz", ":")) == 1


def test_hills_newer_than_the_restart_are_warned_about(tmp_path: Path) -> None:
    text = UNITS + "{}" + BIAS + "HEIGHT=0.05 PACE=10\n" + PRINT
    drive(tmp_path, text.format(""), wander(31))
    done = drive(tmp_path, text.format("RESTART\n"), wander(8), first_step=11)
    assert "newer than this run's first step 11" in done.output


WRONG_FILES = {
    "atoms": ("GROUP=1-9", "GROUP=2-9,1", "of 9 atoms, and GROUP has 9 or other ones"),
    "elements": ("SPECIES=C,C,O,H*6", "SPECIES=C,O,C,H*6", "elements are not those of SPECIES"),
    "metric": ("SIGMA=0.2", "SIGMA=0.2 METRIC=DISTANCE", "metric INVERSE, and METRIC is DISTANCE"),
    "sigma": ("SIGMA=0.2", "SIGMA=0.21", "sigma 0.2, and SIGMA is 0.21"),
    "sigmas": ("SIGMA=0.2", "SIGMA=0.2,C-H:0.1", "sigma 0.2, and SIGMA is 0.2,C-H:0.1"),
    "cutoff": ("SIGMA=0.2", "SIGMA=0.2 CUTOFF=5", "other than CUTOFF and R_ON"),
    "pairs": ("SIGMA=0.2", "SIGMA=0.2 EXCLUDE_SPECIES=H-H", "36 pairs, and the matrix has 21"),
}


@pytest.mark.parametrize("wrong", WRONG_FILES)
def test_a_file_of_another_bias_is_refused(tmp_path: Path, wrong: str) -> None:
    old, new, message = WRONG_FILES[wrong]
    text = UNITS + BIAS + "HEIGHT=0.05 PACE=5\n"
    drive(tmp_path, text, wander(11))
    before = (tmp_path / "HILLS.xyz").read_text()
    assert old in text
    done = drive(tmp_path, "RESTART\n" + text.replace(old, new), wander(11), check=False)
    assert done.returncode != 0
    assert "does not belong to this bias" in done.output
    assert message in done.output
    assert (tmp_path / "HILLS.xyz").read_text() == before


DAMAGE = {
    "number": ("height=0.05", "height=0.0x5", "time and height must be numbers"),
    "atom": ("\nO ", "\nO nan ", "an element, three coordinates and an atom number"),
    "count": ("\n9\nProp", "\n9x\nProp", "a number of atoms is expected"),
    "key": ("metric=INVERSE ", "", "key metric is missing"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused(tmp_path: Path, damage: str) -> None:
    old, new, message = DAMAGE[damage]
    text = UNITS + BIAS + "HEIGHT=0.05 PACE=5\n"
    drive(tmp_path, text, wander(21))
    hills = (tmp_path / "HILLS.xyz").read_text()
    assert old in hills
    (tmp_path / "HILLS.xyz").write_text(hills.replace(old, new, 1))
    done = drive(tmp_path, "RESTART\n" + text, wander(11), check=False)
    assert done.returncode != 0
    assert "is damaged" in done.output
    assert message in done.output


def test_frozen_hills(tmp_path: Path) -> None:
    """PACE=0 uses a file as it is: nothing is added, the file is not touched."""
    frames = wander(31)
    drive(tmp_path, UNITS + BIAS + "HEIGHT=0.05 PACE=10\n" + PRINT, frames)
    before = (tmp_path / "HILLS.xyz").read_bytes()
    done = drive(tmp_path, UNITS + BIAS + "PACE=0\n" + PRINT, frames)
    assert set(done.table()["b.nhills"]) == {3}
    assert (tmp_path / "HILLS.xyz").read_bytes() == before
    assert not (tmp_path / "bck.0.HILLS.xyz").exists()
    missing = drive(tmp_path, UNITS + BIAS + "PACE=0 FILE=none.xyz\n", frames[:2], check=False)
    assert "there is no hills file none.xyz, and PACE=0 needs one" in missing.output


def test_ramp_grows_new_and_reloaded_hills(tmp_path: Path) -> None:
    x = [(ethanol(), None)] * 31
    text = UNITS + "{}" + BIAS + "HEIGHT=0.1 PACE=10 RAMP=5\n" + PRINT
    table = drive(tmp_path, text.format(""), x).table()
    expected = [0.1 * (min(1, max(0, s - 10) / 5) + min(1, max(0, s - 20) / 5)) for s in range(31)]
    assert table["b.bias"] == pytest.approx(expected, abs=1e-12)
    # Work is the rise of the bias, seen at the step where it acts.
    assert table["b.work"] == pytest.approx(expected, abs=1e-12)
    again = drive(tmp_path, text.format("RESTART\n"), x[:8], first_step=31).table()
    assert again["b.bias"][-8:] == pytest.approx([0.3 * min(1, k / 5) for k in range(8)], abs=1e-12)


def test_random_heights(tmp_path: Path) -> None:
    text = UNITS + BIAS + "HEIGHT=0.1 PACE=1 RANDOM_HEIGHT SEED={}\n"
    heights = {}
    for seed in (1, 1, 2):
        drive(tmp_path, text.format(seed), wander(300))
        hills = ase.io.read(tmp_path / "HILLS.xyz", ":")
        heights.setdefault(seed, []).append([h.info["height"] for h in hills])
    first, second = heights[1]
    assert first == second != heights[2][0]
    assert 0 < min(first) < 0.01
    assert 0.09 < max(first) <= 0.1
    assert np.mean(first) == pytest.approx(0.05, abs=0.006)


def test_walkers_share_their_hills(tmp_path: Path) -> None:
    """One after the other, each sees what the other has written by then."""
    (tmp_path / "shared").mkdir()
    text = (
        UNITS + "{}" + BIAS + "HEIGHT=0.05 PACE=5 WALKERS_N=2 WALKERS_ID={} "
        "WALKERS_DIR=../shared WALKERS_RSTRIDE=10\n" + PRINT
    )
    a, b = wander(21, seed=1), wander(31, seed=2)
    first = drive(tmp_path / "a", text.format("", 0), a).table()
    second = drive(tmp_path / "b", text.format("", 1), b).table()
    assert first["b.nhills"][-1] == 3
    # At step 0 the four hills of the other are there; its own come at 5, 10, ...
    assert list(second["b.nhills"][[0, 1, 6, 11]]) == [0, 4, 5, 6]
    matrix = oracle.Matrix(ELEMENTS)
    hills = [oracle.Hill(0.05, a[k][0], None) for k in (5, 10, 15, 20)]
    hills += [oracle.Hill(0.05, b[k][0], None) for k in (5, 10, 15, 20, 25)]
    want = float(np.real(oracle.bias(matrix, "0.2", hills, b[29][0], None)))
    assert want > 1e-4
    assert second["b.bias"][29] == pytest.approx(want, rel=1e-10)
    # A restart reads both files at once.
    again = drive(tmp_path / "a", text.format("RESTART\n", 0), a[20:], first_step=20).table()
    assert again["b.nhills"][-1] == 4 + 6


def test_a_walker_that_starts_anew_is_noticed(tmp_path: Path) -> None:
    text = UNITS + BIAS + "HEIGHT=0.05 PACE=1 WALKERS_N=2 WALKERS_ID=0 WALKERS_RSTRIDE=1 FILE=h\n"
    # The other's file shrinks while this one runs: a program in between the two looks.
    drive(tmp_path, text.replace("WALKERS_ID=0", "WALKERS_ID=1"), wander(5))
    cut = (
        UNITS
        + BIAS
        + "HEIGHT=0.05 PACE=1 WALKERS_N=2 WALKERS_ID=0 WALKERS_RSTRIDE=1 FILE=h\n"
        + "DUMPATOMS STRIDE=1 FILE=h.1 ATOMS=1\n"
    )
    done = drive(tmp_path, cut, wander(5), check=False)
    assert done.returncode != 0
    assert "h.1" in done.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk(tmp_path: Path) -> None:
    """A hill that cannot be written is an error: the run must not go on without it."""
    text = UNITS + BIAS + "HEIGHT=0.05 PACE=5 FILE=full.xyz\n"
    (tmp_path / "full.xyz").symlink_to("/dev/full")
    done = drive(tmp_path, "RESTART\n" + text, wander(11), check=False)
    assert done.returncode != 0
    assert "not a regular file" in done.output
    # A file size limit is the disk that fills up during the run.
    limit = ("bash", "-c", 'trap "" XFSZ; ulimit -f 8; exec "$@"', "limit")
    done = drive(
        tmp_path, text.replace("full.xyz", "h.xyz"), wander(150), check=False, program=limit
    )
    assert done.returncode != 0
    assert "cannot write to hills file h.xyz" in done.output
    hills = (tmp_path / "h.xyz").read_text()
    assert hills.endswith("\n")
    assert len(ase.io.read(tmp_path / "h.xyz", ":")) > 3


def test_manual_shows_the_documentation() -> None:
    """PLUMED's manual knows what is registered at start: the library is preloaded for it."""
    env = {**environment(), "LD_PRELOAD": str(actions_library())}
    for action, words in {
        "MATRIX_METAD": ["SIGMA", "WALKERS_RSTRIDE", "the work done so far"],
        "INVERSE_DISTANCE_MATRIX": ["REFERENCE", "EXCLUDE_SPECIES", "mean of D"],
    }.items():
        done = subprocess.run(
            [root() / "bin" / "plumed", "--no-mpi", "manual", "--action", action],
            env=env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        for word in words:
            assert word in done.stdout


def test_file_in_a_folder_that_is_not_there(tmp_path: Path) -> None:
    text = UNITS + BIAS + "HEIGHT=0.05 PACE=5 FILE=nowhere/h.xyz\n"
    done = drive(tmp_path, text, wander(2), check=False)
    assert done.returncode != 0
    assert "nowhere/h.xyz" in done.output
    shutil.rmtree(tmp_path)
