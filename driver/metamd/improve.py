"""The improved training of flatten with DeePMD models: rounds of train, predict, select.

It joins the stages train and select, as ``loop`` does for a whole run.  What is on disk is the
state: a training or prediction that is done is never done again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metamd.config import Select, Train
from metamd.errors import InputError
from metamd.execution import Executor, Task
from metamd.frames import Array, Frames, content_hash, load_npz, save_deepmd, save_npz
from metamd.predict import FORCE_RMSE
from metamd.select.clusters import broad_clusters
from metamd.select.picks import Indices
from metamd.select.report import plot_rounds
from metamd.select.rounds import Round, flatten_rounds
from metamd.train import Model, train_all, train_ensemble
from metamd.workspace import set_aside, write_json

ERROR_TASK = "metamd.predict:force_error_task"
ROUNDS = "rounds.json"
POOL = "pool.npz"
#: Frames of one prediction task.
_CHUNK = 50_000


@dataclass(frozen=True)
class Improved:
    """What the improved training gave.

    Attributes:
        rounds: every training set with its errors.
        models: trained on the last of them.
    """

    rounds: list[Round]
    models: list[Model]

    @property
    def indices(self) -> Indices:
        """Frames of the pool that the models were trained on."""
        return self.rounds[-1].indices


def improved_training(
    pool: Frames,
    select: Select,
    train: Train,
    folder: Path,
    executor: Executor,
    say: Callable[[str], None] = print,
) -> Improved:
    """Grow a training set where the models are worst, and train on it (Fonseca 2021).

    Args:
        pool: labelled frames.
        select: ``count`` frames at the end; ``flatten`` has the sizes of the rounds.
        train: models, steps (``flatten.round_steps`` before the last round), network.
        folder: ``round-k`` for each training set, ``rounds.json`` and a figure of the errors.
        executor: carries trainings and predictions.
        say: takes a line after each round.

    Raises:
        DataError: a pool without labels or too small.
        InputError: the folder belongs to another pool.
        TaskError: a training or a prediction failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _keep_pool(pool, folder / POOL)
    clusters = broad_clusters(pool, select.flatten, select.seed, select.sort_pairs)
    trainer = _Trainer(pool, select, train, folder, executor)
    done: list[Round] = []

    def after(finished: Round) -> None:
        done.append(finished)
        _write_rounds(done, clusters.population, folder / ROUNDS)
        say(
            f"round {finished.number}: {len(finished.indices)} frames, force RMSE "
            f"{finished.overall_rmse_ev_per_ang:.4g} eV/A overall, "
            f"{finished.worst_rmse_ev_per_ang:.4g} in the worst cluster"
        )
        for note in finished.notes[1:]:
            say(note)

    rounds = flatten_rounds(pool, select, trainer, clusters=clusters, after=after)
    for suffix in ("png", "svg"):
        plot_rounds(rounds, folder / f"rounds.{suffix}")
    return Improved(rounds, trainer.models)


class _Trainer:
    """``Fit`` by an ensemble of DeePMD models."""

    def __init__(
        self, pool: Frames, select: Select, train: Train, folder: Path, executor: Executor
    ) -> None:
        self.pool, self.select, self.config = pool, select, train
        self.folder, self.executor = folder, executor
        self.models: list[Model] = []

    def __call__(self, number: int, indices: Indices, last: bool) -> Callable[[Indices], Array]:
        flatten, folder = self.select.flatten, self.folder / f"round-{number}"
        system = _training_set(self.pool, indices, folder)
        config = self.config
        if not last:
            steps = flatten.round_steps or config.steps
            config = config.model_copy(update={"steps": steps, "compress": False})
        warm = [m.path.parent for m in self.models] if flatten.warm_start else []
        tasks = train_ensemble("models", [system], [], config, folder, start_from=warm)
        self.models = train_all({f"round {number}": tasks}, self.executor)
        asked = 0

        def errors_of(wanted: Indices) -> Array:
            nonlocal asked
            asked += 1
            return self._errors(wanted, folder / f"errors-{asked}", number)

        return errors_of

    def _errors(self, wanted: Indices, folder: Path, number: int) -> Array:
        """Force RMSE of the frames ``wanted``, eV/A, by tasks."""
        tasks = [
            Task(
                ERROR_TASK,
                folder / f"part-{start // _CHUNK}",
                {
                    "models": [str(model.path) for model in self.models],
                    "frames": str(self.folder / POOL),
                    "indices": wanted[start : start + _CHUNK].tolist(),
                },
                f"errors of round {number}",
            )
            for start in range(0, len(wanted), _CHUNK)
        ]
        self.executor.run_all(f"errors of round {number}", tasks)
        return np.concatenate([np.load(task.folder / FORCE_RMSE) for task in tasks])


def _keep_pool(pool: Frames, path: Path) -> None:
    """The pool beside its rounds; another pool's folder is refused."""
    if not path.exists():
        save_npz(pool, path)
        return
    if content_hash(load_npz(path)) != content_hash(pool):
        raise InputError(f"{path.parent}: holds rounds of other data than {pool.source}.")


def _training_set(pool: Frames, indices: Indices, folder: Path) -> Path:
    """The DeePMD system of a round; one of other frames is set aside with what was made of it."""
    chosen = folder / "indices.json"
    if folder.exists() and not (
        chosen.exists() and json.loads(chosen.read_text()) == indices.tolist()
    ):
        set_aside(folder, "old")
    if not chosen.exists():
        folder.mkdir(parents=True)
        save_deepmd(pool[indices], folder / "train")
        write_json(chosen, indices.tolist())
    return folder / "train"


def _write_rounds(rounds: list[Round], population: Any, path: Path) -> None:
    last = rounds[-1]
    write_json(
        path,
        {
            "population": population,
            "rounds": [done.as_dict() for done in rounds],
            "indices": last.indices,
            "reasons": {str(k): r for done in rounds for k, r in sorted(done.reasons.items())},
        },
    )
