"""Single stages on files that people already have: label, train, validate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metamd.commands.options import RunFile, console, out
from metamd.errors import DataError, InputError

if TYPE_CHECKING:
    from metamd.frames import Frames


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
) -> None:
    """Label frames with the reference of a run file."""
    from metamd.config import load_config
    from metamd.execution import Executor
    from metamd.frames import load_frames, save_extxyz, save_npz
    from metamd.identity import content_hash
    from metamd.label import label_frames
    from metamd.loop import load_structure
    from metamd.workspace import Workspace

    config = load_config(run_file)
    frames = load_frames(data)
    start = load_structure(config)
    # Other molecules than the run file's may be labelled as well, with bonds of their first frame.
    structure = start if tuple(start.get_chemical_symbols()) == frames.symbols else None
    given = {"name": "label", "data": content_hash(data)}
    with (
        Workspace(output, config, run_file.read_text(), given),
        Executor(config.execution, output / "logs", console) as executor,
    ):
        result = label_frames(
            frames, config.label, config.reference, config.system, output, executor, structure
        )
        save_npz(result.frames, output / "labelled.npz")
        save_extxyz(result.frames, output / "labelled.xyz")
    out.print(
        f"{result.computed} labelled, {result.reused} taken over, {len(result.failures)} set aside"
    )
    for failure in result.failures:
        out.print(f"frame {failure['frame']}: {failure['reason']}")
    for failure in result.unchecked:
        out.print(f"frame {failure['frame']} keeps its label unchecked: {failure['reason']}")


def train_command(
    run_file: RunFile,
    systems: Annotated[list[Path], typer.Argument(help="DeePMD systems to train on.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder; the same command goes on with it.")
    ],
    heldout: Annotated[
        list[Path] | None, typer.Option(help="DeePMD systems for the learning curve.")
    ] = None,
    augmented: Annotated[
        list[Path] | None,
        typer.Option(help="DeePMD systems of metamd augment to train on as well; repeatable."),
    ] = None,
    weight: Annotated[
        float, typer.Option(help="Share of the training batches drawn from these.")
    ] = 0.1,
) -> None:
    """Train an ensemble on DeePMD systems with the [train] table of a run file."""
    from metamd.checks import check_energies, check_same_zero
    from metamd.config import load_config
    from metamd.execution import Executor
    from metamd.frames import load_frames
    from metamd.identity import content_hash
    from metamd.train import Augmented, train_all, train_ensemble
    from metamd.workspace import Workspace

    config = load_config(run_file)
    if not 0 < weight < 1:
        raise InputError(f"--weight: {weight:g} is not between 0 and 1.")
    extra = Augmented(tuple(path.resolve() for path in augmented), weight) if augmented else None
    paths = [path.resolve() for path in systems]
    # Energies of another unit or another zero would train as if they were physics.
    parts = [load_frames(path) for path in paths]
    for part in parts:
        check_energies(part)
    check_same_zero(parts)
    tests = [path.resolve() for path in heldout or systems]
    tasks = {
        "model": train_ensemble(
            "model", paths, tests, config.train, output.resolve(), augmented=extra
        )
    }
    given = {
        "name": "train",
        "systems": [content_hash(path) for path in paths],
        "heldout": [content_hash(path) for path in tests],
        "augmented": [content_hash(path) for path in extra.systems] if extra else [],
        "weight": weight,
    }
    with (
        Workspace(output, config, run_file.read_text(), given),
        Executor(config.execution, output / "logs", console) as executor,
    ):
        models = train_all(tasks, executor)
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
    from metamd.execution import Executor
    from metamd.identity import content_hash
    from metamd.judge import judge_files
    from metamd.loop import check_run
    from metamd.report import write_report
    from metamd.report.terminal import print_summary
    from metamd.workspace import Workspace

    config = load_config(run_file)
    atoms = check_run(config)
    tests = _test_sets(data)
    for path in model:
        if not path.exists():
            raise InputError(f"--model {path}: no such file.")
    given = {
        "name": "validate",
        "model": [content_hash(path) for path in model],
        "data": [[path.name, content_hash(path)] for path in data],
    }
    text = run_file.read_text()
    with (
        Workspace(output, config, text, given),
        Executor(config.execution, output / "logs", console) as executor,
    ):
        summary = judge_files(config, atoms, model, tests, output.resolve(), executor, text)
        path = write_report(output)
    if json_:
        print(json.dumps(summary, indent=2))
    else:
        print_summary(summary, out)
        out.print(f"report: {path}")
    if not summary["cross_errors"] and config.validation.checks_frames:
        raise typer.Exit(1)


def _test_sets(data: list[Path]) -> dict[str, Frames | DataError]:
    """Test sets by the names of their files; what is wrong with a file stands in its place."""
    from metamd.frames import load_frames

    out: dict[str, Frames | DataError] = {}
    for path in data:
        name = path.stem if path.stem not in out else f"{path.resolve().parent.name}-{path.stem}"
        number = 2
        while name in out:
            name, number = f"{path.stem}-{number}", number + 1
        if not path.exists():
            raise InputError(f"--data {path}: no such file or folder.")
        try:
            out[name] = load_frames(path)
        except DataError as error:
            # The others are still looked at; the report says what is missing.
            console.print(f"--data {error}", soft_wrap=True)
            out[name] = error
    return out
