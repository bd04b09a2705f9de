"""Single stages on files that people already have: label, train, validate."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from metamd.commands.options import Align, RunFile, TypeMap, console, out, warn
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
    type_map: TypeMap = "",
) -> None:
    """Label frames with the reference of a run file."""
    from metamd.config import load_config
    from metamd.execution import Executor
    from metamd.frames import save_extxyz, save_npz
    from metamd.identity import content_hash
    from metamd.label import label_frames
    from metamd.loop import load_structure
    from metamd.pool import load_pool
    from metamd.workspace import Workspace, write_json

    config = load_config(run_file)
    frames, _ = load_pool([data], type_map, energies=False, warn=warn)
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
        write_json(output / "failures.json", result.failures)
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
    from metamd.checks import align_zeros, check_energies, check_same_zero
    from metamd.config import load_config
    from metamd.execution import Executor
    from metamd.frames import load_frames
    from metamd.identity import content_hash
    from metamd.train import Augmented, train_all, train_ensemble
    from metamd.workspace import Workspace

    config = load_config(run_file)
    if not 0 < weight < 1:
        raise InputError(f"--weight: {weight:g} is not between 0 and 1.")
    paths = [path.resolve() for path in systems]
    more = [path.resolve() for path in augmented or ()]
    held = [path.resolve() for path in heldout or ()]
    # Energies of another unit or another zero would train as if they were physics.
    parts = [load_frames(path) for path in paths]
    for part in parts:
        check_energies(part)
    if align_energies:
        parts = align_zeros(parts)
    check_same_zero(parts)
    given = {
        "name": "train",
        "systems": [content_hash(path) for path in paths],
        "heldout": [content_hash(path) for path in held],
        "augmented": [content_hash(path) for path in more],
        "weight": weight,
        "align_energies": align_energies,
    }
    with (
        Workspace(output, config, run_file.read_text(), given),
        Executor(config.execution, output / "logs", console) as executor,
    ):
        made = output.resolve() / "systems"
        trained_on = [
            path if _is_deepmd(path) and not align_energies else _system(part, made / f"train-{k}")
            for k, (path, part) in enumerate(zip(paths, parts, strict=True))
        ]
        tests = [_as_system(path, made / f"heldout-{k}") for k, path in enumerate(held)]
        extra = [_as_system(path, made / f"augmented-{k}") for k, path in enumerate(more)]
        tasks = train_ensemble(
            "model",
            trained_on,
            tests or trained_on,
            config.train,
            output.resolve(),
            augmented=Augmented(tuple(extra), weight) if extra else None,
        )
        models = train_all({"model": tasks}, executor)
    for model in models:
        out.print(f"seed {model.seed}: {model.path} ({model.seconds:.0f} s)")


def _is_deepmd(path: Path) -> bool:
    return (path / "type.raw").exists()


def _as_system(path: Path, folder: Path) -> Path:
    """The frames of a file as a DeePMD system: itself, or one written in ``folder``."""
    from metamd.frames import load_frames

    return path if _is_deepmd(path) else _system(load_frames(path), folder)


def _system(frames: Frames, folder: Path) -> Path:
    """Write a DeePMD system; one that the same command wrote before is taken as it is."""
    from metamd.frames import save_deepmd

    if not folder.exists():
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        save_deepmd(frames, partial).rename(folder)
    return folder


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
    from metamd.checks import check_energies
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
            out[name] = frames = load_frames(path)
            # Energies of another unit would be errors of the model.
            check_energies(frames)
        except DataError as error:
            # The others are still looked at; the report says what is missing.
            console.print(f"--data {error}", soft_wrap=True)
            out[name] = error
    return out
