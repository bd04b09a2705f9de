"""How much the members of an ensemble disagree along a trajectory that one of them drove."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from metamd.frames import Array
from metamd.validate.check import Check


def deviation_check(deviations: Mapping[str, tuple[Array, Array]]) -> Check:
    """Largest force deviation of each frame (DP-GEN's measure) against time.

    Args:
        deviations: time in ps and deviation in eV/A, [n] each, by the run's name.
    """
    numbers: dict[str, float | None] = {}
    for name, (_, deviation) in deviations.items():
        numbers[f"{name}: median / eV/Å"] = float(np.median(deviation))
        numbers[f"{name}: 95th percentile / eV/Å"] = float(np.percentile(deviation, 95.0))
        numbers[f"{name}: largest / eV/Å"] = float(deviation.max())
    return Check(
        key="deviation",
        title="Model deviation along the dynamics",
        caption="Largest deviation of a force among the models of an ensemble, frame by frame of "
        "the run that the first one drove; up to its failure. It grows where the models have not "
        "been trained.",
        x_label="time / ps",
        y_label="largest force deviation / (eV/Å)",
        curves=deviations,
        numbers=numbers,
        has_reference=False,
    )
