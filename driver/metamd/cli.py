"""The command line: one ``try`` at the top, short messages, tracebacks in a log file."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from metamd import __version__, commands_data
from metamd.errors import InputError, MetamdError

app = typer.Typer(
    name="metamd",
    help="From one structure to a deep potential that holds far from equilibrium.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
console = Console(stderr=True)
out = Console()

RunFile = Annotated[Path, typer.Argument(help="Run file (TOML).")]
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
    summary = run(config, workdir, until=until, console=console, run_file_text=run_file.read_text())
    if as_json:
        print(json.dumps(summary, indent=2))
    elif until == "report":
        from metamd.report.terminal import print_summary

        print_summary(summary, out)
        out.print(f"report: {workdir / 'report.html'}")
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
    table = Table("stage", "done", "begun", "failed", "seconds", title=f"{workdir}: {state.state}")
    for stage in state.stages:
        seconds = state.seconds.get(stage.stage)
        table.add_row(
            stage.stage,
            str(stage.done),
            str(stage.begun),
            str(len(stage.failed)),
            "" if seconds is None else f"{seconds:.0f}",
        )
    out.print(table)
    for stage in state.stages:
        for task, reason in stage.failed:
            out.print(f"{stage.stage}/{task}: {reason}")
    if not state.running and state.state not in ("finished",):
        out.print("not running; the command it was started with goes on from here")


@app.command()
def label(
    run_file: RunFile,
    data: Annotated[Path, typer.Argument(help="Frames: DeePMD system, extended XYZ, dump, npz.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the labels.")],
) -> None:
    """Label frames with the reference of a run file."""
    from metamd.config import load_config
    from metamd.execution import Executor
    from metamd.frames import load_frames, save_extxyz, save_npz
    from metamd.label import label_frames

    config = load_config(run_file)
    frames = load_frames(data)
    _new_folder(output)
    with Executor(config.execution, output / "logs", console) as executor:
        result = label_frames(
            frames, config.label, config.reference, config.system, output, executor
        )
    save_npz(result.frames, output / "labelled.npz")
    save_extxyz(result.frames, output / "labelled.xyz")
    out.print(
        f"{result.computed} labelled, {result.reused} taken over, {len(result.failures)} set aside"
    )
    for failure in result.failures:
        out.print(f"frame {failure['frame']}: {failure['reason']}")


@app.command()
def train(
    run_file: RunFile,
    systems: Annotated[list[Path], typer.Argument(help="DeePMD systems to train on.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the models.")],
    heldout: Annotated[
        list[Path] | None, typer.Option(help="DeePMD systems for the learning curve.")
    ] = None,
) -> None:
    """Train an ensemble on DeePMD systems with the [train] table of a run file."""
    from metamd.config import load_config
    from metamd.execution import Executor
    from metamd.train import train_all, train_ensemble

    config = load_config(run_file)
    _new_folder(output)
    paths = [path.resolve() for path in systems]
    tests = [path.resolve() for path in heldout or systems]
    tasks = {"model": train_ensemble("model", paths, tests, config.train, output.resolve())}
    with Executor(config.execution, output / "logs", console) as executor:
        models = train_all(tasks, executor)
    for model in models:
        out.print(f"seed {model.seed}: {model.path} ({model.seconds:.0f} s)")


@app.command()
def validate(
    run_file: RunFile,
    model: Annotated[list[Path], typer.Option(help="Frozen DeePMD models (one ensemble).")],
    data: Annotated[list[Path], typer.Option(help="Labelled frames to test on.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the results.")],
) -> None:
    """Judge models on labelled frames and in NVT dynamics, by the [validate] table."""
    from metamd.config import load_config
    from metamd.execution import Executor
    from metamd.frames import load_frames, save_npz
    from metamd.loop import load_structure
    from metamd.report.terminal import print_summary
    from metamd.validate.models import ModelFile, validate_models
    from metamd.validate.verdict import verdict
    from metamd.workspace import write_json

    config = load_config(run_file)
    atoms = load_structure(config)
    frames = {path.stem: load_frames(path) for path in data}
    for path in model:
        if not path.exists():
            raise InputError(f"{path}: no such model file.")
    _new_folder(output)
    tests = {name: save_npz(f, output / f"{name}.npz") for name, f in frames.items()}
    files = [ModelFile("model", k + 1, path.resolve()) for k, path in enumerate(model)]
    with Executor(config.execution, output / "logs", console) as executor:
        result = validate_models(files, tests, atoms, config.validation, output.resolve(), executor)
    summary = {"cross_errors": result.cross_errors, "stability": result.stability}
    criterion = config.validation.usable_force_error_ev_per_ang
    summary["verdict"] = verdict(summary, criterion).as_dict()  # type: ignore[assignment]
    write_json(output / "validation.json", summary)
    print_summary(summary, out)


@app.command()
def report(workdir: Annotated[Path, typer.Argument(help="Work folder.")]) -> None:
    """Make report.html again, also of a run that is still going."""
    from metamd.report import write_report
    from metamd.status import read_status

    read_status(workdir)
    out.print(f"report: {write_report(workdir)}")


@app.command()
def schema() -> None:
    """Print the JSON schema of the run file."""
    from metamd.config import schema_json

    print(schema_json())


@app.command()
def doctor() -> None:
    """Check that LAMMPS, PLUMED, DeePMD and metamd's plugins are there and work together."""
    from metamd.doctor import examine

    checks = examine()
    for check in checks:
        mark = "[green]ok[/]  " if check.ok else "[red]FAIL[/]"
        out.print(f"{mark} {escape(check.what)}: {escape(check.found)}", soft_wrap=True)
        if not check.ok:
            out.print(f"     {escape(check.advice)}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command("plumed-plugin")
def plumed_plugin() -> None:
    """Print the path of the PLUMED actions, for LOAD FILE=... in a PLUMED file."""
    from metamd.plugins import plumed_actions_library

    path = plumed_actions_library()
    if path is None:
        raise MetamdError("The PLUMED actions are not built here; `metamd doctor` says more.")
    print(path)


@app.command()
def init(
    structure: Annotated[Path, typer.Argument(help="Structure file to start from.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Run file to write.")] = Path(
        "run.toml"
    ),
) -> None:
    """Write a commented run file for a structure."""
    from metamd.template import run_file_text

    if not structure.exists():
        raise InputError(f"{structure}: no such structure file.")
    if output.exists():
        raise InputError(f"{output}: is there already; it is not overwritten.")
    try:
        relative = os.path.relpath(structure.resolve(), output.resolve().parent)
        output.write_text(run_file_text(relative))
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror}).") from error
    out.print(f"{output}: written; start with  metamd run {output} --workdir runs/first")


@app.command()
def hills(
    file: Annotated[Path, typer.Argument(help="Hills file of MATRIX_METAD.")],
    figure: Annotated[Path | None, typer.Option(help="Figure to write (.png, .svg, .pdf).")] = None,
) -> None:
    """Summarise a hills file; with --figure plot heights, bias, number and PCA of the bumps."""
    from metamd.hills import load_hills, plot_hills

    found = load_hills(file)
    out.print(found.describe(), highlight=False, soft_wrap=True)
    if figure is not None:
        out.print(f"figure: {plot_hills(found, figure)}", soft_wrap=True)


commands_data.register(app)


def _new_folder(path: Path) -> None:
    if path.exists() and any(path.iterdir()):
        raise InputError(f"--output {path}: is not empty; nothing there is overwritten.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {path}: cannot be made ({error.strerror}).") from error


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
