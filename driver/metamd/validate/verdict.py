"""The verdict: is there a model a person may use, and what was the sampling worth?

Computed from the numbers of ``summary.json`` alone, in words that a person can check against its
tables.  A model is usable when its force RMSE (mean over seeds) is at most the criterion on
*every* test set, and every dynamics run with it stayed intact.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Below this ratio a difference between two samplers is not called one.
NOTEWORTHY_RATIO = 1.1


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
    runs: int
    broken: tuple[Mapping[str, Any], ...]
    intact: tuple[Mapping[str, Any], ...]

    @property
    def usable(self) -> bool:
        return not self.failing and not self.broken


def verdict(summary: Mapping[str, Any], criterion_ev_per_ang: float) -> Verdict:
    """Judge the models.

    Args:
        summary: the parts ``cross_errors``, ``stability``, ``arms`` and ``datasets`` of
            ``summary.json``; any may be missing.
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
    good = [m for m in models if m.usable]
    best = min(models, key=lambda m: m.worst_ev_per_ang)
    parts = []
    if good:
        # Best first: the smallest error on its own worst test set.
        good.sort(key=lambda m: m.worst_ev_per_ang)
        parts.append(
            f"Usable: the model trained on {good[0].name}. Its force RMSE is at most "
            f"{_number(good[0].worst_ev_per_ang)} eV/Å (on {good[0].worst_test} frames), within "
            f"the {criterion_ev_per_ang:g} eV/Å asked for. {_dynamics(good[0])}"
        )
        parts += [f"The model trained on {m.name} is usable too." for m in good[1:]]
    else:
        if best.failing:
            parts.append(
                f"Not usable: no model stays below a force RMSE of {criterion_ev_per_ang:g} eV/Å "
                f"on every test set. The best, trained on {best.name}, has "
                f"{_number(best.worst_ev_per_ang)} eV/Å on {best.worst_test} frames."
            )
        else:
            parts.append(
                f"Not usable: the model trained on {best.name} has small errors "
                f"(at most {_number(best.worst_ev_per_ang)} eV/Å), but its dynamics fail."
            )
    for model in models:
        if model.usable:
            continue
        if not good and model is best and len(model.failing) == 1 and not model.broken:
            # Its error is already said.
            parts[0] += " " + _dynamics(model)
        else:
            parts.append(_why_not(model, bool(good)))
    parts += sampling_worth(summary)
    return Verdict(bool(good), "\n".join(p for p in parts if p), criterion_ev_per_ang)


def sampling_worth(summary: Mapping[str, Any]) -> list[str]:
    """Sentences that compare the MD-trained with the MetaMD-trained model, test set by test set."""
    method = _methods(summary)
    error = {(e["train"], e["test"]): _mean(e) for e in summary.get("cross_errors") or []}
    trains = list(dict.fromkeys(train for train, _ in error))
    tests = list(dict.fromkeys(test for _, test in error))
    sentences = []
    for plain in (t for t in trains if method.get(t) == "md"):
        for biased in (t for t in trains if method.get(t) == "metamd"):
            ratios = []
            for test in tests:
                a, b = error.get((plain, test), math.nan), error.get((biased, test), math.nan)
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


def _models(summary: Mapping[str, Any], criterion: float) -> list[_Model]:
    errors: dict[str, list[tuple[str, float]]] = {}
    for entry in summary.get("cross_errors") or []:
        errors.setdefault(str(entry["train"]), []).append((str(entry["test"]), _mean(entry)))
    models = []
    for train, tests in errors.items():
        # A NaN is worse than any number.
        worst_test, worst = max(tests, key=lambda t: math.inf if math.isnan(t[1]) else t[1])
        runs = [s for s in summary.get("stability") or [] if str(s.get("train")) == train]
        models.append(
            _Model(
                name=train,
                worst_ev_per_ang=math.inf if math.isnan(worst) else worst,
                worst_test=worst_test,
                failing=tuple(t for t in tests if not t[1] <= criterion),
                runs=len(runs),
                broken=tuple(s for s in runs if not s.get("intact")),
                intact=tuple(s for s in runs if s.get("intact")),
            )
        )
    return models


def _why_not(model: _Model, others_usable: bool) -> str:
    reasons = []
    if model.failing:
        sets = _and(f"{_number(value)} eV/Å on {test}" for test, value in model.failing)
        reasons.append(f"its force RMSE is {sets} frames")
    if model.broken:
        reasons.append(_failures(model.broken, model.runs))
    lead = "is not usable" if others_usable else "fails"
    text = f"The model trained on {model.name} {lead}: {', and '.join(reasons)}."
    if not model.broken and model.failing:
        text += " " + _dynamics(model)
    return text


def _failures(broken: Sequence[Mapping[str, Any]], runs: int) -> str:
    first = min(broken, key=lambda s: _time(s))
    when = f"first after {_time(first):.2g} ps at {_kelvin(first)}"
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
    return f"{plural} stayed intact (at {temperatures}, {length:.3g} ps)."


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
    return math.nan if value is None else float(value)


def _time(run: Mapping[str, Any]) -> float:
    return float(run.get("time_ps") or 0.0)


def _kelvin(run: Mapping[str, Any]) -> str:
    value = run.get("temperature_k")
    return "an unknown temperature" if value is None else f"{float(value):g} K"


def _number(value: float) -> str:
    """Two significant digits, and never fewer than two decimals below 10."""
    if not math.isfinite(value):
        return "not a number of"
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
