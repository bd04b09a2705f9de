"""What the command line does, as functions: for scripts and notebooks.

    import metamd

    summary = metamd.run("inputs/ethanol/run.toml", "runs/ethanol")
    summary["verdict"]["text"]

Nothing here is global: two runs in one process, in two folders, do not know of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from metamd.config import CompareConfig, RunConfig, load_compare, load_config, parse_config
from metamd.status import RunStatus, read_status


def run(
    config: RunConfig | Mapping[str, Any] | str | Path,
    workdir: str | Path | None = None,
    *,
    until: str = "report",
    console: Console | None = None,
) -> dict[str, Any]:
    """Sample, select, label, train, validate, report; goes on from where the folder stands.

    Args:
        config: a run file, what it holds as a dictionary (paths relative to the current folder),
            or a checked ``RunConfig``.
        workdir: work folder; by default ``runs/NAME``, by the run file's name (``runs/metamd``
            without one).
        until: last stage: sample, select, label, dataset, train, validate or report.
        console: where progress goes: a rich console.  By default standard error; a bar there on a
            terminal, a bar in the cell in a notebook, plain lines elsewhere.

    Returns: the content of ``summary.json`` (docs/summary.md).

    Raises:
        InputError: something given is wrong; nothing was written.
        TaskError: a task that everything else needs failed; the folder keeps the rest.
        KeyboardInterrupt: stopped; the same call goes on.
    """
    from metamd.loop import run as run_loop

    text, name = "", "metamd"
    if isinstance(config, str | Path):
        path = Path(config)
        config = load_config(path)
        text, name = path.read_text(), path.stem
    elif not isinstance(config, RunConfig):
        config = parse_config(dict(config), Path("run file"))
    folder = Path("runs") / name if workdir is None else Path(workdir)
    return run_loop(config, folder, until=until, console=console, run_file_text=text)


def compare(
    config: CompareConfig | str | Path, workdir: str | Path, *, console: Console | None = None
) -> dict[str, Any]:
    """Train on several samplings, selections or augmentations of equal cost, and judge them.

    Args:
        config: a compare file, or a checked one (``metamd.config.load_compare``).
        workdir: work folder; the same call goes on with it.
        console: where progress goes, as in ``run``.

    Returns: the content of ``summary.json``.

    Raises:
        InputError, TaskError, KeyboardInterrupt: as ``run``.
    """
    from metamd.compare import run_compare

    text = ""
    if not isinstance(config, CompareConfig):
        text, config = Path(config).read_text(), load_compare(config)
    return run_compare(config, workdir, console=console, file_text=text)


def status(workdir: str | Path) -> RunStatus:
    """How far a run is, also one that another process is at work on.

    Raises:
        WorkspaceError: not a work folder.
    """
    return read_status(Path(workdir))


def report(workdir: str | Path) -> Path:
    """Make ``report.html`` of a work folder again, also while it runs; its path.

    Raises:
        WorkspaceError: not a work folder.
    """
    from metamd.report import write_report

    return write_report(Path(workdir))


def trace(workdir: str | Path, *, model: str = "", data: str = "", frame: int = 0) -> Any:
    """Where things come from: the models of a run, one model's data sets, or one frame's walker.

    Args:
        workdir: work folder.
        model: path of a model (below the work folder or in full): its data sets.
        data: path of a data set below the work folder: the origin of its frame ``frame``.

    Raises:
        InputError: no such run, model, data set or frame.
    """
    from metamd.loop.provenance import models_of, trace_frame, trace_model

    if data:
        return trace_frame(Path(workdir), data, frame)
    return trace_model(Path(workdir), model) if model else models_of(Path(workdir))
