"""What a further check gives: numbers with units, and curves for the report to draw."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metamd.frames import Array


@dataclass(frozen=True)
class Check:
    """One check's outcome, an entry of ``summary.json``'s ``checks``.

    Attributes:
        key: unique on the page and usable as a file name: letters, digits, hyphens.
        title, caption: what it shows, and how it was made.
        x_label, y_label: axes, with units.
        curves: name to (x, y), [n] each; the reference first, where there is one.
        numbers: what came out, by a name that ends in its unit; None where it could not be.
        notes: what went wrong, in words.
        style: "line", "points" (against the first curve's line) or "bars".
        ticks: words that stand for x = 0, 1, ...; empty where x is a number.
        has_reference: the first curve is the reference's.
    """

    key: str
    title: str
    caption: str
    x_label: str
    y_label: str
    curves: Mapping[str, tuple[Array, Array]]
    numbers: Mapping[str, float | None]
    notes: Sequence[str] = field(default_factory=tuple)
    style: str = "line"
    ticks: Sequence[str] = field(default_factory=tuple)
    has_reference: bool = True

    def as_dict(self) -> dict[str, Any]:
        """Plain lists and numbers for JSON; what is no number becomes None."""
        return {
            "key": self.key,
            "title": self.title,
            "caption": self.caption,
            "x_label": self.x_label,
            "y_label": self.y_label,
            "style": self.style,
            "ticks": list(self.ticks),
            "has_reference": self.has_reference,
            "curves": [
                {"name": name, "x": _plain(x), "y": _plain(y)}
                for name, (x, y) in self.curves.items()
            ],
            "numbers": {k: _finite(v) for k, v in self.numbers.items()},
            "notes": list(self.notes),
        }


def _plain(values: Array) -> list[float | None]:
    return [_finite(float(v)) for v in np.asarray(values, float)]


def _finite(value: float | None) -> float | None:
    if isinstance(value, int):
        return value
    return None if value is None or not math.isfinite(value) else float(value)
