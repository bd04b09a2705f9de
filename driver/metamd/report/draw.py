"""A figure on the page: inline SVG by Matplotlib that follows the page's colours, and its data.

Ink (text, axes, grid) is drawn in a marker colour that becomes ``currentColor``, so one SVG serves
light, dark and print.  Dense point clouds are rasterised inside the SVG.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure as MplFigure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray

#: Replaced by the page's text colour.
INK = "#010203"
#: Distinguishable for colour-blind readers, and on light and dark ground.
COLOURS = ("#3f8fd2", "#e5803a", "#2aa58f", "#b565a7", "#c4a11f", "#7d8a97", "#d1555b", "#6a8f3c")
GOOD, BAD = "#2aa58f", "#d1555b"

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "metamd",
    "font.family": "sans-serif",
    "font.size": 10.0,
    "axes.titlesize": 10.0,
    "axes.labelsize": 10.0,
    "legend.fontsize": 9.0,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "lines.linewidth": 1.5,
    "figure.dpi": 72,
    "axes.unicode_minus": True,
    "mathtext.fontset": "dejavusans",
}

Column = Sequence[Any] | NDArray[Any]


@dataclass(frozen=True)
class Figure:
    """A finished figure.

    Attributes:
        key: its id on the page and the name of its CSV file.
        title, caption: what it shows; plain text.
        svg: inline SVG.
        columns: the data drawn, by column name with unit; all of one length.
        wide: takes the whole width of the page.
        width_in: width that it was drawn for, inches.
    """

    key: str
    title: str
    caption: str
    svg: str
    columns: Mapping[str, Column]
    wide: bool = False
    width_in: float = 4.8

    @property
    def csv(self) -> str:
        """The data as CSV text."""
        lines = {len(column) for column in self.columns.values()}
        if len(lines) != 1:
            raise ValueError(f"figure {self.key}: columns of different lengths {sorted(lines)}")
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        for row in zip(*self.columns.values(), strict=True):
            writer.writerow([_cell(value) for value in row])
        return text.getvalue()

    @property
    def csv_uri(self) -> str:
        """The data as a ``data:`` URI to download."""
        code = base64.b64encode(self.csv.encode()).decode()
        return f"data:text/csv;charset=utf-8;base64,{code}"


def drawn(
    key: str,
    title: str,
    caption: str,
    draw: Callable[[MplFigure], None],
    columns: Mapping[str, Column],
    size: tuple[float, float] = (4.8, 3.3),
    wide: bool = False,
) -> Figure:
    """Let ``draw`` fill a Matplotlib figure of this size (inches) and make it a Figure."""
    with mpl.rc_context(_STYLE):
        canvas = MplFigure(figsize=size, layout="constrained")
        draw(canvas)
        svg = to_svg(canvas, key, title)
    return Figure(key, title, caption, svg, columns, wide, size[0])


def to_svg(canvas: MplFigure, key: str, label: str) -> str:
    """Inline SVG: no prolog, ids that are unique on the page, ink in the page's colour."""
    out = io.StringIO()
    canvas.savefig(out, format="svg", transparent=True, dpi=150, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'(\bid=")', rf"\g<1>{key}-", svg)
    svg = re.sub(r'((?:xlink:)?href="#)', rf"\g<1>{key}-", svg)
    svg = svg.replace("url(#", f"url(#{key}-")
    svg = svg.replace(INK, "currentColor")
    text = label.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    box = re.search(r'viewBox="[^"]*"', svg)
    view = box.group(0) if box else ""
    head = (
        f'<svg role="img" aria-label="{text}" {view} xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return head + svg[svg.index(">") + 1 :]


def every(n: int, at_most: int = 2000) -> slice:
    """A slice that leaves at most so many of n points of a line."""
    return slice(None, None, -(-n // at_most) if n > at_most else 1)


def colour_of(names: Sequence[str]) -> dict[str, str]:
    """One colour a name, the same in every figure."""
    return {name: COLOURS[k % len(COLOURS)] for k, name in enumerate(names)}


def plain_log(axis: Axis) -> None:
    """A logarithmic axis marked at 1, 2 and 5 in plain decimals."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def legend(axes: Axes, columns: int | None = None, anchor: float = 1.0) -> None:
    """A legend above the axes, where it hides no data."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        axes.legend(
            handles,
            labels,
            loc="lower left",
            bbox_to_anchor=(0.0, anchor),
            ncols=columns or min(3, len(labels)),
            handlelength=1.2,
            columnspacing=1.2,
            borderaxespad=0.2,
        )


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return f"{float(value):.10g}" if value == value else ""
    if isinstance(value, np.generic):
        return value.item()
    return "" if value is None else value
