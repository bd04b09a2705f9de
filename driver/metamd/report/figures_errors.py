"""Figures about errors on held-out frames: parity, distributions, where the errors are.

Each takes the Material and gives a Figure, or None where its data is not there (yet).
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from matplotlib.figure import Figure as MplFigure

from metamd.frames import Array
from metamd.report.draw import INK, Figure, colour_of, drawn, legend, plain_log
from metamd.report.figures_models import criterion, trains
from metamd.report.material import Material

#: Points of one model on one test set in the parity plots, and of all together, at most.
PARITY_POINTS = 3000
_PARITY_ALL = 36000


def parity(material: Material) -> Figure | None:
    """Predicted against reference force components, one panel a test set."""
    seen: dict[tuple[str, str], tuple[Array, Array]] = {}
    points = min(PARITY_POINTS, _PARITY_ALL // max(1, len(material.rows("cross_errors"))))
    for row, _, reference, _, forces in material.predictions():
        key = (str(row.get("train")), str(row.get("test")))
        assert reference.forces is not None
        if key not in seen and np.isfinite(forces).all():
            true, predicted = reference.forces.ravel(), forces.ravel()
            pick = np.random.default_rng(0).permutation(len(true))[:points]
            seen[key] = true[pick], predicted[pick]
    if not seen:
        return None
    tests = list(dict.fromkeys(test for _, test in seen))
    colours = colour_of(trains(material))

    def draw(canvas: MplFigure) -> None:
        panels = canvas.subplots(1, len(tests), squeeze=False)[0]
        for axes, test in zip(panels, tests, strict=True):
            # The worse model first, so that it does not cover the better one.
            here = [(t, pair) for (t, s), pair in seen.items() if s == test]
            here.sort(key=lambda item: -float(np.square(item[1][0] - item[1][1]).mean()))
            bound = max(float(np.abs(true).max()) for _, (true, _) in here) * 1.05
            axes.axline((0, 0), slope=1, color=INK, linewidth=0.8, alpha=0.6)
            for name, (true, predicted) in here:
                axes.plot(
                    true,
                    predicted,
                    ".",
                    markersize=2.5,
                    alpha=0.5,
                    color=colours[name],
                    rasterized=True,
                )
            axes.set_xlim(-bound, bound)
            axes.set_ylim(-1.3 * bound, 1.3 * bound)
            axes.set_title(f"on {test} frames")
            axes.set_xlabel("reference force / (eV/Å)")
        panels[0].set_ylabel("predicted force / (eV/Å)")
        for name in dict.fromkeys(t for t, _ in seen):
            panels[0].plot([], [], "o", color=colours[name], label=f"{name}-trained")
        legend(panels[0], anchor=1.08)

    keys = [key for key, (true, _) in seen.items() for _ in true]
    return drawn(
        "parity",
        "Predicted against reference forces",
        f"Force components of the first seed's models on held-out frames (at most {points} "
        "components of each, drawn at random); a perfect model lies on the line.",
        draw,
        {
            "train": [a for a, _ in keys],
            "test": [b for _, b in keys],
            "reference_force_ev_per_ang": np.concatenate([t for t, _ in seen.values()]),
            "predicted_force_ev_per_ang": np.concatenate([p for _, p in seen.values()]),
        },
        size=(max(4.8, 3.2 * len(tests)), 3.5),
        wide=len(tests) > 1,
    )


def error_distribution(material: Material) -> Figure | None:
    """How the force errors of each model on each test set are distributed."""
    errors: dict[tuple[str, str], Array] = {}
    for row, _, reference, _, forces in material.predictions():
        key = (str(row.get("train")), str(row.get("test")))
        assert reference.forces is not None
        if key not in errors and np.isfinite(forces).all():
            errors[key] = np.abs(forces - reference.forces).ravel()
    if not errors:
        return None
    colours = colour_of(trains(material))
    tests = list(dict.fromkeys(test for _, test in errors))
    # The part of all components that exceeds an error: the tails are what matters.
    part = np.geomspace(1.0, 1e-4, 200)
    curves = {key: np.quantile(e, 1.0 - part) for key, e in errors.items()}
    shown = {key: part >= 1.0 / len(e) for key, e in errors.items()}

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        for (train, test), at in curves.items():
            keep = shown[train, test]
            dash = ["-", "--", ":", "-."][tests.index(test) % 4]
            axes.plot(at[keep], part[keep], dash, color=colours[train], label=f"{train} on {test}")
        axes.set_xscale("log")
        plain_log(axes.xaxis)
        axes.set_yscale("log")
        axes.set_xlim(left=max(1e-3, 0.02 * max(float(a.max()) for a in curves.values())))
        axes.set_xlabel("absolute force error x / (eV/Å)")
        axes.set_ylabel("part of components with error > x")
        legend(axes, columns=2 if len(curves) > 3 else None)

    return drawn(
        "error-distribution",
        "Distribution of the force errors",
        "Part of all force components whose error exceeds a value (first seed's models): two "
        "models of equal RMSE can differ in how often they are far off.",
        draw,
        {
            "train": [a for a, _ in curves for _ in part],
            "test": [b for _, b in curves for _ in part],
            "force_error_ev_per_ang": np.concatenate(list(curves.values())),
            "part_above": np.tile(part, len(curves)),
        },
    )


def energy_parity(material: Material) -> Figure | None:
    """Predicted against reference energy per atom, all test sets in one."""
    seen: dict[tuple[str, str], tuple[Array, Array]] = {}
    for row, _, reference, energy, _ in material.predictions():
        key = (str(row.get("train")), str(row.get("test")))
        if key not in seen and reference.energy is not None and np.isfinite(energy).all():
            n = reference.n_atoms
            seen[key] = reference.energy / n, np.asarray(energy, float) / n
    if not seen:
        return None
    zero = min(float(true.min()) for true, _ in seen.values())
    colours = colour_of(trains(material))

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        axes.axline((0, 0), slope=1, color=INK, linewidth=0.8, alpha=0.6)
        order = sorted(seen.items(), key=lambda i: -float(np.square(i[1][0] - i[1][1]).mean()))
        for (train, _), (true, predicted) in order:
            axes.plot(
                1e3 * (true - zero),
                1e3 * (predicted - zero),
                ".",
                markersize=3,
                alpha=0.5,
                color=colours[train],
                rasterized=True,
            )
        for train in dict.fromkeys(t for t, _ in seen):
            axes.plot([], [], "o", color=colours[train], label=f"{train}-trained")
        high = 1e3 * max(float(true.max()) - zero for true, _ in seen.values())
        axes.set_xlim(-0.03 * high, 1.05 * high)
        axes.set_ylim(-0.15 * high, 1.25 * high)
        axes.set_xlabel("reference energy / (meV/atom)")
        axes.set_ylabel("predicted energy / (meV/atom)")
        legend(axes)

    return drawn(
        "energy-parity",
        "Predicted against reference energies",
        "Held-out frames of all test sets, energies above the lowest of them (first seed's "
        "models).",
        draw,
        {
            "train": [a for (a, _), (true, _) in seen.items() for _ in true],
            "test": [b for (_, b), (true, _) in seen.items() for _ in true],
            "reference_energy_ev_per_atom": np.concatenate([t for t, _ in seen.values()]),
            "predicted_energy_ev_per_atom": np.concatenate([p for _, p in seen.values()]),
        },
    )


def error_by_energy(material: Material) -> Figure | None:
    """Force error of a frame against its energy: where a model fails."""
    points: dict[str, list[tuple[Array, Array]]] = defaultdict(list)
    first: dict[str, int] = {}
    found = list(material.predictions())
    energies = [r.energy for _, _, r, _, _ in found if r.energy is not None]
    lowest = [float(e.min()) for e in energies]
    if not lowest:
        return None
    zero = min([*lowest, *([material.zero_ev] if material.zero_ev is not None else [])])
    for row, seed, reference, _, forces in found:
        name = str(row.get("train"))
        if first.setdefault(name, seed) == seed:
            assert reference.energy is not None
            assert reference.forces is not None
            error = np.sqrt(np.square(forces - reference.forces).mean(axis=(1, 2)))
            points[name].append((reference.energy - zero, error))
    joined = {
        name: (np.concatenate([e for e, _ in p]), np.concatenate([r for _, r in p]))
        for name, p in points.items()
    }
    colours = colour_of(trains(material))
    limit = criterion(material)

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        for name, (energy, error) in joined.items():
            axes.plot(
                energy,
                error,
                ".",
                markersize=4,
                alpha=0.55,
                color=colours[name],
                rasterized=True,
            )
            axes.plot([], [], "o", color=colours[name], label=f"{name}-trained")
        axes.set_yscale("log")
        plain_log(axes.yaxis)
        if limit is not None:
            axes.axhline(limit, color=INK, linewidth=0.9, linestyle="--", label="criterion")
        axes.set_xlabel("reference energy above the lowest frame / eV")
        axes.set_ylabel("force RMSE of the frame / (eV/Å)")
        legend(axes)

    return drawn(
        "error-by-energy",
        "Where the errors are",
        "Each point is a held-out frame of any test set (first seed's models). Errors that rise "
        "with the energy are those of a model that has seen too few frames up there.",
        draw,
        {
            "train": [name for name, (energy, _) in joined.items() for _ in energy],
            "energy_ev": np.concatenate([e for e, _ in joined.values()]),
            "force_rmse_ev_per_ang": np.concatenate([r for _, r in joined.values()]),
        },
    )
