"""The command line: one ``try`` at the top, short messages, tracebacks in a log file."""

from __future__ import annotations

import json
import re
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from metamd import __version__
from metamd.commands import augmentation, data, selection, stages, tools, trace
from metamd.commands.options import RunFile, console, out
from metamd.errors import InputError, MetamdError
from metamd.status import RunStatus

app = typer.Typer(
    name="metamd",
    help="From one structure to a deep potential that holds far from equilibrium.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Workdir = Annotated[
    Path, typer.Option("--workdir", "-w", help="Work folder; the same command goes on with it.")
]


def _version(value: bool) -> None:
    if value:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _go(run_file: Path, workdir: Path, until: str, as_json: bool = False) -> None:
    from metamd.config import load_config
    from metamd.loop import run

    config = load_config(run_file)
    text = run_file.read_text()
    try:
        summary = run(config, workdir, until=until, console=console, run_file_text=text)
    except InputError as error:
        if re.match(r"(system|reference|sample|train|loop|execution|augment)[.\[]", str(error)):
            raise type(error)(f"{run_file}: {error}") from error  # a key: say of which file
        raise
    if as_json:
        print(json.dumps(summary, indent=2))
    elif until == "report":
        from metamd.report.terminal import print_summary

        print_summary(summary, out)
        out.print(f"report: {workdir / 'report.html'}", soft_wrap=True)
    else:
        out.print(f"{until}: done; results are in {workdir}")


@app.command()
def run(
    run_file: RunFile,
    workdir: Workdir,
    until: Annotated[
        str, typer.Option(help="Last stage: sample, select, label, dataset, train, validate.")
    ] = "report",
    json_: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False,
) -> None:
    """Sample, select, label, train, validate and report; goes on where it was stopped."""
    _go(run_file, workdir, until, json_)


@app.command()
def compare(
    compare_file: Annotated[Path, typer.Argument(help="Compare file (TOML).")],
    workdir: Workdir,
    json_: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False,
) -> None:
    """Which arm gives the more general model, at equal budget; goes on where it was stopped."""
    from metamd.compare import run_compare
    from metamd.config import load_compare
    from metamd.report.terminal import print_summary

    config = load_compare(compare_file)
    summary = run_compare(config, workdir, console=console, file_text=compare_file.read_text())
    if json_:
        print(json.dumps(summary, indent=2))
        return
    print_summary(summary, out)
    out.print(f"report: {workdir / 'report.html'}", soft_wrap=True)


@app.command()
def sample(run_file: RunFile, workdir: Workdir) -> None:
    """Only sample: the arms of a run file into self-contained folders."""
    _go(run_file, workdir, "sample")


@app.command()
def status(
    workdir: Annotated[Path, typer.Argument(help="Work folder.")],
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How far a run is, what failed and why; also while it runs."""
    import dataclasses

    from metamd.status import read_status

    state = read_status(workdir)
    if json_:
        print(json.dumps(dataclasses.asdict(state), indent=2))
        return
    _print_status(workdir, state)


def _print_status(workdir: Path, state: RunStatus) -> None:
    # Numbered as folders, arms and the report number them.
    last = state.iterations - 1
    planned = f", iterations 0 to {last}" if last else ""
    table = Table(
        "iteration",
        "stage",
        "done",
        "begun",
        "failed",
        "seconds",
        title=f"{workdir}: {state.state}{planned}",
    )
    for stage in state.stages:
        seconds = state.seconds.get(f"iteration-{stage.iteration}/{stage.stage}")
        tasks = [stage.done, stage.begun, len(stage.failed)]
        table.add_row(
            str(stage.iteration),
            stage.stage,
            *(str(n) if any(tasks) else "" for n in tasks),
            "" if seconds is None else f"{seconds:.0f}",
        )
    out.print(table)
    for iteration, errors in state.errors.items():
        numbers = ", ".join(f"{name} {value:.3g}" for name, value in errors.items())
        out.print(f"iteration {iteration}: force RMSE in eV/A: {numbers}", markup=False)
    for stage in state.stages:
        for task, reason in stage.failed:
            where = f"iteration-{stage.iteration}/{stage.stage}/{task}"
            later = " (tried again, and finished)" if task in stage.recovered else ""
            out.print(f"{where}: {reason}{later}", markup=False, soft_wrap=True)
    if state.now is not None:
        done, tasks = state.now["done"], state.now["tasks"]
        of = " of these tasks" if state.left_of_tasks else ""
        left = "" if state.left_s is None else f", about {_duration(state.left_s)} left{of}"
        out.print(f"now: {state.now['title']}, {done:.4g} of {tasks} tasks{left}")
    if state.stop is not None:
        out.print(state.stop, markup=False, soft_wrap=True)
    if state.state.startswith("ended after"):
        out.print("not running; the same command, without --until if it had one, goes on from here")
    elif not state.running and state.state not in ("finished",):
        out.print("not running; the command it was started with goes on from here")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


@app.command()
def report(workdir: Annotated[Path, typer.Argument(help="Work folder.")]) -> None:
    """Make report.html again, also of a run that is still going."""
    from metamd.report import write_report
    from metamd.status import read_status

    if not (workdir / "summary.json").exists():
        read_status(workdir)  # says what is wrong with the folder
    out.print(f"report: {write_report(workdir)}", soft_wrap=True)


for commands in (stages, selection, augmentation, data, tools, trace):
    commands.register(app)


def main() -> None:
    """Run the command; exit 2 for bad input, 1 for a failure, 130 for Ctrl-C."""
    try:
        status = app(standalone_mode=False)
        if status == 130:
            # Typer turns Ctrl-C into this status instead of raising.
            raise KeyboardInterrupt
        if isinstance(status, int) and status:
            sys.exit(status)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except MetamdError as error:
        console.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True, highlight=False)
        sys.exit(error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        console.print("stopped; the same command goes on from here")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if type(error).__module__.startswith(("click", "typer")):
            # Wrong options: click says what and shows the usage.
            console.print(f"[red]error:[/] {escape(str(getattr(error, 'message', '') or error))}")
            sys.exit(2)
        with tempfile.NamedTemporaryFile("w", prefix="metamd-", suffix=".log", delete=False) as log:
            log.write(traceback.format_exc())
        console.print(
            f"[red]error:[/] {type(error).__name__}: {escape(str(error))} (traceback: {log.name})",
            soft_wrap=True,
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
