"""Commands that choose frames: select, cluster-error, flatten-train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from metamd.commands.options import (
    Align,
    Data,
    Json,
    Models,
    RunFile,
    Seed,
    Stored,
    TypeMap,
    console,
    predict_with,
    predictions_of,
    say,
    typed,
    warn,
)
from metamd.config import Flatten, Select
from metamd.errors import DataError, InputError
from metamd.frames import Frames, save_extxyz
from metamd.pool import (
    check_writable,
    load_pool,
    make_folder,
    refuse_existing,
    save_json,
    write_frames,
)


def register(app: typer.Typer) -> None:
    """Add the commands to a typer application."""
    app.command("select")(select_command)
    app.command("cluster-error")(cluster_error_command)
    app.command("flatten-train")(flatten_train_command)


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

    config = typed(
        Select,
        method=method,
        count=count,
        seed=seed,
        bins=bins,
        metric=metric,
        sort_pairs=sort_pairs,
        trust_lower_ev_per_ang=trust_lower,
        trust_upper_ev_per_ang=trust_upper,
        flatten=typed(
            Flatten,
            fine_clusters=fine_clusters,
            weighted=weighted,
            pca_components=pca,
            error_subset=subset,
        ),
    )
    check_writable("--json", json_, data)
    refuse_existing("--output", output)
    frames, parts = load_pool(data, type_map, align_energies, warn=warn)
    if method == "flatten" and subset and model:
        chosen = _costly_flatten(frames, config, model)
    else:
        known = predictions_of(model, predictions, frames, atomic=method == "atomic-energy")
        chosen = select(frames, config, predictions=known)
    save_json(json_, chosen.as_dict() | {"data": parts})
    if output:
        write_frames(frames[chosen.indices], output)
    for note in chosen.notes:
        say(note)
    if json_ is None and output is None:
        for index, reason in zip(chosen.indices, chosen.reasons, strict=True):
            say(f"{index}  {reason}")
    say(f"{len(chosen)} of {len(frames)} frames by {method}")


def _costly_flatten(frames: Frames, config: Select, models: list[Path]) -> Any:
    """flatten with predictions only where they decide: a sample of each cluster, the bad ones."""
    from metamd.select import flatten_round
    from metamd.select.clusters import broad_clusters
    from metamd.select.flatten import staged_errors

    clusters = broad_clusters(frames, config.flatten, config.seed, config.sort_pairs)
    errors = staged_errors(
        frames, clusters, config, lambda k: predict_with(models, frames[k]).force_rmse(frames[k])
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

    config = typed(
        Flatten,
        geometry_clusters=geometry_clusters,
        energy_clusters=energy_clusters,
        pca_components=pca,
    )
    frames, parts = load_pool(data, type_map, align_energies, warn=warn)
    if frames.forces is None:
        raise DataError(f"{frames.source}: frame 0 has no forces to compare with.")
    if not (model or predictions):
        raise InputError("cluster-error needs --model or --predictions.")
    make_folder("--output", output)
    clusters = broad_clusters(frames, config, seed, sort_pairs)
    errors = np.full(len(frames), np.nan)
    where = error_sample(clusters, subset if model else 0, seed)
    some = frames if len(where) == len(frames) else frames[where]
    found = predictions_of(model, predictions, some)
    assert found is not None
    errors[where] = found.force_rmse(some)
    _, notes = bad_frames(frames, clusters, errors, config)
    report = cluster_report(frames, clusters, errors, tuple(notes))
    save_json(output / "clusters.json", report.as_dict() | {"data": parts})
    for suffix in ("png", "svg"):
        plot_clusters(report, output / f"clusters.{suffix}")
    worst = report.worst
    save_extxyz(frames[[worst.representative, worst.worst]], output / "worst.xyz")
    for note in report.notes:
        say(note)
    say(
        f"worst cluster: {worst.population} frames, force RMSE {worst.rmse_ev_per_ang:.4g} eV/A; "
        f"worst.xyz holds the frame at its centre ({worst.representative}) and the worst "
        f"({worst.worst})",
    )
    say(f"results: {output}")


def flatten_train_command(
    run_file: RunFile,
    data: Annotated[
        list[Path], typer.Argument(help="The labelled pool: what metamd select reads; joined.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder; the same command goes on with it.")
    ],
    initial: Annotated[
        int | None, typer.Option(help="Frames of the first training set [select.flatten.start].")
    ] = None,
    step: Annotated[
        int | None, typer.Option(help="Frames added in each round [select.flatten.step].")
    ] = None,
    count: Annotated[
        int | None, typer.Option(help="Frames of the last training set [select.count].")
    ] = None,
    type_map: TypeMap = "",
    align_energies: Align = False,
) -> None:
    """Improved training: add the frames that the model predicts worst, train, and again.

    [select] of the run file has count, seed and the table flatten (rounds, clusters), [train] the
    network and its steps.  By default 200 to 1000 frames in 8 rounds.
    """
    from metamd.config import load_config
    from metamd.execution import Executor
    from metamd.improve import improved_training
    from metamd.workspace import Workspace

    config = load_config(run_file)
    if config.select.method != "flatten":
        raise InputError(f'{run_file}: select.method: flatten-train needs "flatten".')
    flatten = {"start": initial, "step": step}
    changed = config.select.model_dump() | ({} if count is None else {"count": count})
    changed["flatten"] |= {key: value for key, value in flatten.items() if value is not None}
    config = config.model_copy(update={"select": typed(Select, **changed)})
    frames, _ = load_pool(data, type_map, align_energies, warn=warn)
    with (
        Workspace(output, config, run_file.read_text()) as workspace,
        Executor(config.execution, workspace.path / "logs", console) as executor,
    ):
        result = improved_training(
            frames, config.select, config.train, workspace.path, executor, say
        )
    for model in result.models:
        say(f"seed {model.seed}: {model.path}")
    say(f"training set, errors and reasons: {output / 'rounds.json'}; figure: rounds.png")
