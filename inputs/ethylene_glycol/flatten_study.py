"""The improved training of flatten against plain random training on as many frames.

    metamd sample inputs/ethylene_glycol/pool.toml -w POOL
    python inputs/ethylene_glycol/flatten_study.py POOL --workdir STUDY

The pool has all frames of plain dynamics and one in five of metadynamics: 1 % of it is rare.  Both
final trainings are alike: 1000 frames, from random weights, equally many steps.  Errors are those
on all frames that neither of them was trained on, the rest of metadynamics among them, cluster by
cluster.  What is done is not done again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from metamd.config import Execution, RunConfig, load_config
from metamd.execution import Executor, Task
from metamd.frames import Frames, concatenate, load_npz, save_deepmd, save_npz
from metamd.improve import improved_training
from metamd.predict import FORCE_RMSE
from metamd.select import select
from metamd.select.clusters import Clusters, broad_clusters, cluster_rmse
from metamd.train import train_all, train_ensemble
from metamd.workspace import write_json

HERE = Path(__file__).resolve().parent
#: A cluster with fewer frames left than this says nothing.
FEWEST = 10
#: One in so many frames of metadynamics is in the pool; the others only test.
RARE_EVERY = 5


def load_frames_of(folder: Path) -> tuple[Frames, int]:
    """All frames, those of the pool first, and how many these are."""
    arms = {
        path.parent.name: load_npz(path)
        for path in sorted(folder.glob("iteration-0/sample/*/frames.npz"))
    }
    rare = arms["metamd"]
    taken = np.arange(len(rare)) % RARE_EVERY == 0
    pool = [arms["md"], rare[np.flatnonzero(taken)]]
    everything = concatenate([*pool, rare[np.flatnonzero(~taken)]], "ethylene glycol")
    return everything, sum(len(part) for part in pool)


def force_rmse(
    models: list[Path], frames: Path, n: int, folder: Path, executor: Executor
) -> np.ndarray:
    """Force RMSE of each frame by each model, eV/A, [n_models, n_frames]."""
    tasks = [
        Task(
            "metamd.predict:force_error_task",
            folder / f"errors-{k}",
            {"models": [str(model)], "frames": str(frames), "indices": list(range(n))},
            f"errors of model {k}",
        )
        for k, model in enumerate(models)
    ]
    executor.run_all("errors", tasks)
    return np.array([np.load(task.folder / FORCE_RMSE) for task in tasks])


def one_seed(
    frames: Frames,
    n_pool: int,
    clusters: Clusters,
    config: RunConfig,
    seed: int,
    folder: Path,
    executor: Executor,
) -> dict[str, Any]:
    """Train both ways with one seed, and compare."""
    pool = frames[:n_pool]
    chosen = config.select.model_copy(update={"seed": seed})
    train = config.train.model_copy(update={"seed": seed})
    better = improved_training(pool, chosen, train, folder / "flatten", executor)
    plain = select(pool, chosen.model_copy(update={"method": "random", "seed": 100 + seed}))
    system = folder / "random-train"
    if not system.exists():
        save_deepmd(pool[plain.indices], system)
    tasks = train_ensemble("random", [system], [], train, folder)
    models = train_all({"random": tasks}, executor)
    errors = force_rmse(
        [models[0].path, better.models[0].path], folder.parent / "frames.npz", len(frames),
        folder, executor,
    )  # fmt: skip
    errors[:, np.union1d(plain.indices, better.indices)] = np.nan
    left = np.bincount(clusters.labels[np.isfinite(errors[0])], minlength=clusters.n)
    counted = left >= FEWEST
    table: dict[str, Any] = {"seed": seed, "steps": train.steps, "frames_left": left.tolist()}
    for name, own in zip(("random", "flatten"), errors, strict=True):
        rmse, _ = cluster_rmse(clusters, own)
        table[name] = {
            "overall": float(np.sqrt(np.nanmean(own**2))),
            "worst": float(rmse[counted].max()),
            "clusters": [float(e) if c else None for e, c in zip(rmse, counted, strict=True)],
        }
    arms = pool.info["arm"]
    for name, taken in (("random", plain.indices), ("flatten", better.indices)):
        table[name]["metamd_frames"] = int((arms[taken] == "metamd").sum())
    return table


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Force RMSE by cluster, both trainings, mean of the seeds; clusters by rising random error."""
    mean = {
        name: np.nanmean([np.array(r[name]["clusters"], dtype=float) for r in rows], axis=0)
        for name in ("random", "flatten")
    }
    order = np.argsort(mean["random"])
    figure = Figure(figsize=(7.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for shift, (name, colour) in enumerate((("random", "#bab0ac"), ("flatten", "#4c78a8"))):
        axes.bar(
            np.arange(len(order)) + 0.4 * shift, mean[name][order], 0.4, color=colour, label=name
        )
    axes.set_xlabel("cluster, by rising error of random training")
    axes.set_ylabel("force RMSE (eV/Å)")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main() -> None:
    """Run seed by seed and write ``results.json`` after each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=None)
    arguments = parser.parse_args()
    folder: Path = arguments.workdir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    config = load_config(HERE / "flatten.toml")
    frames, n_pool = load_frames_of(arguments.pool)
    save_npz(frames, folder / "frames.npz")
    clusters = broad_clusters(frames, config.select.flatten, 1)
    print(f"{n_pool} frames in the pool, {len(frames)} in all, in {clusters.n} clusters of "
          f"{clusters.population.min()} to {clusters.population.max()}")  # fmt: skip
    rows = []
    with Executor(
        Execution(workers=arguments.workers), folder / "logs", Console(stderr=True)
    ) as executor:
        for seed in range(1, arguments.seeds + 1):
            own = folder / f"seed-{seed}"
            rows.append(one_seed(frames, n_pool, clusters, config, seed, own, executor))
            write_json(folder / "results.json", rows)
            plot(rows, folder / "clusters.png")
            r, f = rows[-1]["random"], rows[-1]["flatten"]
            print(
                f"seed {seed}, random and flatten: overall {r['overall']:.4f}, {f['overall']:.4f}; "
                f"worst cluster {r['worst']:.4f}, {f['worst']:.4f} eV/A",
                flush=True,
            )
    for key in ("overall", "worst"):
        ratio = [row["flatten"][key] / row["random"][key] for row in rows]
        print(f"{key}: flatten / random {np.mean(ratio):.3f} +- {np.std(ratio, ddof=1):.3f}"
              if len(ratio) > 1 else f"{key}: flatten / random {ratio[0]:.3f}")  # fmt: skip


if __name__ == "__main__":
    main()
