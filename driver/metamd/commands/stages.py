"""Single stages on files that people already have: label, train, validate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from metamd.errors import InputError

console = Console(stderr=True)
out = Console()

RunFile = Annotated[Path, typer.Argument(help="Run file (TOML).")]


def register(app: typer.Typer) -> None:
    """Add the commands to a typer application."""
    app.command("label")(label_command)
    app.command("train")(train_command)
    app.command("validate")(validate_command)


def label_command(
    run_file: RunFile,
    data: Annotated[Path, typer.Argument(help="Frames: DeePMD system, extended XYZ, dump, npz.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="New folder for the labels.")],
) -> None:
    """Label frames with the reference of a run file."""
    from metamd.config import load_config
    from metamd.execution import Executor
    from metamd.frames import load_frames, save_extxyz, save_npz
    from metamd.label import label_frames
    from metamd.loop import load_structure

    config = load_config(run_file)
    frames = load_frames(data)
    start = load_structure(config)
    # Other molecules than the run file's may be labelled as well, with bonds of their first frame.
    structure = start if tuple(start.get_chemical_symbols()) == frames.symbols else None
    _new_folder(output)
    with Executor(config.execution, output / "logs", console) as executor:
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


def train_command(
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


def validate_command(
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


def _new_folder(path: Path) -> None:
    if path.exists() and any(path.iterdir()):
        raise InputError(f"--output {path}: is not empty; nothing there is overwritten.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--output {path}: cannot be made ({error.strerror}).") from error
