"""Which frames of molten NaCl to train on: the experiment of Tovey et al., with metamd's methods.

    metamd run inputs/nacl/pool.toml -w POOL --until label
    python inputs/nacl/selection_study.py POOL --workdir STUDY

One pool of 20 state points, two walkers at each.  Of the first walkers' frames 512 are chosen to
train on by each method, with three seeds; of the second walkers' a common test set is drawn in
equal parts by random, energy, atomic-energy and force.  So the test asks for what the methods look
for, without taking it out of the frames they may choose from.  The same network and the same number
of steps for all.  ``single-md`` draws at random from one state point only.  What is done is not
done again: the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from matplotlib.figure import Figure
from rich.console import Console

from metamd.config import Execution, Select, Train, Validate
from metamd.execution import Executor
from metamd.frames import Frames, concatenate, load_npz, save_deepmd, save_npz
from metamd.select import select
from metamd.train import train_all, train_ensemble
from metamd.validate.models import validate_models
from metamd.validate.plan import ModelFile
from metamd.workspace import write_json

HERE = Path(__file__).resolve().parent
METHODS = ("random", "energy", "atomic-energy", "force", "single-md")
DRAW_TEST = ("random", "energy", "atomic-energy", "force")
SINGLE = "1400K-1bar"
COUNT, TEST_EACH = 512, 512


def load_pool(folder: Path) -> Frames:
    """All labelled frames of ``metamd run pool.toml --until label``."""
    files = sorted(folder.glob("iteration-0/label/*/labelled.npz"))
    pool = concatenate([load_npz(path) for path in files], "NaCl pool")
    assert pool.cell is not None
    density = pool.n_atoms / 2 * 58.4428 / 0.602214 / np.abs(np.linalg.det(pool.cell))
    for arm in np.unique(pool.info["arm"]):
        own = density[pool.info["arm"] == arm]
        # A vapour has a hundredth of the melt's density; a melt that boils spreads out on the way.
        print(f"{arm}: {own.mean():.3f} g/cm3, lowest {own.min():.3f}")
        if own.min() < 0.7:
            raise SystemExit(f"{arm}: boils, or nearly so; take it out of the pool")
    return pool


def draw_test(pool: Frames) -> Frames:
    """The test set: equal parts by four methods, none of the frames taken twice."""
    taken: list[int] = []
    for method in DRAW_TEST:
        config = Select(method=method, count=TEST_EACH, seed=1000)
        taken += select(pool, config, already_chosen=taken).indices.tolist()
    return pool[np.array(taken)]


def draw_training(pool: Frames, method: str, seed: int) -> Frames:
    """512 frames by a method."""
    name = method
    if method == "single-md":
        pool, name = pool[pool.info["arm"] == SINGLE], "random"
    return pool[select(pool, Select(method=name, count=COUNT, seed=seed)).indices]


def training(steps: int, seed: int) -> Train:
    return Train(
        models=1,
        steps=steps,
        batch_size=2,
        cutoff_ang=6.0,
        start_learning_rate=1e-2,
        stop_learning_rate=1e-4,
        deepmd=HERE / "deepmd.json",
        compress=False,
        seed=seed,
    )


def main() -> None:
    """Draw, train, test, and write ``results.json`` after every seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=16000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument(
        "--doubled", default="random,force", help="Methods also trained twice as long (seed 1)."
    )
    parser.add_argument("--workers", type=int, default=None)
    arguments = parser.parse_args()
    folder: Path = arguments.workdir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    pool = load_pool(arguments.pool)
    to_train, to_test = (pool[pool.info["walker"] == walker] for walker in (0, 1))
    tests = {"common": save_npz(draw_test(to_test), folder / "test.npz")}
    doubled = [m for m in arguments.doubled.split(",") if m]
    runs = [(m, 1, factor) for m in doubled[:1] for factor in (1, 2)]
    runs += [(m, s, 1) for s in range(1, arguments.seeds + 1) for m in arguments.methods.split(",")]
    runs += [(m, 1, 2) for m in doubled]
    runs = list(dict.fromkeys(runs))
    with Executor(
        Execution(workers=arguments.workers), folder / "logs", Console(stderr=True)
    ) as executor:
        tasks = {}
        for method, seed, factor in runs:
            system = folder / "train" / f"{method}-{seed}"
            if not system.exists():
                save_deepmd(draw_training(to_train, method, seed), system)
            config = training(factor * arguments.steps, seed)
            name = f"{method}-{seed}" + ("-doubled" if factor == 2 else "")
            tasks[name] = train_ensemble(name, [system], [], config, folder / "models")
        models = train_all(tasks, executor)
        files = [
            ModelFile(method + ("-doubled" if factor == 2 else ""), seed, model.path)
            for (method, seed, factor), model in zip(runs, models, strict=True)
        ]
        result = validate_models(
            files, tests, Atoms(), Validate(checks=("cross_errors",)), folder / "validate", executor
        )
    if result.failures:
        raise SystemExit(f"no errors of some models: {result.failures[0]['reason']}")
    table = {row["train"]: row for row in result.cross_errors}
    write_json(folder / "results.json", {"steps": arguments.steps, "errors": table})
    plot(table, folder / "errors.png")
    print("force errors on the common test set, eV/A: mean +- spread of the seeds")
    for method, row in table.items():
        rmse, mae, worst = (row[f"force_{k}_ev_per_ang"] for k in ("rmse", "mae", "max"))
        print(f"{method:22s} RMSE {_text(rmse)}  MAE {_text(mae)}  max {_text(worst)}")


def plot(table: dict[str, Any], path: Path) -> None:
    """Force errors by method as in the paper's figure 2; a dot a seed."""
    names = [name for name in table if not name.endswith("-doubled")]
    figure = Figure(figsize=(7.5, 2.8), layout="constrained")
    for axes, key in zip(figure.subplots(1, 3), ("max", "rmse", "mae"), strict=True):
        for k, name in enumerate(names):
            number = table[name][f"force_{key}_ev_per_ang"]
            axes.bar(k, number["mean"], 0.7, color="#c9d6e6")
            axes.plot([k] * len(number["values"]), number["values"], ".", color="#4c78a8")
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right", fontsize=7)
        axes.set_title(f"force {key} (eV/Å)", fontsize=9)
    figure.savefig(path, dpi=110)


def _text(number: dict[str, Any]) -> str:
    spread = number["spread"]
    return f"{number['mean']:.4f}" + ("" if spread is None else f" +- {spread:.4f}")


if __name__ == "__main__":
    main()
