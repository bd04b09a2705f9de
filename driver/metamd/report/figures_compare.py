"""Figures of a comparison: generality by size of the training set, and by arm and seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure as MplFigure

from metamd.report.draw import INK, Figure, colour_of, drawn, legend, plain_log
from metamd.report.figures_models import criterion, trains
from metamd.report.material import Material


def learning_by_size(material: Material) -> Figure | None:
    """Error on the others' frames and on one's own against the number of training frames."""
    arms = _arms(material)
    if not any(len(arm.get("curve") or []) > 1 for arm in arms):
        return None
    colours = colour_of(trains(material))
    limit = criterion(material)
    points = [
        (str(arm["name"]), kind, point["size"], point[f"{kind}_ev_per_ang"])
        for arm in arms
        for kind in ("foreign", "own")
        for point in arm["curve"]
        if point[f"{kind}_ev_per_ang"] is not None
    ]

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        for arm in arms:
            name = str(arm["name"])
            for kind, dash, alpha in (("foreign", "-", 1.0), ("own", ":", 0.8)):
                rows = [(n, v) for a, k, n, v in points if (a, k) == (name, kind)]
                axes.errorbar(
                    [n for n, _ in rows],
                    [v["mean"] for _, v in rows],
                    yerr=[v.get("spread") or 0.0 for _, v in rows],
                    linestyle=dash,
                    marker="o",
                    markersize=4,
                    capsize=3,
                    alpha=alpha,
                    color=colours.get(name, INK),
                )
            axes.plot([], [], "o", color=colours.get(name, INK), label=name)
        if any(kind == "foreign" for _, kind, _, _ in points):
            axes.plot([], [], "-", color=INK, label="on others' frames")
        axes.plot([], [], ":", color=INK, label="on its own frames")
        if limit is not None:
            axes.axhline(limit, color=INK, linewidth=0.9, linestyle="--", label="criterion")
        axes.set_xscale("log")
        axes.set_yscale("log")
        sizes = sorted({n for _, _, n, _ in points})
        axes.set_xticks(sizes, [str(n) for n in sizes])
        axes.minorticks_off()
        plain_log(axes.yaxis)
        axes.set_xlabel("training frames")
        axes.set_ylabel("force RMSE / (eV/Å)")
        legend(axes)

    return drawn(
        "learning-by-size",
        "Does more data make a model more general?",
        "Full lines: mean error on the test sets of the samplers that a model was not trained on; "
        "dotted: on its own. Bars are the spread over seeds. A dotted line that falls under a full "
        "one that does not is a model that learns its own frames only (Herr 2018, figures 4, 5).",
        draw,
        {
            "arm": [a for a, _, _, _ in points],
            "tested_on": [{"foreign": "others", "own": "own"}[k] for _, k, _, _ in points],
            "training_frames": [n for _, _, n, _ in points],
            "force_rmse_ev_per_ang_mean": [v["mean"] for _, _, _, v in points],
            "force_rmse_ev_per_ang_spread": [v.get("spread") for _, _, _, v in points],
        },
    )


def generality(material: Material) -> Figure | None:
    """Every seed's error on the others' frames, by arm."""
    arms = [arm for arm in _arms(material)[::-1] if arm["foreign_ev_per_ang"] is not None]
    if not arms:
        return None
    colours = colour_of(trains(material))
    names = [str(arm["name"]) for arm in arms]
    own = [arm["own_ev_per_ang"]["values"] for arm in arms]
    foreign = [arm["foreign_ev_per_ang"]["values"] for arm in arms]

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        for y, name in enumerate(names):
            mean = float(np.mean(foreign[y]))
            axes.barh(y, mean, height=0.55, color=colours.get(name, INK), alpha=0.35)
            axes.plot(foreign[y], [y] * len(foreign[y]), "o", color=colours.get(name, INK))
            axes.plot(own[y], [y] * len(own[y]), "|", color=INK, markersize=14)
        axes.plot([], [], "o", color=INK, label="others' frames, each seed")
        axes.plot([], [], "|", color=INK, markersize=12, label="own frames")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlim(left=0)
        axes.set_xlabel("force RMSE / (eV/Å)")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        legend(axes, columns=2)

    rows = [
        (name, kind, value)
        for k, name in enumerate(names)
        for kind, values in (("others", foreign[k]), ("own", own[k]))
        for value in values
    ]
    return drawn(
        "generality",
        "How general each arm's models are",
        "Mean error on the test sets of the samplers that an arm was not trained on (bars and "
        "points), beside the error on frames like its own (strokes): what an ordinary test shows.",
        draw,
        {
            "arm": [name for name, _, _ in rows],
            "tested_on": [kind for _, kind, _ in rows],
            "force_rmse_ev_per_ang": [value for _, _, value in rows],
        },
        size=(4.8, max(2.4, 1.2 + 0.5 * len(names))),
    )


def _arms(material: Material) -> list[dict[str, Any]]:
    found = material.table("compare").get("generality")
    arms = found.get("arms") if isinstance(found, dict) else None
    return [arm for arm in arms or [] if isinstance(arm, dict)]
