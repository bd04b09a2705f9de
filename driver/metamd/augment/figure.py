"""Figure of distance histograms and their mixtures (physics-based augmentation, figure 2)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metamd.augment.springs import Springs
from metamd.descriptor import pair_columns
from metamd.frames import Frames


def plot_springs(frames: Frames, springs: Springs, path: str | Path) -> Path:
    """One panel a pair of elements; PNG, SVG or PDF by the suffix of ``path``."""
    from matplotlib.figure import Figure

    path = Path(path)
    columns = pair_columns(frames.symbols)
    across = min(3, len(columns))
    down = -(-len(columns) // across)
    figure = Figure(figsize=(3.2 * across, 2.5 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes in panels[len(columns) :]:
        axes.axis("off")
    for axes, (pair, index) in zip(panels, columns.items(), strict=False):
        r = frames.distances_ang[:, index].ravel()
        axes.hist(r, bins=100, density=True, color="#c9d6e6")
        x = np.linspace(r.min(), r.max(), 500)
        total = np.zeros_like(x)
        for spring in springs.of(pair):
            variance = springs.kt_kcal_mol / spring.k_kcal_mol_ang2
            part = spring.weight * np.exp(-0.5 * (x - spring.distance_ang) ** 2 / variance)
            part /= np.sqrt(2 * np.pi * variance)
            axes.plot(x, part, color="#4c78a8", linewidth=0.8)
            total += part
        axes.plot(x, total, color="#c44e52", linewidth=1.2)
        axes.set_title(pair, fontsize=9)
        axes.set_xlabel("distance (Å)", fontsize=8)
        axes.set_yticks([])
    figure.savefig(path, dpi=150)
    return path
