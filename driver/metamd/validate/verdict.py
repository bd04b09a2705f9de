"""The verdict: is there a model a person may use, and what was the sampling worth?

Computed from the numbers of ``summary.json`` alone, in words that a person can check against its
tables.  A model is usable when its force RMSE (mean over seeds) is at most the criterion on
*every* test set, and every dynamics run with it stayed intact.  A test set on which one of its
seeds gives no numbers is worse than any error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

#: Below this ratio a difference between two samplers is not called one.
NOTEWORTHY_RATIO = 1.1
#: Of an error that is told from the criterion.
MOST_DECIMALS = 6


@dataclass(frozen=True)
class Verdict:
    """``usable`` and why: a line each for the outcome, failing models and the sampling."""

    usable: bool
    text: str
    criterion_ev_per_ang: float

    def as_dict(self) -> dict[str, Any]:
        """As in ``summary.json``."""
        return {
            "usable": self.usable,
            "text": self.text,
            "criterion_ev_per_ang": self.criterion_ev_per_ang,
        }


@dataclass(frozen=True)
class _Model:
    """One train set's ensemble, as judged."""

    name: str
    worst_ev_per_ang: float
    worst_test: str
    failing: tuple[tuple[str, float], ...]
    missing: tuple[str, ...]
    runs: int
    broken: tuple[Mapping[str, Any], ...]
    intact: tuple[Mapping[str, Any], ...]

    @property
    def usable(self) -> bool:
        return not self.failing and not self.missing and not self.broken

    @property
    def rank(self) -> tuple[int, float]:
        """Ascends from the best: the error counts where no test set is without numbers."""
        return len(self.missing), self.worst_ev_per_ang


def verdict(summary: Mapping[str, Any], criterion_ev_per_ang: float) -> Verdict:
    """Judge the models.

    Args:
        summary: the parts ``cross_errors``, ``failed_checks``, ``stability``, ``arms`` and
            ``datasets`` of ``summary.json``; any may be missing.
        criterion_ev_per_ang: the largest force RMSE a usable model may have, eV/A.

    Returns:
        usable (some model is) and the text: which model, which test set and which dynamics
        fail, and on MetaMD frames the ratio of MD-trained to MetaMD-trained force RMSE.
    """
    models = _models(summary, criterion_ev_per_ang)
    if not models:
        return Verdict(
            False,
            "No verdict: no errors have been computed on held-out frames.",
            criterion_ev_per_ang,
        )
    models.sort(key=lambda m: m.rank)
    good, best = [m for m in models if m.usable], models[0]
    parts = _usable(good, criterion_ev_per_ang) if good else [_none(best, criterion_ev_per_ang)]
    for model in models:
        if model.usable:
            continue
        said = len(model.failing) + len(model.missing) == 1 and not model.broken
        if not good and model is best and said:
            parts[0] += " " + _dynamics(model)
        else:
            parts.append(_why_not(model, bool(good), criterion_ev_per_ang))
    parts += sampling_worth(summary)
    return Verdict(bool(good), "\n".join(p for p in parts if p), criterion_ev_per_ang)


def _usable(good: Sequence[_Model], criterion: float) -> list[str]:
    best = good[0]
    return [
        f"Usable: the model trained on {best.name}. Its force RMSE is at most "
        f"{number_beside(best.worst_ev_per_ang, criterion)} eV/Å (on {best.worst_test} frames), "
        f"within the {criterion:g} eV/Å asked for. {_dynamics(best)}",
        *(f"The model trained on {m.name} is usable too." for m in good[1:]),
    ]


def _none(best: _Model, criterion: float) -> str:
    worst = number_beside(best.worst_ev_per_ang, criterion)
    if not best.failing and not best.missing:
        return (
            f"Not usable: the model trained on {best.name} has small errors "
            f"(at most {worst} eV/Å), but its dynamics fail."
        )
    lead = f"Not usable: no model stays below a force RMSE of {criterion:g} eV/Å on every test set."
    if best.missing:
        return f"{lead} The best, trained on {best.name}, {no_numbers(best.missing)}."
    return f"{lead} The best, trained on {best.name}, has {worst} eV/Å on {best.worst_test} frames."


def sampling_worth(summary: Mapping[str, Any]) -> list[str]:
    """Sentences that compare the MD-trained with the MetaMD-trained model, test set by test set."""
    method = _methods(summary)
    error = _errors(summary)
    trains = list(dict.fromkeys(train for train, _ in error))
    tests = list(dict.fromkeys(test for _, test in error))
    sentences = []
    for plain in (t for t in trains if method.get(t) == "md"):
        for biased in (t for t in trains if method.get(t) == "metamd"):
            ratios = []
            for test in tests:
                a, b = error[plain, test], error[biased, test]
                if math.isfinite(a) and math.isfinite(b) and b > 0:
                    ratios.append((test, a, b, a / b))
            # MetaMD frames first: there the difference shows.
            ratios.sort(key=lambda row: method.get(row[0]) != "metamd")
            if ratios:
                sentences.append(_worth(plain, biased, ratios))
    return sentences


def _worth(plain: str, biased: str, ratios: list[tuple[str, float, float, float]]) -> str:
    pieces = [f"{_ratio(r)} on {test} frames ({_pair(a, b)} eV/Å)" for test, a, b, r in ratios]
    return (
        f"What the sampling was worth: force RMSE of the {plain}-trained model against that of "
        f"the {biased}-trained one is {_and(pieces)}."
    )


def _errors(summary: Mapping[str, Any]) -> dict[tuple[str, str], float]:
    """Force RMSE by train and test set, eV/A; infinite where a model gives no numbers."""
    found = {(str(e["train"]), str(e["test"])): _mean(e) for e in summary.get("cross_errors") or []}
    checks = [f for f in summary.get("failed_checks") or [] if f.get("train") is not None]
    failed = [(str(f["train"]), str(f["test"])) for f in checks if f.get("test") is not None]
    pairs = [*found, *failed]
    tests = dict.fromkeys(test for _, test in pairs)
    # A model that could not be opened has numbers on no test set.
    unopened = dict.fromkeys(str(f["train"]) for f in checks if f.get("test") is None)
    failed += [(train, test) for train in unopened for test in tests]
    trains = dict.fromkeys(train for train, _ in pairs) | unopened
    # The mean over the other seeds says nothing of the one that failed.
    found |= dict.fromkeys(failed, math.inf)
    return {(a, b): found.get((a, b), math.inf) for a in trains for b in tests}


def _models(summary: Mapping[str, Any], criterion: float) -> list[_Model]:
    errors: dict[str, list[tuple[str, float]]] = {}
    for (train, test), value in _errors(summary).items():
        errors.setdefault(train, []).append((test, value))
    models = []
    for train, tests in errors.items():
        finite = [t for t in tests if math.isfinite(t[1])]
        worst_test, worst = max(finite, key=lambda t: t[1], default=("", math.inf))
        runs = [s for s in summary.get("stability") or [] if str(s.get("train")) == train]
        models.append(
            _Model(
                name=train,
                worst_ev_per_ang=worst,
                worst_test=worst_test,
                failing=tuple(t for t in finite if t[1] > criterion),
                missing=tuple(test for test, value in tests if not math.isfinite(value)),
                runs=len(runs),
                broken=tuple(s for s in runs if not s.get("intact")),
                intact=tuple(s for s in runs if s.get("intact")),
            )
        )
    return models


def _why_not(model: _Model, others_usable: bool, criterion: float) -> str:
    reasons = []
    if model.failing:
        sets = _and(f"{number_beside(v, criterion)} eV/Å on {test}" for test, v in model.failing)
        reasons.append(f"its force RMSE is {sets} frames")
    if model.missing:
        reasons.append(f"it {no_numbers(model.missing)}")
    if model.broken:
        reasons.append(_failures(model.broken, model.runs))
    lead = "is not usable" if others_usable else "fails"
    text = f"The model trained on {model.name} {lead}: {', and '.join(reasons)}."
    return text if model.broken else f"{text} {_dynamics(model)}"


def _failures(broken: Sequence[Mapping[str, Any]], runs: int) -> str:
    first = min(broken, key=lambda s: _time(s))
    when = f"first after {picoseconds(_time(first))} ps at {_kelvin(first)}"
    if first.get("failure"):
        when += f": {first['failure']}"
    temperatures = _and(dict.fromkeys(_kelvin(s) for s in broken))
    if runs == 1:
        return f"its dynamics at {temperatures} does not stay intact, {when}"
    return f"{len(broken)} of its {runs} dynamics do not stay intact (at {temperatures}), {when}"


def _dynamics(model: _Model) -> str:
    if not model.runs:
        return "No dynamics were run with it."
    temperatures = _and(dict.fromkeys(_kelvin(s) for s in model.intact))
    length = min(_time(s) for s in model.intact)
    many = "Both" if model.runs == 2 else f"All {model.runs}"
    plural = "Its dynamics" if model.runs == 1 else f"{many} dynamics with it"
    return f"{plural} stayed intact (at {temperatures}, {picoseconds(length, 3)} ps)."


def _methods(summary: Mapping[str, Any]) -> dict[str, str]:
    """Sampling method by name of arm, and of data set where it holds a single method."""
    arms = {str(a["name"]): str(a.get("method")) for a in summary.get("arms") or []}
    out = dict(arms)
    for data in summary.get("datasets") or []:
        methods = {arms.get(str(a)) for a in data.get("arms") or []} - {None}
        if len(methods) == 1:
            out.setdefault(str(data["name"]), str(methods.pop()))
    return out


def _mean(entry: Mapping[str, Any]) -> float:
    value = (entry.get("force_rmse_ev_per_ang") or {}).get("mean")
    return math.inf if value is None or math.isnan(value) else float(value)


def _time(run: Mapping[str, Any]) -> float:
    return float(run.get("time_ps") or 0.0)


def _kelvin(run: Mapping[str, Any]) -> str:
    value = run.get("temperature_k")
    return "an unknown temperature" if value is None else f"{float(value):g} K"


def no_numbers(tests: Sequence[str]) -> str:
    """What is said of a model that fails on test sets."""
    return f"gives no numbers on {_and(tests)} frames"


def number_beside(value: float, criterion: float, decimals: int | None = None) -> str:
    """An error, with more decimals where rounding would put it at or beyond the criterion.

    Args:
        decimals: of the number; two significant digits without.
    """
    text = _number(value) if decimals is None else f"{value:.{decimals}f}"
    if _side(float(text), criterion) == _side(value, criterion):
        return text
    more = len(text.partition(".")[2]) + 1
    return number_beside(value, criterion, more) if more <= MOST_DECIMALS else text


def _side(value: float, criterion: float) -> int:
    return (value > criterion) - (value < criterion)


def picoseconds(time_ps: float, digits: int = 2) -> str:
    """A time to so many significant digits, without an exponent."""
    whole = time_ps >= 10 ** (digits - 1)
    if whole:
        return f"{time_ps:.0f}"
    return np.format_float_positional(float(f"{time_ps:.{digits}g}"), trim="-")


def _number(value: float) -> str:
    """Two significant digits, and never fewer than two decimals below 10."""
    return f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"


def _pair(a: float, b: float) -> str:
    return f"{_number(a)} against {_number(b)}"


def _ratio(ratio: float) -> str:
    if 1 / NOTEWORTHY_RATIO < ratio < NOTEWORTHY_RATIO:
        return "about the same"
    return f"{ratio:.1f} times as large" if ratio > 1 else f"{ratio:.2f} times as large"


def _and(items: Any) -> str:
    words = [str(i) for i in items]
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
