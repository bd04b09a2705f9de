"""Figures of further checks (``metamd.validate.check.Check``), as the summary holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as MplFigure

from metamd.frames import Array
from metamd.report.draw import COLOURS, INK, Figure, colour_of, drawn, legend
from metamd.report.figures_models import trains
from metamd.report.material import Material

Curve = tuple[str, Array, Array]


def checks(material: Material) -> list[Figure]:
    """One figure an entry of ``checks`` that has curves; an entry that is wrong becomes a note."""
    out = []
    known = colour_of(trains(material))
    for entry in material.rows("checks"):
        try:
            if entry.get("curves"):
                out.append(_figure(entry, known))
        except Exception as error:
            material.note(f"The check “{entry.get('title')}” could not be drawn ({error}).")
    return out


def _figure(entry: dict[str, Any], known: dict[str, str]) -> Figure:
    curves = [
        (str(c["name"]), np.array(c["x"], float), np.array(c["y"], float)) for c in entry["curves"]
    ]
    ticks = [str(word) for word in entry.get("ticks") or []]
    colours = _colours([name for name, _, _ in curves], known, entry.get("has_reference", True))
    draw_in = {"points": _points, "bars": _bars}.get(str(entry.get("style")), _curves)

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        draw_in(axes, curves, colours)
        if ticks:
            axes.set_xticks(range(len(ticks)), [word.replace(" and ", "\nand ") for word in ticks])
        axes.set_xlabel(str(entry.get("x_label")))
        axes.set_ylabel(str(entry.get("y_label")))
        legend(axes, columns=2)

    x_label = str(entry.get("x_label"))
    return drawn(
        f"check-{entry['key']}",
        str(entry.get("title")),
        str(entry.get("caption") or ""),
        draw,
        {
            "curve": [name for name, x, _ in curves for _ in x],
            x_label: [ticks[int(v)] if ticks else v for _, x, _ in curves for v in x],
            str(entry.get("y_label")): np.concatenate([y for _, _, y in curves]),
        },
    )


def _colours(names: list[str], known: dict[str, str], reference: bool) -> dict[str, str]:
    """The reference in ink, a model in its colour of every other figure, the rest as they come."""
    out: dict[str, str] = {}
    free = [c for c in COLOURS if c not in known.values()] or list(COLOURS)
    for k, name in enumerate(names):
        train = name.partition(",")[0]
        if k == 0 and reference:
            out[name] = INK
        else:
            out[name] = known.get(train) or free[k % len(free)]
    return out


def _curves(axes: Axes, curves: list[Curve], colours: dict[str, str]) -> None:
    seen: dict[str, int] = {}
    for name, x, y in curves:
        # Several runs of one model differ in their dashes.
        dash = ["-", "--", ":", "-."][seen.get(colours[name], 0) % 4]
        seen[colours[name]] = seen.get(colours[name], 0) + 1
        marker = "." if len(x) < 30 else ""
        axes.plot(
            x, y, dash, marker=marker, color=colours[name], label=name, rasterized=len(x) > 3000
        )


def _points(axes: Axes, curves: list[Curve], colours: dict[str, str]) -> None:
    """Against the first curve, which lies on the diagonal."""
    _, x, _ = curves[0]
    axes.axline((float(x[0]), float(x[0])), slope=1, color=INK, linewidth=0.8)
    for name, x, y in curves[1:]:
        axes.plot(x, y, "o", markersize=4, alpha=0.8, color=colours[name], label=name)


def _bars(axes: Axes, curves: list[Curve], colours: dict[str, str]) -> None:
    width = 0.8 / len(curves)
    for k, (name, x, y) in enumerate(curves):
        offset = (k - 0.5 * (len(curves) - 1)) * width
        axes.bar(x + offset, y, width=0.92 * width, color=colours[name], label=name)
    axes.grid(axis="x", visible=False)
