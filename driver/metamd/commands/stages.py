"""Single stages on files that people already have: label, train, validate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from metamd.commands.options import Align, RunFile, TypeMap, console, out


def register(app: typer.Typer) -> None:
    """Add the commands to a typer application."""
    app.command("label")(label_command)
    app.command("train")(train_command)
    app.command("validate")(validate_command)


def label_command(
    run_file: RunFile,
    data: Annotated[Path, typer.Argument(help="Frames: DeePMD system, extended XYZ, dump, npz.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder; the same command goes on with it.")
    ],
    type_map: TypeMap = "",
) -> None:
    """Label frames with the reference of a run file."""
    from metamd.single import label_file

    result = label_file(run_file, data, output, type_map=type_map, console=console)
    out.print(
        f"{result.computed} labelled, {result.reused} taken over, {len(result.failures)} set aside"
    )
    for failure in result.failures:
        out.print(f"frame {failure['frame']}: {failure['reason']}")
    for failure in result.unchecked:
        out.print(f"frame {failure['frame']} keeps its label unchecked: {failure['reason']}")


def train_command(
    run_file: RunFile,
    systems: Annotated[
        list[Path],
        typer.Argument(help="Labelled frames to train on: DeePMD systems, extended XYZ, npz."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder; the same command goes on with it.")
    ],
    heldout: Annotated[
        list[Path] | None, typer.Option(help="Labelled frames for the learning curve.")
    ] = None,
    augmented: Annotated[
        list[Path] | None,
        typer.Option(help="Frames of metamd augment to train on as well; repeatable."),
    ] = None,
    weight: Annotated[
        float, typer.Option(help="Share of the training batches drawn from these.")
    ] = 0.1,
    align_energies: Align = False,
) -> None:
    """Train an ensemble on labelled frames with the [train] table of a run file."""
    from metamd.single import train_files

    models = train_files(
        run_file,
        systems,
        output,
        heldout=heldout or (),
        augmented=augmented or (),
        weight=weight,
        align_energies=align_energies,
        console=console,
    )
    for model in models:
        out.print(f"seed {model.seed}: {model.path} ({model.seconds:.0f} s)")


def validate_command(
    run_file: RunFile,
    model: Annotated[list[Path], typer.Option(help="Frozen DeePMD model; repeat for an ensemble.")],
    data: Annotated[list[Path], typer.Option(help="Labelled frames to test on; repeatable.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder; the same command goes on with it.")
    ],
    json_: Annotated[bool, typer.Option("--json", help="Print summary.json.")] = False,
) -> None:
    """Judge any DeePMD models by the [validate] table of a run file; writes a report."""
    from metamd.config import load_config
    from metamd.report.terminal import print_summary
    from metamd.single import validate_files

    summary = validate_files(run_file, model, data, output, console=console)
    if json_:
        print(json.dumps(summary, indent=2))
    else:
        print_summary(summary, out)
        out.print(f"report: {output / 'report.html'}", soft_wrap=True)
    if not summary["cross_errors"] and load_config(run_file).validation.checks_frames:
        raise typer.Exit(1)
