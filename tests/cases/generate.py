"""Writes bias.json and cv.json from the numpy oracle: python tests/cases/generate.py"""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import oracle

HERE = Path(__file__).resolve().parent

# Ethanol, GFN2-xTB geometry rounded to 0.01 A, then shaken.
ETHANOL = ["C", "C", "O", "H", "H", "H", "H", "H", "H"]
ETHANOL_X = np.array(
    [
        [1.17, -0.40, 0.00],
        [0.00, 0.55, 0.00],
        [-1.19, -0.21, 0.00],
        [-1.94, 0.39, 0.00],
        [2.10, 0.16, 0.00],
        [1.15, -1.04, 0.88],
        [1.15, -1.04, -0.88],
        [0.04, 1.19, 0.88],
        [0.04, 1.19, -0.88],
    ]
)
CUBE = np.diag([9.0, 9.5, 10.0])
TRICLINIC = np.array([[9.0, 0.0, 0.0], [2.5, 8.5, 0.0], [-1.5, 2.0, 9.0]])


def unambiguous(case: dict) -> bool:
    """No pair so near to having two nearest images that a small step could swap them."""
    if case["cell_ang"] is None:
        return True
    cell, x = np.array(case["cell_ang"]), np.array(case["positions_ang"])
    shifts = np.array(list(itertools.product(range(-3, 4), repeat=3))) @ cell
    i, j = matrix_of(case).pairs().T
    d = x[j] - x[i]
    d = d - np.round(d @ np.linalg.inv(cell)) @ cell
    r = np.sort(np.linalg.norm(d[:, None, :] + shifts[None], axis=2), axis=1)
    reach = r[:, 0] < (case["cutoff_ang"] or np.inf)
    return bool(np.all((r[:, 1] - r[:, 0])[reach] > 0.06))


def configuration(rng: np.random.Generator, atoms: int, cell: np.ndarray | None) -> tuple:
    """Ethanol for nine atoms, else points that keep 1 A from each other."""
    if atoms == 9:
        x = ETHANOL_X + rng.normal(scale=0.08, size=(9, 3))
        if cell is not None:  # spread over a boundary, atoms in different images
            x = x + cell.sum(axis=0) * 0.98 + rng.integers(-1, 2, size=(9, 3)) @ cell
        return ETHANOL, x
    box = np.diag([6.0, 6.0, 6.0]) if cell is None else cell
    points: list[np.ndarray] = []
    while len(points) < atoms:
        p = rng.random(3) @ box
        images = np.array(list(itertools.product((-1, 0, 1), repeat=3))) @ box
        near = [np.linalg.norm(p - q + images, axis=1).min() for q in points]
        if not near or min(near) > 1.0:
            points.append(p)
    return [("O", "H", "C")[k % 3] for k in range(atoms)], np.array(points)


def matrix_of(case: dict) -> oracle.Matrix:
    def indices(serials: list[int] | None) -> list[int] | None:
        return None if serials is None else [k - 1 for k in serials]

    species = case["species"]
    a, b = indices(case["group_a"]), indices(case["group_b"])
    if case["group"] is not None:
        a = b = indices(case["group"])
    return oracle.Matrix(
        species,
        case["metric"],
        case["cutoff_ang"],
        case["r_on_ang"],
        a,
        b,
        case["exclude_species"],
        [[i - 1, j - 1] for i, j in case["exclude_pairs"]],
    )


def group_atoms(case: dict) -> list[int]:
    """0-based, in the order hills and references are stored."""
    if case["group"] is not None:
        return [k - 1 for k in case["group"]]
    return [k - 1 for k in dict.fromkeys(case["group_a"] + case["group_b"])]


def base_case(
    rng: np.random.Generator, metric: str, cutoff: float | None, cell_name: str, kind: str
) -> dict:
    cell = {"open": None, "orthorhombic": CUBE, "triclinic": TRICLINIC}[cell_name]
    atoms = 9 if rng.random() < 0.7 else 14
    species, x = configuration(rng, atoms, cell)
    serials = list(range(1, atoms + 1))
    case = {
        "name": "",
        "description": "",
        "species": species,
        "positions_ang": x.tolist(),
        "cell_ang": None if cell is None else cell.tolist(),
        "metric": metric,
        "cutoff_ang": cutoff,
        "r_on_ang": None,
        "group": serials,
        "group_a": None,
        "group_b": None,
        "exclude_species": [],
        "exclude_pairs": [],
    }
    if cutoff is not None and rng.random() < 0.5:
        case["r_on_ang"] = 0.5 * cutoff
    if kind == "some":
        case["group"] = [int(k) for k in rng.permutation(serials)[: atoms - 2]]
    elif kind == "two":
        case.update(group=None, group_a=serials[:4], group_b=serials[4:])
    elif kind == "overlap":
        case.update(group=None, group_a=serials[:6], group_b=serials[3:])
    elif kind == "elements":
        case["exclude_species"] = ["H-H"]
    elif kind == "list":
        case["exclude_pairs"] = [[1, 2], [2, 5], [3, 4]]
    if not unambiguous(case):
        return base_case(rng, metric, cutoff, cell_name, kind)
    case["pairs"] = len(matrix_of(case).pairs())
    return case


def shaken(rng: np.random.Generator, case: dict, scale: float) -> np.ndarray:
    atoms = group_atoms(case)
    x = np.array(case["positions_ang"])[atoms]
    return x + rng.normal(scale=scale, size=x.shape)


def in_group(case: dict, x: np.ndarray) -> np.ndarray:
    """A stored configuration of the group, put back among all atoms."""
    full = np.array(case["positions_ang"])
    full[group_atoms(case)] = x
    return full


def bias_case(rng: np.random.Generator, case: dict, kind: str, sigma_kind: str) -> dict:
    cell = None if case["cell_ang"] is None else np.array(case["cell_ang"])
    wide = {"INVERSE": 0.25, "DISTANCE": 0.9, "SCREENED": 0.4}[case["metric"]]
    case["sigma"] = str(wide)
    if sigma_kind == "elements":
        there = {case["species"][k] for k in group_atoms(case)}
        widths = {"C-H": 0.8 * wide, "O-H": 1.3 * wide, "H-H": 1.1 * wide}
        for pair, width in widths.items():
            if set(pair.split("-")) <= there:  # a width for elements that are not there is an error
                case["sigma"] += f",{pair}:{width:g}"
    matrix = matrix_of(case)
    case["hills"], hills = [], []
    for k in range(3):
        x = shaken(rng, case, 0.07)
        # A cell that changes, as in a run at constant pressure.
        hill_cell = None if cell is None else cell * (1.0 + 0.004 * k)
        height = 0.03 + 0.02 * k
        case["hills"].append(
            {
                "height_ev": height,
                "positions_ang": x.tolist(),
                "cell_ang": None if hill_cell is None else hill_cell.tolist(),
            }
        )
        hills.append(oracle.Hill(height, in_group(case, x), hill_cell))

    def energy(y: np.ndarray, c: np.ndarray | None) -> complex:
        return oracle.bias(matrix, case["sigma"], hills, y, c)

    x = np.array(case["positions_ang"])
    case["expected"] = {
        "energy_ev": float(np.real(energy(x, cell))),
        "forces_ev_per_ang": (-oracle.gradient(energy, x, cell)).tolist(),
        "virial_ev": oracle.virial(energy, x, cell).tolist(),
    }
    case["name"] = "-".join(
        [case["metric"].lower(), "cutoff" if case["cutoff_ang"] else "full", kind, sigma_kind]
    )
    return case


def cv_case(rng: np.random.Generator, case: dict, kind: str, component: str) -> dict:
    cell = None if case["cell_ang"] is None else np.array(case["cell_ang"])
    matrix = matrix_of(case)
    case["component"] = component
    case["reference"] = None
    x = np.array(case["positions_ang"])
    if component == "mean":

        def value(y: np.ndarray, c: np.ndarray | None) -> complex:
            return oracle.mean(matrix, y, c)
    else:
        ref = shaken(rng, case, 0.1)
        case["reference"] = {"positions_ang": ref.tolist(), "cell_ang": case["cell_ang"]}
        full = in_group(case, ref)

        def value(y: np.ndarray, c: np.ndarray | None) -> complex:
            return oracle.distance(matrix, full, cell, y, c)

    case["expected"] = {
        "value": float(np.real(value(x, cell))),
        "gradient": oracle.gradient(value, x, cell).tolist(),
        "virial": oracle.virial(value, x, cell).tolist(),
    }
    case["name"] = "-".join(
        [component, case["metric"].lower(), "cutoff" if case["cutoff_ang"] else "full", kind]
    )
    return case


def write(path: Path, cases: list[dict]) -> None:
    lines = ",\n".join(json.dumps(case) for case in cases)
    path.write_text('{"cases": [\n' + lines + "\n]}\n")
    print(f"{path.name}: {len(cases)} cases")


def main() -> None:
    rng = np.random.default_rng(2018)
    metrics = [("INVERSE", None), ("INVERSE", 3.9), ("DISTANCE", None), ("SCREENED", None)]
    kinds = ["all", "some", "two", "overlap", "elements", "list"]
    cells = ["open", "orthorhombic", "triclinic"]
    bias_cases, cv_cases = [], []
    for (metric, cutoff), kind, cell in itertools.product(metrics, kinds, cells):
        base = base_case(rng, metric, cutoff, cell, kind)
        sigma_kind = "elements" if rng.random() < 0.4 else "one"
        case = bias_case(rng, base, kind, sigma_kind)
        case["name"] += "-" + cell
        case["description"] = f"METRIC={metric}, groups: {kind}, SIGMA: {sigma_kind}, cell: {cell}"
        bias_cases.append(case)
    for (metric, cutoff), kind, cell, component in itertools.product(
        metrics[:3], ["all", "two", "list"], cells, ["mean", "dist-1"]
    ):
        case = cv_case(rng, base_case(rng, metric, cutoff, cell, kind), kind, component)
        case["name"] += "-" + cell
        case["description"] = f"{component} of METRIC={metric}, groups: {kind}, cell: {cell}"
        cv_cases.append(case)
    write(HERE / "bias.json", bias_cases)
    write(HERE / "cv.json", cv_cases)


if __name__ == "__main__":
    main()
