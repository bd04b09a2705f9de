"""Figures about the sampling, after Herr 2018: running variance, energies, principal components."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure as MplFigure
from numpy.typing import NDArray

from metamd.frames import Array, Frames
from metamd.report.draw import Figure, colour_of, drawn, legend
from metamd.report.material import Material
from metamd.spread import energy_histogram, running_variance


def components_map(material: Material) -> Figure | None:
    """Where each arm has been: first two principal components of D = 1/r."""
    found = material.components
    if found is None or found.axes.shape[0] < 2:
        return None
    colours = colour_of(list(found.scores))
    x, y = (100 * found.explained[:2]).round()

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        # The widest arm first, so that it does not cover the others.
        for name in sorted(found.scores, key=lambda n: -float(found.scores[n].std())):
            points = found.scores[name]
            axes.plot(
                points[:, 0],
                points[:, 1],
                ".",
                markersize=3,
                alpha=0.5,
                color=colours[name],
                rasterized=True,
            )
        for name in found.scores:
            axes.plot([], [], "o", color=colours[name], label=name)
        axes.set_xlabel(f"component 1 / Å⁻¹ ({x:.0f} % of variance)")
        axes.set_ylabel(f"component 2 / Å⁻¹ ({y:.0f} %)")
        legend(axes)

    rows = [name for name, points in found.scores.items() for _ in points]
    both = np.concatenate([points[:, :2] for points in found.scores.values()])
    return drawn(
        "components",
        "Where the sampling went",
        "Principal components of the inverse distances 1/r of all atom pairs, fitted to all arms "
        "with equal weight; each point is a sampled frame.",
        draw,
        {
            "arm": rows,
            "component_1_per_ang": both[:, 0],
            "component_2_per_ang": both[:, 1],
        },
    )


def components_in_time(material: Material) -> Figure | None:
    """The first principal component along each trajectory (Herr 2018, figure 3)."""
    found = material.components
    if found is None:
        return None
    lines = []
    times, label = material.times
    for name, frames in material.arms.items():
        for walker, part in walkers(frames):
            at = times[name][part] if label != "frame" else np.arange(len(part), dtype=float)
            lines.append((name, walker, at, found.scores[name][part, 0]))
    return _lines(
        "components-time",
        "Principal component in time",
        "First principal component of 1/r along each walker's trajectory. In Herr 2018, figure 3, "
        "plain MD stays about one place while MetaMD moves on.",
        lines,
        label,
        "component 1 / Å⁻¹",
        "component_1_per_ang",
    )


def variance_in_time(material: Material) -> Figure | None:
    """Running variance of the distance matrix (Herr 2018, figure 1)."""
    lines = []
    times, label = material.times
    for name, frames in material.arms.items():
        for walker, part in walkers(frames):
            if len(part) > 1:
                at = times[name][part] if label != "frame" else np.arange(len(part), dtype=float)
                lines.append((name, walker, at, running_variance(frames[part])))
    return _lines(
        "variance",
        "How widely each arm sampled",
        "Running variance of 1/r, mean over atom pairs, one line a walker (Herr 2018, figure 1).",
        lines,
        label,
        "variance of 1/r / Å⁻²",
        "variance_1_per_ang2",
    )


def energies(material: Material) -> Figure | None:
    """Distribution of potential energies (Herr 2018, figure 2)."""
    given = {n: f.energy for n, f in material.with_energy.items() if f.energy is not None}
    if not given:
        return None
    found = energy_histogram(given)
    colours = colour_of(list(material.arms))

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        for name, density in found.density.items():
            axes.stairs(density, found.edges_ev, color=colours[name], fill=True, alpha=0.22)
            axes.stairs(density, found.edges_ev, color=colours[name], linewidth=1.5, label=name)
        axes.set_xlabel("potential energy above the lowest frame / eV")
        axes.set_ylabel("probability density / eV⁻¹")
        legend(axes)

    arms = [name for name, density in found.density.items() for _ in density]
    n = len(found.density)
    return drawn(
        "energies",
        "Energies sampled",
        "Distribution of the reference energy, without bias, over the frames of each arm; where "
        "something else moved the atoms, over those that were labelled (Herr 2018, figure 2).",
        draw,
        {
            "arm": arms,
            "bin_low_ev": np.tile(found.edges_ev[:-1], n),
            "bin_high_ev": np.tile(found.edges_ev[1:], n),
            "density_per_ev": np.concatenate(list(found.density.values())),
        },
    )


def walkers(frames: Frames) -> list[tuple[int, NDArray[np.intp]]]:
    """Frame indices of each walker in the order of its steps."""
    label = frames.info.get("walker")
    if label is None:
        return [(0, np.arange(len(frames)))]
    step = np.asarray(frames.info.get("step", np.arange(len(frames))), float)
    out = []
    for walker in np.unique(label):
        part = np.flatnonzero(label == walker)
        out.append((int(walker), part[np.argsort(step[part], kind="stable")]))
    return out


def _lines(
    key: str,
    title: str,
    caption: str,
    lines: list[tuple[str, int, Array, Array]],
    xlabel: str,
    ylabel: str,
    column: str,
) -> Figure | None:
    if not lines:
        return None
    colours = colour_of(list(dict.fromkeys(name for name, _, _, _ in lines)))

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        named: set[str] = set()
        for name, _, x, y in lines:
            axes.plot(
                x,
                y,
                color=colours[name],
                linewidth=1.0,
                alpha=0.85,
                label=None if name in named else name,
                rasterized=len(x) > 3000,
            )
            named.add(name)
        axes.set_xlabel(xlabel)
        axes.set_ylabel(ylabel)
        legend(axes)

    return drawn(
        key,
        title,
        caption,
        draw,
        {
            "arm": [name for name, _, x, _ in lines for _ in x],
            "walker": [w for _, w, x, _ in lines for _ in x],
            "time_ps" if "time" in xlabel else "frame": np.concatenate([x for _, _, x, _ in lines]),
            column: np.concatenate([y for _, _, _, y in lines]),
        },
    )
