"""``metamd hills`` on a file that the real MATRIX_METAD wrote, against its own COLVAR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms

from metamd.config import Bias, Reference, Sample
from metamd.errors import DataError
from metamd.execution import run_lmp
from metamd.hills import load_hills, plot_hills
from metamd.sample.folder import write_walker

LJ = Reference(kind="lammps", commands=("pair_style lj/cut 9.0", "pair_coeff * * 0.02 3.0"))


def test_bias_is_what_plumed_printed(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    grid = np.array([[x, y, z] for x in (0, 3.3) for y in (0, 3.3) for z in (0, 3.3)], float)
    atoms = Atoms("Ar8", grid + rng.normal(0, 0.1, grid.shape))
    arm = Sample(
        name="a",
        method="metamd",
        engine="lammps",
        bias=Bias(height_ev=0.02, sigma=0.05, pace=10, biasfactor=10),
        steps=400,
        stride=10,
        temperature_k=30,
    )
    write_walker(tmp_path, arm, LJ, atoms, 0)
    run_lmp(tmp_path, "in.lammps", "screen.log")
    hills = load_hills(tmp_path / "hills.xyz")
    printed = np.loadtxt(tmp_path / "COLVAR")
    bias = {round(row[0], 6): row[1] for row in printed}
    expected = [bias[round(t, 6)] for t in hills.time_ps]
    assert len(expected) == 40
    assert max(expected) > 0.05
    assert hills.bias_ev is not None
    np.testing.assert_allclose(hills.bias_ev, expected, atol=2e-6)
    assert hills.heights_ev[-1] < hills.heights_ev[0]
    assert "40 hills on 8 atoms" in hills.describe()
    assert plot_hills(hills, tmp_path / "hills.png").stat().st_size > 10_000


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such hills file"):
        load_hills(tmp_path / "none.xyz")
    (tmp_path / "other.xyz").write_text("1\n\nAr 0 0 0\n")
    with pytest.raises(DataError, match="no hills file of MATRIX_METAD"):
        load_hills(tmp_path / "other.xyz")
