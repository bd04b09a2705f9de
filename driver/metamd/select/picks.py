"""What every selection method returns, and what it is given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from metamd.config import Select
from metamd.frames import Frames
from metamd.predict import Predictions

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Selection:
    """Frames chosen out of a pool.

    Attributes:
        indices: frame numbers from 0, [count], ascending and unique.
        reasons: why each of them, in the same order, [count].
        method: name of the method.
        notes: what a person should know about the choice as a whole.
    """

    indices: Indices
    reasons: list[str]
    method: str
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.indices)

    def as_dict(self) -> dict[str, Any]:
        """For JSON: ``indices``, ``reasons``, ``method``, ``notes``."""
        return {
            "indices": [int(k) for k in self.indices],
            "reasons": self.reasons,
            "method": self.method,
            "notes": self.notes,
        }


@dataclass
class Picks:
    """Frames in the order a method took them; ``select`` sorts and checks them."""

    indices: list[int]
    reasons: list[str]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pool:
    """What a method chooses from.

    Attributes:
        frames: all frames.
        chosen: frames taken earlier, never taken again.
        free: the others, ascending.
        count: how many to take.
        predictions: of one or more models, where given.
    """

    frames: Frames
    chosen: Indices
    free: Indices
    count: int
    predictions: Predictions | None

    @property
    def source(self) -> str:
        return self.frames.source


class Method(Protocol):
    """A selection method: picks exactly ``pool.count`` of ``pool.free`` or raises DataError."""

    def __call__(self, pool: Pool, config: Select, rng: np.random.Generator) -> Picks: ...


def as_indices(values: Sequence[int] | Indices) -> Indices:
    return np.unique(np.asarray(values, dtype=np.intp))
