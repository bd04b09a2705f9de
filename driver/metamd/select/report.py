"""Errors of a model cluster by cluster: the table, the figure, the worst cluster's structure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metamd.frames import Array, Frames
from metamd.select.clusters import Clusters, cluster_rmse
from metamd.select.rounds import Round


@dataclass(frozen=True)
class ClusterError:
    """One cluster.

    Attributes:
        cluster: its number.
        geometry: number of the Ward cluster it is a part of.
        population: frames in it.
        predicted: frames of it whose forces were predicted.
        rmse_ev_per_ang: force RMSE, eV/A; None without predictions.
        mean_energy_ev: eV.
        representative: the frame nearest to its centre.
        worst: the frame with the largest error, -1 without predictions.
        indices: all its frames.
    """

    cluster: int
    geometry: int
    population: int
    predicted: int
    rmse_ev_per_ang: float | None
    mean_energy_ev: float
    representative: int
    worst: int
    indices: list[int]


@dataclass(frozen=True)
class ClusterReport:
    """All clusters, by rising error (Fonseca 2021, figure 2), and the overall force RMSE, eV/A."""

    clusters: tuple[ClusterError, ...]
    overall_rmse_ev_per_ang: float
    notes: tuple[str, ...]

    @property
    def worst(self) -> ClusterError:
        known = [c for c in self.clusters if c.rmse_ev_per_ang is not None]
        return known[-1]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"worst_cluster": self.worst.cluster}


def cluster_report(
    frames: Frames, clusters: Clusters, force_errors: Array, notes: tuple[str, ...] = ()
) -> ClusterReport:
    """Collect what is known about each cluster.

    Args:
        frames: with energies.
        clusters: of the frames.
        force_errors: force RMSE of each frame, eV/A, [n_frames]; NaN where not predicted.
        notes: sentences to pass on.
    """
    rmse, overall = cluster_rmse(clusters, force_errors)
    assert frames.energy is not None
    rows = []
    for number in np.argsort(rmse, kind="stable"):
        members = clusters.members(int(number))
        errors = force_errors[members]
        known = np.isfinite(errors)
        rows.append(
            ClusterError(
                cluster=int(number),
                geometry=int(clusters.geometry[number]),
                population=len(members),
                predicted=int(known.sum()),
                rmse_ev_per_ang=float(rmse[number]) if known.any() else None,
                mean_energy_ev=float(frames.energy[members].mean()),
                representative=clusters.representative(int(number)),
                worst=int(members[np.nanargmax(errors)]) if known.any() else -1,
                indices=[int(k) for k in members],
            )
        )
    return ClusterReport(tuple(rows), overall, notes)


def plot_clusters(report: ClusterReport, path: str | Path) -> Path:
    """Bar chart of force RMSE by cluster, with populations; PNG, SVG or PDF by the suffix."""
    from matplotlib.figure import Figure

    path = Path(path)
    rows = report.clusters
    x = np.arange(len(rows))
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    bars = axes.bar(x, [row.rmse_ev_per_ang or 0.0 for row in rows], color="#4c78a8")
    bars[rows.index(report.worst)].set_color("#c44e52")
    axes.axhline(report.overall_rmse_ev_per_ang, color="black", linewidth=1, label="overall")
    axes.set_xlabel("cluster, by rising error")
    axes.set_ylabel("force RMSE (eV/Å)")
    axes.set_xlim(-0.6, len(rows) - 0.4)
    right = axes.twinx()
    right.plot(x, [row.population for row in rows], color="#f58518", marker=".", linewidth=1)
    right.set_ylabel("frames in the cluster", color="#f58518")
    right.set_ylim(bottom=0)
    axes.legend(loc="upper left", frameon=False)
    figure.savefig(path, dpi=150)
    return path


def plot_rounds(rounds: Sequence[Round], path: str | Path) -> Path:
    """Force RMSE of the clusters by rising error, one line a training set (Fonseca, figure 3)."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    path = Path(path)
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for done in rounds:
        error = np.sort(done.cluster_rmse_ev_per_ang)  # unknown ones come last
        colour = colormaps["viridis"](0.9 * done.number / max(1, len(rounds) - 1))
        ends = done.number in (rounds[0].number, rounds[-1].number)
        axes.plot(error, color=colour, linewidth=1.8 if ends else 0.8,
                  label=f"{len(done.indices)} frames")  # fmt: skip
    axes.set_xlabel("cluster, by rising error")
    axes.set_ylabel("force RMSE (eV/Å)")
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=7, ncols=2)
    figure.savefig(path, dpi=150)
    return path
