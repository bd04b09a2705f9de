"""The validation stage: every model on every test set, every ensemble in dynamics, and the rest.

Three rounds of tasks: models are opened and tested on frames; those that can be opened are run;
what their trajectories say is computed.  A check that fails is listed with its reason, and the
others are still made.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from metamd.config import Reference, System, Validate
from metamd.errors import DataError, MetamdError
from metamd.execution import Executor, Failure, Task
from metamd.frames import Frames, concatenate, load_npz
from metamd.predict import known_elements, predict
from metamd.validate.clusters import Clusterer, cluster_check
from metamd.validate.deviation import deviation_check
from metamd.validate.errors import (
    Errors,
    cross_errors,
    frame_force_rmse,
    prediction_errors,
    save_predictions,
)
from metamd.validate.plan import Ensembles, ModelFile, Plan
from metamd.validate.sampling import overlap_check


@dataclasses.dataclass(frozen=True)
class Validation:
    """``cross_errors``, ``stability`` and ``checks`` as in ``summary.json``.

    ``failures`` are the checks that gave no result: ``check`` and ``reason``; of a model that
    gives no numbers also ``train``, ``seed`` and, where it is one set only, ``test``.  Paths are
    whole.
    """

    cross_errors: list[dict[str, Any]]
    stability: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    checks: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def summary_entries(self, root: Path, tests: Mapping[str, Path]) -> dict[str, Any]:
        """The summary's ``cross_errors``, ``stability``, ``checks`` and ``failed_checks``.

        Args:
            root: work folder that paths become relative to.
            tests: labelled frames of every test set.
        """

        def relative(path: str | Path | None) -> str | None:
            return None if path is None else str(Path(path).relative_to(root))

        return {
            "cross_errors": [
                {
                    **row,
                    "frames": relative(tests[row["test"]]),
                    "predictions": [p | {"path": relative(p["path"])} for p in row["predictions"]],
                }
                for row in self.cross_errors
            ],
            "stability": [
                {**run, "trajectory": relative(run["trajectory"])} for run in self.stability
            ],
            "checks": self.checks,
            "failed_checks": self.failures,
        }


def validate_models(
    models: Sequence[ModelFile],
    tests: Mapping[str, Path],
    start: Atoms,
    config: Validate,
    folder: Path,
    executor: Executor,
    *,
    reference: Reference | None = None,
    system: System | None = None,
    clusters: Clusterer | None = None,
) -> Validation:
    """Judge models by the checks of the run file.

    Args:
        models: all members of all ensembles.
        tests: labelled frames (npz) by name; no model was trained on them.
        start: structure that dynamics starts from.
        reference: what scans, frequencies and trajectories are compared with, where it is given.
        system: charge and multiplicity for it.
        clusters: finds the clusters of the check of that name; it is left out without.
    """
    plan = Plan(start, config, folder, reference, system)
    return _Stage(plan, models, tests, executor, clusters).judged()


class _Stage:
    def __init__(
        self,
        plan: Plan,
        models: Sequence[ModelFile],
        tests: Mapping[str, Path],
        executor: Executor,
        clusters: Clusterer | None,
    ) -> None:
        self.plan, self.config, self.start = plan, plan.config, plan.start
        self.models, self.tests = models, tests
        self.executor, self.clusters = executor, clusters
        self.checks: list[dict[str, Any]] = []
        self.failures: list[dict[str, Any]] = []
        #: Test sets of which predictions lie on disk, by model.
        self.predicted: dict[ModelFile, set[str]] = {}

    def judged(self) -> Validation:
        wanted = self.config.checks
        rows, usable = self._errors()
        ensembles: dict[str, list[ModelFile]] = {}
        for model in usable:
            ensembles.setdefault(model.train, []).append(model)
        stability = self._dynamics(ensembles)
        self._analyses(ensembles, stability)
        if "clusters" in wanted and usable and self.clusters is not None:
            self._try("error by cluster", lambda: self._clusters(ensembles))
        if "sampling" in wanted and len(sets := self._sets()) > 1:
            self._try("overlap of the data sets", lambda: overlap_check(sets).as_dict())
        return Validation(rows, stability, self.failures, self.checks)

    def _try(self, what: str, make: Any) -> None:
        """A check made here and now; what is wrong with it is listed, not raised."""
        try:
            self.checks.append(make())
        except MetamdError as error:
            self._fail(what, str(error))

    def _fail(self, what: str, reason: str, **about: Any) -> None:
        self.failures.append({"check": what, "reason": reason, **about})

    def _errors(self) -> tuple[list[dict[str, Any]], list[ModelFile]]:
        """Cross errors, and the models that could be opened and know the structure's elements."""
        tests = self.tests if self.config.checks_frames else {}
        todo = [self.plan.errors(model, tests) for model in self.models]
        rows, usable = [], []
        wanted = "cross_errors" in self.config.checks
        for model, outcome in zip(self.models, self.executor.run("validate", todo), strict=True):
            name = f"{model.train}, seed {model.seed}"
            # The verdict counts a set without numbers against the model, where errors were asked.
            about = {"train": model.train, "seed": model.seed} if wanted else {}
            if isinstance(outcome, Failure):
                self._fail(f"model {name}", outcome.reason, **about)
                continue
            self.predicted[model] = set(outcome["tests"])
            for test, numbers in outcome["tests"].items():
                rows.append((model.train, test, model.seed, Errors(**numbers)))
            for test, reason in outcome["failures"].items():
                by_model = about | {"test": test} if about else {}
                self._fail(f"errors of {name}, on {test}", reason, **by_model)
            # Tasks that were done by an earlier version have none.
            for test, reason in outcome.get("unlabelled", {}).items():
                self._fail(f"errors of {name}, on {test}", reason)
            if outcome["missing"]:
                self._fail(
                    f"dynamics of {name}",
                    f"the model does not know {', '.join(outcome['missing'])} of the structure",
                )
            else:
                usable.append(model)
        table = cross_errors(rows) if wanted else []
        for row in table:
            row["predictions"] = [
                {"seed": seed, "path": str(folder / f"{row['test']}.npz")}
                for seed in row["seeds"]
                for folder in [self.plan.errors_folder(ModelFile(row["train"], seed, Path()))]
            ]
        return table, usable

    def _dynamics(self, ensembles: Ensembles) -> list[dict[str, Any]]:
        """Everything that needs a model and no other result; the stability runs."""
        runs = self.plan.stability(ensembles) if "stability" in self.config.checks else []
        others = self.plan.checks(ensembles)
        outcomes = self.executor.run("dynamics", [*(task for _, task in runs), *others])
        stability = []
        for (model, task), outcome in zip(runs, outcomes, strict=False):
            about = {
                "train": model.train,
                "seed": model.seed,
                "temperature_k": task.arguments["temperature_k"],
            }
            if isinstance(outcome, Failure):
                outcome = {
                    "intact": False,
                    "failure": outcome.reason,
                    "time_ps": 0.0,
                    "trajectory": None,
                }
            file = outcome["trajectory"]
            path = None if file is None else str(task.folder / file)
            stability.append({**about, **outcome, "trajectory": path})
        trajectories: dict[str, str] = {}
        for task, outcome in zip(others, outcomes[len(runs) :], strict=True):
            if isinstance(outcome, Failure):
                self._fail(task.title, outcome.reason)
            elif "checks" in outcome:
                self.checks += outcome["checks"]
            else:
                name = task.arguments["name"]
                trajectories[name] = str(task.folder / "frames.npz")
                if outcome["stopped"]:
                    self._fail(task.title, f"ended early: {outcome['stopped']}")
        if trajectories:
            task = self.plan.liquid(trajectories)
            self._collect(self.executor.run("liquid", [task]), [task])
        return stability

    def _collect(self, outcomes: Sequence[Any], todo: Sequence[Task]) -> None:
        for task, outcome in zip(todo, outcomes, strict=True):
            if isinstance(outcome, Failure):
                self._fail(task.title, outcome.reason)
            else:
                self.checks += outcome["checks"]

    def _analyses(self, ensembles: Ensembles, stability: Sequence[Mapping[str, Any]]) -> None:
        """Deviation of each ensemble of two or more along the runs of its first member."""
        if "deviation" not in self.config.checks:
            return
        runs = [
            run
            for run in stability
            if run["trajectory"] is not None
            and len(ensembles[run["train"]]) > 1
            and run["seed"] == ensembles[run["train"]][0].seed
        ]
        todo = [self.plan.deviation(ensembles, run) for run in runs]
        found = {}
        outcomes = self.executor.run("deviation", todo) if todo else []
        for run, task, outcome in zip(runs, todo, outcomes, strict=True):
            if isinstance(outcome, Failure):
                self._fail(task.title, outcome.reason)
                continue
            found[f"{run['train']}, {run['temperature_k']:g} K"] = (
                np.array(outcome["time_ps"]),
                np.array(outcome["deviation_ev_per_ang"]),
            )
        if found:
            self.checks.append(deviation_check(found).as_dict())

    def _sets(self) -> dict[str, Frames]:
        """The test sets of the structure's own atoms, which alone can be laid together."""
        symbols = tuple(self.start.get_chemical_symbols())
        sets = {name: load_npz(path) for name, path in self.tests.items()}
        return {name: f for name, f in sets.items() if len(f) and f.symbols == symbols}

    def _clusters(self, ensembles: Ensembles) -> dict[str, Any]:
        """Error by cluster over all test frames, of each ensemble's first member."""
        assert self.clusters is not None
        first = [members[0] for members in ensembles.values()]
        sets = {
            name: frames
            for name, frames in self._sets().items()
            if frames.labelled and self._all_predict(name, first)
        }
        if not sets:
            raise DataError("No labelled test frames on which every model gives numbers.")
        together = concatenate(list(sets.values()))
        errors = {
            train: np.concatenate([self._frame_errors(members[0], n, f) for n, f in sets.items()])
            for train, members in ensembles.items()
        }
        return cluster_check(self.clusters(together), errors).as_dict()

    def _all_predict(self, test: str, models: Sequence[ModelFile]) -> bool:
        """Whether the models can be compared on a test set; if not, that is listed."""
        without = [m for m in models if test not in self.predicted[m]]
        if without:
            names = " and ".join(f"{m.train}, seed {m.seed}" for m in without)
            self._fail(f"error by cluster, on {test}", f"no predictions of {names}")
        return not without

    def _frame_errors(self, model: ModelFile, test: str, frames: Frames) -> Any:
        with np.load(self.plan.errors_folder(model) / f"{test}.npz", allow_pickle=False) as data:
            return frame_force_rmse(frames, data["forces"])


def model_errors(
    folder: Path,
    model: str,
    tests: dict[str, str],
    elements: list[str],
    remove_offset: bool = False,
) -> dict[str, Any]:
    """Task: errors of one model on every test set; its predictions are kept for the report.

    Returns: ``tests`` (errors by test set), ``failures`` (reasons by test set that the model gives
        no numbers on), ``unlabelled`` (reasons by test set that has none to compare with) and
        ``missing`` (elements of the structure that the model does not know).
    """
    known = known_elements(Path(model))
    table, failures, unlabelled = {}, {}, {}
    for name, path in tests.items():
        try:
            frames = _comparable(name, load_npz(Path(path)))
        except MetamdError as error:
            unlabelled[name] = str(error)
            continue
        try:
            found = predict([model], frames)
            assert found.energy is not None
            energy, forces = found.energy[0], found.forces[0]
            virial = None if found.virial is None else found.virial[0]
            errors = prediction_errors(frames, energy, forces, virial, remove_offset)
        except MetamdError as error:
            failures[name] = str(error)
            continue
        save_predictions(folder / f"{name}.npz", energy, forces)
        table[name] = dataclasses.asdict(errors)
    missing = [e for e in elements if e not in known]
    return {"tests": table, "failures": failures, "unlabelled": unlabelled, "missing": missing}


def _comparable(name: str, frames: Frames) -> Frames:
    if not len(frames):
        raise DataError(f"{name}: an empty test set.")
    if not frames.labelled:
        raise DataError(f"{name}: has no energies and forces to compare with.")
    return frames
