"""``metamd trace``: a model to its data sets, a training frame to its walker and step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from metamd.commands.options import out


def register(app: typer.Typer) -> None:
    """Add the command to a typer application."""
    app.command("trace")(trace_command)


def trace_command(
    workdir: Annotated[Path, typer.Argument(help="Work folder of metamd run or compare.")],
    model: Annotated[
        str, typer.Option(help="A model of this run (path, also below the work folder).")
    ] = "",
    data: Annotated[
        str, typer.Option(help="A data set below it: iteration-0/dataset/md/train.")
    ] = "",
    frame: Annotated[int, typer.Option(help="Frame of that data set, from 0.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """What a model was trained on (of metamd run), and where a training frame comes from."""
    from metamd.loop.provenance import models_of, trace_frame, trace_model

    if data:
        found = trace_frame(workdir, data, frame)
    elif model:
        found = trace_model(workdir, model)
    else:
        found = {"models": models_of(workdir)}
    if json_:
        print(json.dumps(found, indent=2))
        return
    for key, value in found.items():
        if isinstance(value, list):
            for entry in value:
                text = str(entry)
                if isinstance(entry, dict):
                    plain = {k: v for k, v in entry.items() if not isinstance(v, list)}
                    text = ", ".join(f"{k} {v}" for k, v in plain.items())
                out.print(f"{key}: {text}", markup=False, soft_wrap=True)
        else:
            out.print(f"{key}: {value}", markup=False, soft_wrap=True)
