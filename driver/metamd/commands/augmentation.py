"""Commands on springs: springs, augment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table

from metamd.commands.options import (
    Align,
    Data,
    Figure,
    Json,
    Output,
    Seed,
    TypeMap,
    console,
    out,
    say,
    typed,
    warn,
)
from metamd.config import Augment
from metamd.descriptor import pair_columns
from metamd.errors import DataError, InputError
from metamd.frames import Frames
from metamd.pool import check_writable, load_pool, refuse_existing, save_json, write_frames
from metamd.progress import TaskProgress


def register(app: typer.Typer) -> None:
    """Add the commands to a typer application."""
    app.command("springs")(springs_command)
    app.command("augment")(augment_command)


def springs_command(
    data: Data,
    temperature_k: Annotated[
        float | None, typer.Option(help="Temperature of the frames, K; by default their own.")
    ] = None,
    components: Annotated[
        str, typer.Option(help="Gaussians of a pair, H-H=4,C-H=3; BIC chooses the others.")
    ] = "",
    profile: Annotated[
        str, typer.Option(help="best: several starts; paper: scikit-learn's defaults.")
    ] = "best",
    seed: Seed = 0,
    json_: Json = None,
    figure: Figure = None,
    type_map: TypeMap = "",
) -> None:
    """Spring constants of all pairs of elements from the spread of their distances.

    --json writes the figure as well, a .png beside it, where --figure names no other.
    """
    from metamd.augment.figure import plot_springs
    from metamd.augment.springs import fit_springs, parse_components, refuse_not_thermal

    if profile not in ("best", "paper"):
        raise InputError(f"--profile: {profile!r} is neither best nor paper.")
    wanted = parse_components(components)
    check_writable("--json", json_, data)
    frames, _ = load_pool(data, type_map, energies=False, warn=warn, check=refuse_not_thermal)
    temperature_k = _temperature(frames, temperature_k)
    with TaskProgress(console, "springs", len(pair_columns(frames.symbols))) as bar:
        springs = fit_springs(
            frames,
            temperature_k,
            wanted,
            "paper" if profile == "paper" else "best",
            seed,
            lambda done, _: bar.update(done),
        )
    save_json(json_, springs.as_dict())
    if figure:
        plot_springs(frames, springs, figure)
    elif json_:
        plot_springs(frames, springs, json_.with_suffix(".png"))
    table = Table("pair", "distance (A)", "+-", "k (kcal/mol/A2)", "+-", "weight")
    for s in springs.springs:
        table.add_row(
            s.pair,
            f"{s.distance_ang:.3f}",
            f"{s.distance_se_ang:.3f}",
            f"{s.k_kcal_mol_ang2:.1f}",
            f"{s.k_se_kcal_mol_ang2:.1f}",
            f"{s.weight:.3f}",
        )
    out.print(table)
    say(
        f"kT = {springs.kt_kcal_mol:.5f} kcal/mol ({springs.temperature_k:g} K); "
        f"{springs.n_frames} frames, all {springs.n_pairs} pairs of atoms counted once. These are "
        f"marginal springs, {springs.n_pairs} for {springs.n_modes} internal modes.",
    )


def augment_command(
    data: Data,
    output: Output,
    frames_: Annotated[int, typer.Option("--frames", help="Frames to perturb.")] = 200,
    atoms: Annotated[int, typer.Option(help="Atoms moved in each.")] = 1,
    max_displacement_ang: Annotated[float, typer.Option(help="Longest displacement, A.")] = 0.05,
    scheme: Annotated[str, typer.Option(help="paper, signed or taylor.")] = "taylor",
    pairs: Annotated[str, typer.Option(help="bonds, bonds+angles or all.")] = "bonds+angles",
    temperature_k: Annotated[
        float | None, typer.Option(help="Temperature of the frames, K; by default their own.")
    ] = None,
    components: Annotated[str, typer.Option(help="As for metamd springs.")] = "",
    profile: Annotated[str, typer.Option(help="best or paper.")] = "best",
    springs: Annotated[
        Path | None, typer.Option(help="Table of metamd springs --json to use instead.")
    ] = None,
    weight: Annotated[float, typer.Option(help="Share of batches for augmented frames.")] = 0.1,
    seed: Seed = 1,
    type_map: TypeMap = "",
    align_energies: Align = False,
) -> None:
    """Make labelled frames near known ones, by springs, for training with a weight."""
    from metamd.augment import augment
    from metamd.augment.perturb import counted_pairs, describe_pairs
    from metamd.augment.springs import parse_components, refuse_not_thermal
    from metamd.augment.stage import find_springs
    from metamd.train import Augmented

    config = typed(
        Augment,
        frames=frames_,
        atoms=atoms,
        max_displacement_ang=max_displacement_ang,
        scheme=scheme,
        pairs=pairs,
        temperature_k=temperature_k,
        components=parse_components(components),
        profile=profile,
        springs=springs,
        weight=weight,
        seed=seed,
    )
    # Beside frames called "springs" it would replace the table springs.json that they come from.
    notes = output.with_name(output.name + ".json")
    for path in (output, notes):
        refuse_existing("--output", path)
    check = None if config.springs else refuse_not_thermal
    frames, parts = load_pool(data, type_map, align_energies, warn=warn, check=check)
    known = None if config.springs else _temperature(frames, config.temperature_k)
    table = find_springs(frames, known, config)
    new = augment(frames, table, config)
    write_frames(new, output)
    used = describe_pairs(frames, config.pairs, [*counted_pairs(frames, config.pairs)])
    probabilities = Augmented((output,), config.weight).auto_prob(len(parts))
    save_json(
        notes,
        {
            "settings": config.model_dump(mode="json"),
            "data": parts,
            "pairs": used,
            "springs": table.as_dict(),
            "deepmd_auto_prob": probabilities,
        },
    )
    change = new.info["spring_ev"]
    say(
        f"{len(new)} frames in {output}: energies changed by {change.min():.4g} to "
        f"{change.max():.4g} eV. {used}",
    )
    say(f"metamd train takes them with --augmented {output} --weight {config.weight:g}")
    say(f'DeePMD, after the real systems: "auto_prob": "{probabilities}"')


def _temperature(frames: Frames, given: float | None) -> float:
    """The temperature of the frames, K: as given, or the one in their provenance."""
    if given is not None:
        if given <= 0:
            raise InputError(f"--temperature-k: {given} K is not above zero.")
        return given
    column = frames.info.get("temperature_k")
    if column is None:
        raise InputError(f"{frames.source}: does not say its temperature; give --temperature-k.")
    values = np.unique(column.astype(float))
    if len(values) > 1:
        raise DataError(
            f"{frames.source}: frames are of {len(values)} temperatures ({values[0]:g} to "
            f"{values[-1]:g} K); springs need one."
        )
    return float(values[0])
