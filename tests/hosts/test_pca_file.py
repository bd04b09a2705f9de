"""``metamd pca`` writes what INVERSE_DISTANCE_MATRIX reads: pc-k equals the projection here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plumed_host
from typer.testing import CliRunner

from metamd.cli import app
from metamd.descriptor import features, fit_pca
from metamd.frames import Frames, save_extxyz


def test_plumed_projects_on_the_components_of_metamd_pca(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    start = rng.uniform(0, 4, (1, 5, 3))
    frames = Frames(("C", "O", "H", "H", "H"), start + rng.normal(0, 0.2, (12, 5, 3)))
    data = save_extxyz(frames, tmp_path / "frames.xyz")
    result = CliRunner().invoke(app, ["pca", str(data), "-o", str(tmp_path / "pca.dat")])
    assert result.exit_code == 0, result.output
    matrix = features(frames, "INVERSE")
    expected = fit_pca(matrix, 2).project(matrix)
    done = plumed_host.drive(
        tmp_path,
        "UNITS LENGTH=A\n"
        "m: INVERSE_DISTANCE_MATRIX GROUP=1-5 NOPBC PCA=pca.dat\n"
        "PRINT ARG=m.pc-1,m.pc-2 FILE=COLVAR FMT=%.12f\n",
        [(x, None) for x in frames.positions],
    ).table()
    found = np.stack([done["m.pc-1"], done["m.pc-2"]], axis=1)
    assert found.shape == (12, 2)
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-8)
