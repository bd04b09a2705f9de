"""When a loop ends: the stop rules, each a small function of what the iterations gave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from metamd.config import Loop, RunConfig, Sample
from metamd.sample.folder import brings_labels
from metamd.summary import IterationState


@dataclass(frozen=True)
class Stop:
    """A rule that ended the loop: its key in the run file, and what it saw."""

    rule: str
    reason: str


def reference_steps(arms: Iterable[Sample]) -> int:
    """Single points that reference-driven walkers make: as planned, also when one stops early."""
    return sum(
        arm.walkers * (arm.equilibration_steps + arm.steps)
        + (arm.wte.measure_steps if arm.wte is not None and arm.wte.sigma_ev is None else 0)
        for arm in arms
        if arm.engine == "reference" and not arm.static
    )


def test_labels(config: RunConfig) -> int:
    """Labels that the test arms ask for, as planned; of frames that bring theirs none."""
    count = 0
    for arm in config.sample:
        free = config.label.reuse and brings_labels(arm, config.reference)
        if arm.role == "test" and not free:
            frames = arm.frames if arm.static else arm.steps // arm.stride + 1
            count += min(config.select.count, arm.walkers * frames)
    return count


def budget_left(config: RunConfig, states: Iterable[IterationState]) -> int | None:
    """Reference calls that the budget still allows; None without a budget."""
    if config.loop.max_reference_calls is None:
        return None
    spent = sum(state.reference_calls for state in states)
    return max(0, config.loop.max_reference_calls - spent)


def before_training(loop: Loop, state: IterationState) -> Stop | None:
    """Rules that look at the new frames: few that the models do not know, or none chosen."""
    if state.number == 0 and not loop.models:
        return None
    uncertain = state.uncertain_fraction
    if uncertain is not None and uncertain < loop.stop_candidate_fraction:
        return Stop(
            "loop.stop_candidate_fraction",
            f"{uncertain:.1%} of the new frames deviate by more than "
            f"{loop.select.trust_lower_ev_per_ang} eV/A, less than the "
            f"{loop.stop_candidate_fraction:.1%} asked for",
        )
    if not state.selected:
        lost = max((p.deviation["lost"] for p in state.picked.values() if p.deviation), default=0)
        far = (
            f"; up to {lost:.0%} of an arm's frames deviate by more than "
            f"loop.select.trust_upper_ev_per_ang = {loop.select.trust_upper_ev_per_ang:g} eV/A: "
            "the models know nothing there"
        )
        reason = "no new frame is a candidate for a label"
        return Stop("loop.select", reason + (far if lost > 0 else ""))
    return None


def without_labels(config: RunConfig, state: IterationState) -> Stop | None:
    """Nothing new to train on: the budget is spent, or the reference gave nothing usable."""
    tests = {arm.name for arm in config.sample if arm.role == "test"}
    results = [result for name, result in state.labels.items() if name not in tests]
    if any(len(result.frames) for result in results):
        return None
    if not results and state.selected.keys() <= tests:
        return Stop("loop.select", "no new frame is a candidate for a label")
    if not results:
        return Stop(
            "loop.max_reference_calls",
            f"the budget of {config.loop.max_reference_calls} reference calls is spent",
        )
    failures = [f for result in results for f in result.failures]
    return Stop(
        "label",
        f"none of the {len(failures)} new frames got a usable label; the first: "
        f"{failures[0]['reason']}",
    )


def after_training(config: RunConfig, state: IterationState) -> Stop | None:
    """Rules that look at the models: error on the test arms, number of iterations."""
    limit = config.loop.stop_force_error_ev_per_ang
    tests = {arm.name for arm in config.sample if arm.role == "test"}
    if limit is not None and state.validation is not None:
        worst = worst_errors(state, tests)
        best = min(worst.values(), default=None)
        if best is not None and best < limit:
            return Stop(
                "loop.stop_force_error_ev_per_ang",
                f"force RMSE {best:.3g} eV/A on the worst test arm, below {limit:g}",
            )
    if state.number + 1 >= config.loop.iterations:
        return Stop("loop.iterations", f"{config.loop.iterations} iterations are done")
    return None


def worst_errors(state: IterationState, tests: set[str]) -> dict[str, float]:
    """For each ensemble, its largest force RMSE over the test arms, eV/A."""
    worst: dict[str, float] = {}
    rows = state.validation.cross_errors if state.validation is not None else []
    for row in rows:
        if row["test"] in tests:
            error = float(row["force_rmse_ev_per_ang"]["mean"])
            worst[row["train"]] = max(worst.get(row["train"], 0.0), error)
    return worst
