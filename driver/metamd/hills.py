"""``metamd hills``: what a hills file of MATRIX_METAD holds, in numbers and a figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase.io import read

from metamd.descriptor import features, fit_pca
from metamd.errors import DataError
from metamd.frames import Array, Frames, from_atoms

#: Hills whose mutual bias is summed at a time, so that memory stays small.
_CHUNK = 512


@dataclass(frozen=True)
class Hills:
    """A hills file.

    Attributes:
        frames: the structures bumps were put on (info: step, time in ps, height in eV).
        metric: INVERSE, DISTANCE or SCREENED.
        sigma: as written, one value or one per pair of elements.
        biasfactor: well-tempered bias factor; inf for constant heights.
        bias_ev: bias that each bump met when it was put, eV, [n_hills]; None where sigma is
            not one number, or for a cutoff or the screened metric.
    """

    frames: Frames
    metric: str
    sigma: str
    biasfactor: float
    bias_ev: Array | None

    @property
    def heights_ev(self) -> Array:
        return np.asarray(self.frames.info["height"], dtype=float)

    @property
    def time_ps(self) -> Array:
        return np.asarray(self.frames.info["time"], dtype=float)

    def describe(self) -> str:
        """A few lines for the terminal."""
        h, t = self.heights_ev, self.time_ps
        lines = [
            f"{len(h)} hills on {self.frames.n_atoms} atoms, metric {self.metric}, "
            f"sigma {self.sigma}, bias factor {self.biasfactor:g}",
            f"time {t[0]:g} to {t[-1]:g} ps; heights {h.min():.4g} to {h.max():.4g} eV, "
            f"sum {h.sum():.4g} eV",
        ]
        if self.bias_ev is not None:
            lines.append(
                f"bias met by a new hill: mean {self.bias_ev.mean():.4g}, "
                f"largest {self.bias_ev.max():.4g} eV"
            )
        return "\n".join(lines)


def load_hills(path: str | Path) -> Hills:
    """Read a hills file (extended XYZ; design section 4).

    Raises:
        DataError: no hills file, or a torn or empty one.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such hills file.")
    try:
        images = read(path, index=":", format="extxyz")
    except Exception as error:
        raise DataError(f"{path}: cannot be read as a hills file ({error}).") from error
    if not images:
        raise DataError(f"{path}: holds no hills.")
    missing = {"step", "time", "height", "sigma", "biasf", "metric"} - set(images[0].info)
    if missing:
        raise DataError(f"{path}: is no hills file of MATRIX_METAD ({sorted(missing)[0]} missing).")
    first = dict(images[0].info)
    frames = from_atoms(images, str(path))
    metric, sigma = str(first["metric"]), str(first["sigma"])
    plain = (
        metric in ("INVERSE", "DISTANCE") and "cutoff" not in first and len(sigma.split(",")) == 1
    )
    bias = _bias_at_deposition(frames, metric, float(sigma)) if plain else None
    return Hills(frames, metric, sigma, float(first["biasf"]), bias)


def _bias_at_deposition(frames: Frames, metric: str, sigma: float) -> Array:
    """V(R_k) = sum_{a<k} h_a exp(-|D_k - D_a|^2 / 2 sigma^2), eV, [n_hills] (Herr 2018, eq. 1)."""
    d = features(frames, "INVERSE" if metric == "INVERSE" else "DISTANCE")
    height = np.asarray(frames.info["height"], dtype=float)
    square = np.einsum("kp,kp->k", d, d)
    bias = np.zeros(len(d))
    for start in range(0, len(d), _CHUNK):
        rows = slice(start, min(start + _CHUNK, len(d)))
        s = square[rows, None] + square[None, : rows.stop] - 2.0 * d[rows] @ d[: rows.stop].T
        weight = np.exp(-np.maximum(s, 0.0) / (2.0 * sigma**2)) * height[: rows.stop]
        earlier = np.arange(rows.stop)[None] < np.arange(rows.start, rows.stop)[:, None]
        bias[rows] = (weight * earlier).sum(axis=1)
    return bias


def plot_hills(hills: Hills, path: str | Path) -> Path:
    """Height, bias and number over time, and the bumps under PCA of their matrix."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 7.5), layout="constrained")
    axes = figure.subplots(2, 2)
    t = hills.time_ps
    axes[0, 0].plot(t, hills.heights_ev, lw=1)
    axes[0, 0].set(xlabel="time / ps", ylabel="height / eV", title="Height of each hill")
    axes[0, 0].set_ylim(bottom=0)
    if hills.bias_ev is not None:
        axes[0, 1].plot(t, hills.bias_ev, lw=1)
    else:
        axes[0, 1].text(0.5, 0.5, "not computed for this metric", ha="center")
    axes[0, 1].set(xlabel="time / ps", ylabel="bias / eV", title="Bias met by each hill")
    axes[1, 0].plot(t, np.arange(1, len(t) + 1), lw=1)
    axes[1, 0].set(xlabel="time / ps", ylabel="hills", title="Number of hills")
    if len(t) > 2:
        matrix = features(hills.frames, "INVERSE")
        points = fit_pca(matrix, 2).project(matrix)
        marks = axes[1, 1].scatter(points[:, 0], points[:, 1], c=t, s=8, cmap="viridis")
        figure.colorbar(marks, ax=axes[1, 1], label="time / ps")
    axes[1, 1].set(xlabel="component 1 / Å⁻¹", ylabel="component 2 / Å⁻¹", title="PCA of 1/r")
    path = Path(path)
    figure.savefig(path, dpi=130)
    return path
