"""Figures about models: the table of cross errors, and training.

Each takes the Material and gives a Figure, or None where its data is not there (yet).
"""

from __future__ import annotations

import math
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure as MplFigure

from metamd.frames import Array
from metamd.report.draw import INK, Figure, colour_of, drawn, every, legend, plain_log
from metamd.report.material import Material, read_lcurve


def criterion(material: Material) -> float | None:
    """The force RMSE in eV/A up to which a model is usable, where the summary states one."""
    value = material.table("verdict").get("criterion_ev_per_ang")
    return float(value) if value else None


def force_rmse(row: dict[str, Any]) -> tuple[float, float | None]:
    """Mean and spread of a cross-error row's force RMSE, eV/A (NaN where there is none)."""
    value = row.get("force_rmse_ev_per_ang") or {}
    mean = value.get("mean")
    return (math.nan if mean is None else float(mean)), value.get("spread")


def trains(material: Material) -> list[str]:
    """Names of the train sets in order of appearance."""
    rows = material.rows("cross_errors") + material.rows("stability") + material.rows("models")
    return list(dict.fromkeys(str(row.get("train")) for row in rows))


def cross_heatmap(material: Material) -> Figure | None:
    """Every train set against every test set, coloured about the criterion."""
    rows = material.rows("cross_errors")
    if not rows:
        return None
    names = list(dict.fromkeys(str(r.get("train")) for r in rows))
    tests = list(dict.fromkeys(str(r.get("test")) for r in rows))
    cell = {(str(r.get("train")), str(r.get("test"))): force_rmse(r) for r in rows}
    values = np.array([[cell.get((a, b), (math.nan, None))[0] for b in tests] for a in names])
    finite = values[np.isfinite(values) & (values > 0)]
    limit = criterion(material)
    middle = limit or (float(np.exp(np.log(finite).mean())) if len(finite) else 1.0)
    span = float(np.abs(np.log2(finite / middle)).max()) if len(finite) else 1.0
    # Full colour at 8 times the criterion, or further out where errors are.
    span = max(span, 3.0)

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        with np.errstate(divide="ignore", invalid="ignore"):
            shade = np.log2(values / middle)
        colours = mpl.colormaps["RdYlBu_r"]
        norm = Normalize(-span, span)
        axes.imshow(
            np.where(np.isfinite(shade), shade, 0.0),
            cmap=colours,
            norm=norm,
            aspect="auto",
            alpha=0.95,
        )
        for i, a in enumerate(names):
            for j, b in enumerate(tests):
                if (a, b) not in cell:
                    continue
                mean, spread = cell[a, b]
                text = "not a number" if math.isnan(mean) else f"{mean:.3f}"
                dark = not math.isnan(mean) and abs(shade[i, j]) > 0.78 * span
                ink = INK if math.isnan(mean) else "#ffffff" if dark else "#15191e"
                # Two texts: the number large, the spread small below it.
                axes.text(j, i - 0.06, text, ha="center", va="bottom", fontsize=13, color=ink)
                if spread is not None:
                    axes.text(
                        j, i + 0.06, f"± {spread:.3f}", ha="center", va="top", fontsize=9, color=ink
                    )
        axes.set_xticks(range(len(tests)), tests)
        axes.set_yticks(range(len(names)), names)
        if len(tests) > 3:
            axes.tick_params(axis="x", rotation=30)
        axes.set_xlabel("tested on held-out frames of")
        axes.set_ylabel("model trained on")
        axes.grid(False)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)

    pairs = list(cell)
    aim = (
        f" Blue is below the criterion of {limit:g} eV/Å, red above it."
        if limit is not None
        else ""
    )
    return drawn(
        "cross-errors",
        "Force error of every model on every test set",
        "Force RMSE in eV/Å over components, mean over training seeds; ± is the sample standard "
        "deviation over seeds." + aim,
        draw,
        {
            "train": [a for a, _ in pairs],
            "test": [b for _, b in pairs],
            "force_rmse_ev_per_ang_mean": [cell[p][0] for p in pairs],
            "force_rmse_ev_per_ang_spread": [cell[p][1] for p in pairs],
        },
        size=(4.8, max(2.6, 1.0 + 0.75 * len(names))),
    )


def learning_curves(material: Material) -> Figure | None:
    """Force RMSE on training batches against the training step."""
    curves: list[tuple[str, int, Array, Array]] = []
    for model in material.rows("models"):
        path = material.path(model.get("lcurve"))
        if path is None or not path.is_file():
            continue
        found = read_lcurve(path)
        if found is None:
            continue
        names, rows = found
        wanted = [n for n in ("rmse_f_val", "rmse_f_trn", "rmse_f") if n in names]
        for column in wanted[:1]:
            step, rmse = rows[:, names.index("step")], rows[:, names.index(column)]
            thin = every(len(step))
            step, rmse = step[thin], rmse[thin]
            keep = np.isfinite(rmse) & (rmse > 0)
            if keep.any():
                curves.append((str(model.get("train")), seed_of(model), step[keep], rmse[keep]))
    if not curves:
        return None
    colours = colour_of(trains(material))

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        for name, seed, step, rmse in curves:
            smooth = _running_median(rmse)
            style = {"color": colours[name], "rasterized": len(step) > 3000}
            axes.plot(step, rmse, alpha=0.25, linewidth=0.7, **style)  # type: ignore[arg-type]
            label = f"{name}" if seed == min(s for n, s, _, _ in curves if n == name) else None
            axes.plot(step, smooth, label=label, **style)  # type: ignore[arg-type]
        axes.set_yscale("log")
        plain_log(axes.yaxis)
        axes.set_xlabel("training step")
        axes.set_ylabel("force RMSE on a batch / (eV/Å)")
        legend(axes)

    return drawn(
        "learning-curves",
        "Training",
        "Force RMSE on batches as DeePMD-kit logs it (thin) and its running median (thick), one "
        "line a seed. Still falling at the end: more steps would help.",
        draw,
        {
            "train": [n for n, _, step, _ in curves for _ in step],
            "seed": [s for _, s, step, _ in curves for _ in step],
            "step": np.concatenate([step for _, _, step, _ in curves]),
            "force_rmse_ev_per_ang": np.concatenate([rmse for _, _, _, rmse in curves]),
        },
    )


def _running_median(values: Array, width: int = 15) -> Array:
    half = min(width, len(values)) // 2
    return np.array(
        [np.median(values[max(0, k - half) : k + half + 1]) for k in range(len(values))]
    )


def seed_of(run: dict[str, Any]) -> int:
    return int(run.get("seed") or 0)
