"""What a comparison of arms says: which generalises, what more data does, in words and numbers.

An arm's *foreign* error is its force RMSE on the test sets of the samplers that it was not trained
on, averaged over these sets; that is what Herr 2018 (J. Chem. Phys. 148, 241710, figure 5) calls
cross-evaluated, and the question answered here is that paper's: does a model become less general
when it is given more data of a narrow sampler?  Arms of a single sampler have no foreign sets;
their error on the test frames that they share is compared then.

A test set on which one seed of an arm gives no numbers is worse than any error: the arm is behind
all others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from scipy.special import stdtrit

from metamd.validate.errors import mean_and_spread
from metamd.validate.verdict import NOTEWORTHY_RATIO, no_numbers, number_beside, picoseconds

#: A change counts when Student's t of the differences within the seeds is beyond this quantile.
CONFIDENCE = 0.975


def generality(compare: Mapping[str, Any]) -> dict[str, Any]:
    """Foreign and own errors of every arm, by size of its training set.

    Args:
        compare: ``sizes``, ``seeds``, ``tests`` (names of the test sets; those of ``learning``
            where it is missing), ``arms`` (``name``, ``sample``) and ``learning`` (rows of
            ``arm``, ``size``, ``test``, ``seeds``, ``force_rmse_ev_per_ang``) of the summary.

    Returns:
        ``arms``: one entry an arm with numbers on all test sets, worst first: ``name``,
        ``own_ev_per_ang`` and ``foreign_ev_per_ang`` (mean, spread, values over seeds, at the full
        size; None where all arms are of one sampler, whose error is the own one), ``curve`` (the
        same by ``size``), ``trend`` (``better``, ``worse`` or ``unclear``: the error from the
        smallest to the largest size), ``change_ev_per_ang`` and its standard error.
        ``failed``: arms without numbers, by ``name``, ``size`` and ``tests`` they fail on.
        ``worst_ratio``: error of the worst of ``arms`` over the next one's.
        ``tests``: for every test set the arms from worst to best and the ratio of the worst
        foreign arm to the worst of the others.
    """
    seeds = len(compare.get("seeds") or [])
    table = {
        (r["arm"], r["size"], r["test"]): r
        for r in compare.get("learning") or []
        if len(r["seeds"]) >= seeds
    }
    sizes: list[int] = list(compare.get("sizes") or [])
    tests = _tests(compare)
    judged = [n for n in sizes if any(r["size"] == n for r in compare.get("learning") or [])]
    arms, failed = [], []
    for arm in compare.get("arms") or []:
        curve = []
        for size in judged:
            if missing := [t for t in tests if (arm["name"], size, t) not in table]:
                failed.append({"name": arm["name"], "size": size, "tests": missing})
            else:
                curve.append(_point(table, arm, size, tests))
        if not curve or curve[-1]["size"] != sizes[-1]:
            continue
        arms.append(
            {
                "name": arm["name"],
                "sample": arm["sample"],
                "own_ev_per_ang": curve[-1]["own_ev_per_ang"],
                "foreign_ev_per_ang": curve[-1]["foreign_ev_per_ang"],
                "curve": curve,
                **_trend(curve),
            }
        )
    arms.sort(key=lambda a: -float(_error(a)["mean"]))
    means = [float(_error(a)["mean"]) for a in arms]
    return {
        "arms": arms,
        "failed": failed,
        "worst_ratio": means[0] / means[1] if len(means) > 1 and means[1] > 0 else None,
        "tests": [_test(table, compare, sizes[-1], test) for test in tests] if sizes else [],
    }


def _tests(compare: Mapping[str, Any]) -> list[str]:
    own = [arm["sample"] for arm in compare.get("arms") or []]
    found = compare.get("tests") or [r["test"] for r in compare.get("learning") or []]
    return list(dict.fromkeys([*found, *own]))


def _point(
    table: Mapping[tuple[str, int, str], Mapping[str, Any]],
    arm: Mapping[str, Any],
    size: int,
    tests: Sequence[str],
) -> dict[str, Any]:
    """Own and foreign error at one size."""
    name, own = arm["name"], arm["sample"]
    foreign = [t for t in tests if t != own]
    columns = [table[name, size, t]["force_rmse_ev_per_ang"]["values"] for t in foreign]
    per_seed = [math.fsum(values) / len(values) for values in zip(*columns, strict=True)]
    return {
        "size": size,
        "own_ev_per_ang": dict(table[name, size, own]["force_rmse_ev_per_ang"]),
        "foreign_ev_per_ang": mean_and_spread(per_seed) if foreign else None,
    }


def _error(judged: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an arm, or a point of its curve, is compared by."""
    found: Mapping[str, Any] = judged["foreign_ev_per_ang"] or judged["own_ev_per_ang"]
    return found


def _trend(curve: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What more data did to the error, by differences within each seed."""
    change, error = None, None
    if len(curve) > 1:
        change, error = _difference(_error(curve[0]), _error(curve[-1]))
    trend = "unclear"
    if change is not None and _clear(change, error, len(_error(curve[0])["values"])):
        trend = "worse" if change > 0 else "better"
    return {"trend": trend, "change_ev_per_ang": change, "change_error_ev_per_ang": error}


def _difference(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """b - a over the seeds and its standard error; None where there is none."""
    if len(a["values"]) != len(b["values"]):
        return None, None
    found = mean_and_spread([y - x for x, y in zip(a["values"], b["values"], strict=True)])
    spread = found["spread"]
    return found["mean"], None if spread is None else spread / math.sqrt(len(a["values"]))


def _clear(change: float, error: float | None, seeds: int) -> bool:
    """Whether a change is beyond chance; two or three seeds tell less than many."""
    return error is not None and abs(change) > float(stdtrit(seeds - 1, CONFIDENCE)) * error


def _clearly_worse(worse: Mapping[str, Any], better: Mapping[str, Any]) -> bool:
    """Whether an arm's error is noteworthily larger; of one seed there is the ratio alone."""
    a, b = _error(better), _error(worse)
    if b["mean"] < NOTEWORTHY_RATIO * a["mean"]:
        return False
    change, error = _difference(a, b)
    return change is None or error is None or _clear(change, error, len(a["values"]))


def _test(
    table: Mapping[tuple[str, int, str], Mapping[str, Any]],
    compare: Mapping[str, Any],
    size: int,
    test: str,
) -> dict[str, Any]:
    rows = []
    for arm in compare.get("arms") or []:
        row = table.get((arm["name"], size, test))
        if row is not None:
            mean = float(row["force_rmse_ev_per_ang"]["mean"])
            rows.append({"arm": arm["name"], "own": arm["sample"] == test, "mean": mean})
    rows.sort(key=lambda r: -float(r["mean"]))
    ratio = rows[0]["mean"] / rows[1]["mean"] if len(rows) > 1 and rows[1]["mean"] > 0 else None
    return {"test": test, "arms": rows, "worst_to_next": ratio}


def comparison_verdict(
    compare: Mapping[str, Any],
    stability: Sequence[Mapping[str, Any]],
    criterion_ev_per_ang: float,
) -> dict[str, Any]:
    """The verdict of a comparison: ``usable``, ``headline``, ``text`` (a line a finding).

    Args:
        compare: as for ``generality``, with its result under ``generality``.
        stability: the summary's entries, of the models of full size.
        criterion_ev_per_ang: largest force RMSE of a usable model, on every test set.
    """
    found = compare.get("generality") or {}
    arms, failed = found.get("arms") or [], found.get("failed") or []
    if not arms:
        lines = ["No verdict: no arm has numbers on all test sets.", *_failed(failed)]
        return {
            "usable": False,
            "headline": "No verdict",
            "text": "\n".join(lines),
            "criterion_ev_per_ang": criterion_ev_per_ang,
        }
    lines = [_headline(compare, arms), *_failed(failed)]
    lines += _hidden(arms)
    lines += [_learning(arm) for arm in arms if len(arm["curve"]) > 1]
    if (stable := _dynamics([a["name"] for a in arms], stability)) is not None:
        lines.append(stable)
    usable, text = _usable(compare, stability, criterion_ev_per_ang)
    return {
        "usable": usable,
        "headline": f"{_quality(arms[-1])}: {arms[-1]['name']}",
        "text": "\n".join([*lines, text]),
        "criterion_ev_per_ang": criterion_ev_per_ang,
    }


def _quality(arm: Mapping[str, Any]) -> str:
    if arm["foreign_ev_per_ang"] is not None:
        return "Most general"
    return f"Most accurate on {arm['sample']} frames"


def _headline(compare: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> str:
    best = arms[-1]
    n = len(compare.get("seeds") or [])
    size = (compare.get("sizes") or [0])[-1]
    where = ""
    if best["foreign_ev_per_ang"] is not None:
        where = " on the frames of the samplers it was not trained on"
    text = (
        f"{_quality(best)}: {best['name']}. At {size} labelled frames an arm its force RMSE{where} "
        f"is {_value(_error(best))} eV/Å "
        f"({'one seed' if n == 1 else f'mean ± spread of {n} seeds'})"
    )
    others = [f"{a['name']} has {_value(_error(a))}" for a in reversed(arms[1:-1])]
    if len(arms) > 1:
        others.append(_worst(arms))
    text = f"{'; '.join([text, *others])}."
    if len(arms) > 1 and not _clearly_worse(arms[-2], best):
        text += f" The difference between {best['name']} and {arms[-2]['name']} is not clear."
    return text


def _worst(arms: Sequence[Mapping[str, Any]]) -> str:
    worst, following = arms[0], arms[1]
    value = _value(_error(worst))
    if not _clearly_worse(worst, following):
        return f"{worst['name']} has {value}"
    ratio = _error(worst)["mean"] / _error(following)["mean"]
    return (
        f"{worst['name']} is the worst with {value}, {ratio:.1f} times "
        f"{'as much' if len(arms) == 2 else 'the next'}"
    )


def _failed(failed: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for every arm that is behind all others because it has no numbers."""
    return [
        f"Trained on {row['size']} frames, {row['name']} {no_numbers(row['tests'])}: "
        "worse than any error."
        for row in failed
    ]


def _hidden(arms: Sequence[Mapping[str, Any]]) -> list[str]:
    """That the least general arm looks best by an ordinary test."""
    worst = arms[0]
    narrow = min(arms, key=lambda a: float(a["own_ev_per_ang"]["mean"]))
    if worst["foreign_ev_per_ang"] is None or narrow is not worst or len(arms) < 2:
        return []
    if not _clearly_worse(worst, arms[1]):
        return []
    return [
        f"A test on its own kind of frames hides that: there {worst['name']} has the smallest "
        f"error of all, {_value(worst['own_ev_per_ang'])} eV/Å."
    ]


def _learning(arm: Mapping[str, Any]) -> str:
    first, last = arm["curve"][0], arm["curve"][-1]
    general = last["foreign_ev_per_ang"] is not None
    quality = "general" if general else "accurate"
    outcome = {
        "worse": f"more data made it less {quality}",
        "better": f"more data made it more {quality}",
        "unclear": "no clear change" + (" in generality" if general else ""),
    }[arm["trend"]]
    where = "the others'" if general else arm["sample"]
    error = arm["change_error_ev_per_ang"]
    by = "" if error is None else f" (change {arm['change_ev_per_ang']:+.3f} ± {error:.3f})"
    by = by.replace("-", "−")
    own = ""
    if general:
        own = (
            f", on its own from {_value(first['own_ev_per_ang'])} to "
            f"{_value(last['own_ev_per_ang'])}"
        )
    return (
        f"From {first['size']} to {last['size']} frames of {arm['name']} the error on {where} "
        f"frames goes from {_value(_error(first))} to {_value(_error(last))} eV/Å{by}{own}: "
        f"{outcome}."
    )


def _dynamics(names: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> str | None:
    parts = []
    for name in names:
        own = [r for r in runs if r.get("train") == name]
        if not own:
            continue
        broken = [r for r in own if not r.get("intact")]
        part = f"{name} {len(own) - len(broken)} of {len(own)} intact"
        if broken:
            first = min(broken, key=lambda r: float(r.get("time_ps") or 0.0))
            part += f" (first failure after {picoseconds(float(first.get('time_ps') or 0.0))} ps"
            part += f" at {float(first.get('temperature_k') or 0.0):g} K)"
        parts.append(part)
    return f"Dynamics with the models: {'; '.join(parts)}." if parts else None


def _usable(
    compare: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], criterion: float
) -> tuple[bool, str]:
    """Whether an arm may be used, of those with numbers on all test sets."""
    found = compare["generality"]
    names = [str(a["name"]) for a in found["arms"]]
    worst = {
        name: max(float(r["mean"]) for t in found["tests"] for r in t["arms"] if r["arm"] == name)
        for name in names
    }
    own = {name: [r for r in runs if r.get("train") == name] for name in names}
    broken = {name: [r for r in own[name] if not r.get("intact")] for name in names}
    accurate = [name for name in names if worst[name] <= criterion]
    good = [name for name in accurate if not broken[name]]
    at = f"at {criterion:g} eV/Å on every test set"
    if good:
        return True, f"Usable {at}{_intact(good, own)}"
    name = min(accurate or names, key=lambda n: worst[n])
    if accurate:
        return False, (
            f"None is usable: {name}'s errors are within {criterion:g} eV/Å on every test set, but "
            f"{len(broken[name])} of {len(own[name])} dynamics fail."
        )
    return False, (
        f"None is usable {at}; {name} comes nearest with "
        f"{number_beside(worst[name], criterion, 3)} eV/Å on its worst."
    )


def _intact(good: Sequence[str], runs: Mapping[str, Sequence[Any]]) -> str:
    """The rest of the sentence on usable arms: what is known of their dynamics."""
    untried = [name for name in good if not runs[name]]
    if not untried:
        return f", with all dynamics intact: {', '.join(good)}."
    by = "" if untried == list(good) else f" with {', '.join(untried)}"
    return f": {', '.join(good)}; no dynamics were run{by}."


def _value(quantity: Mapping[str, Any]) -> str:
    mean, spread = float(quantity["mean"]), quantity.get("spread")
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {float(spread):.3f}"
