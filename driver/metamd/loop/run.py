"""``metamd run``: iterations until a rule ends them, from where the work folder stands."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from metamd.config import RunConfig
from metamd.errors import InputError, MetamdError
from metamd.execution import Executor
from metamd.loop import rules
from metamd.loop.account import Account, stage_given
from metamd.loop.check import check_reference, check_run, check_selection
from metamd.loop.iteration import Iteration, RunContext
from metamd.loop.provenance import write_provenance
from metamd.loop.rules import Stop
from metamd.summary import IterationState, State, summarise
from metamd.validate.verdict import verdict
from metamd.workspace import RUN_FILE, STOPPED, StageClock, Workspace

STAGES = ("sample", "select", "label", "dataset", "train", "validate", "report")


def run(
    config: RunConfig,
    workdir: str | Path,
    *,
    until: str = "report",
    console: Console | None = None,
    run_file_text: str = "",
) -> dict[str, Any]:
    """Do what ``metamd run`` does, from where the work folder stands.

    Args:
        config: a checked run file (``load_config``).
        workdir: work folder; made where it is missing, gone on with where it is this run's.
        until: last stage to do, one of STAGES; before ``report`` it is a stage of iteration 0.
        console: where progress goes; standard error by default.
        run_file_text: the run file as written, kept for the report.

    Returns: the content of ``summary.json``.

    Raises:
        InputError: something given is wrong; nothing was written.
        TaskError: a task that everything else needs failed; the work folder keeps the rest.
    """
    if until not in STAGES:
        raise InputError(f"until: {until!r} is none of {', '.join(STAGES)}.")
    console = console or Console(stderr=True)
    atoms = check_run(config)
    if until != "sample":
        check_selection(config)
    if not (Path(workdir) / RUN_FILE).exists():
        check_reference(config, atoms)
    with (
        Workspace(Path(workdir), config, run_file_text) as workspace,
        Executor(config.execution, workspace.path / "logs", console) as executor,
    ):
        context = RunContext(config, workspace, executor, console, atoms)
        return _Run(context).go(until)


class _Run:
    """The iterations of one run and the account of them on disk."""

    def __init__(self, context: RunContext) -> None:
        self.context, self.config = context, context.config
        self.workspace = context.workspace
        self.state = State(context.atoms)
        self.account = Account(self.workspace.path)

    def go(self, until: str) -> dict[str, Any]:
        # There is something to report of from the first minute on.
        self.account.keep_summary(self._summary, "running")
        try:
            finished = self._iterate(until)
        except (MetamdError, KeyboardInterrupt) as error:
            reason = str(error) or STOPPED
            with contextlib.suppress(OSError):
                self.account.keep_summary(self._summary, "failed", reason)
            raise
        if not finished:
            return self.account.keep_summary(self._summary, "running")
        summary = self.account.write_summary(self._summary(), "finished")
        from metamd.report import write_report  # matplotlib loads only where figures are made

        with StageClock(self.workspace, "report") as clock:
            write_report(self.workspace.path)
            clock.booked = self.account.changed
        return summary

    def _iterate(self, until: str) -> bool:
        """All iterations; False where ``until`` ended the first one early."""
        last: Iteration | None = None
        for number in range(self.config.loop.iterations):
            if self.config.loop.iterations > 1:
                self.context.console.print(f"iteration {number}")
            iteration = Iteration(self.context, number, list(self.state.iterations))
            self.state.iterations.append(iteration.state)
            stop = self._one(iteration, until)
            if until != "report":
                return False
            if not iteration.state.models and last is not None:
                # Ended before training: the models of the iteration before are the result.
                self._validate(last, full=True)
            last = iteration
            if stop is not None:
                iteration.state.stop = stop.reason
                iteration.say(f"the loop ends after iteration {number}: {stop.reason}")
                return True
        return True

    def _one(self, iteration: Iteration, until: str) -> Stop | None:
        """One iteration; the rule that ends the loop with it, if one does."""
        loop, state = self.config.loop, iteration.state
        stages = STAGES[: STAGES.index(until) + 1]
        self._stage(iteration, "sample", iteration.sample)
        if "select" in stages:
            self._stage(iteration, "select", iteration.select)
            if (stop := rules.before_training(loop, state)) is not None:
                return stop
        if "label" in stages:
            budget = rules.budget_left(self.config, self.state.iterations)
            self._stage(iteration, "label", lambda: iteration.label(budget))
            if (stop := rules.without_labels(self.config, state)) is not None:
                return stop
        if "dataset" in stages:
            self._stage(iteration, "dataset", iteration.dataset)
        if "train" in stages:
            self._stage(iteration, "train", iteration.train)
        if "validate" not in stages:
            return None
        if loop.iterations > 1:
            # The rules look at errors; dynamics and the other checks are for the last models.
            self._validate(iteration, full=False)
        stop = rules.after_training(self.config, state)
        if stop is not None:
            self._validate(iteration, full=True)
        return stop

    def _validate(self, iteration: Iteration, full: bool) -> None:
        more = " full" if full else ""
        self._stage(iteration, "validate", lambda: iteration.validate(full), more)

    def _stage(
        self, iteration: Iteration, name: str, work: Callable[[], None], more: str = ""
    ) -> None:
        key = f"iteration-{iteration.number}/{name}"
        with StageClock(self.workspace, key) as clock:
            work()
            given = stage_given(name, iteration.state)
            clock.booked = self.account.passed(key + more, given)
        self.account.keep_summary(self._summary, "running")
        if self.account.changed:
            write_provenance(self.workspace.path, self.state)
            self.account.save()

    def _summary(self) -> dict[str, Any]:
        """The summary of what there is; every stage adds to it."""
        summary = summarise(self.config, self.state, self.workspace)
        if "cross_errors" in summary:
            criterion = self.config.validation.usable_force_error_ev_per_ang
            summary["verdict"] = verdict(summary, criterion).as_dict()
        return summary


__all__ = ["STAGES", "IterationState", "run"]
