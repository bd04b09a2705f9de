"""Errors, bond graphs, spread of samples and verdicts, against independent numpy and ASE."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list

from metamd.bonds import BOND_FACTOR, BROKEN_FACTOR, BondGraph
from metamd.errors import DataError
from metamd.frames import Frames
from metamd.spread import (
    MAX_PAIRS,
    distance_variance,
    drawn_pairs,
    energy_histogram,
    inverse_distances,
    matrix_components,
    running_variance,
)
from metamd.validate.citations import REFERENCES, citations
from metamd.validate.errors import (
    cross_errors,
    frame_force_rmse,
    mean_and_spread,
    prediction_errors,
)
from metamd.validate.sampling import arm_energies, arm_numbers, energy_zero
from metamd.validate.verdict import number_beside, picoseconds, verdict

ETHANOL = molecule("CH3CH2OH")
SYMBOLS = tuple(ETHANOL.get_chemical_symbols())


def rattled(n: int, width: float, seed: int = 1) -> Frames:
    rng = np.random.default_rng(seed)
    positions = ETHANOL.positions + rng.normal(0, width, (n, len(SYMBOLS), 3))
    energy = -300.0 + (positions - ETHANOL.positions).reshape(n, -1).var(axis=1) * 50
    forces = -5.0 * (positions - ETHANOL.positions)
    return Frames(SYMBOLS, positions, energy=energy, forces=forces)


def test_errors_against_numpy():
    frames = rattled(7, 0.05)
    rng = np.random.default_rng(3)
    energy = frames.energy + rng.normal(0.2, 0.1, 7)
    forces = frames.forces + rng.normal(0, 0.3, frames.forces.shape)
    errors = prediction_errors(frames, energy, forces)
    de = (energy - frames.energy) / len(SYMBOLS) * 1000
    df = (forces - frames.forces).ravel()
    assert errors.n_frames == 7
    assert errors.energy_rmse_mev_per_atom == pytest.approx(np.sqrt(np.mean(de**2)), rel=1e-12)
    assert errors.energy_mae_mev_per_atom == pytest.approx(np.mean(np.abs(de)), rel=1e-12)
    assert errors.energy_max_mev_per_atom == pytest.approx(np.max(np.abs(de)), rel=1e-12)
    assert errors.force_rmse_ev_per_ang == pytest.approx(np.linalg.norm(df) / np.sqrt(len(df)))
    assert errors.force_mae_ev_per_ang == pytest.approx(np.mean(np.abs(df)))
    assert errors.force_max_ev_per_ang == pytest.approx(np.max(np.abs(df)))
    assert errors.energy_offset_mev_per_atom == 0.0
    shifted = prediction_errors(frames, energy, forces, remove_offset=True)
    assert shifted.energy_rmse_mev_per_atom == pytest.approx(np.std(de), rel=1e-12)
    assert shifted.energy_offset_mev_per_atom == pytest.approx(de.mean())
    per_frame = frame_force_rmse(frames, forces)
    assert np.sqrt(np.mean(per_frame**2)) == pytest.approx(errors.force_rmse_ev_per_ang)


def test_virial_errors_need_both_sides():
    frames = rattled(2, 0.05)
    virial = np.ones((2, 3, 3))
    assert prediction_errors(frames, frames.energy, frames.forces, virial).force_max_ev_per_ang == 0
    labelled = Frames(
        SYMBOLS, frames.positions, energy=frames.energy, forces=frames.forces, virial=0 * virial
    )
    errors = prediction_errors(labelled, frames.energy, frames.forces, 0.5 * virial)
    assert errors.virial_rmse_mev_per_atom == pytest.approx(500.0 / len(SYMBOLS))


@pytest.mark.parametrize("what", ["empty", "unlabelled", "shape", "nan"])
def test_errors_refuse_what_cannot_be_compared(what):
    frames = rattled(3, 0.05)
    energy, forces = frames.energy, frames.forces.copy()
    if what == "empty":
        frames, energy, forces = frames[:0], energy[:0], forces[:0]
    elif what == "unlabelled":
        frames = frames.without_labels()
    elif what == "shape":
        forces = forces[:, :4]
    else:
        forces[1, 2, 0] = np.nan
    with pytest.raises(DataError, match={"nan": "frame 1", "empty": "empty"}.get(what, ".")):
        prediction_errors(frames, energy, forces)


def test_cross_errors_table():
    frames = rattled(5, 0.05)
    rows = []
    for seed, shift in ((1, 0.1), (2, 0.3)):
        for test in ("md", "hot"):
            forces = frames.forces + shift
            rows.append(("md", test, seed, prediction_errors(frames, frames.energy, forces)))
    table = cross_errors(rows)
    assert [(row["train"], row["test"]) for row in table] == [("md", "md"), ("md", "hot")]
    assert table[0]["seeds"] == [1, 2]
    force = table[0]["force_rmse_ev_per_ang"]
    assert force["values"] == pytest.approx([0.1, 0.3])
    assert force["mean"] == pytest.approx(0.2)
    assert force["spread"] == pytest.approx(np.std([0.1, 0.3], ddof=1))
    assert mean_and_spread([0.5])["spread"] is None


def test_bond_graph_of_ethanol():
    graph = BondGraph.of(SYMBOLS, ETHANOL.positions)
    assert len(graph.bonds) == 8  # C-C, C-O, O-H, 5 C-H
    assert graph.intact(ETHANOL.positions)
    assert graph.changes(ETHANOL.positions) == []
    # Vibrations of hot frames do not count, a bond stretched beyond its limit does.
    assert graph.intact_frames(rattled(200, 0.08)).all()
    h = SYMBOLS.index("H")
    partner = next(int(i) for i, j in graph.bonds if j == h)
    direction = ETHANOL.positions[h] - ETHANOL.positions[partner]
    direction /= np.linalg.norm(direction)
    limit = BROKEN_FACTOR * {"O": 0.66 + 0.31, "C": 0.76 + 0.31}[SYMBOLS[partner]]
    for length, expected in ((limit - 0.01, True), (limit + 0.01, False)):
        positions = ETHANOL.positions.copy()
        positions[h] = positions[partner] + length * direction
        assert graph.intact(positions) is expected
    assert f"-H{h + 1} broken ({limit + 0.01:.2f} A)" in graph.changes(positions)[0]
    assert not graph.intact(np.full_like(positions, np.nan))


def test_bond_formed_is_not_intact():
    positions = np.array([[0, 0, 0], [0.74, 0, 0], [5.0, 0, 0], [5.74, 0, 0]])
    graph = BondGraph.of("HHHH", positions)
    assert graph.bonds.tolist() == [[0, 1], [2, 3]]
    near = positions.copy()
    near[2:] -= [3.7, 0, 0]  # 0.56 A between atoms 2 and 3
    assert graph.changes(near) == ["bond H2-H3 formed"]
    assert graph.intact_mask(np.stack([positions, near])).tolist() == [True, False]


def test_bonds_across_the_cell_and_in_large_systems():
    water = molecule("H2O")
    water.set_cell([5.0, 5.0, 5.0])
    water.pbc = True
    water.positions += [0.1, 0.1, 0.1]
    water.wrap()
    big = water.repeat((5, 5, 5))
    assert len(big) > 200
    graph = BondGraph.of(big.get_chemical_symbols(), big.positions, np.asarray(big.cell))
    assert len(graph.bonds) == 2 * 125
    assert graph.intact(big.positions, np.asarray(big.cell))
    torn = big.positions.copy()
    torn[2] += [0.0, 0.0, 2.0]
    assert not graph.intact(torn, np.asarray(big.cell))


@pytest.mark.parametrize("lengths", [None, (14.0, 15.0, 16.0), (4.0, 15.0, 16.0)])
def test_bonds_of_a_gas_against_ase(lengths):
    """Random atoms, inside and outside the cell; the last cell is too thin for nearest images."""
    rng = np.random.default_rng(4)
    symbols, positions = ["C"] * 150 + ["H"] * 150, rng.uniform(-8, 20, (300, 3))
    cell = None if lengths is None else np.diag(lengths)
    atoms = Atoms(symbols, positions, cell=cell, pbc=cell is not None)
    reach = {("C", "C"): 2 * 0.76, ("C", "H"): 0.76 + 0.31, ("H", "H"): 2 * 0.31}
    i, j = neighbor_list("ij", atoms, {pair: BOND_FACTOR * r for pair, r in reach.items()})
    graph = BondGraph.of(symbols, positions, cell)
    assert len(graph.bonds) > 20
    assert set(map(tuple, graph.bonds)) == {(a, b) for a, b in zip(i, j, strict=True) if a < b}
    assert graph.intact(positions, cell)
    positions[7, 1] = np.nan
    assert not graph.intact(positions, cell)


def test_ionic_crystals_have_no_bonds():
    salt = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    graph = BondGraph.of(salt.get_chemical_symbols(), salt.positions, np.asarray(salt.cell))
    assert len(graph.bonds) == 0
    assert graph.intact(salt.positions + 0.3, np.asarray(salt.cell))


def test_running_variance_against_numpy():
    frames = rattled(30, 0.1)
    d = np.array(
        [
            [
                1 / np.linalg.norm(x[i] - x[j])
                for i in range(len(SYMBOLS))
                for j in range(i + 1, len(SYMBOLS))
            ]
            for x in frames.positions
        ]
    )
    expected = [d[: k + 1].var(axis=0).mean() for k in range(30)]
    assert expected[-1] > 1e-5
    np.testing.assert_allclose(running_variance(frames), expected, rtol=1e-10, atol=1e-15)
    assert distance_variance(frames) == pytest.approx(expected[-1])


def test_many_pairs_are_drawn_from():
    """2016 pairs of 64 atoms: 2000 of them, each once, and their own distances."""
    rng = np.random.default_rng(3)
    cell = np.tile(np.diag([9.0, 10.0, 11.0]), (5, 1, 1))
    frames = Frames(("Ar",) * 64, rng.uniform(0, 9, (5, 64, 3)), cell)
    i, j = drawn_pairs(64)
    every = list(zip(*frames.pairs, strict=True))
    column = [every.index(pair) for pair in zip(i, j, strict=True)]
    assert len(set(column)) == MAX_PAIRS
    np.testing.assert_allclose(1 / inverse_distances(frames), frames.distances_ang[:, column])
    # Too large for all pairs: 50 million of them, 20 GB in the frames below.
    many = Frames(("Ar",) * 10_000, rng.uniform(0, 90, (50, 10_000, 3)))
    variance = running_variance(many)
    assert 0 < variance[-1] < 1
    assert len(matrix_components({"a": many}).scores["a"]) == 50


def test_energy_histogram_is_a_density():
    a, b = np.linspace(-10.0, -9.0, 50), np.linspace(-9.5, -8.0, 80)
    histogram = energy_histogram({"a": a, "b": b}, bins=20, upper_percent=100)
    assert histogram.zero_ev == -10.0
    assert histogram.edges_ev[-1] == pytest.approx(2.0)
    for density in histogram.density.values():
        assert (density * np.diff(histogram.edges_ev)).sum() == pytest.approx(1.0)
    torn = energy_histogram({"a": np.append(a, 500.0)})
    assert torn.edges_ev[-1] < 300
    covered = (torn.density["a"] * np.diff(torn.edges_ev)).sum()
    assert covered == pytest.approx(50 / 51)


def test_components_against_scikit_learn():
    from sklearn.decomposition import PCA

    frames = {"a": rattled(60, 0.05, 1), "b": rattled(60, 0.15, 2)}
    found = matrix_components(frames)
    d = np.concatenate([1 / f.distances_ang for f in frames.values()])
    pca = PCA(2).fit(d)
    np.testing.assert_allclose(found.explained, pca.explained_variance_ratio_, rtol=1e-3)
    ours = np.concatenate(list(found.scores.values()))
    theirs = pca.transform(d)
    for k in range(2):
        corr = np.corrcoef(ours[:, k], theirs[:, k])[0, 1]
        assert abs(corr) > 0.999


def test_components_of_a_symmetric_set():
    """Rows that add up to nothing are no reason to fail."""
    one = rattled(2, 0.05)
    mean = one.positions.mean(axis=0)
    there = np.concatenate([one.positions, 2 * mean - one.positions, one.positions])
    found = matrix_components({"a": Frames(SYMBOLS, there)})
    assert found.explained[0] > 0.9


def test_components_weigh_arms_equally():
    few, many = rattled(20, 0.05, 1), rattled(400, 0.05, 2)
    found = matrix_components({"few": few, "many": many})
    means = [found.scores[k].mean(axis=0) for k in ("few", "many")]
    np.testing.assert_allclose(means[0], -means[1], atol=1e-12)


def test_arm_numbers():
    narrow = rattled(50, 0.03, 1)
    wide = rattled(50, 0.1, 2).with_info(bias_ev=np.linspace(0, 1, 50))
    graph = BondGraph.of(SYMBOLS, ETHANOL.positions)
    bare = narrow.without_labels()
    assert arm_energies(bare, None) is None
    # Labelled frames stand for the arm where its own frames have no energies.
    np.testing.assert_array_equal(arm_energies(bare, wide[:10]), wide.energy[:10])
    np.testing.assert_array_equal(arm_energies(narrow, wide), narrow.energy)
    # Energies of a model, which leaves no source, have another zero than the reference's.
    moved = narrow.with_info(label_source="")
    assert arm_energies(moved, None) is None
    assert arm_energies(moved, moved) is None
    own = wide.with_info(label_source="0123")
    np.testing.assert_array_equal(arm_energies(moved, own), wide.energy)
    np.testing.assert_array_equal(arm_energies(own, narrow), wide.energy)
    zero = energy_zero([narrow.energy, wide.energy, arm_energies(bare, None)])
    assert zero == narrow.energy.min()
    numbers = [arm_numbers(f, graph, f.energy, zero) for f in (narrow, wide)]
    assert numbers[0]["distance_variance_1_per_ang2"] < numbers[1]["distance_variance_1_per_ang2"]
    assert numbers[0]["bonds_intact_fraction"] == 1.0
    assert numbers[1]["energy_p95_ev"] == pytest.approx(np.percentile(wide.energy, 95) - zero)
    assert numbers[0]["bias_p95_ev"] is None
    assert numbers[1]["bias_p95_ev"] == pytest.approx(0.95)
    empty = arm_numbers(narrow[:0], graph, arm_energies(narrow[:0], None), zero)
    assert (empty["n_frames"], empty["energy_p95_ev"]) == (0, None)


def entry(train: str, test: str, force: float) -> dict:
    return {"train": train, "test": test, "force_rmse_ev_per_ang": {"mean": force}}


ARMS = [
    {"name": "md", "method": "md"},
    {"name": "metamd", "method": "metamd"},
    {"name": "md600", "method": "md"},
]


def run(train: str, kelvin: float, intact: bool, time_ps: float = 10.0) -> dict:
    return {
        "train": train,
        "seed": 1,
        "temperature_k": kelvin,
        "time_ps": time_ps,
        "planned_ps": 10.0,
        "intact": intact,
        "failure": None if intact else "bond C1-H4 broken (2.31 A)",
    }


def test_verdict_usable_names_the_model_and_the_ratio():
    summary = {
        "arms": ARMS,
        "cross_errors": [
            entry("md", "md", 0.05),
            entry("md", "metamd", 0.24),
            entry("metamd", "md", 0.055),
            entry("metamd", "metamd", 0.08),
        ],
        "stability": [run("md", 300, True), run("md", 500, False, 2.1), run("metamd", 500, True)],
    }
    found = verdict(summary, 0.1)
    assert found.usable
    assert found.text.startswith("Usable: the model trained on metamd.")
    assert "0.08 eV/Å (on metamd frames)" in found.text
    assert "The model trained on md is not usable: its force RMSE is 0.24 eV/Å on metamd" in (
        found.text
    )
    assert "2.1 ps at 500 K: bond C1-H4 broken (2.31 A)." in found.text
    assert "3.0 times as large on metamd frames (0.24 against 0.08 eV/Å)" in found.text
    assert found.as_dict()["criterion_ev_per_ang"] == 0.1


def test_verdict_not_usable_for_errors_for_dynamics_and_for_nan():
    errors = [entry("metamd", "md", 0.19), entry("metamd", "metamd", 0.26)]
    found = verdict({"cross_errors": errors}, 0.1)
    assert not found.usable
    assert found.text.startswith("Not usable: no model stays below a force RMSE of 0.1 eV/Å")
    assert "0.26 eV/Å on metamd" in found.text
    found = verdict(
        {"cross_errors": [entry("a", "a", 0.02)], "stability": [run("a", 300, False)]}, 0.1
    )
    assert not found.usable
    assert "its dynamics fail" in found.text
    assert not verdict({"cross_errors": [entry("a", "a", float("nan"))]}, 0.1).usable
    assert not verdict({}, 0.1).usable
    assert verdict({}, 0.1).text.startswith("No verdict")


def test_verdict_at_the_criterion_is_usable():
    assert verdict({"cross_errors": [entry("a", "a", 0.1)]}, 0.1).usable


def test_a_set_without_numbers_is_worse_than_any_error():
    """The model that fails on a set has no error there, and looked the best on the rest."""
    summary = {
        "arms": ARMS,
        "cross_errors": [
            entry("md", "md", 0.03),
            entry("metamd", "md", 0.05),
            entry("metamd", "metamd", 0.08),
        ],
    }
    found = verdict(summary, 0.1)
    assert found.text.startswith("Usable: the model trained on metamd.")
    assert "trained on md is not usable: it gives no numbers on metamd frames." in found.text
    # No model at all has numbers on the set, or one seed of two has none.
    failed = {"check": "errors of md, seed 2, on metamd", "reason": "NaN", "train": "md", "seed": 2}
    for errors in (
        [entry("md", "md", 0.03)],
        [entry("md", "md", 0.03), entry("md", "metamd", 0.05)],
    ):
        found = verdict(
            {"cross_errors": errors, "failed_checks": [failed | {"test": "metamd"}]}, 0.1
        )
        assert not found.usable
        assert "The best, trained on md, gives no numbers on metamd frames." in found.text
    # One of its models could not be opened: the other seed's errors do not speak for it.
    found = verdict({"cross_errors": [entry("md", "a", 0.03)], "failed_checks": [failed]}, 0.1)
    assert not found.usable
    # An ensemble that could not be opened is not passed over.
    found = verdict({"cross_errors": [entry("a", "a", 0.03)], "failed_checks": [failed]}, 0.1)
    assert "The model trained on md is not usable: it gives no numbers on a frames." in found.text


def test_without_numbers_ranks_behind_a_large_error():
    errors = [entry("a", "x", 0.02), entry("b", "x", 0.5), entry("b", "y", 0.9)]
    text = verdict({"cross_errors": errors}, 0.1).text
    assert "The best, trained on b, has 0.90 eV/Å on y frames." in text
    assert "trained on a fails: it gives no numbers on y frames." in text


@pytest.mark.parametrize(
    ("value", "criterion", "text"),
    [(0.1049, 0.1, "0.105"), (0.1045, 0.104, "0.1045"), (0.10004, 0.1, "0.10004"),
     (0.1, 0.1, "0.10"), (0.26, 0.1, "0.26"), (0.0502, 0.05, "0.0502"),
     (0.050004, 0.05, "0.050004")],
)  # fmt: skip
def test_an_error_is_told_from_the_criterion(value: float, criterion: float, text: str):
    assert number_beside(value, criterion) == text
    if value > criterion:
        assert (
            f"has {text} eV/Å"
            in verdict({"cross_errors": [entry("a", "a", value)]}, criterion).text
        )


def test_long_times_have_no_exponent():
    times = (0.123, 2.14, 9.96, 12.4, 123.4, 1234.0, 1e-5)
    shown = ["0.12", "2.1", "10", "12", "123", "1234", "0.00001"]
    assert [picoseconds(t) for t in times] == shown
    runs = [run("a", 300, False, 123.4)]
    found = verdict({"cross_errors": [entry("a", "a", 0.02)], "stability": runs}, 0.1)
    assert "first after 123 ps at 300 K" in found.text


def test_citations_are_known_and_complete():
    assert len(citations(REFERENCES)) == len(REFERENCES)
    with pytest.raises(KeyError):
        citations(["no such method"])
    for what, reference in REFERENCES.values():
        assert what
        # Two of the papers are known as anonymous manuscripts only.
        assert any(word in reference for word in ("doi:", "arXiv:", "anonymous"))
