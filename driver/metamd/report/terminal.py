"""The verdict and its two tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from metamd.report.html import number, with_spread


def print_summary(summary: Mapping[str, Any], console: Console | None = None) -> None:
    """Print the verdict, the cross-error table and the dynamics of a ``summary.json``.

    Parts that are missing (the run is still going) are left out.
    """
    console = console or Console()
    verdict = summary.get("verdict") or {}
    if verdict.get("text"):
        style = "bold green" if verdict.get("usable") else "bold red"
        head, _, rest = str(verdict["text"]).partition(":")
        console.print(Text.assemble((head + ":", style), rest))
    else:
        console.print("No verdict yet: no model has been tested on held-out frames.")
    arms = ((summary.get("compare") or {}).get("generality") or {}).get("arms") or []
    if arms:
        console.print(Padding(_generality(arms), (1, 0, 0, 0)))
    errors = summary.get("cross_errors") or []
    if errors:
        console.print(Padding(_errors(errors, verdict.get("criterion_ev_per_ang")), (1, 0, 0, 0)))
    runs = summary.get("stability") or []
    if runs:
        console.print(Padding(_stability(runs), (1, 0, 0, 0)))
    numbers = _numbers(summary.get("checks") or [])
    if numbers.row_count:
        console.print(Padding(numbers, (1, 0, 0, 0)))
    for failed in summary.get("failed_checks") or []:
        text = f"not made: {failed.get('check')}: {failed.get('reason')}"
        console.print(Text(text, "yellow"), soft_wrap=True)


def _generality(arms: list[dict[str, Any]]) -> Table:
    table = Table(
        title="Force RMSE in eV/Å by size of the training set (mean ± spread over seeds)",
        title_justify="left",
    )
    table.add_column("arm")
    for name in ("frames", "on its own frames", "on others' frames"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("with more data")
    # Arms of one sampler have no others' frames.
    what = "general" if any(arm.get("foreign_ev_per_ang") for arm in arms) else "accurate"
    words = {"better": f"more {what}", "worse": f"less {what}", "unclear": "no clear change"}
    for arm in arms:
        table.add_section()
        for k, point in enumerate(arm.get("curve") or []):
            table.add_row(
                "" if k else str(arm.get("name")),
                str(point.get("size")),
                with_spread(point.get("own_ev_per_ang")),
                with_spread(point.get("foreign_ev_per_ang")),
                "" if k else words.get(str(arm.get("trend")), ""),
            )
    return table


def _numbers(checks: list[dict[str, Any]]) -> Table:
    table = Table(title="Further checks", title_justify="left")
    table.add_column("check")
    table.add_column("quantity")
    table.add_column("value", justify="right")
    for check in checks:
        table.add_section()
        for k, (name, value) in enumerate((check.get("numbers") or {}).items()):
            table.add_row("" if k else str(check.get("title")), str(name), number(value))
    return table


def _errors(rows: list[dict[str, Any]], criterion: float | None) -> Table:
    table = Table(
        title="Errors on held-out frames (mean ± spread over seeds)", title_justify="left"
    )
    table.add_column("trained on")
    table.add_column("tested on")
    table.add_column("frames", justify="right")
    table.add_column("force RMSE\neV/Å", justify="right", no_wrap=True)
    table.add_column("energy RMSE\nmeV/atom", justify="right", no_wrap=True)
    before = None
    for row in rows:
        if before not in (None, row.get("train")):
            table.add_section()
        before = row.get("train")
        force = (row.get("force_rmse_ev_per_ang") or {}).get("mean")
        style = ""
        if criterion is not None and force is not None:
            style = "green" if force <= criterion else "red"
        table.add_row(
            str(row.get("train")),
            str(row.get("test")),
            str(row.get("n_frames") or ""),
            Text(with_spread(row.get("force_rmse_ev_per_ang")), style),
            with_spread(row.get("energy_rmse_mev_per_atom")),
        )
    return table


def _stability(runs: list[dict[str, Any]]) -> Table:
    table = Table(title="Dynamics with the models", title_justify="left")
    table.add_column("trained on")
    for name in ("seed", "T / K", "ran / ps", "planned / ps"):
        table.add_column(name, justify="right")
    table.add_column("outcome")
    for run in runs:
        intact = bool(run.get("intact"))
        table.add_row(
            str(run.get("train")),
            str(run.get("seed", "")),
            f"{float(run.get('temperature_k') or 0):g}",
            f"{float(run.get('time_ps') or 0):.3g}",
            f"{float(run.get('planned_ps') or 0):.3g}",
            Text(
                "intact" if intact else str(run.get("failure") or "failed"),
                "green" if intact else "red",
            ),
        )
    return table
