"""Figures about the dynamics with the models, and about the time a run took."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure as MplFigure

from metamd.frames import Array
from metamd.report.draw import BAD, GOOD, INK, Figure, colour_of, drawn, every, legend
from metamd.report.figures_models import seed_of, trains
from metamd.report.material import Material

_STAGES = ("sample", "select", "label", "dataset", "train", "validate", "report")


def stability(material: Material) -> Figure | None:
    """How long each dynamics run with a model kept the molecule whole."""
    runs = material.rows("stability")
    if not runs:
        return None
    runs = sorted(
        runs, key=lambda r: (trains(material).index(str(r.get("train"))), _kelvin(r), seed_of(r))
    )
    labels = [f"{r.get('train')} · {_kelvin(r):g} K · {seed_of(r)}" for r in runs]
    times = [float(r.get("time_ps") or 0.0) for r in runs]
    planned = [float(r.get("planned_ps") or 0.0) for r in runs]

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        y = np.arange(len(runs))
        whole = [bool(r.get("intact")) for r in runs]
        axes.barh(y, planned, color="none", edgecolor=INK, linewidth=0.5, alpha=0.5, height=0.62)
        for state, colour, text in ((True, GOOD, "stayed intact"), (False, BAD, "failed")):
            part = [k for k, w in enumerate(whole) if w is state]
            if part:
                axes.barh(
                    [y[k] for k in part],
                    [times[k] for k in part],
                    color=colour,
                    height=0.62,
                    label=text,
                )
        for k, state in enumerate(whole):
            if not state:
                axes.plot(times[k], y[k], "x", color=INK, markersize=6, clip_on=False)
        axes.set_yticks(y, labels)
        axes.invert_yaxis()
        axes.set_xlabel("time until failure or end / ps")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        legend(axes)

    return drawn(
        "stability",
        "Dynamics with each model",
        "NVT runs (model · temperature · seed). The outline is the planned time, ✕ marks a "
        "failure: a broken or new bond, or an energy, force or temperature that left all bounds.",
        draw,
        {
            "train": [r.get("train") for r in runs],
            "seed": [r.get("seed") for r in runs],
            "temperature_k": [_kelvin(r) for r in runs],
            "time_ps": times,
            "planned_ps": planned,
            "intact": [bool(r.get("intact")) for r in runs],
            "failure": [r.get("failure") for r in runs],
        },
        size=(4.8, max(2.4, 1.1 + 0.28 * len(runs))),
    )


def dynamics_traces(material: Material) -> list[Figure]:
    """Energy and temperature along the dynamics with each model."""
    runs = []
    for run in material.rows("stability"):
        frames = material.trajectory(run)
        if frames is None:
            continue
        time = np.asarray(
            frames.info.get("time_ps", np.linspace(0, run.get("time_ps") or 1.0, len(frames))),
            float,
        )
        thin = every(len(frames))
        runs.append((run, frames[thin], time[thin]))
    figures = []
    energies = [
        (run, time, frames.energy - frames.energy[0])
        for run, frames, time in runs
        if frames.energy is not None
    ]
    temperatures = [
        (run, time, np.asarray(frames.info["kinetic_temperature_k"], float))
        for run, frames, time in runs
        if "kinetic_temperature_k" in frames.info
    ]
    for key, title, caption, label, column, traces in (
        (
            "dynamics-energy",
            "Potential energy in the dynamics",
            "The model's own potential energy from the start of each run (Herr 2018, figure 7). "
            "Falling far below the start means a false minimum. The axis is cut at ± 10 eV.",
            "potential energy − start / eV",
            "potential_energy_from_start_ev",
            energies,
        ),
        (
            "dynamics-temperature",
            "Temperature in the dynamics",
            "Kinetic temperature of each run; the axis is cut at five times the highest target.",
            "temperature / K",
            "temperature_k",
            temperatures,
        ),
    ):
        if traces:
            top = 5.0 * max(_kelvin(r) for r, _, _ in traces) if column == "temperature_k" else 10.0
            low = 0.0 if column == "temperature_k" else -10.0
            figures.append(_traces(material, key, title, caption, label, column, traces, low, top))
    return figures


def _traces(
    material: Material,
    key: str,
    title: str,
    caption: str,
    label: str,
    column: str,
    traces: list[tuple[dict[str, Any], Array, Array]],
    low: float,
    top: float,
) -> Figure:
    colours = colour_of(trains(material))
    kelvins = sorted({_kelvin(run) for run, _, _ in traces})

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        for run, time, values in traces:
            name = str(run.get("train"))
            dash = ["-", "--", ":", "-."][kelvins.index(_kelvin(run)) % 4]
            axes.plot(
                time,
                np.clip(values, low, top),
                dash,
                color=colours[name],
                linewidth=0.9,
                label=f"{name}, {_kelvin(run):g} K",
                rasterized=len(time) > 3000,
            )
        axes.set_xlabel("time / ps")
        axes.set_ylabel(label)
        handles, names = axes.get_legend_handles_labels()
        unique = dict(zip(names, handles, strict=True))
        axes.legend(
            list(unique.values()),
            list(unique),
            loc="lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=2,
            handlelength=1.8,
            borderaxespad=0.2,
        )

    rows = [run for run, time, _ in traces for _ in time]
    return drawn(
        key,
        title,
        caption,
        draw,
        {
            "train": [r.get("train") for r in rows],
            "seed": [r.get("seed") for r in rows],
            "target_temperature_k": [_kelvin(r) for r in rows],
            "time_ps": np.concatenate([time for _, time, _ in traces]),
            column: np.concatenate([values for _, _, values in traces]),
        },
    )


def time_by_stage(material: Material) -> Figure | None:
    """Wall time of each stage."""
    seconds = material.table("seconds")
    names = [s for s in _STAGES if s in seconds]
    names += [s for s in seconds if s not in _STAGES and s != "total"]
    names = [s for s in names if isinstance(seconds[s], int | float)]
    if not names:
        return None
    values = [float(seconds[s]) for s in names]

    def draw(canvas: MplFigure) -> None:
        axes = canvas.add_subplot()
        bars = axes.barh(names, values, color="#3f8fd2", height=0.6)
        axes.bar_label(bars, [_duration(v) for v in values], color=INK, fontsize=9, padding=3)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.set_xlabel("wall time / s")
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)

    total = seconds.get("total")
    return drawn(
        "seconds",
        "Time by stage",
        f"Wall time; {_duration(float(total))} in total."
        if isinstance(total, int | float)
        else "Wall time.",
        draw,
        {"stage": names, "seconds": values},
        size=(4.8, 0.9 + 0.3 * len(names)),
    )


def _kelvin(run: dict[str, Any]) -> float:
    return float(run.get("temperature_k") or 0.0)


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
