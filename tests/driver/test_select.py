"""Selection: each method against an independent oracle, and its promises for all of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from metamd.config import Select
from metamd.errors import DataError
from metamd.frames import Frames
from metamd.predict import Predictions
from metamd.select import METHODS, select


def water_like(n: int, seed: int = 0) -> Frames:
    """n distorted water molecules."""
    rng = np.random.default_rng(seed)
    base = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    return Frames(
        symbols=("O", "H", "H"),
        positions=base + 0.08 * rng.normal(size=(n, 3, 3)),
        source="water",
    )


def brute_force_fps(points: np.ndarray, count: int, first: int) -> list[int]:
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    taken = [first]
    while len(taken) < count:
        gap = distance[:, taken].min(axis=1)
        gap[taken] = -1
        taken.append(int(gap.argmax()))
    return taken


def test_fps_is_the_brute_force_order() -> None:
    frames = water_like(60)
    for metric in ("INVERSE", "DISTANCE"):
        chosen = select(frames, Select(method="fps", count=12, seed=3, metric=metric))
        points = frames.distances_ang if metric == "DISTANCE" else 1 / frames.distances_ang
        first = next(
            k
            for k, reason in zip(chosen.indices, chosen.reasons, strict=True)
            if "random start" in reason
        )
        assert sorted(brute_force_fps(points, 12, int(first))) == list(chosen.indices)


def test_time_is_even_and_follows_walkers() -> None:
    frames = water_like(100).with_info(walker=np.repeat([0, 1], 50), step=np.tile(range(50), 2))
    chosen = select(frames, Select(method="time", count=10))
    assert list(np.diff(chosen.indices)) == [10] * 9
    shuffle = np.random.default_rng(0).permutation(100)
    mixed = select(frames[shuffle], Select(method="time", count=10))
    assert sorted(shuffle[mixed.indices]) == list(chosen.indices)


def labelled(n: int, seed: int = 0) -> Frames:
    """n water molecules with the energies, atomic energies and forces of a sum of springs."""
    frames = water_like(n, seed)
    rng = np.random.default_rng(seed + 1)
    forces = rng.normal(size=(n, 3, 3)) * rng.exponential(size=(n, 3, 1))
    atomic = rng.gamma(2.0, size=(n, 3)) + np.array([-10.0, 0.0, 0.0])
    return replace(frames, energy=atomic.sum(axis=1), forces=forces, atomic_energy=atomic)


def disagreeing(frames: Frames, size: np.ndarray) -> Predictions:
    """Two models whose forces on one atom differ by 2 x size from each other."""
    assert frames.forces is not None
    shift = np.zeros((len(frames), frames.n_atoms, 3))
    shift[:, 1, 0] = size
    return Predictions(None, np.array([frames.forces + shift, frames.forces - shift]), None, "ab")


@pytest.mark.parametrize("method", sorted(METHODS))
def test_promises(method: str) -> None:
    """Exactly count, ascending, unique, the same for a seed, none taken twice, or an error."""
    frames = labelled(60)
    predictions = disagreeing(frames, np.linspace(0.06, 0.14, 60))
    config = Select(method=method, count=25, seed=4)
    one, two = (select(frames, config, predictions=predictions) for _ in range(2))
    assert list(one.indices) == list(two.indices) == sorted(set(one.indices))
    assert len(one) == len(one.reasons) == 25
    assert all(one.reasons)
    rest = select(frames, config, predictions=predictions, already_chosen=one.indices)
    assert not set(rest.indices) & set(one.indices)
    if method not in ("time", "flatten"):
        other = config.model_copy(update={"seed": 5})
        assert list(select(frames, other, predictions=predictions).indices) != list(one.indices)
    with pytest.raises(DataError, match=r"water: 61 frames were asked for, the pool has 60"):
        select(frames, config.model_copy(update={"count": 61}), predictions=predictions)


@pytest.mark.parametrize("method", ["fps", "flatten", "energy", "force", "atomic-energy"])
def test_rotation_and_atom_order_do_not_matter(method: str) -> None:
    frames = labelled(80)
    predictions = disagreeing(frames, np.linspace(0.06, 0.14, 80))
    turns = Rotation.random(80, random_state=1).as_matrix()
    assert frames.forces is not None
    moved = replace(
        frames,
        positions=np.einsum("fax,fxy->fay", frames.positions, turns) + 5.0,
        forces=np.einsum("fax,fxy->fay", frames.forces, turns),
    )
    turned = replace(predictions, forces=np.einsum("mfax,fxy->mfay", predictions.forces, turns))
    config = Select(method=method, count=20, seed=2)
    expected = select(frames, config, predictions=predictions)
    assert list(select(moved, config, predictions=turned).indices) == list(expected.indices)
    if method in ("fps", "flatten", "energy"):
        swap = [2, 0, 1]
        other = replace(
            frames,
            symbols=tuple(frames.symbols[k] for k in swap),
            positions=frames.positions[:, swap],
            forces=frames.forces[:, swap],
        )
        swapped = replace(predictions, forces=predictions.forces[:, :, swap])
        assert list(select(other, config, predictions=swapped).indices) == list(expected.indices)


def test_sorted_pairs_make_like_atoms_interchangeable() -> None:
    frames = water_like(50)
    hydrogens = frames.positions.copy()
    hydrogens[::2] = hydrogens[::2][:, [0, 2, 1]]
    swapped = replace(frames, positions=hydrogens)
    config = Select(method="fps", count=10, sort_pairs=True)
    assert list(select(swapped, config).indices) == list(select(frames, config).indices)


def test_energy_fills_every_bin() -> None:
    """A skewed pool: one frame of each occupied bin when there are as many bins as frames."""
    frames = labelled(5000)
    assert frames.energy is not None
    chosen = select(frames, Select(method="energy", count=40, bins=40))
    low, high = frames.energy.min(), frames.energy.max()
    histogram = np.histogram(frames.energy, 40, (low, high))[0]
    taken = np.histogram(frames.energy[chosen.indices], 40, (low, high))[0]
    assert (taken >= np.minimum(histogram, 1)).all()
    assert taken.max() <= 2 + (histogram == 0).sum() // 10
    random = select(frames, Select(method="random", count=40))
    assert frames.energy[chosen.indices].std() > 1.3 * frames.energy[random.indices].std()


@pytest.mark.parametrize("method", ["force", "atomic-energy"])
def test_atomic_methods_see_every_element_and_bin(method: str) -> None:
    frames = labelled(4000)
    assert frames.forces is not None
    assert frames.atomic_energy is not None
    value = np.linalg.norm(frames.forces, axis=2) if method == "force" else frames.atomic_energy
    chosen = select(frames, Select(method=method, count=40))
    for atoms in ([0], [1, 2]):
        pool = value[:, atoms].ravel()
        edges = np.linspace(pool.min(), pool.max(), 21)
        there = np.histogram(pool, edges)[0] > 0
        seen = np.histogram(value[chosen.indices][:, atoms].ravel(), edges)[0] > 0
        assert there.sum() > 8
        assert (seen == there).all()


def test_predicted_values_stand_in_and_say_so() -> None:
    frames = labelled(50)
    assert frames.forces is not None
    stored = Predictions(None, frames.forces[None], None, ("model",))
    bare = frames.without_labels()
    chosen = select(bare, Select(method="force", count=10), predictions=stored)
    assert list(chosen.indices) == list(select(frames, Select(method="force", count=10)).indices)
    assert "predicted by the models" in chosen.notes[0]
    with pytest.raises(DataError, match=r"water: .* no atomic energy"):
        select(bare, Select(method="atomic-energy", count=10), predictions=stored)


def test_zero_variance_is_refused() -> None:
    frames = labelled(20)
    flat = replace(frames, energy=np.full(20, -3.0), forces=np.zeros((20, 3, 3)))
    with pytest.raises(DataError, match=r"water: energy is the same in all 20 frames"):
        select(flat, Select(method="energy", count=5))
    with pytest.raises(DataError, match=r"water: force is the same in all 20 frames"):
        select(flat, Select(method="force", count=5))
    copies = replace(frames, positions=np.repeat(frames.positions[:4], 5, axis=0))
    with pytest.raises(DataError, match=r"water: only 4 frames differ"):
        select(copies, Select(method="fps", count=5))


def test_deviation_takes_what_lies_between_the_trust_levels() -> None:
    frames = labelled(30)
    size = np.linspace(0.0, 0.29, 30)
    predictions = disagreeing(frames, size)
    np.testing.assert_allclose(predictions.max_force_deviation(), size, atol=1e-12)
    between = set(np.flatnonzero((size >= 0.05) & (size < 0.15)))
    chosen = select(frames, Select(method="deviation", count=8), predictions=predictions)
    assert set(chosen.indices) <= between
    with pytest.raises(DataError, match=r"only 10 are between the trust levels"):
        select(frames, Select(method="deviation", count=11), predictions=predictions)
    one = replace(predictions, forces=predictions.forces[:1])
    with pytest.raises(DataError, match="needs two models"):
        select(frames, Select(method="deviation", count=8), predictions=one)
