"""What an arm's sampling was like, in numbers: one entry of ``summary.json``'s ``arms``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from metamd.bonds import BondGraph
from metamd.frames import Array, Frames
from metamd.spread import distance_variance, energy_percentile


def bonds_intact_fraction(frames: Frames, start: BondGraph) -> float:
    """Part of the frames that still have the starting structure's bond graph (0 without frames)."""
    return float(start.intact_frames(frames).mean()) if len(frames) else 0.0


def energy_zero(arms: Sequence[Frames]) -> float | None:
    """The energy of the lowest frame of all arms, eV: the zero of every energy in the summary.

    None when no arm has energies.
    """
    lowest = [float(f.energy.min()) for f in arms if f.energy is not None and len(f)]
    return min(lowest) if lowest else None


def arm_numbers(frames: Frames, start: BondGraph, zero_ev: float | None) -> dict[str, Any]:
    """How widely one arm sampled.

    Args:
        frames: all frames of the arm; with energies (of the unbiased reference) where known.
        start: bond graph of the starting structure.
        zero_ev: what energies are counted from, ``energy_zero`` of all arms.

    Returns:
        ``n_frames``, ``bonds_intact_fraction``, ``distance_variance_1_per_ang2`` (mean over pairs
        of the variance of 1/r), ``energy_p95_ev`` and ``bias_p95_ev`` (95th percentiles; None
        where the frames have no energies or no bias).
    """
    energy = frames.energy
    bias: Array | None = frames.info.get("bias_ev")
    return {
        "n_frames": len(frames),
        "bonds_intact_fraction": bonds_intact_fraction(frames, start),
        "distance_variance_1_per_ang2": distance_variance(frames) if len(frames) else 0.0,
        "energy_p95_ev": (
            None
            if energy is None or zero_ev is None or not len(frames)
            else energy_percentile(energy, zero_ev)
        ),
        "bias_p95_ev": (
            float(np.percentile(np.asarray(bias, float), 95.0))
            if bias is not None and len(bias)
            else None
        ),
    }
