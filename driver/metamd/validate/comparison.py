"""What a comparison of arms says: which generalises, what more data does, in words and numbers.

An arm's *foreign* error is its force RMSE on the test sets of the samplers that it was not trained
on, averaged over these sets; that is what Herr 2018 (J. Chem. Phys. 148, 241710, figure 5) calls
cross-evaluated, and the question answered here is that paper's: does a model become less general
when it is given more data of a narrow sampler?
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from metamd.validate.errors import mean_and_spread

#: A change counts when it exceeds this many standard errors of the paired difference over seeds.
CLEAR = 2.0


def generality(compare: Mapping[str, Any]) -> dict[str, Any]:
    """Foreign and own errors of every arm, by size of its training set.

    Args:
        compare: ``sizes``, ``seeds``, ``arms`` (``name``, ``sample``) and ``learning`` (rows of
            ``arm``, ``size``, ``test``, ``seeds``, ``force_rmse_ev_per_ang``) of the summary.

    Returns:
        ``arms``: one entry an arm, worst foreign error first: ``name``, ``own_ev_per_ang`` and
        ``foreign_ev_per_ang`` (mean, spread, values over seeds, at the full size), ``curve`` (the
        same by ``size``), ``trend`` (``better``, ``worse`` or ``unclear``: the foreign error from
        the smallest to the largest size), ``change_ev_per_ang`` and its standard error.
        ``worst_ratio``: worst foreign error over the next one's.
        ``tests``: for every test set the arms from worst to best and the ratio of the worst
        foreign arm to the worst of the others.
    """
    table = {(r["arm"], r["size"], r["test"]): r for r in compare.get("learning") or []}
    sizes: list[int] = list(compare.get("sizes") or [])
    tests = list(dict.fromkeys(test for _, _, test in table))
    arms = []
    for arm in compare.get("arms") or []:
        points = [_point(table, arm, size, tests) for size in sizes]
        curve = [point for point in points if point is not None]
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
    arms.sort(key=lambda a: -float(a["foreign_ev_per_ang"]["mean"]))
    foreign = [float(a["foreign_ev_per_ang"]["mean"]) for a in arms]
    return {
        "arms": arms,
        "worst_ratio": foreign[0] / foreign[1] if len(foreign) > 1 and foreign[1] > 0 else None,
        "tests": [_test(table, compare, sizes[-1], test) for test in tests] if sizes else [],
    }


def _point(
    table: Mapping[tuple[str, int, str], Mapping[str, Any]],
    arm: Mapping[str, Any],
    size: int,
    tests: Sequence[str],
) -> dict[str, Any] | None:
    """Own and foreign error at one size; None where a part is missing."""
    name, own = arm["name"], arm["sample"]
    foreign = [t for t in tests if t != own and (name, size, t) in table]
    if not foreign or (name, size, own) not in table:
        return None
    columns = [table[name, size, t]["force_rmse_ev_per_ang"]["values"] for t in foreign]
    if len({len(column) for column in columns}) > 1:
        return None
    per_seed = [math.fsum(values) / len(values) for values in zip(*columns, strict=True)]
    return {
        "size": size,
        "own_ev_per_ang": dict(table[name, size, own]["force_rmse_ev_per_ang"]),
        "foreign_ev_per_ang": mean_and_spread(per_seed),
    }


def _trend(curve: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What more data did to the foreign error, by differences within each seed."""
    first = curve[0]["foreign_ev_per_ang"]["values"]
    last = curve[-1]["foreign_ev_per_ang"]["values"]
    if len(curve) < 2 or len(first) != len(last):
        return {"trend": "unclear", "change_ev_per_ang": None, "change_error_ev_per_ang": None}
    change = mean_and_spread([b - a for a, b in zip(first, last, strict=True)])
    if change["spread"] is None:
        return {
            "trend": "unclear",
            "change_ev_per_ang": change["mean"],
            "change_error_ev_per_ang": None,
        }
    error = change["spread"] / math.sqrt(len(first))
    clear = abs(change["mean"]) > CLEAR * error
    return {
        "trend": "unclear" if not clear else "worse" if change["mean"] > 0 else "better",
        "change_ev_per_ang": change["mean"],
        "change_error_ev_per_ang": error,
    }


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
    arms = found.get("arms") or []
    if not arms:
        return {
            "usable": False,
            "headline": "No verdict",
            "text": "No verdict: no arm has been tested on the frames of another sampler.",
            "criterion_ev_per_ang": criterion_ev_per_ang,
        }
    best, worst = arms[-1], arms[0]
    lines = [_headline(compare, arms)]
    narrow = min(arms, key=lambda a: float(a["own_ev_per_ang"]["mean"]))
    if narrow is worst and len(arms) > 1:
        lines.append(
            f"A test on its own kind of frames hides that: there {worst['name']} has the smallest "
            f"error of all, {_value(worst['own_ev_per_ang'])} eV/Å."
        )
    lines += [_learning(arm) for arm in arms if len(arm["curve"]) > 1]
    if (stable := _dynamics([a["name"] for a in arms], stability)) is not None:
        lines.append(stable)
    usable, text = _usable(found, stability, criterion_ev_per_ang)
    return {
        "usable": usable,
        "headline": f"Most general: {best['name']}",
        "text": "\n".join([*lines, text]),
        "criterion_ev_per_ang": criterion_ev_per_ang,
    }


def _headline(compare: Mapping[str, Any], arms: Sequence[Mapping[str, Any]]) -> str:
    best, worst = arms[-1], arms[0]
    n = len(compare.get("seeds") or [])
    size = (compare.get("sizes") or [0])[-1]
    text = (
        f"Most general: {best['name']}. At {size} labelled frames an arm its force RMSE on the "
        "frames of the samplers it was not trained on is "
        f"{_value(best['foreign_ev_per_ang'])} eV/Å "
        f"({'one seed' if n == 1 else f'mean ± spread of {n} seeds'})"
    )
    if len(arms) == 1:
        return text + "."
    others = [f"{a['name']} has {_value(a['foreign_ev_per_ang'])}" for a in reversed(arms[1:-1])]
    ratio = worst["foreign_ev_per_ang"]["mean"] / arms[1]["foreign_ev_per_ang"]["mean"]
    what = f"{worst['name']} is the worst with {_value(worst['foreign_ev_per_ang'])}"
    what += f", {ratio:.1f} times {'as much' if len(arms) == 2 else 'the next'}"
    return f"{text}; {'; '.join([*others, what])}."


def _learning(arm: Mapping[str, Any]) -> str:
    first, last = arm["curve"][0], arm["curve"][-1]
    outcome = {
        "worse": "more data made it less general",
        "better": "more data made it more general",
        "unclear": "no clear change in generality",
    }[arm["trend"]]
    error = arm["change_error_ev_per_ang"]
    by = "" if error is None else f" (change {arm['change_ev_per_ang']:+.3f} ± {error:.3f})"
    by = by.replace("-", "−")
    return (
        f"From {first['size']} to {last['size']} frames of {arm['name']} the error on the others' "
        f"frames goes from {_value(first['foreign_ev_per_ang'])} to "
        f"{_value(last['foreign_ev_per_ang'])} eV/Å{by}, on its own from "
        f"{_value(first['own_ev_per_ang'])} to {_value(last['own_ev_per_ang'])}: {outcome}."
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
            part += f" (first failure after {float(first.get('time_ps') or 0.0):.2g} ps"
            part += f" at {float(first.get('temperature_k') or 0.0):g} K)"
        parts.append(part)
    return f"Dynamics with the models: {'; '.join(parts)}." if parts else None


def _usable(
    found: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], criterion: float
) -> tuple[bool, str]:
    worst: dict[str, float] = {}
    for test in found.get("tests") or []:
        for row in test["arms"]:
            worst[row["arm"]] = max(worst.get(row["arm"], 0.0), float(row["mean"]))
    broken = {str(r.get("train")) for r in runs if not r.get("intact")}
    good = [name for name, value in worst.items() if value <= criterion and name not in broken]
    if good:
        return True, (
            f"Usable at {criterion:g} eV/Å on every test set, with all dynamics intact: "
            f"{', '.join(good)}."
        )
    name = min(worst, key=lambda n: worst[n])
    return False, (
        f"None is usable at {criterion:g} eV/Å on every test set; {name} comes nearest with "
        f"{worst[name]:.3f} eV/Å on its worst."
    )


def _value(quantity: Mapping[str, Any]) -> str:
    mean, spread = float(quantity["mean"]), quantity.get("spread")
    return f"{mean:.3f}" if spread is None else f"{mean:.3f} ± {float(spread):.3f}"
