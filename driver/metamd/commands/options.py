"""What the commands on data share: options, messages, typed tables, predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console

from metamd.errors import InputError
from metamd.frames import Frames
from metamd.pool import check_writable
from metamd.predict import Predictions, load_predictions, predict, silence_exit
from metamd.progress import TaskProgress

console = Console(stderr=True)
out = Console()

Data = Annotated[
    list[Path],
    typer.Argument(help="Frames: DeePMD systems, extended XYZ, LAMMPS dumps, npz; joined."),
]
Json = Annotated[Path | None, typer.Option("--json", help="Write the result here.")]
Output = Annotated[
    Path, typer.Option("--output", "-o", help=".npz, .xyz, or a new folder for a DeePMD system.")
]
FIGURES = (".png", ".svg", ".pdf")


def _figure(path: Path | None) -> Path | None:
    """Refuse a suffix or a place before the work is done that the figure is of."""
    if path is not None and path.suffix not in FIGURES:
        raise InputError(f"--figure {path}: figures end in {', '.join(FIGURES)}.")
    check_writable("--figure", path)
    return path


Figure = Annotated[Path | None, typer.Option(help="Figure: .png, .svg or .pdf.", callback=_figure)]
TypeMap = Annotated[
    str,
    typer.Option(help="Elements of types, Na,Cl: dumps without, DeePMD without type_map.raw."),
]
Align = Annotated[
    bool, typer.Option("--align-energies", help="Shift files of other energy zeros to the first.")
]
Models = Annotated[list[Path] | None, typer.Option("--model", help="DeePMD model; repeatable.")]
Stored = Annotated[
    list[Path] | None,
    typer.Option("--predictions", help="Stored predictions of the frames instead; repeatable."),
]
Seed = Annotated[int, typer.Option(help="Seed of random choices.")]

RunFile = Annotated[Path, typer.Argument(help="Run file (TOML).")]

_Table = TypeVar("_Table", bound=BaseModel)


def say(text: str) -> None:
    out.print(text, highlight=False, soft_wrap=True, markup=False)


def warn(message: str) -> None:
    console.print(f"[yellow]warning:[/] {message}", highlight=False, soft_wrap=True)


def typed(kind: type[_Table], **values: Any) -> _Table:
    """A typed table from options; problems name the key."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{key + ': ' if key else ''}{text} (got {first['input']!r}).") from None


def predictions_of(
    models: list[Path] | None,
    stored: list[Path] | None,
    frames: Frames,
    atomic: bool = False,
) -> Predictions | None:
    if models and stored:
        raise InputError("Give --model or --predictions, not both.")
    if stored:
        return load_predictions(stored, frames)
    return predict_with(models, frames, atomic) if models else None


def predict_with(models: list[Path], frames: Frames, atomic: bool = False) -> Predictions:
    silence_exit()
    with TaskProgress(console, "predicting", len(models) * len(frames)) as bar:
        return predict(models, frames, atomic=atomic, progress=lambda done, _: bar.update(done))
