"""A comparison, from the sampling to the verdict; every finished task is found again on disk.

Everything is repeated for every seed: sampling, selection, training.  All models are tested on the
same frames, those that each sampler held out (blocks of its trajectories, of all seeds).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from metamd.augment import Springs, augment, fit_springs, load_springs
from metamd.compare.summary import (
    COMPLETE,
    State,
    comparison_summary,
    key_of,
    sampled_file,
    stage_given,
)
from metamd.config import Arm, Augment, CompareConfig, Sample, Select
from metamd.dataset import split_blocks
from metamd.errors import MetamdError, TaskError
from metamd.execution import Executor
from metamd.frames import Frames, concatenate, content_hash, load_npz, save_deepmd, save_npz
from metamd.identity import fingerprint
from metamd.judge import cluster_labels
from metamd.label import LabelResult, label_frames
from metamd.loop.account import Account
from metamd.loop.check import check_reference, check_run
from metamd.predict import predict
from metamd.sample import sample_arms
from metamd.select import select
from metamd.train import Augmented, train_all, train_ensemble
from metamd.validate.models import validate_models
from metamd.validate.plan import ModelFile
from metamd.workspace import RUN_FILE, STOPPED, StageClock, Workspace, set_aside

#: Seeds of a sampler's repetitions lie so far apart that their walkers share none.
SEED_STRIDE = 100_003


def run_compare(
    config: CompareConfig,
    workdir: str | Path,
    *,
    console: Console | None = None,
    file_text: str = "",
) -> dict[str, Any]:
    """Do what ``metamd compare`` does, from where the work folder stands.

    Args:
        config: a checked compare file (``load_compare``).
        workdir: work folder; made where it is missing, gone on with where it is this comparison's.
        console: where progress goes; standard error by default.
        file_text: the compare file as written, kept for the report.

    Returns: the content of ``summary.json``.

    Raises:
        InputError: something given is wrong; nothing was written.
        TaskError: a task that everything else needs failed; the work folder keeps the rest.
    """
    console = console or Console(stderr=True)
    atoms = check_run(config)
    if not (Path(workdir) / RUN_FILE).exists():
        check_reference(config, atoms)
    with (
        Workspace(Path(workdir), config, file_text) as workspace,
        Executor(config.execution, workspace.path / "logs", console) as executor,
    ):
        return _Comparison(config, workspace, executor, console, State(atoms)).go()


class _Comparison:
    def __init__(
        self,
        config: CompareConfig,
        workspace: Workspace,
        executor: Executor,
        console: Console,
        state: State,
    ) -> None:
        self.config, self.workspace, self.executor = config, workspace, executor
        self.springs: dict[tuple[str, int], Springs] = {}
        self.console, self.state = console, state
        self.folder = workspace.path / "iteration-0"
        self.account = Account(workspace.path)

    def go(self) -> dict[str, Any]:
        stages: dict[str, Callable[[], None]] = {
            "sample": self.sample,
            "select": self.select,
            "label": self.label,
            "dataset": self.dataset,
            "train": self.train,
            "validate": self.validate,
        }
        self.account.keep_summary(self._summary, "running")
        try:
            for name, stage in stages.items():
                self._stage(name, stage)
        except (MetamdError, KeyboardInterrupt) as error:
            with contextlib.suppress(OSError):
                self.account.keep_summary(self._summary, "failed", str(error) or STOPPED)
            raise
        summary = self.account.write_summary(self._summary(), "finished")
        from metamd.report import write_report  # matplotlib loads only where figures are made

        with StageClock(self.workspace, "iteration-0/report") as clock:
            write_report(self.workspace.path)
            clock.booked = self.account.changed
        return summary

    def _stage(self, name: str, work: Callable[[], None]) -> None:
        key = f"iteration-0/{name}"
        with StageClock(self.workspace, key) as clock:
            work()
            clock.booked = self.account.passed(key, stage_given(name, self.state))
        self.account.keep_summary(self._summary, "running")
        if self.account.changed:
            self.account.save()

    def _summary(self) -> dict[str, Any]:
        return comparison_summary(self.config, self.state, self.workspace)

    def sample(self) -> None:
        """Every sampler with every seed, all walkers side by side; test samplers once."""
        c = self.config
        repeated: list[Sample] = []
        for table in c.sample:
            for seed in c.compare.seeds if table.role == "train" else c.compare.seeds[:1]:
                changes = {
                    "name": key_of(table.name, seed),
                    "seed": (table.seed + SEED_STRIDE * seed) % 2**29,
                }
                repeated.append(table.model_copy(update=changes))
        results = sample_arms(
            tuple(repeated),
            c.system,
            c.reference,
            self.state.atoms,
            self.folder / "sample",
            self.executor,
        )
        for result in results:
            self.state.samples[result.arm.name] = result
            for stop in result.stopped:
                self.console.print(
                    f"{result.arm.name}, walker {stop['walker']} stopped early: "
                    f"{stop['reason']}; its good frames are kept"
                )
        for table in c.sample:
            self._join_seeds(table.name)

    def _join_seeds(self, sampler: str) -> None:
        """The frames of all seeds of a sampler, for its numbers and the report."""
        frames = concatenate(
            [
                result.frames.with_info(
                    walker=np.asarray(result.frames.info.get("walker", 0)) + 1000 * number
                )
                for number, (name, result) in enumerate(self.state.samples.items())
                if name.rpartition(".seed-")[0] == sampler
            ]
        )
        path = sampled_file(self.workspace.path, sampler)
        # Others lie there where a walker has been redone.
        if not path.exists() or content_hash(load_npz(path)) != content_hash(frames):
            save_npz(frames, path)
        self.state.sampled[sampler] = frames

    def select(self) -> None:
        """Training sets of every size out of the part that is not held out, and the test sets."""
        held: dict[str, list[Frames]] = {}
        for table in self.config.sample:
            for name, result in self.state.samples.items():
                if name.rpartition(".seed-")[0] != table.name:
                    continue
                frames = result.frames.with_info(iteration=0, frame=np.arange(len(result.frames)))
                pool, heldout = self._split(frames, table)
                held.setdefault(table.name, []).append(frames[heldout])
                self.state.pools[name] = frames[pool]
        for name, parts in held.items():
            frames = concatenate(parts)
            keep = np.linspace(0, len(frames) - 1, self.config.compare.test_frames)
            self.state.tests[name] = frames[np.unique(keep.round().astype(int))]
        for arm, seed in self._repetitions():
            pool_frames = self.state.pools[key_of(arm.sample, seed)]
            for size in self.config.compare.sizes:
                self.state.chosen[arm.name, seed, size] = self._choose(arm, seed, size, pool_frames)

    def _split(self, frames: Frames, table: Sample) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        everything = np.arange(len(frames))
        if table.role == "test":
            return everything[:0], everything
        walker = frames.info.get("walker", np.zeros(len(frames), int))
        step = frames.info.get("step", everything)
        return split_blocks(np.asarray(walker), np.asarray(step), self.config.dataset)

    def _repetitions(self) -> list[tuple[Arm, int]]:
        return [(arm, seed) for arm in self.config.arms for seed in self.config.compare.seeds]

    def _choose(self, arm: Arm, seed: int, size: int, pool: Frames) -> NDArray[np.intp]:
        config: Select = arm.select or self.config.select
        if size > len(pool):
            raise TaskError(
                f"arm {arm.name}, seed {seed}: compare.sizes asks for {size} frames, its sampler "
                f"{arm.sample} left {len(pool)} to choose from; sample more or ask for fewer."
            )
        given = predict(config.models, pool, atomic=True) if config.models else None
        changes = {"count": size, "seed": config.seed + seed}
        return select(pool, config.model_copy(update=changes), predictions=given).indices

    def label(self) -> None:
        """Each frame once, whatever number of training sets it is in."""
        for arm, seed in self._repetitions():
            pool = self.state.pools[key_of(arm.sample, seed)]
            sets = [self.state.chosen[arm.name, seed, n] for n in self.config.compare.sizes]
            wanted = np.unique(np.concatenate(sets))
            frames = pool[wanted].with_info(pool_index=wanted)
            name = key_of(arm.name, seed)
            self.state.labels[name] = self._labelled(name, frames)
        for name, frames in self.state.tests.items():
            result = self._labelled(f"test-{name}", frames)
            self.state.test_files[name] = save_npz(
                result.frames, self.folder / "label" / f"test-{name}" / "labelled.npz"
            )

    def _labelled(self, name: str, frames: Frames) -> LabelResult:
        c = self.config
        folder = self.folder / "label" / name
        folder.mkdir(parents=True, exist_ok=True)
        result = label_frames(
            frames, c.label, c.reference, c.system, folder, self.executor, self.state.atoms
        )
        for failure in result.failures[:3]:
            self.console.print(f"{name}, frame {failure['frame']}: {failure['reason']}")
        self.state.label_failures += [{"arm": name, **f} for f in result.failures]
        return result

    def dataset(self) -> None:
        for arm, seed in self._repetitions():
            labelled = self.state.labels[key_of(arm.name, seed)].frames
            for size in self.config.compare.sizes:
                chosen = self.state.chosen[arm.name, seed, size]
                frames = labelled[np.isin(labelled.info["pool_index"], chosen)]
                folder = self.folder / "dataset" / arm.name / f"n-{size}" / f"seed-{seed}"
                systems = [(frames, folder / "train")]
                if arm.augment is not None:
                    systems.append((self._augmented(arm, seed, frames), folder / "augmented"))
                _write_once(folder, systems)
                self.state.systems[arm.name, seed, size] = [path for _, path in systems]

    def _augmented(self, arm: Arm, seed: int, frames: Frames) -> Frames:
        config = arm.augment
        assert config is not None
        if (arm.name, seed) not in self.springs:
            self.springs[arm.name, seed] = self._springs(arm.sample, seed, config)
        springs = self.springs[arm.name, seed]
        return augment(frames, springs, config.model_copy(update={"seed": config.seed + seed}))

    def _springs(self, sample: str, seed: int, config: Augment) -> Springs:
        """A table that was given, or a fit to all frames that the plain dynamics sampled.

        The selected ones are no distribution of any temperature.
        """
        if config.springs:
            return load_springs(config.springs)
        result = self.state.samples[key_of(sample, seed)]
        return fit_springs(
            result.frames,
            config.temperature_k or result.arm.temperature_k,
            config.components,
            config.profile,
        )

    def train(self) -> None:
        tests = {n: self._test_system(n) for n in self.state.test_files}
        tasks = {}
        arms = {arm.name: arm for arm in self.config.arms}
        for (name, seed, size), systems in self.state.systems.items():
            arm = arms[name]
            config = self.config.train.model_copy(update={"models": 1, "seed": seed})
            extra = None
            if arm.augment is not None:
                extra = Augmented(tuple(systems[1:]), arm.augment.weight)
            tasks[name, size, seed] = train_ensemble(
                f"{name}/n-{size}",
                systems[:1],
                [tests[arm.sample]],
                config,
                self.folder / "train",
                augmented=extra,
            )
        names = {f"{a}|{n}|{s}": t for (a, n, s), t in tasks.items()}
        for model in train_all(names, self.executor):
            name, size_text, _ = model.train.split("|")
            self.state.models.append((name, int(size_text), model))

    def _test_system(self, name: str) -> Path:
        """The test set as DeePMD wants it for its learning curve."""
        from metamd.frames import load_npz

        folder = self.folder / "dataset" / f"test-{name}"
        _write_once(folder, [(load_npz(self.state.test_files[name]), folder / "heldout")])
        return folder / "heldout"

    def validate(self) -> None:
        """All models on all test sets; dynamics with those of the full budget."""
        c = self.config
        for size in c.compare.sizes:
            full = size == c.compare.sizes[-1]
            models = [
                ModelFile(arm, m.seed, m.path) for arm, n, m in self.state.models if n == size
            ]
            checks = c.validation.checks if full else ("cross_errors",)
            self.state.validation[size] = validate_models(
                models,
                self.state.test_files,
                self.state.atoms,
                c.validation.model_copy(update={"checks": checks, "stability_members": "all"}),
                self.folder / "validate" / ("full" if full else f"n-{size}"),
                self.executor,
                reference=c.reference,
                system=c.system,
                clusters=cluster_labels,
            )


def _write_once(folder: Path, systems: list[tuple[Frames, Path]]) -> None:
    """Write DeePMD systems under ``folder``, where these very frames do not lie there already.

    What is there instead, or was left half by an interruption, is kept aside.
    """
    complete = folder / COMPLETE
    print_ = fingerprint([[path.name, content_hash(frames)] for frames, path in systems])
    if complete.exists() and complete.read_text() == print_:
        return
    if folder.exists():
        set_aside(folder, "old" if complete.exists() else "interrupted")
    folder.mkdir(parents=True)
    for frames, path in systems:
        save_deepmd(frames, path)
    complete.write_text(print_)
