"""The split: fixed, in contiguous blocks, no neighbours on both sides."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metamd.config import Dataset, Train
from metamd.dataset import make_dataset, split_blocks
from metamd.errors import DataError
from metamd.frames import Frames, load_frames, save_deepmd
from metamd.train import neighbour_selection, train_ensemble

from .test_frames import some_frames


@pytest.mark.parametrize(("n", "walkers"), [(1000, 2), (100, 1), (37, 3)])
def test_split_keeps_neighbours_apart(n: int, walkers: int) -> None:
    config = Dataset(gap=2, blocks=5, heldout_fraction=0.2)
    walker = np.arange(n) % walkers
    step = np.arange(n) // walkers * 20
    shuffled = np.random.default_rng(1).permutation(n)
    train, heldout = split_blocks(walker[shuffled], step[shuffled], config)
    again = split_blocks(walker[shuffled], step[shuffled], config)
    assert (train == again[0]).all()
    assert not set(train) & set(heldout)
    assert len(heldout) == pytest.approx(0.2 * n, abs=walkers * 5)
    assert len(train) > 0.5 * n
    for w in range(walkers):
        mine = sorted(step[shuffled][t] for t in train if walker[shuffled][t] == w)
        other = sorted(step[shuffled][t] for t in heldout if walker[shuffled][t] == w)
        assert mine
        assert other
        closest = np.abs(np.subtract.outer(mine, other)).min()
        assert closest > config.gap * 20


def test_too_few_frames() -> None:
    with pytest.raises(DataError, match="too few to split"):
        split_blocks(np.zeros(2, int), np.arange(2), Dataset(gap=5))


def test_systems_on_disk_hold_the_split(tmp_path: Path) -> None:
    frames = some_frames(False, n=60)
    result = make_dataset("a", frames, Dataset(), tmp_path / "a")
    assert result.train is not None
    assert len(load_frames(result.train)) == result.n_train
    assert len(load_frames(result.heldout)) == result.n_heldout
    again = make_dataset("a", frames, Dataset(), tmp_path / "a")
    assert again == result
    test_only = make_dataset("b", frames, Dataset(), tmp_path / "b", use="test")
    assert test_only.train is None
    assert test_only.n_heldout == 60


def test_training_needs_labels(tmp_path: Path) -> None:
    """DeePMD itself would train on what is there."""
    frames = some_frames(False, n=12)
    whole = save_deepmd(frames, tmp_path / "whole")
    bare = save_deepmd(replace(frames, forces=None), tmp_path / "bare")
    empty = save_deepmd(frames.without_labels(), tmp_path / "empty")
    with pytest.raises(DataError, match=r"bare: has no forces.*energy_only = true"):
        train_ensemble("m", [whole, bare], [whole], Train(), tmp_path)
    assert train_ensemble("m", [bare], [bare], Train(energy_only=True), tmp_path)
    with pytest.raises(DataError, match="empty: has no energies"):
        train_ensemble("m", [empty], [whole], Train(energy_only=True), tmp_path)


def test_neighbours_are_counted_in_the_densest_frames() -> None:
    """A pool joined of sparse, dense and sparse frames: the dense ones fill the list."""
    rng = np.random.default_rng(0)
    lattice = np.array(list(np.ndindex(3, 3, 3)), float)
    edge = np.repeat([6.0, 4.0, 6.0], [420, 10, 370])
    positions = edge[:, None, None] * lattice + rng.normal(0, 0.1, (800, 27, 3))
    pool = Frames(("Ar",) * 27, positions, cell=3 * edge[:, None, None] * np.eye(3))
    dense = neighbour_selection(pool[420:430], 6.0)
    assert dense["Ar"] > 1.5 * neighbour_selection(pool[:420], 6.0)["Ar"]
    assert neighbour_selection(pool, 6.0) == dense
