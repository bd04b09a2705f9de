"""What helps around a run: schema, doctor, plumed-plugin, init, hills."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from metamd.commands.options import Figure, out
from metamd.errors import InputError, MetamdError


def register(app: typer.Typer) -> None:
    """Add the commands to a typer application."""
    app.command("schema")(schema_command)
    app.command("doctor")(doctor_command)
    app.command("plumed-plugin")(plumed_plugin_command)
    app.command("init")(init_command)
    app.command("hills")(hills_command)


def schema_command() -> None:
    """Print the JSON schema of the run file."""
    from metamd.config import schema_json

    print(schema_json())


def doctor_command() -> None:
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


def plumed_plugin_command() -> None:
    """Print the path of the PLUMED actions, for LOAD FILE=... in a PLUMED file."""
    from metamd.plugins import plumed_actions_library

    path = plumed_actions_library()
    if path is None:
        raise MetamdError("The PLUMED actions are not built here; `metamd doctor` says more.")
    print(path)


def init_command(
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


def hills_command(
    file: Annotated[Path, typer.Argument(help="Hills file of MATRIX_METAD.")],
    figure: Figure = None,
) -> None:
    """Summarise a hills file; with --figure plot heights, bias, number and PCA of the bumps."""
    from metamd.hills import load_hills, plot_hills

    found = load_hills(file)
    out.print(found.describe(), highlight=False, soft_wrap=True)
    if figure is not None:
        out.print(f"figure: {plot_hills(found, figure)}", soft_wrap=True)
