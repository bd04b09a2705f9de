"""Single stages on files that people already have: label, train, validate.

Each works in a folder of its own, like ``metamd run``: the same call goes on with it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from metamd.checks import align_zeros, check_energies, check_same_zero
from metamd.config import load_config
from metamd.errors import DataError, InputError
from metamd.execution import Executor
from metamd.frames import Frames, load_frames, save_deepmd, save_extxyz, save_npz
from metamd.identity import content_hash
from metamd.judge import judge_files
from metamd.label import LabelResult, label_frames
from metamd.loop import check_run, load_structure
from metamd.pool import load_pool
from metamd.train import Augmented, Model, check_labels, train_all, train_ensemble
from metamd.workspace import Workspace, write_json


def label_file(
    run_file: str | Path,
    data: str | Path,
    folder: str | Path,
    *,
    type_map: str = "",
    console: Console | None = None,
) -> LabelResult:
    """Label frames with the reference of a run file, as ``metamd label``.

    Args:
        run_file: its [reference], [system] and [label] count.
        data: frames of any kind that ``load_frames`` reads.
        folder: ``labelled.npz``, ``labelled.xyz`` and ``failures.json`` are written there.
        type_map: elements of LAMMPS types, ``Na,Cl``, for a dump without them.
        console: where progress goes; standard error by default.

    Raises:
        InputError: something given is wrong, or the folder is of another call.
        TaskError: not one frame was labelled.
    """
    console, folder, data = console or Console(stderr=True), Path(folder), Path(data)
    config = load_config(run_file)
    frames, _ = load_pool([data], type_map, energies=False, warn=console.print)
    start = load_structure(config)
    # Other molecules than the run file's may be labelled as well, with bonds of their first frame.
    structure = start if tuple(start.get_chemical_symbols()) == frames.symbols else None
    given = {"name": "label", "data": content_hash(data)}
    with (
        Workspace(folder, config, Path(run_file).read_text(), given),
        Executor(config.execution, folder / "logs", console) as executor,
    ):
        result = label_frames(
            frames, config.label, config.reference, config.system, folder, executor, structure
        )
        save_npz(result.frames, folder / "labelled.npz")
        save_extxyz(result.frames, folder / "labelled.xyz")
        write_json(folder / "failures.json", result.failures)
    return result


def train_files(
    run_file: str | Path,
    systems: Sequence[str | Path],
    folder: str | Path,
    *,
    heldout: Sequence[str | Path] = (),
    augmented: Sequence[str | Path] = (),
    weight: float = 0.1,
    align_energies: bool = False,
    console: Console | None = None,
) -> list[Model]:
    """Train an ensemble with the [train] table of a run file, as ``metamd train``.

    Args:
        run_file: its [train] counts.
        systems: labelled frames to train on: DeePMD systems, extended XYZ, npz.
        folder: for the models.
        heldout: frames for the learning curve; those trained on by default.
        augmented: frames of ``augment_frames`` to train on besides.
        weight: share of the training batches that is drawn from these, 0 to 1.
        align_energies: shift energies of other zeros to those of the first file.
        console: where progress goes; standard error by default.

    Raises:
        InputError: something given is wrong, or the folder is of another call.
        TaskError: a training failed.
    """
    console, folder = console or Console(stderr=True), Path(folder)
    config = load_config(run_file)
    if not 0 < weight < 1:
        raise InputError(f"--weight: {weight:g} is not between 0 and 1.")
    paths, held, more = (
        [Path(path).resolve() for path in group] for group in (systems, heldout, augmented)
    )
    # Energies of another unit or another zero would train as if they were physics.
    parts, extras = ([load_frames(path) for path in group] for group in (paths, more))
    for part in (*parts, *extras):
        check_labels(part, config.train)
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
        Workspace(folder, config, Path(run_file).read_text(), given),
        Executor(config.execution, folder / "logs", console) as executor,
    ):
        made = folder.resolve() / "systems"
        trained_on = [
            path if _is_deepmd(path) and not align_energies else _system(part, made / f"train-{k}")
            for k, (path, part) in enumerate(zip(paths, parts, strict=True))
        ]
        tests = [_as_system(path, made / f"heldout-{k}") for k, path in enumerate(held)]
        extra = [
            path if _is_deepmd(path) else _system(part, made / f"augmented-{k}")
            for k, (path, part) in enumerate(zip(more, extras, strict=True))
        ]
        tasks = train_ensemble(
            "model",
            trained_on,
            tests or trained_on,
            config.train,
            folder.resolve(),
            augmented=Augmented(tuple(extra), weight) if extra else None,
        )
        return train_all({"model": tasks}, executor)


def validate_files(
    run_file: str | Path,
    models: Sequence[str | Path],
    data: Sequence[str | Path],
    folder: str | Path,
    *,
    console: Console | None = None,
) -> dict[str, Any]:
    """Judge DeePMD models by the [validate] table of a run file, as ``metamd validate``.

    Args:
        run_file: its [validate], [system] and [reference] count.
        models: frozen models, the members of one ensemble.
        data: labelled frames to test on; each file is a test set.
        folder: ``summary.json`` and ``report.html`` are written there.
        console: where progress goes; standard error by default.

    Returns: the content of ``summary.json``.

    Raises:
        InputError: something given is wrong, or the folder is of another call.
    """
    from metamd.report import write_report  # matplotlib loads only where figures are made

    console, folder = console or Console(stderr=True), Path(folder)
    config = load_config(run_file)
    atoms = check_run(config)
    paths, files = [Path(path) for path in data], [Path(path) for path in models]
    tests = _test_sets(paths, console)
    for path in files:
        if not path.exists():
            raise InputError(f"--model {path}: no such file.")
    given = {
        "name": "validate",
        "model": [content_hash(path) for path in files],
        "data": [[path.name, content_hash(path)] for path in paths],
    }
    text = Path(run_file).read_text()
    with (
        Workspace(folder, config, text, given),
        Executor(config.execution, folder / "logs", console) as executor,
    ):
        summary = judge_files(config, atoms, files, tests, folder.resolve(), executor, text)
        write_report(folder)
    return summary


def _is_deepmd(path: Path) -> bool:
    return (path / "type.raw").exists()


def _as_system(path: Path, folder: Path) -> Path:
    """The frames of a file as a DeePMD system: itself, or one written in ``folder``."""
    return path if _is_deepmd(path) else _system(load_frames(path), folder)


def _system(frames: Frames, folder: Path) -> Path:
    """Write a DeePMD system; one that the same command wrote before is taken as it is."""
    if not folder.exists():
        partial = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        save_deepmd(frames, partial).rename(folder)
    return folder


def _test_sets(data: Sequence[Path], console: Console) -> dict[str, Frames | DataError]:
    """Test sets by the names of their files; what is wrong with a file stands in its place."""
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
