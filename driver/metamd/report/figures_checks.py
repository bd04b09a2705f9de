"""Figures of further checks (``metamd.validate.check.Check``), as the summary holds them."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure as MplFigure

from metamd.report.draw import COLOURS, INK, Figure, drawn, legend
from metamd.report.material import Material


def checks(material: Material) -> list[Figure]:
    """One figure an entry of ``checks`` that has curves; an entry that is wrong becomes a note."""
    out = []
    for entry in material.rows("checks"):
        try:
            if entry.get("curves"):
                out.append(_figure(entry))
        except Exception as error:
            material.note(f"The check “{entry.get('title')}” could not be drawn ({error}).")
    return out


def _figure(entry: dict[str, Any]) -> Figure:
    curves = [
        (str(c["name"]), np.array(c["x"], float), np.array(c["y"], float)) for c in entry["curves"]
    ]
    points = entry.get("style") == "points"

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        for k, (name, x, y) in enumerate(curves):
            # The reference in ink, the models in colour.
            colour = INK if k == 0 else COLOURS[(k - 1) % len(COLOURS)]
            if points and k == 0:
                axes.axline((float(x[0]), float(y[0])), slope=1, color=INK, linewidth=0.8)
            elif points:
                axes.plot(x, y, "o", markersize=4, alpha=0.8, color=colour, label=name)
            else:
                axes.plot(x, y, color=colour, label=name, rasterized=len(x) > 3000)
        axes.set_xlabel(str(entry.get("x_label")))
        axes.set_ylabel(str(entry.get("y_label")))
        legend(axes, columns=2)

    return drawn(
        f"check-{entry['key']}",
        str(entry.get("title")),
        str(entry.get("caption") or ""),
        draw,
        {
            "curve": [name for name, x, _ in curves for _ in x],
            str(entry.get("x_label")): np.concatenate([x for _, x, _ in curves]),
            str(entry.get("y_label")): np.concatenate([y for _, _, y in curves]),
        },
    )
