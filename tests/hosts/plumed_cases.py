"""From a case of tests/cases to PLUMED keywords and a hills file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

CASES = Path(__file__).resolve().parents[1] / "cases"
Case = dict[str, Any]


def load(name: str) -> list[Case]:
    cases = json.loads((CASES / name).read_text())["cases"]
    assert cases, f"{name} is empty"
    return cases


def cell_of(case: Case) -> np.ndarray | None:
    return None if case["cell_ang"] is None else np.array(case["cell_ang"])


def positions(case: Case) -> np.ndarray:
    return np.array(case["positions_ang"])


def group(case: Case) -> list[int]:
    """Serial numbers in the order of the matrix."""
    if case["group"] is not None:
        return case["group"]
    return list(dict.fromkeys(case["group_a"] + case["group_b"]))


def matrix_keywords(case: Case) -> str:
    """For UNITS LENGTH=A."""

    def joined(values: list[int]) -> str:
        return ",".join(str(v) for v in values)

    words = [f"METRIC={case['metric']}"]
    if case["group"] is not None:
        words.append("GROUP=" + joined(case["group"]))
    else:
        words += ["GROUPA=" + joined(case["group_a"]), "GROUPB=" + joined(case["group_b"])]
    words.append("SPECIES=" + ",".join(case["species"][k - 1] for k in group(case)))
    if case["cutoff_ang"] is not None:
        words.append(f"CUTOFF={case['cutoff_ang']!r}")
    if case["r_on_ang"] is not None:
        words.append(f"R_ON={case['r_on_ang']!r}")
    if case["exclude_species"]:
        words.append("EXCLUDE_SPECIES=" + ",".join(case["exclude_species"]))
    if case["exclude_pairs"]:
        words.append("EXCLUDE_PAIRS=" + ",".join(f"{i}-{j}" for i, j in case["exclude_pairs"]))
    return " ".join(words)


def write_hills(path: Path, case: Case) -> None:
    """The hills of a case as MATRIX_METAD writes them."""
    serials = group(case)
    text = []
    for k, hill in enumerate(case["hills"]):
        cell = hill["cell_ang"]
        lattice, pbc = "", "F F F"
        if cell is not None:
            lattice = 'Lattice="' + " ".join(repr(v) for row in cell for v in row) + '" '
            pbc = "T T T"
        cutoff = case["cutoff_ang"]
        r_on = case["r_on_ang"] if case["r_on_ang"] is not None else 0.8 * (cutoff or 0)
        switch = "" if cutoff is None else f" cutoff={cutoff!r} r_on={r_on!r}"
        text.append(
            f"{len(serials)}\n{lattice}Properties=species:S:1:pos:R:3:id:I:1 "
            f'pbc="{pbc}" step={k + 1} time=0.0 height={hill["height_ev"]!r} '
            f'sigma="{case["sigma"]}" biasf=inf metric={case["metric"]}'
            f"{switch} pairs={case['pairs']}\n"
        )
        for serial, x in zip(serials, hill["positions_ang"], strict=True):
            element = case["species"][serial - 1]
            text.append(f"{element} {x[0]!r} {x[1]!r} {x[2]!r} {serial}\n")
    path.write_text("".join(text))


def write_reference(path: Path, case: Case) -> None:
    frame = case["reference"]
    cell = frame["cell_ang"]
    lattice = ""
    if cell is not None:
        lattice = 'Lattice="' + " ".join(repr(v) for row in cell for v in row) + '"'
    rows = [f"X {x[0]!r} {x[1]!r} {x[2]!r}" for x in frame["positions_ang"]]
    path.write_text(f"{len(rows)}\n{lattice}\n" + "\n".join(rows) + "\n")
