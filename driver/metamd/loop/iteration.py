"""One iteration: sample, select, label, dataset, train, validate.

Every stage is a method that leaves its result in the iteration's state; finished tasks are found
again on disk, so that running an iteration again after a kill gives the same state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ase import Atoms
from numpy.typing import NDArray
from rich.console import Console

from metamd.augment import augment_system
from metamd.config import Augment, RunConfig, Sample, Select, is_thermal
from metamd.dataset import make_dataset
from metamd.errors import NothingLabelled, TaskError
from metamd.execution import Executor
from metamd.frames import Frames, save_npz
from metamd.judge import cluster_labels
from metamd.label import LabelResult, label_frames, reusable_labels
from metamd.loop.pick import Picked, pick_unlabelled
from metamd.loop.rules import reference_steps
from metamd.plumed_input import HILLS
from metamd.predict import predict
from metamd.reference import fingerprint
from metamd.sample import sample_arms
from metamd.select import select
from metamd.summary import GIVEN_DATA, IterationState
from metamd.train import Augmented, train_all, train_ensemble
from metamd.validate.models import validate_models
from metamd.validate.plan import ModelFile
from metamd.workspace import Workspace, write_json

POOLED = "all"
#: Seeds of one iteration's walkers lie this far from the last one's.
SEED_STEP = 100_003


@dataclass(frozen=True)
class RunContext:
    """What all iterations of a run share."""

    config: RunConfig
    workspace: Workspace
    executor: Executor
    console: Console
    atoms: Atoms


class Iteration:
    """Iteration ``number``; ``before`` are the states of all earlier ones, oldest first."""

    def __init__(self, run: RunContext, number: int, before: list[IterationState]) -> None:
        self.run, self.before = run, before
        self.config = run.config
        self.state = IterationState(number)
        self.folder = run.workspace.path / f"iteration-{number}"

    @property
    def number(self) -> int:
        return self.state.number

    def say(self, text: str) -> None:
        self.run.console.print(text, markup=False, highlight=False, soft_wrap=True)

    # -- what it begins with ----------------------------------------------------------------

    def models_for(self, arm: str) -> list[Path]:
        """The ensemble that an arm of this iteration samples with and is judged by."""
        if not self.before:
            return list(self.config.loop.models)
        models = self.before[-1].models
        own = [m.path for m in models if m.train == arm] or [m.path for m in models]
        return own if self.config.train.datasets == "each" else [m.path for m in models]

    @property
    def samples_with_model(self) -> bool:
        return self.number > 0 or bool(self.config.loop.models)

    def arms(self) -> tuple[Sample, ...]:
        """The arms as this iteration samples them."""
        loop = self.config.loop
        if self.number == 0:
            arms = self.config.sample
            if loop.data:
                arms = tuple(a for a in arms if a.role == "test")
            if loop.models:
                arms = tuple(a if a.role == "test" else self._with_model(a) for a in arms)
            return arms
        # Test arms are sampled once; errors of all iterations are then of the same frames.
        return tuple(self._later(a) for a in self.config.sample if a.role == "train")

    def _later(self, arm: Sample) -> Sample:
        arm = self._with_model(arm) if self.config.loop.engine == "model" else arm
        changes: dict[str, Any] = {"seed": (arm.seed + SEED_STEP * self.number) % 2**31}
        carried = arm.bias is not None and arm.bias.cv == "matrix"
        if carried and self.config.loop.hills != "fresh":
            changes["bias"] = self._carried(arm)
        return arm.model_copy(update=changes)

    def _with_model(self, arm: Sample) -> Sample:
        """The arm moved by the last model; where nothing moves, or an own deck says what does,
        the arm itself."""
        if arm.static or arm.deck is not None:
            return arm
        return arm.model_copy(update={"engine": "model", "model": self.models_for(arm.name)[0]})

    def _carried(self, arm: Sample) -> Any:
        """The arm's bias with the hills that its walkers left in the last iteration."""
        assert arm.bias is not None
        own = [self._last_hills(arm, walker) for walker in range(arm.walkers)]
        # A walker that has none yet takes another one's, so that the others keep theirs.
        spare = next((path for path in own if path is not None), None)
        hills = tuple(path or spare for path in own) if spare is not None else ()
        ramp = self.config.loop.ramp_steps if self.config.loop.hills == "ramp" else None
        update = {"hills": hills or arm.bias.hills, "ramp_steps": ramp or arm.bias.ramp_steps}
        return arm.bias.model_copy(update=update)

    def _last_hills(self, arm: Sample, walker: int) -> Path | None:
        """The hills that this walker left last: it may have failed in an iteration."""
        for number in reversed(range(self.number)):
            folder = self.run.workspace.path / f"iteration-{number}" / "sample" / arm.name
            if (path := folder / f"walker-{walker}" / HILLS).exists():
                return path
        return None

    # -- the stages -------------------------------------------------------------------------

    def sample(self) -> None:
        c, arms = self.config, self.arms()
        self.state.samples = sample_arms(
            arms, c.system, c.reference, self.run.atoms, self.folder / "sample", self.run.executor
        )
        self.state.reference_steps = reference_steps(arms)
        for result in self.state.samples:
            for note in result.notes:
                self.say(f"arm {result.arm.name}, walker {note['walker']}: {note['note']}")
            for stop in result.stopped:
                self.say(
                    f"arm {result.arm.name}, walker {stop['walker']} stopped early: "
                    f"{stop['reason']}; frames from before are kept"
                )

    def select(self) -> None:
        for result in self.state.samples:
            name = result.arm.name
            frames = result.frames.with_info(
                iteration=self.number, frame=np.arange(len(result.frames))
            )
            by_models = self.samples_with_model and result.arm.role == "train"
            if by_models:
                picked = pick_unlabelled(
                    frames,
                    result.path,
                    self.models_for(name),
                    self._select_config(),
                    self.folder / "deviation" / name,
                    self.run.executor,
                )
            else:
                picked = self._pick_by_run_file(name, frames, result.arm)
            folder = self.folder / "select"
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / f"{name}.json", picked.as_dict())
            self.state.picked[name] = picked
            if len(picked.indices):
                self.state.selected[name] = frames[picked.indices]
            for note in picked.notes:
                self.say(f"arm {name}: {note}")

    def _select_config(self) -> Select:
        select_config = self.config.loop.select
        return select_config.model_copy(update={"seed": select_config.seed + self.number})

    def _pick_by_run_file(self, name: str, frames: Frames, arm: Sample) -> Picked:
        config = self.config.select
        if arm.role == "test":
            config = config.model_copy(update={"method": "time", "models": ()})
        count = min(config.count, len(frames))
        if count < config.count:
            self.say(f"arm {name}: select.count = {config.count}, but there are {count} frames")
        given = predict(list(config.models), frames, atomic=True) if config.models else None
        changed = config.model_copy(update={"count": count})
        chosen = select(frames, changed, predictions=given)
        return Picked(chosen.indices, chosen.reasons, chosen.method, list(chosen.notes))

    def label(self, budget: int | None = None) -> None:
        """Label the selected frames, at most ``budget`` of them (evenly over the arms)."""
        c = self.config
        if self.number == 0 and c.loop.data:
            self.state.selected[GIVEN_DATA] = self._given_data()
        roles: dict[str, str] = {arm.name: arm.role for arm in c.sample}
        limits = {arm.name: arm.max_force_ev_per_ang for arm in c.sample if arm.role == "train"}
        source = fingerprint(c.reference, c.system)
        free = {n: reusable_labels(f, c.label, source) for n, f in self.state.selected.items()}
        wanted = within_budget(self.state.selected, roles, budget, free, c.label.recheck)
        for name, frames in wanted.items():
            folder = self.folder / "label" / name
            result = self._labelled(frames, folder)
            limit = limits.get(name) if self.samples_with_model else None
            if limit is not None:
                result = without_wild(result, limit)
            if len(result.frames):
                save_npz(result.frames, folder / "labelled.npz")
            else:
                self.say(f"arm {name}: no new frame got a usable label")
            self.state.labels[name] = result
            for failure in result.failures[:3]:
                self.say(f"arm {name}, frame {failure['frame']} set aside: {failure['reason']}")

    def _labelled(self, frames: Frames, folder: Path) -> LabelResult:
        """Labels of an arm's frames; failures name the frame as the arm's file counts it.

        Raises:
            TaskError: iteration 0 has nothing to train on; later there are earlier frames.
        """
        c = self.config
        try:
            result = label_frames(
                frames, c.label, c.reference, c.system, folder, self.run.executor, self.run.atoms
            )
        except NothingLabelled as error:
            if self.number == 0:
                raise
            result = LabelResult(frames[:0], failures=error.failures)
        number = frames.info["frame"]
        failures = [{**f, "frame": int(number[f["frame"]])} for f in result.failures]
        return replace(result, failures=failures)

    def _given_data(self) -> Frames:
        """Frames of ``loop.data``; their labels count as the reference's, and are rechecked."""
        from metamd.pool import load_pool

        frames, _ = load_pool(self.config.loop.data, warn=self.say)
        if frames.symbols != tuple(self.run.atoms.get_chemical_symbols()):
            raise TaskError(
                f"loop.data: {frames.source} has other atoms, or another order, than "
                "system.structure."
            )
        if not frames.labelled:
            raise TaskError(f"loop.data: {frames.source} has no energies and forces.")
        source = fingerprint(self.config.reference, self.config.system)
        return frames.with_info(
            arm=GIVEN_DATA, method="given", iteration=self.number, frame=np.arange(len(frames)),
            walker=frames.info.get("walker", 0),
            step=frames.info.get("step", np.arange(len(frames))),
            label_source=source,
        )  # fmt: skip

    def dataset(self) -> None:
        roles = {arm.name: arm.role for arm in self.config.sample}
        for name, labels in self.state.labels.items():
            if not len(labels.frames):
                continue
            test = roles.get(name) == "test"
            # Later labels were asked for because the models do not know these frames: all are
            # trained on, and errors stay those of the first iteration's held-out frames.
            use: Literal["split", "test", "train"] = "split" if self.number == 0 else "train"
            self.state.datasets[name] = make_dataset(
                name,
                labels.frames,
                self.config.dataset,
                self.folder / "dataset" / name,
                "test" if test else use,
            )

        if self.config.augment is not None and self.number == 0:
            self._augment(self.config.augment)

    def _augment(self, config: Augment) -> None:
        """Augmented frames of every training set that has springs; all iterations train on them.

        Springs are those of all frames that a plain arm sampled: a selection, or the frames that
        a later iteration asks labels for, are no distribution of any temperature.
        """
        thermal = {s.arm.name: s for s in self.state.samples if is_thermal(s.arm)}
        for name, data in self.state.datasets.items():
            if data.train is None or not (config.springs or name in thermal):
                continue
            sample = thermal.get(name)
            made = augment_system(
                data.train,
                sample.frames if sample else None,
                sample.arm.temperature_k if sample else None,
                config,
                self.folder / "augment" / name,
            )
            self.state.augmented[name] = made
            self.say(
                f"{name}: {made['frames']} augmented frames ({made['scheme']}), energies changed "
                f"by {made['smallest_ev']:.3g} to {made['largest_ev']:.3g} eV; {made['pairs']}"
            )

    def _augmented(self, group: str) -> Augmented | None:
        """The augmented systems of an ensemble's training sets."""
        made = [
            Path(one["system"])
            for state in [*self.before, self.state]
            for name, one in state.augmented.items()
            if group in (POOLED, name)
        ]
        if not made or self.config.augment is None:
            return None
        return Augmented(tuple(made), self.config.augment.weight)

    def train(self) -> None:
        states = [*self.before, self.state]
        groups: dict[str, list[Any]] = {}
        for state in states:
            for name, data in state.datasets.items():
                if data.train is not None:
                    group = POOLED if self.config.train.datasets == "all" else name
                    groups.setdefault(group, []).append(data)
        augmented = {name: self._augmented(name) for name in groups}
        tasks = {
            name: train_ensemble(
                name,
                [d.train for d in group],
                [d.heldout for d in group if d.heldout is not None],
                self._train_config(),
                self.folder / "train",
                start_from=self._checkpoints(name),
                augmented=augmented[name],
            )
            for name, group in groups.items()
        }
        self.state.train_data = {name: list(group) for name, group in groups.items()}
        self.state.augmented_data = {
            name: list(extra.systems) for name, extra in augmented.items() if extra is not None
        }
        self.state.models = train_all(tasks, self.run.executor)

    def _train_config(self) -> Any:
        loop, train = self.config.loop, self.config.train
        if not (self.before and loop.training == "warm"):
            return train
        changes = {
            "steps": loop.warm_steps or train.steps,
            "start_learning_rate": loop.warm_learning_rate or train.start_learning_rate,
        }
        return train.model_copy(update=changes)

    def _checkpoints(self, name: str) -> list[Path]:
        """Folders of the last iteration's members to start warm from; empty for a cold start."""
        if not (self.before and self.config.loop.training == "warm"):
            return []
        return [m.path.parent for m in self.before[-1].models if m.train == name]

    def validate(self, full: bool) -> None:
        """Errors on every held-out and test set; all checks where this is the last iteration."""
        config = self.config.validation
        if not full:
            config = config.model_copy(update={"checks": ("cross_errors",)})
        tests = {
            name: d.heldout_frames
            for state in [*self.before, self.state]
            for name, d in state.datasets.items()
            if d.heldout_frames is not None
        }
        models = [ModelFile(m.train, m.seed, m.path) for m in self.state.models]
        self.state.validation = validate_models(
            models,
            tests,
            self.run.atoms,
            config,
            self.folder / "validate",
            self.run.executor,
            reference=self.config.reference,
            system=self.config.system,
            clusters=cluster_labels,
        )


def without_wild(result: LabelResult, max_force_ev_per_ang: float) -> LabelResult:
    """Labels without frames that the reference calls exploded; they become failures.

    A model may walk calmly where the reference has forces that would spoil a training.
    """
    if not len(result.frames):
        return result
    assert result.frames.forces is not None
    largest = np.abs(result.frames.forces).max(axis=(1, 2))
    wild = np.flatnonzero(largest > max_force_ev_per_ang)
    if not len(wild):
        return result
    number = result.frames.info.get("frame", np.arange(len(largest)))
    set_aside = [
        {
            "frame": int(number[k]),
            "reason": f"the reference's force reaches {largest[k]:.3g} eV/A, above "
            f"max_force_ev_per_ang = {max_force_ev_per_ang:g}",
        }
        for k in wild
    ]
    return replace(
        result,
        frames=result.frames[np.flatnonzero(largest <= max_force_ev_per_ang)],
        computed=result.computed - len(wild),
        failures=[*result.failures, *set_aside],
    )


def within_budget(
    selected: dict[str, Frames],
    roles: dict[str, str],
    budget: int | None,
    free: Mapping[str, NDArray[Any]],
    recheck: int,
) -> dict[str, Frames]:
    """As many frames as may still be labelled, evenly over the arms.

    Test arms and given data are never cut, nor are frames that bring their label along; what
    these cost comes off the budget first.

    Args:
        selected: frames by arm.
        roles: of the arms, ``train`` or ``test``.
        budget: single points that are left; None: as many as one likes.
        free: which frames have a label of this reference already, [n_frames] bool by arm.
        recheck: how many of these, in each arm, are computed again.
    """
    if budget is None:
        return selected
    checks = sum(min(recheck, int(mask.sum())) for mask in free.values())
    fixed = sum(int((~free[name]).sum()) for name in selected if roles.get(name) != "train")
    budget = max(0, budget - checks - fixed)
    costly = {name: np.flatnonzero(~free[name]) for name in selected if roles.get(name) == "train"}
    wanted = sum(len(rows) for rows in costly.values())
    if wanted <= budget:
        return selected
    kept = dict(selected)
    for name, rows in costly.items():
        share = budget * len(rows) // wanted
        evenly = np.linspace(0, max(0, len(rows) - 1), share).astype(int)
        keep = np.union1d(np.flatnonzero(free[name]), rows[np.unique(evenly)])
        if len(keep):
            kept[name] = selected[name][keep]
        else:
            del kept[name]
    return kept
