"""Commands on files of frames: export, pca."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from metamd.commands.options import Align, Data, TypeMap, say, warn
from metamd.descriptor import features, fit_pca, save_pca
from metamd.errors import DataError, InputError
from metamd.frames import Frames
from metamd.pool import check_writable, load_pool, refuse_existing, write_frames


def register(app: typer.Typer) -> None:
    """Add the commands to a typer application."""
    app.command("export")(export_command)
    app.command("pca")(pca_command)


def export_command(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended XYZ file to write.")],
    type_map: TypeMap = "",
    align_energies: Align = False,
) -> None:
    """Write frames as extended XYZ, for users of other potentials."""
    if output.suffix not in (".xyz", ".extxyz"):
        raise InputError(f"--output {output}: extended XYZ files end in .xyz or .extxyz.")
    refuse_existing("--output", output)
    frames, _ = load_pool(data, type_map, align_energies, warn=warn)
    write_frames(frames, output)
    say(f"{len(frames)} frames in {output}")


def pca_command(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "pca.dat"
    ),
    components: Annotated[int, typer.Option(help="How many.")] = 2,
    metric: Annotated[str, typer.Option(help="INVERSE (1/r) or DISTANCE (r).")] = "INVERSE",
    atoms: Annotated[
        str, typer.Option(help="Atoms of GROUP, numbers from 1: 1,2,5; empty: all.")
    ] = "",
    type_map: TypeMap = "",
) -> None:
    """Principal components of the distance matrix, for PCA= of INVERSE_DISTANCE_MATRIX."""
    if metric not in ("INVERSE", "DISTANCE"):
        raise InputError(f"--metric: {metric!r} is neither INVERSE nor DISTANCE.")
    check_writable("--output", output, data)
    frames, _ = load_pool(data, type_map, energies=False, warn=warn)
    group = _atoms(atoms, frames)
    part = Frames(
        symbols=tuple(frames.symbols[k] for k in group),
        positions=frames.positions[:, group],
        cell=frames.cell,
        source=frames.source,
    )
    pca = fit_pca(features(part, "INVERSE" if metric == "INVERSE" else "DISTANCE"), components)
    if pca.total_variance < 1e-20:
        raise DataError(f"{frames.source}: the distances are the same in all frames.")
    save_pca(pca, len(group), "INVERSE" if metric == "INVERSE" else "DISTANCE", output)
    for k, variance in enumerate(pca.variances):
        say(f"pc-{k + 1}: {variance / pca.total_variance:.1%} of the variance")
    say(
        f"{output}: use INVERSE_DISTANCE_MATRIX GROUP=... METRIC={metric} PCA={output}",
    )


def _atoms(text: str, frames: Frames) -> list[int]:
    if not text:
        return list(range(frames.n_atoms))
    try:
        group = [int(word) - 1 for word in text.split(",")]
    except ValueError:
        raise InputError(f"--atoms: {text!r} is not a list of numbers.") from None
    if len(set(group)) != len(group) or min(group) < 0 or max(group) >= frames.n_atoms:
        raise InputError(f"--atoms: numbers from 1 to {frames.n_atoms}, each once, are expected.")
    if len(group) < 2:
        raise InputError("--atoms: two atoms or more make a matrix.")
    return group
