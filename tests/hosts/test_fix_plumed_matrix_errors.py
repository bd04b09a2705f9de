"""What is wrong with MATRIX_METAD's input or files ends LAMMPS with a message, on all ranks."""

from __future__ import annotations

from pathlib import Path

import pytest
from lmp_host import lj_liquid, run_lmp, run_python
from plumed_host import actions_library

RUN = "fix p all plumed plumedfile plumed.dat outfile p.log\nfix i all nve\nrun 40\n"
GOOD = "GROUP=1-5 SIGMA=0.3 HEIGHT=1 PACE=5 FILE=HILLS"


def plumed_input(keywords: str, head: str = "") -> str:
    return f"LOAD FILE={actions_library()}\nUNITS NATURAL\n{head}m: MATRIX_METAD {keywords}\n"


@pytest.fixture(scope="module")
def hills(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("hills")
    run_lmp(folder, lj_liquid() + RUN, plumed_input(GOOD))
    return (folder / "HILLS").read_text()


CASES = {
    "unknown keyword": (GOOD + " BANANA=1", None, "BANANA"),
    "contradictory keywords": (GOOD + " METRIC=DISTANCE CUTOFF=2", None, "CUTOFF works with"),
    "hills of another system": (GOOD.replace("1-5", "2-6"), "{}", "does not belong to this bias"),
    "damaged hills": (GOOD, "banana\n{}", "is damaged"),
    "no hills file": (GOOD, "", "there is no hills file"),
}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("case", CASES)
def test_refused(tmp_path: Path, hills: str, case: str, ranks: int) -> None:
    keywords, old, message = CASES[case]
    head = ""
    if old is not None:
        head = "RESTART\n"
        if old:
            (tmp_path / "HILLS").write_text(old.format(hills))
    done = run_lmp(
        tmp_path, lj_liquid() + RUN, plumed_input(keywords, head), ok=False, ranks=ranks, timeout=30
    )
    assert done.returncode != 0
    assert "ERROR: Fix plumed" in done.output
    assert message in done.output
    assert "terminate called" not in done.output
    if old:
        assert (tmp_path / "HILLS").read_text() == old.format(hills)


@pytest.mark.parametrize("ranks", [1, 2])
def test_torn_hills_are_cut(tmp_path: Path, hills: str, ranks: int) -> None:
    (tmp_path / "HILLS").write_text(hills[:-20])
    run_lmp(tmp_path, lj_liquid() + RUN, plumed_input(GOOD, "RESTART\n"), ranks=ranks)
    assert "is torn" in (tmp_path / "p.log").read_text()
    assert (tmp_path / "HILLS").read_text().count("step=") == 7 + 8


# After MPI has made its own files.
SMALL_FILES = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))"


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_disk_that_fills_up(tmp_path: Path, ranks: int) -> None:
    """A limit on the size of files stands for it: the eleventh hill or so does not fit."""
    deck = lj_liquid() + "log none\n# callback\n" + RUN.replace("40", "4000")
    done = run_python(tmp_path, deck, plumed_input(GOOD), SMALL_FILES, ranks=ranks, ok=False)
    assert done.returncode != 0
    assert "ERROR: Fix plumed at step" in done.output
    assert "cannot write to hills file HILLS" in done.output
    hills = (tmp_path / "HILLS").read_text()
    assert hills.count("step=") > 5
    assert hills.endswith("\n")
