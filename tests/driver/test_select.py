"""Selection: each method against an independent oracle, and its promises for all of them."""

from __future__ import annotations

import numpy as np
import pytest

from metamd.config import Select
from metamd.errors import DataError
from metamd.frames import Frames
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


@pytest.mark.parametrize("method", ["random", "time", "fps"])
def test_promises(method: str) -> None:
    frames = water_like(40)
    config = Select(method=method, count=15, seed=4)
    one, two = select(frames, config), select(frames, config)
    assert list(one.indices) == list(two.indices) == sorted(set(one.indices))
    assert len(one) == len(one.reasons) == 15
    rest = select(frames, config, already_chosen=one.indices)
    assert not set(rest.indices) & set(one.indices)
    with pytest.raises(DataError, match=r"water: 41 frames were asked for, the pool has 40"):
        select(frames, config.model_copy(update={"count": 41}))
    assert method in METHODS
