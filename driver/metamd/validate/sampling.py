"""What an arm's sampling was like, in numbers: one entry of ``summary.json``'s ``arms``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from metamd.bonds import BondGraph
from metamd.frames import Array, Frames
from metamd.reference import with_reference_energy
from metamd.spread import (
    distance_variance,
    energy_histogram,
    energy_percentile,
    matrix_components,
)
from metamd.validate.check import Check

#: Bins of the histograms that overlaps are computed from, along each axis.
OVERLAP_BINS = 20


def bonds_intact_fraction(frames: Frames, start: BondGraph) -> float:
    """Part of the frames that still have the starting structure's bond graph (0 without frames)."""
    if not len(frames):
        return 0.0
    key = ("bonds_intact_fraction", start.symbols, start.bonds.tobytes())
    return frames.once(key, lambda: float(start.intact_frames(frames).mean()))


def arm_energies(frames: Frames, labelled: Frames | None) -> Array | None:
    """Energies in eV that say how high an arm went, all of the reference; None where none are."""
    found = with_reference_energy(frames, labelled)
    return None if found is None else found.energy


def energy_zero(arms: Sequence[Array | None]) -> float | None:
    """The lowest of all arms' energies, eV: the zero of every energy in the summary.

    None when no arm has energies.
    """
    return min((float(energy.min()) for energy in arms if energy is not None), default=None)


def arm_numbers(
    frames: Frames, start: BondGraph, energy_ev: Array | None, zero_ev: float | None
) -> dict[str, Any]:
    """How widely one arm sampled.

    Args:
        frames: all frames of the arm.
        start: bond graph of the starting structure.
        energy_ev: ``arm_energies``, of the unbiased reference.
        zero_ev: what energies are counted from, ``energy_zero`` of all arms.

    Returns:
        ``n_frames``, ``bonds_intact_fraction``, ``distance_variance_1_per_ang2`` (mean over pairs
        of the variance of 1/r), ``energy_p95_ev`` and ``bias_p95_ev`` (95th percentiles; None
        where there are no energies or no bias).
    """
    bias: Array | None = frames.info.get("bias_ev")
    return {
        "n_frames": len(frames),
        "bonds_intact_fraction": bonds_intact_fraction(frames, start),
        "distance_variance_1_per_ang2": distance_variance(frames) if len(frames) else 0.0,
        "energy_p95_ev": (
            None if energy_ev is None or zero_ev is None else energy_percentile(energy_ev, zero_ev)
        ),
        "bias_p95_ev": (
            float(np.percentile(np.asarray(bias, float), 95.0))
            if bias is not None and len(bias)
            else None
        ),
    }


def overlap_check(sets: Mapping[str, Frames]) -> Check:
    """How much of one data set's region another one covers, for every pair.

    The overlap of two distributions is the integral of the smaller of them: 1 for equal ones, 0
    where they never meet.  It is taken over the energy and over the first two principal
    components of D = 1/r (of all sets together, with equal weight), in histograms of OVERLAP_BINS
    bins an axis; few frames in many bins make it too small.

    Raises:
        DataError: sets of different atoms, or no frames.
    """
    pairs = list(combinations(sets, 2))
    found = matrix_components(sets)
    scores = {name: points[:, :2] for name, points in found.scores.items()}
    both = np.concatenate(list(scores.values()))
    edges = [np.linspace(c.min(), c.max() + 1e-12, OVERLAP_BINS + 1) for c in both.T]
    plane = {n: np.histogramdd(p, edges)[0] / len(p) for n, p in scores.items()}
    matrix = [float(np.minimum(plane[a], plane[b]).sum()) for a, b in pairs]
    ticks = [f"{a} and {b}" for a, b in pairs]
    x = np.arange(len(pairs), dtype=float)
    curves = {"geometry (two components of 1/r)": (x, np.array(matrix))}
    numbers: dict[str, float | None] = {
        f"{tick}: overlap in geometry": value for tick, value in zip(ticks, matrix, strict=True)
    }
    energies = {name: f.energy for name, f in sets.items() if f.energy is not None}
    if len(energies) == len(sets):
        histogram = energy_histogram(energies, bins=OVERLAP_BINS, upper_percent=100.0)
        width = np.diff(histogram.edges_ev)
        line = [
            float((np.minimum(histogram.density[a], histogram.density[b]) * width).sum())
            for a, b in pairs
        ]
        curves["energy"] = x, np.array(line)
        numbers |= {f"{t}: overlap in energy": v for t, v in zip(ticks, line, strict=True)}
    return Check(
        key="overlap",
        title="Overlap of the data sets",
        caption="Shared part of two sets' distributions over energy and over the first two "
        "principal components of 1/r: 1 for equal ones, 0 where they never meet.",
        x_label="data sets",
        y_label="overlap",
        curves=curves,
        numbers=numbers,
        style="bars",
        ticks=ticks,
        has_reference=False,
    )
