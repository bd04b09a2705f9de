"""What people write: every wrong keyword has its message, symmetries hold, examples run."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from plumed_host import REPOSITORY, actions_library, drive
from plumed_trajectory import SPECIES, UNITS, ethanol, wander

import oracle

INPUTS = REPOSITORY / "inputs" / "plumed"
GOOD = f"GROUP=1-9 SPECIES={SPECIES} "
BUMP = GOOD + "SIGMA=0.2 HEIGHT=0.05 PACE=5 "

MATRIX_ERRORS = {
    "SPECIES=C SIGMA=0.2 HEIGHT=1 PACE=1": "GROUP is missing",
    "GROUPA=1-4 SIGMA=0.2 HEIGHT=1 PACE=1": "GROUPA and GROUPB belong together",
    "GROUP=1-4 GROUPA=1-4 GROUPB=5-9": "GROUP and GROUPA/GROUPB exclude each other",
    "GROUP=1-4,3": "GROUP has atom 3 twice",
    "GROUP=1": "GROUP needs two atoms at least",
    "GROUP=1-9 SPECIES=C,C,O,H*5": "SPECIES names 8 atoms, but there are 9",
    "GROUP=1-9 SPECIES=C,C,O,H*x": "SPECIES: 'H*x' is no element",
    "GROUP=1-9 METRIC=INVERS": "METRIC=INVERS is none of INVERSE, DISTANCE, SCREENED",
    "GROUP=1-9 METRIC=DISTANCE CUTOFF=5": "CUTOFF works with METRIC=INVERSE only",
    "GROUP=1-9 CUTOFF=-5": "CUTOFF must be positive",
    "GROUP=1-9 R_ON=3": "R_ON has no meaning without CUTOFF",
    "GROUP=1-9 CUTOFF=5 R_ON=5": "R_ON must lie between 0 and CUTOFF",
    GOOD + "EXCLUDE_SPECIES=H-N": "EXCLUDE_SPECIES: 'H-N' is no pair of elements in SPECIES",
    GOOD + "EXCLUDE_PAIRS=1-10": "EXCLUDE_PAIRS: 1-10 is no pair of the matrix",
    GOOD + "EXCLUDE_PAIRS=1-2,2-1": "EXCLUDE_PAIRS: 2-1 is no pair of the matrix",
    GOOD + "EXCLUDE_PAIRS=12": "EXCLUDE_PAIRS: '12' is not written as 1-2",
    "GROUP=1-9 SPECIES=H EXCLUDE_SPECIES=H-H": "no pair of atoms is left in the matrix",
}
METAD_ERRORS = {
    GOOD + "HEIGHT=1 PACE=1": "SIGMA",
    GOOD + "SIGMA=0.2 HEIGHT=1": "PACE",
    GOOD + "SIGMA=0.2 PACE=5": "HEIGHT is missing",
    GOOD + "SIGMA=0.2 HEIGHT=0 PACE=5": "HEIGHT must be positive; to use a file of hills",
    GOOD + "SIGMA=0.2 HEIGHT=1 PACE=-5": "PACE must be positive",
    GOOD + "SIGMA=0.2 HEIGHT=1 PACE=0": "PACE=0 adds no hills: HEIGHT",
    GOOD + "SIGMA=0.2 HEIGHT=1 PACE=5 STRIDE=2": "PACE must be a multiple of STRIDE",
    GOOD + "SIGMA=0 HEIGHT=1 PACE=5": "SIGMA: '0' is no positive width",
    GOOD + "SIGMA=0.2,0.3 HEIGHT=1 PACE=5": "SIGMA has two plain numbers",
    GOOD + "SIGMA=0.2,CH:0.3 HEIGHT=1 PACE=5": "SIGMA: 'CH:0.3' is not written as C-H:0.2",
    GOOD + "SIGMA=C-H:0.3 HEIGHT=1 PACE=5": "SIGMA has no width for pairs C-C",
    GOOD + "SIGMA=0.2,C-N:0.3 HEIGHT=1 PACE=5": "SPECIES has no such pair of elements",
    GOOD + "SIGMA=0.2,C-H:1,H-C:1 HEIGHT=1 PACE=5": "SIGMA has two widths for C-H",
    BUMP + "BIASFACTOR=1 TEMP=300": "BIASFACTOR must be larger than 1",
    BUMP + "BIASFACTOR=10": "TEMP must be given and positive",
    BUMP + "BIASFACTOR=10 TEMP=-3": "TEMP must be given and positive",
    BUMP + "RANDOM_HEIGHT": "RANDOM_HEIGHT and SEED belong together",
    BUMP + "SEED=3": "RANDOM_HEIGHT and SEED belong together",
    BUMP + "RAMP=0": "RAMP must be a positive number of steps",
    BUMP + "MERGE=0": "MERGE must be positive",
    BUMP + "MERGE=0.5 RAMP=10": "MERGE and RAMP exclude each other",
    BUMP + "MERGE=0.5 METRIC=SCREENED": "MERGE works with METRIC=INVERSE and DISTANCE only",
    BUMP + "LIST_SKIN=-1": "LIST_SKIN must be positive",
    BUMP + "LIST_EXPONENT=0": "LIST_EXPONENT must be positive",
    BUMP + "WALKERS_ID=0": "WALKERS_N is missing",
    BUMP + "WALKERS_N=2 WALKERS_ID=2 WALKERS_RSTRIDE=5": "WALKERS_ID one of 0 ... WALKERS_N-1",
    BUMP + "WALKERS_N=2 WALKERS_ID=1": "WALKERS_RSTRIDE must be given",
    BUMP + "BANANA=3": "BANANA",
}
VARIABLE_ERRORS = {
    GOOD + "METRIC=SCREENED": "METRIC=SCREENED is the measure of a bump",
    GOOD + "REFERENCE=none.xyz": "REFERENCE: cannot open none.xyz",
    GOOD + "REFERENCE=short.xyz": "frame 1 has 2 atoms, the matrix has 9",
    GOOD + "REFERENCE=wrong.xyz": "wrong.xyz, line 4: an element and three coordinates",
    GOOD + "PCA=none.pca": "PCA: cannot open none.pca",
    GOOD + "PCA=other.pca": "made for 3 atoms and 3 pairs, the matrix has 9 and 36",
}
ERRORS = (
    [("INVERSE_DISTANCE_MATRIX", k, m) for k, m in MATRIX_ERRORS.items() if "SIGMA" not in k]
    + [("MATRIX_METAD", k + ("" if "SIGMA" in k else " SIGMA=0.2 HEIGHT=1 PACE=1"), m)
       for k, m in MATRIX_ERRORS.items()]
    + [("MATRIX_METAD", k, m) for k, m in METAD_ERRORS.items()]
    + [("INVERSE_DISTANCE_MATRIX", k, m) for k, m in VARIABLE_ERRORS.items()]
)  # fmt: skip


@pytest.mark.parametrize(("action", "keywords", "message"), ERRORS)
def test_wrong_input_is_named(tmp_path: Path, action: str, keywords: str, message: str) -> None:
    (tmp_path / "short.xyz").write_text("2\n\nC 0 0 0\nC 1 0 0\n")
    (tmp_path / "wrong.xyz").write_text("2\n\nC 0 0 0\nC 1 0 abc\n")
    (tmp_path / "other.pca").write_text(
        "metric INVERSE\natoms 3\npairs 3\ncomponents 1\n1 2 0.5 1.0\n1 3 0.5 0\n2 3 0.5 0\n"
    )
    done = drive(tmp_path, UNITS + f"a: {action} {keywords}\n", wander(2), check=False)
    assert done.returncode != 0
    assert message in done.output


def test_cutoff_beyond_half_the_cell(tmp_path: Path) -> None:
    frames = wander(2, cell=np.diag([9.0, 9.0, 9.0]))
    done = drive(tmp_path, UNITS + f"b: MATRIX_METAD {BUMP} CUTOFF=5\n", frames, check=False)
    assert done.returncode != 0
    assert "CUTOFF is 5 A, more than half the smallest width of the cell (9 A)" in done.output


def rotation(seed: int) -> np.ndarray:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


@pytest.mark.parametrize("metric", ["INVERSE", "INVERSE CUTOFF=3.4", "DISTANCE", "SCREENED"])
def test_symmetries(tmp_path: Path, metric: str) -> None:
    """Rotation, translation, wrapping and the order of the atoms change nothing but the
    direction of the forces."""
    cell = np.array([[9.0, 0, 0], [2.5, 8.5, 0], [-1.5, 2.0, 9.0]])
    frames = wander(12, cell=cell)
    text = UNITS + f"b: MATRIX_METAD METRIC={metric} {{}} SIGMA=0.4 HEIGHT=0.05 PACE=2\n"
    text += "PRINT ARG=b.bias FILE=COLVAR FMT=%.17g\n"
    plain = drive(tmp_path / "plain", text.format(GOOD), frames)
    bias, (forces, virial) = plain.table()["b.bias"], plain.forces()
    assert bias[-1] > 1e-4
    scale = np.abs(forces[-1]).max()
    assert scale > 1e-4

    q = rotation(3)
    rng = np.random.default_rng(5)
    moved = [
        ((x + 3.7 + rng.integers(-2, 3, size=(9, 3)) @ cell) @ q.T, c @ q.T) for x, c in frames
    ]
    turned = drive(tmp_path / "turned", text.format(GOOD), moved)
    assert turned.table()["b.bias"] == pytest.approx(bias, rel=1e-10, abs=1e-14)
    assert turned.forces()[0] @ q == pytest.approx(forces, abs=1e-9 * scale)
    assert q.T @ turned.forces()[1] @ q == pytest.approx(virial, abs=1e-8 * scale)

    order = rng.permutation(9)
    names = np.array(["C", "C", "O"] + ["H"] * 6)[order]
    keywords = "GROUP=1-9 SPECIES=" + ",".join(names)
    mixed = drive(tmp_path / "mixed", text.format(keywords), [(x[order], c) for x, c in frames])
    assert mixed.table()["b.bias"] == pytest.approx(bias, rel=1e-12, abs=1e-14)
    assert mixed.forces()[0] == pytest.approx(forces[:, order], abs=1e-10 * scale)


def test_every_pair_as_a_component(tmp_path: Path) -> None:
    frames = wander(3)
    text = (
        UNITS
        + "m: INVERSE_DISTANCE_MATRIX GROUP=4,2,7 PAIRS\nPRINT ARG=m.* FILE=COLVAR FMT=%.17g\n"
    )
    table = drive(tmp_path, text, frames).table()
    for step, (x, _) in enumerate(frames):
        values = []
        for a, b in ((4, 2), (4, 7), (2, 7)):
            d = 1 / np.linalg.norm(x[a - 1] - x[b - 1])
            values.append(d)
            assert table[f"m.pair-{a}-{b}"][step] == pytest.approx(d, rel=1e-12)
        assert table["m.mean"][step] == pytest.approx(np.mean(values), rel=1e-12)


def test_principal_components(tmp_path: Path) -> None:
    frames = wander(12)
    matrix = oracle.Matrix(["X"] * 9)
    d = np.array([matrix.at(x, None) for x, _ in frames])
    _, _, components = np.linalg.svd(d - d.mean(axis=0), full_matrices=False)
    rows = [
        f"{i + 1} {j + 1} {float(m)!r} {float(c1)!r} {float(c2)!r}"
        for (i, j), m, c1, c2 in zip(
            matrix.pairs(), d.mean(axis=0), components[0], components[1], strict=True
        )
    ]
    (tmp_path / "c.pca").write_text(
        "# test\nmetric INVERSE\natoms 9\npairs 36\ncomponents 2\n" + "\n".join(rows) + "\n"
    )
    text = UNITS + "m: INVERSE_DISTANCE_MATRIX GROUP=1-9 PCA=c.pca\n"
    text += "PRINT ARG=m.* FILE=COLVAR FMT=%.17g\n"
    table = drive(tmp_path, text, frames).table()
    want = (d - d.mean(axis=0)) @ components[:2].T
    assert np.abs(want).max() > 0.01
    assert table["m.pc-1"] == pytest.approx(want[:, 0], abs=1e-12)
    assert table["m.pc-2"] == pytest.approx(want[:, 1], abs=1e-12)


EXAMPLES = sorted(INPUTS.glob("*.dat"))


@pytest.mark.parametrize("example", EXAMPLES, ids=[e.stem for e in EXAMPLES])
def test_examples_run(tmp_path: Path, example: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(INPUTS, folder)
    (tmp_path / "shared").mkdir()
    if example.stem == "frozen":
        first = (folder / "matrix_metad.dat").read_text()
        drive(folder, first.replace("libmetamd_plumed.so", str(actions_library())), wander(61),
              load=False)  # fmt: skip
        (folder / "COLVAR").unlink()
    text = example.read_text()
    assert "libmetamd_plumed.so" in text
    text = text.replace("libmetamd_plumed.so", str(actions_library()))
    done = drive(folder, text, wander(81), load=False)
    table = done.table()
    bias = next(table[k] for k in table if k.endswith(".bias"))
    assert np.abs(bias).max() > 1e-4
    assert np.abs(done.forces()[0][-5:]).max() > 1e-4


def test_there_are_examples() -> None:
    names = " ".join(e.read_text() for e in EXAMPLES)
    for action in ("MATRIX_METAD", "INVERSE_DISTANCE_MATRIX", " METAD ", "OPES_METAD"):
        assert action in names


def test_distance_to_itself_has_no_gradient(tmp_path: Path) -> None:
    text = UNITS + "m: INVERSE_DISTANCE_MATRIX GROUP=1-9 REFERENCE=ref.xyz\n"
    text += "r: RESTRAINT ARG=m.dist-1 AT=1 SLOPE=1 KAPPA=1\nPRINT ARG=m.dist-1 FILE=COLVAR\n"
    x = ethanol()
    rows = "\n".join(f"X {a!r} {b!r} {c!r}" for a, b, c in x.tolist())
    (tmp_path / "ref.xyz").write_text(f"9\n\n{rows}\n")
    done = drive(tmp_path, text, [(x, None)])
    assert done.table()["m.dist-1"][0] < 1e-14
    assert np.all(np.isfinite(done.forces()[0]))
