"""Commands on files of frames: select, cluster-error, springs, augment, export, pca.

``register`` adds them to the command line; each is a few lines around one stage function.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import typer
from pydantic import BaseModel, ValidationError
from rich.console import Console
from rich.table import Table

from metamd.config import Augment, Flatten, Select
from metamd.descriptor import features, fit_pca, save_pca
from metamd.errors import DataError, InputError
from metamd.frames import Frames, save_extxyz
from metamd.pool import load_pool, save_json, write_frames
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
Figure = Annotated[Path | None, typer.Option(help="Figure: .png, .svg or .pdf.")]
TypeMap = Annotated[
    str, typer.Option(help="Elements of LAMMPS types 1, 2, ... for dumps without: Na,Cl.")
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

_Config = TypeVar("_Config", bound=BaseModel)


def register(app: typer.Typer) -> None:
    """Add the commands to a typer application."""
    app.command("select")(select_command)
    app.command("cluster-error")(cluster_error_command)
    app.command("springs")(springs_command)
    app.command("augment")(augment_command)
    app.command("export")(export_command)
    app.command("pca")(pca_command)


def select_command(
    data: Data,
    method: Annotated[
        str,
        typer.Option(help="random, time, energy, atomic-energy, force, fps, deviation or flatten."),
    ],
    count: Annotated[int, typer.Option(help="Frames to take, exactly.")],
    seed: Seed = 1,
    json_: Json = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write the frames themselves.")
    ] = None,
    model: Models = None,
    predictions: Stored = None,
    trust_lower: Annotated[float, typer.Option(help="deviation: eV/A.")] = 0.05,
    trust_upper: Annotated[float, typer.Option(help="deviation: eV/A.")] = 0.15,
    bins: Annotated[int, typer.Option(help="energy, atomic-energy, force: bins.")] = 100,
    metric: Annotated[str, typer.Option(help="fps: INVERSE (1/r) or DISTANCE (r).")] = "INVERSE",
    sort_pairs: Annotated[
        bool, typer.Option(help="fps, flatten: like atoms are interchangeable (liquids).")
    ] = False,
    fine_clusters: Annotated[int, typer.Option(help="flatten: fine clusters.")] = 200,
    weighted: Annotated[
        bool, typer.Option(help="flatten: picks by cluster size (larger molecules).")
    ] = False,
    pca: Annotated[int, typer.Option(help="flatten: principal components; 0: none.")] = 0,
    subset: Annotated[
        int, typer.Option(help="flatten: frames predicted per cluster to find bad ones; 0: all.")
    ] = 0,
    type_map: TypeMap = "",
    align_energies: Align = False,
) -> None:
    """Choose frames that are worth a label or a place in the training set."""
    from metamd.select import select

    config = _config(
        Select,
        method=method,
        count=count,
        seed=seed,
        bins=bins,
        metric=metric,
        sort_pairs=sort_pairs,
        trust_lower_ev_per_ang=trust_lower,
        trust_upper_ev_per_ang=trust_upper,
        flatten=_config(
            Flatten,
            fine_clusters=fine_clusters,
            weighted=weighted,
            pca_components=pca,
            error_subset=subset,
        ),
    )
    frames, parts = load_pool(data, type_map, align_energies, warn=_warn)
    if method == "flatten" and subset and model:
        chosen = _costly_flatten(frames, config, model)
    else:
        known = _predictions(model, predictions, frames, atomic=method == "atomic-energy")
        chosen = select(frames, config, predictions=known)
    save_json(json_, chosen.as_dict() | {"data": parts})
    if output:
        write_frames(frames[chosen.indices], output)
    for note in chosen.notes:
        _say(note)
    if json_ is None and output is None:
        for index, reason in zip(chosen.indices, chosen.reasons, strict=True):
            _say(f"{index}  {reason}")
    _say(f"{len(chosen)} of {len(frames)} frames by {method}")


def _costly_flatten(frames: Frames, config: Select, models: list[Path]) -> Any:
    """flatten with predictions only where they decide: a sample of each cluster, the bad ones."""
    from metamd.select import flatten_round
    from metamd.select.clusters import broad_clusters
    from metamd.select.flatten import staged_errors

    clusters = broad_clusters(frames, config.flatten, config.seed, config.sort_pairs)
    errors = staged_errors(
        frames, clusters, config, lambda k: _predict(models, frames[k]).force_rmse(frames[k])
    )
    return flatten_round(frames, errors, [], config, count=config.count, clusters=clusters)


def cluster_error_command(
    data: Data,
    model: Models = None,
    predictions: Stored = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for json, figures and structure.")
    ] = Path("cluster-error"),
    geometry_clusters: Annotated[int, typer.Option(help="Ward clusters on distances.")] = 10,
    energy_clusters: Annotated[int, typer.Option(help="Energy brackets of each.")] = 5,
    pca: Annotated[int, typer.Option(help="Principal components; 0: none.")] = 0,
    subset: Annotated[int, typer.Option(help="Frames predicted per cluster; 0: all.")] = 0,
    sort_pairs: Annotated[bool, typer.Option(help="Like atoms are interchangeable.")] = False,
    seed: Seed = 1,
    type_map: TypeMap = "",
    align_energies: Align = False,
) -> None:
    """Force error of a model cluster by cluster, and what the worst cluster looks like."""
    from metamd.select.clusters import broad_clusters, error_sample
    from metamd.select.flatten import bad_frames
    from metamd.select.report import cluster_report, plot_clusters

    config = _config(
        Flatten,
        geometry_clusters=geometry_clusters,
        energy_clusters=energy_clusters,
        pca_components=pca,
    )
    frames, parts = load_pool(data, type_map, align_energies, warn=_warn)
    if frames.forces is None:
        raise DataError(f"{frames.source}: frame 0 has no forces to compare with.")
    clusters = broad_clusters(frames, config, seed, sort_pairs)
    errors = np.full(len(frames), np.nan)
    where = error_sample(clusters, subset if model else 0, seed)
    some = frames if len(where) == len(frames) else frames[where]
    found = _predictions(model, predictions, some)
    if found is None:
        raise InputError("cluster-error needs --model or --predictions.")
    errors[where] = found.force_rmse(some)
    _, notes = bad_frames(frames, clusters, errors, config)
    report = cluster_report(frames, clusters, errors, tuple(notes))
    output.mkdir(parents=True, exist_ok=True)
    save_json(output / "clusters.json", report.as_dict() | {"data": parts})
    for suffix in ("png", "svg"):
        plot_clusters(report, output / f"clusters.{suffix}")
    worst = report.worst
    save_extxyz(frames[[worst.representative, worst.worst]], output / "worst.xyz")
    for note in report.notes:
        _say(note)
    _say(
        f"worst cluster: {worst.population} frames, force RMSE {worst.rmse_ev_per_ang:.4g} eV/A; "
        f"worst.xyz holds the frame at its centre ({worst.representative}) and the worst "
        f"({worst.worst})",
    )
    _say(f"results: {output}")


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
    """Spring constants of all pairs of elements from the spread of their distances."""
    from metamd.augment.figure import plot_springs
    from metamd.augment.springs import fit_springs, parse_components

    if profile not in ("best", "paper"):
        raise InputError(f"--profile: {profile!r} is neither best nor paper.")
    frames, _ = load_pool(data, type_map, energies=False, warn=_warn)
    springs = fit_springs(
        frames,
        _temperature(frames, temperature_k),
        parse_components(components),
        "paper" if profile == "paper" else "best",
        seed,
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
    _say(
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
    from metamd.augment import augment, fit_springs, load_springs
    from metamd.augment.perturb import counted_pairs, describe_pairs, system_weights
    from metamd.augment.springs import parse_components

    config = _config(
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
    frames, parts = load_pool(data, type_map, align_energies, warn=_warn)
    table = (
        load_springs(config.springs)
        if config.springs
        else fit_springs(
            frames,
            _temperature(frames, config.temperature_k),
            config.components,
            config.profile,
        )
    )
    new = augment(frames, table, config)
    write_frames(new, output)
    used = describe_pairs(frames, config.pairs, [*counted_pairs(frames, config.pairs)])
    probabilities = system_weights(len(parts), config.weight)
    save_json(
        output.with_name(output.name + ".json"),
        {
            "settings": config.model_dump(mode="json"),
            "data": parts,
            "pairs": used,
            "springs": table.as_dict(),
            "deepmd_auto_prob": probabilities,
        },
    )
    change = new.info["spring_ev"]
    _say(
        f"{len(new)} frames in {output}: energies changed by {change.min():.4g} to "
        f"{change.max():.4g} eV. {used}",
    )
    _say(f'DeePMD, after the real systems: "auto_prob": "{probabilities}"')


def export_command(
    data: Data,
    output: Annotated[Path, typer.Option("--output", "-o", help="Extended XYZ file to write.")],
    type_map: TypeMap = "",
    align_energies: Align = False,
) -> None:
    """Write frames as extended XYZ, for users of other potentials."""
    frames, _ = load_pool(data, type_map, align_energies, warn=_warn)
    if output.suffix not in (".xyz", ".extxyz"):
        raise InputError(f"--output {output}: extended XYZ files end in .xyz or .extxyz.")
    write_frames(frames, output)
    _say(f"{len(frames)} frames in {output}")


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
    frames, _ = load_pool(data, type_map, energies=False, warn=_warn)
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
        _say(f"pc-{k + 1}: {variance / pca.total_variance:.1%} of the variance")
    _say(
        f"{output}: use INVERSE_DISTANCE_MATRIX GROUP=... METRIC={metric} PCA={output}",
    )


def _say(text: str) -> None:
    out.print(text, highlight=False, soft_wrap=True, markup=False)


def _warn(message: str) -> None:
    console.print(f"[yellow]warning:[/] {message}", highlight=False, soft_wrap=True)


def _config(kind: type[_Config], **values: Any) -> _Config:
    """A typed table from options; problems name the key."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        text = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{key + ': ' if key else ''}{text} (got {first['input']!r}).") from None


def _predictions(
    models: list[Path] | None,
    stored: list[Path] | None,
    frames: Frames,
    atomic: bool = False,
) -> Predictions | None:
    if models and stored:
        raise InputError("Give --model or --predictions, not both.")
    if stored:
        return load_predictions(stored, frames)
    return _predict(models, frames, atomic) if models else None


def _predict(models: list[Path], frames: Frames, atomic: bool = False) -> Predictions:
    silence_exit()
    with TaskProgress(console, "predicting", len(models) * len(frames)) as bar:
        return predict(models, frames, atomic=atomic, progress=lambda done, _: bar.update(done))


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
