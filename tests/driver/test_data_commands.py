"""Commands on files, their checks of bad data, and predictions from files."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer

from metamd.checks import _SAMPLE, align_zeros, check_energies, energy_offset
from metamd.commands import augmentation, data, selection
from metamd.descriptor import features, fit_pca
from metamd.errors import DataError, InputError
from metamd.frames import (
    Frames,
    load_frames,
    pair_distances,
    save_deepmd,
    save_extxyz,
    save_npz,
)
from metamd.pool import load_pool
from metamd.predict import load_predictions, predict
from metamd.units import KCAL_MOL_EV

from .conftest import printed_by


def chain(n: int = 120, seed: int = 0, zero: float = -500.0) -> Frames:
    """Four atoms with springs between all pairs: energies and forces of one true potential."""
    rng = np.random.default_rng(seed)
    base = np.array([[0.0, 0, 0], [1.2, 0, 0], [1.8, 1.0, 0], [3.0, 1.0, 0.4]])
    positions = base + 0.06 * rng.normal(size=(n, 4, 3))
    i, j = np.triu_indices(4, k=1)
    rest = np.linalg.norm(base[j] - base[i], axis=1)
    delta = positions[:, j] - positions[:, i]
    r = np.linalg.norm(delta, axis=2)
    forces = np.zeros_like(positions)
    pull = (20.0 * (r - rest) / r)[..., None] * delta
    for p in range(6):
        forces[:, i[p]] += pull[:, p]
        forces[:, j[p]] -= pull[:, p]
    energy = zero + 10.0 * ((r - rest) ** 2).sum(axis=1)
    return Frames(tuple("CCOH"), positions, energy=energy, forces=forces, source="chain")


def dump_text(frames: Frames) -> str:
    assert frames.forces is not None
    text = ""
    for k in range(len(frames)):
        text += f"ITEM: TIMESTEP\n{k}\nITEM: NUMBER OF ATOMS\n4\nITEM: BOX BOUNDS ff ff ff\n"
        text += "-9 9\n" * 3 + "ITEM: ATOMS id element x y z fx fy fz\n"
        for a, symbol in enumerate(frames.symbols):
            numbers = (*frames.positions[k, a], *frames.forces[k, a])
            text += f"{a + 1} {symbol} " + " ".join(f"{v:.15g}" for v in numbers) + "\n"
    return text


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The same frames in every format."""
    frames = chain()
    (tmp_path / "data.lammpstrj").write_text(dump_text(frames))
    return {
        "deepmd": save_deepmd(frames, tmp_path / "system"),
        "extxyz": save_extxyz(frames, tmp_path / "data.xyz"),
        "npz": save_npz(frames, tmp_path / "data.npz"),
        "dump": tmp_path / "data.lammpstrj",
    }


def run(*arguments: object) -> str:
    """Run a command; errors come through as exceptions."""

    def register(app: typer.Typer) -> None:
        for commands in (selection, augmentation, data):
            commands.register(app)

    return printed_by(register, *arguments)


@pytest.mark.parametrize("kind", ["deepmd", "extxyz", "npz", "dump"])
def test_select_gives_the_same_frames_in_every_format(
    files: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    for method in ("force", "fps"):
        run("select", files[kind], "--method", method, "--count", 20, "--seed", 1, "--json", out)
        result = json.loads(out.read_text())
        run("select", files["npz"], "--method", method, "--count", 20, "--seed", 1, "--json", out)
        assert result["indices"] == json.loads(out.read_text())["indices"]
        assert len(result["reasons"]) == len(set(result["indices"])) == 20


def test_several_files_are_one_pool(files: dict[str, Path], tmp_path: Path) -> None:
    out, kept = tmp_path / "out.json", tmp_path / "kept.npz"
    run("select", files["deepmd"], files["extxyz"], "--method", "time", "--count", 6, "--json",
        out, "-o", kept)  # fmt: skip
    result = json.loads(out.read_text())
    assert [part["first"] for part in result["data"]] == [0, 120]
    np.testing.assert_allclose(
        load_frames(kept).positions, chain().positions[np.array(result["indices"]) % 120], atol=1e-7
    )


def test_labels_that_one_file_lacks_are_not_lost_silently(tmp_path: Path) -> None:
    """Forces of a file must not vanish because another has none."""
    full, bare = chain(40), replace(chain(40, 1), forces=None)
    paths = [save_npz(full, tmp_path / "full.npz"), save_npz(bare, tmp_path / "bare.npz")]
    with pytest.raises(DataError, match=r"bare\.npz: has no forces, .*full\.npz has\."):
        run("export", *paths, "-o", tmp_path / "out.xyz")
    assert not (tmp_path / "out.xyz").exists()
    # Work on distances needs no labels.
    run("pca", *paths, "-o", tmp_path / "pca.dat")
    shares = replace(chain(40, 1), atomic_energy=np.zeros((40, 4)))
    said: list[str] = []
    pool, _ = load_pool([paths[0], save_npz(shares, tmp_path / "s.npz")], warn=said.append)
    assert pool.labelled
    assert pool.atomic_energy is None
    assert said == [f"{paths[0]}: has no atomic energies, {tmp_path / 's.npz'} has; they are left "
                    "out."]  # fmt: skip


def test_cluster_error_from_stored_predictions(files: dict[str, Path], tmp_path: Path) -> None:
    frames = chain()
    assert frames.forces is not None
    bad = frames.distances_ang[:, 0] > np.quantile(frames.distances_ang[:, 0], 0.9)
    wrong = frames.forces + 0.5 * bad[:, None, None]
    stored = save_npz(replace(frames, forces=wrong), tmp_path / "model.npz")
    folder = tmp_path / "clusters"
    run("cluster-error", files["npz"], "--predictions", stored, "-o", folder)
    result = json.loads((folder / "clusters.json").read_text())
    assert sum(c["population"] for c in result["clusters"]) == 120
    assert sorted(k for c in result["clusters"] for k in c["indices"]) == list(range(120))
    rmse = [c["rmse_ev_per_ang"] for c in result["clusters"]]
    assert rmse == sorted(rmse)
    assert result["overall_rmse_ev_per_ang"] == pytest.approx(0.5 * np.sqrt(bad.mean()))
    assert bad[result["clusters"][-1]["worst"]]
    assert len(load_frames(folder / "worst.xyz")) == 2
    assert (folder / "clusters.png").stat().st_size > 5000
    assert "<svg" in (folder / "clusters.svg").read_text()[:1000]


def test_springs_and_augment_commands(files: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "springs.json"
    arguments = ("--temperature-k", 500, "--components", "C-C=1,H-C=2,O-H=1,C-O=2")
    text = run("springs", files["npz"], *arguments, "--json", out)
    result = json.loads(out.read_text())
    assert result["kt_kcal_mol"] == pytest.approx(0.9936, abs=1e-4)
    assert {"pair", "distance_ang", "k_kcal_mol_ang2", "weight"} <= set(result["springs"][0])
    assert [s["pair"] for s in result["springs"]] == ["C-C", "C-H", "C-H", "C-O", "C-O", "H-O"]
    assert out.with_suffix(".png").stat().st_size > 5000
    assert "0.99360 kcal/mol" in text
    assert "springs: done in" in text
    run("augment", files["npz"], "-o", tmp_path / "more", "--springs", out, "--frames", 30)
    new = load_frames(tmp_path / "more")
    assert len(new) == 30
    assert new.labelled
    notes = json.loads((tmp_path / "more.json").read_text())
    assert notes["deepmd_auto_prob"] == "prob_sys_size; 0:1:0.9; 1:2:0.1"
    with pytest.raises(InputError, match="does not say its temperature"):
        run("springs", files["npz"])


def test_a_biased_file_is_found_among_others(files: dict[str, Path], tmp_path: Path) -> None:
    """Joined with a file that tells no bias, frames have no bias column left."""
    biased = save_deepmd(chain(40).with_info(bias_ev=0.2), tmp_path / "biased")
    for words in (("springs",), ("augment", "--frames", 5, "-o", tmp_path / "new.npz")):
        with pytest.raises(DataError, match=r"biased: frame 0 is of a biased run"):
            run(words[0], files["npz"], biased, "--temperature-k", 500, *words[1:])


def test_export_and_pca(files: dict[str, Path], tmp_path: Path) -> None:
    run("export", files["deepmd"], "-o", tmp_path / "out.extxyz")
    again = load_frames(tmp_path / "out.extxyz")
    frames = chain()
    assert again.energy is not None
    np.testing.assert_allclose(again.energy, frames.energy, rtol=1e-12)
    run("pca", files["npz"], "-o", tmp_path / "pca.dat", "--components", 2, "--atoms", "1,2,4")
    lines = [x for x in (tmp_path / "pca.dat").read_text().splitlines() if x[0] != "#"]
    assert lines[:4] == ["metric INVERSE", "atoms 3", "pairs 3", "components 2"]
    rows = np.array([line.split() for line in lines[4:]], dtype=float)
    inverse = 1 / frames.distances_ang[:, [0, 2, 4]]
    np.testing.assert_allclose(rows[:, 2], inverse.mean(axis=0))
    projected = (inverse - rows[:, 2]) @ rows[:, 3:]
    values = np.linalg.svd(inverse - inverse.mean(axis=0), compute_uv=False)
    np.testing.assert_allclose(projected.var(axis=0, ddof=1), values[:2] ** 2 / 119, rtol=1e-8)


def test_per_atom_energies_survive_extended_xyz(tmp_path: Path) -> None:
    frames = chain(40)
    assert frames.energy is not None
    shares = frames.energy[:, None] * np.array([0.4, 0.3, 0.2, 0.1])
    save_npz(replace(frames, atomic_energy=shares), tmp_path / "data.npz")
    run("export", tmp_path / "data.npz", "-o", tmp_path / "data.xyz")
    np.testing.assert_allclose(load_frames(tmp_path / "data.xyz").atomic_energy, shares, rtol=1e-12)
    chosen = []
    for name in ("data.npz", "data.xyz"):
        run("select", tmp_path / name, "--method", "atomic-energy", "--count", 8, "--json",
            tmp_path / "out.json")  # fmt: skip
        chosen.append(json.loads((tmp_path / "out.json").read_text())["indices"])
    assert chosen[0] == chosen[1]


def test_time_takes_joined_files_one_after_the_other(tmp_path: Path) -> None:
    """Two dumps of the same steps: twenty frames are ten of each."""
    for name, seed in (("a", 0), ("b", 1)):
        (tmp_path / f"{name}.dump").write_text(dump_text(chain(100, seed)))
    run("select", tmp_path / "a.dump", tmp_path / "b.dump", "--method", "time", "--count", 20,
        "--json", tmp_path / "out.json")  # fmt: skip
    assert json.loads((tmp_path / "out.json").read_text())["indices"] == list(range(5, 200, 10))


def test_a_type_map_is_used_or_refused(files: dict[str, Path], tmp_path: Path) -> None:
    dump = tmp_path / "plain.dump"
    kinds = {"C": "1", "O": "2", "H": "3"}
    rows = [line.split(" ") for line in files["dump"].read_text().splitlines()]
    text = [" ".join(kinds.get(word, word) for word in row) for row in rows]
    dump.write_text("\n".join(text).replace("id element", "id type") + "\n")
    zipped = tmp_path / "plain.dump.gz"
    zipped.write_bytes(gzip.compress(dump.read_bytes()))
    for path in (dump, zipped):
        written = tmp_path / f"{path.name}.xyz"
        run("export", path, "--type-map", "C,O,H", "-o", written)
        assert load_frames(written).symbols == tuple("CCOH")
        with pytest.raises(DataError, match="frame 0 has no element column; give the type map"):
            run("export", path, "-o", tmp_path / "out.xyz")
    # Beside a dump other files keep their elements.
    pool, _ = load_pool([zipped, files["npz"]], "C,O,H", energies=False)
    assert pool.symbols == tuple("CCOH")
    for kind in ("npz", "extxyz", "deepmd"):
        with pytest.raises(InputError, match=r"--type-map C,O,H: .* has its own elements"):
            run("export", files[kind], "--type-map", "C,O,H", "-o", tmp_path / "out.xyz")
    with pytest.raises(InputError, match="--type-map C,Q,H: 'Q' is no element"):
        run("export", dump, "--type-map", "C,Q,H", "-o", tmp_path / "out.xyz")
    with pytest.raises(DataError, match="names 2"):
        run("export", dump, "--type-map", "C,O", "-o", tmp_path / "out.xyz")
    (files["deepmd"] / "type_map.raw").unlink()
    run("export", files["deepmd"], "--type-map", "C,H,O", "-o", tmp_path / "out.xyz")
    assert load_frames(tmp_path / "out.xyz").symbols == tuple("CCOH")


def test_a_figure_of_another_suffix_is_refused_before_the_work(
    files: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "springs.json"
    with pytest.raises(InputError, match=r"--figure .*f\.gif: figures end in \.png, \.svg, \.pdf"):
        run("springs", files["npz"], "--temperature-k", 500, "--json", out, "--figure",
            tmp_path / "f.gif")  # fmt: skip
    assert not out.exists()


def test_frames_are_never_written_over_anything(files: dict[str, Path], tmp_path: Path) -> None:
    """Least of all over the frames they come from."""
    refused = pytest.raises(InputError, match="is there already; nothing is overwritten")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for kind, path in files.items():
        with refused:
            run("select", path, "--method", "random", "--count", 5, "-o", path)
        with refused:
            run("augment", files["npz"], "--temperature-k", 500, "--frames", 10, "-o", path)
        if kind == "extxyz":
            with refused:
                run("export", files["npz"], "-o", path)
    for command, option in ((("select", "--method", "random", "--count", 5), "--json"),
                            (("springs", "--temperature-k", 500), "--json"),
                            (("pca",), "--output")):  # fmt: skip
        with pytest.raises(InputError, match=f"{option} .*holds the data; nothing is overwritten"):
            run(command[0], files["npz"], *command[1:], option, files["npz"])
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    run("springs", files["npz"], "--temperature-k", 500, "--json", tmp_path / "springs.json")
    with refused:
        run("augment", files["npz"], "--springs", tmp_path / "springs.json", "--frames", 10,
            "-o", tmp_path / "springs")  # fmt: skip


def test_places_that_cannot_be_written_are_refused_before_the_work(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("the work has begun")

    for name in ("augmentation.load_pool", "data.load_pool", "selection.predictions_of"):
        monkeypatch.setattr(f"metamd.commands.{name}", work)
    data, there = files["npz"], tmp_path / "nowhere"
    for option, suffix in (("--figure", "f.png"), ("--json", "s.json")):
        with pytest.raises(InputError, match=f"{option} .*nowhere.*cannot be written .No such"):
            run("springs", data, "--temperature-k", 500, option, there / suffix)
    with pytest.raises(InputError, match=r"--output .*p\.dat: cannot be written .No such"):
        run("pca", data, "-o", there / "p.dat")
    with pytest.raises(InputError, match=r"--output .*: cannot be written .Is a directory"):
        run("pca", data, "-o", tmp_path)
    with pytest.raises(InputError, match=r"--output .*: cannot be written .File exists"):
        run("cluster-error", data, "--predictions", data, "-o", data)
    assert not there.exists()


def test_one_atom_has_no_distances(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    one = save_extxyz(
        Frames(("Ar",), rng.normal(size=(40, 1, 3)), energy=rng.normal(size=40),
               forces=rng.normal(size=(40, 1, 3)), info={"temperature_k": np.full(40, 300.0)}),
        tmp_path / "one.xyz",
    )  # fmt: skip
    for words in (
        ("springs", one),
        ("pca", one, "-o", tmp_path / "pca.dat"),
        ("select", one, "--method", "fps", "--count", 5),
        ("select", one, "--method", "flatten", "--count", 5, "--predictions", one),
    ):
        with pytest.raises(DataError, match=r"one\.xyz: has one atom"):
            run(*words)


def test_pca_is_sklearns() -> None:
    from sklearn.decomposition import PCA

    x = features(chain(), "INVERSE")
    ours, theirs = fit_pca(x, 3), PCA(3).fit(x)
    np.testing.assert_allclose(ours.variances, theirs.explained_variance_)
    np.testing.assert_allclose(np.abs(ours.project(x)), np.abs(theirs.transform(x)), atol=1e-10)
    with pytest.raises(InputError, match="7 principal components of 6 pairs"):
        fit_pca(x, 7)


def test_energy_checks_pass_good_data_and_name_bad_frames() -> None:
    good = chain()
    assert good.energy is not None
    check_energies(good)
    with pytest.raises(DataError, match=r"chain: energies change .* as if they were in kcal/mol"):
        check_energies(replace(good, energy=good.energy / KCAL_MOL_EV))
    one = good.energy.copy()
    one[17] /= KCAL_MOL_EV
    with pytest.raises(DataError, match=r"chain: frame 17: energy .* as if they were in kcal/mol"):
        check_energies(replace(good, energy=one))


def test_energy_zeros_are_found_and_aligned(tmp_path: Path) -> None:
    a, b = chain(seed=0), chain(seed=1, zero=-498.5)
    assert energy_offset(a, chain(seed=1)) == 0.0
    assert energy_offset(a, b) == pytest.approx(1.5, abs=0.05)
    aligned = align_zeros([a, b])[1]
    assert aligned.energy is not None
    np.testing.assert_allclose(aligned.energy, chain(seed=1).energy, atol=0.05)
    paths = [save_npz(f, tmp_path / f"{k}.npz") for k, f in enumerate((a, b))]
    with pytest.raises(DataError, match=r"1.npz: its energies lie \+1.5.* another energy zero"):
        load_pool(paths)
    assert len(load_pool(paths, align=True)[0]) == 240


def test_bad_files_are_named(files: dict[str, Path], tmp_path: Path) -> None:
    text = files["dump"].read_text()
    torn = tmp_path / "torn.lammpstrj"
    torn.write_text(text[: len(text) - 40])
    said: list[str] = []
    frames, _ = load_pool([torn], warn=said.append)
    assert len(frames) == 119
    assert said == [f"{torn}: frame 119 is torn and left out; 119 are whole."]
    lines = text.splitlines(keepends=True)
    torn.write_text("".join(lines[:30] + lines[33:]))
    with pytest.raises(DataError, match=r"torn.lammpstrj: frame 2 is torn, and there are frames"):
        load_pool([torn])
    text = files["extxyz"].read_text()
    (tmp_path / "torn.xyz").write_text(text[: len(text) * 2 // 3])
    with pytest.raises(DataError, match=r"torn.xyz: frame \d+ cannot be read"):
        load_pool([tmp_path / "torn.xyz"])
    energy = np.load(files["deepmd"] / "set.000" / "energy.npy")
    energy[5] = np.nan
    np.save(files["deepmd"] / "set.000" / "energy.npy", energy)
    with pytest.raises(DataError, match=r"set.000: energy of frame 5 is not a number"):
        load_pool([files["deepmd"]])
    other = replace(chain(), symbols=tuple("COCH"))
    with pytest.raises(DataError, match=r"other.npz: its atoms .* differ"):
        load_pool([files["npz"], save_npz(other, tmp_path / "other.npz")])
    bare = save_npz(replace(chain(), forces=None), tmp_path / "bare.npz")
    with pytest.raises(DataError, match=r"bare.npz: frame 0 has no forces"):
        run("select", bare, "--method", "force", "--count", 5)
    with pytest.raises(InputError, match="method: Input should be"):
        run("select", files["npz"], "--method", "best", "--count", 5)


def test_predictions_must_belong_to_the_frames(tmp_path: Path) -> None:
    frames = chain()
    right = save_npz(frames, tmp_path / "right.npz")
    found = load_predictions([right, right], frames)
    assert found.forces.shape == (2, 120, 4, 3)
    assert found.force_rmse(frames).max() == 0.0
    with pytest.raises(DataError, match=r"right.npz: predicts 120 frames .* has 119"):
        load_predictions([right], frames[:119])
    with pytest.raises(DataError, match=r"right.npz: frame 0 has other positions"):
        load_predictions([right], frames[::-1])
    with pytest.raises(InputError, match=r"missing.pb: no such model"):
        predict([tmp_path / "missing.pb"], frames)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of frames whose pair distances were computed, call by call."""
    calls: list[int] = []

    def counting(positions: np.ndarray, cell: np.ndarray | None) -> np.ndarray:
        calls.append(len(positions))
        return pair_distances(positions, cell)

    monkeypatch.setattr("metamd.frames.core.pair_distances", counting)
    return calls


@pytest.mark.parametrize("method", ["fps", "flatten"])
def test_select_computes_every_distance_once(
    method: str, computed: list[int], tmp_path: Path
) -> None:
    """All of the pool once; before that a sample, to see whether its energies make sense."""
    pool = save_npz(chain(900), tmp_path / "pool.npz")
    more = ("--predictions", save_npz(chain(900), tmp_path / "model.npz"), "--fine-clusters", 9)
    run("select", pool, "--method", method, "--count", 20, "--json", tmp_path / "out.json",
        "-o", tmp_path / "kept.npz", *(more if method == "flatten" else ()))  # fmt: skip
    assert computed == [_SAMPLE, 900]


def test_clusters_springs_and_augment_compute_every_distance_once(
    computed: list[int], tmp_path: Path
) -> None:
    pool = save_npz(chain(900), tmp_path / "pool.npz")
    model = save_npz(chain(900), tmp_path / "model.npz")
    run("cluster-error", pool, "--predictions", model, "-o", tmp_path / "clusters")
    assert computed == [_SAMPLE, 900]
    computed.clear()
    run("springs", pool, "--temperature-k", 500, "--json", tmp_path / "springs.json")
    assert computed == [900]
    computed.clear()
    run("augment", pool, "-o", tmp_path / "more", "--temperature-k", 500, "--frames", 30)
    # Those of the frames for the springs, and those of the moved atoms.
    assert computed == [_SAMPLE, 900, 30]


def test_selections_and_relabelled_frames_keep_their_distances(computed: list[int]) -> None:
    frames = chain()
    known = frames.distances_ang
    for other, expected in (
        (frames[[5, 2]], known[[5, 2]]),
        (frames.with_info(arm="md"), known),
        (frames.without_labels()[10:20], known[10:20]),
    ):
        np.testing.assert_array_equal(other.distances_ang, expected)
    assert computed == [120]
    moved = replace(frames, positions=frames.positions * 2)
    np.testing.assert_allclose(moved.distances_ang, 2 * known)
