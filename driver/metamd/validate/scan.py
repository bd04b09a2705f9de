"""Rigid scans along a bond or an angle: does the potential rise where it must (Herr 2018, fig. 6)?

The fragment on the second atom's side moves as a whole; nothing relaxes, so two potentials are
compared at exactly the same structures.  Works with any ASE calculator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from ase import Atoms
from numpy.typing import NDArray

from metamd.bonds import BondGraph
from metamd.config.validate import Scan
from metamd.disk import is_disk_full
from metamd.errors import InputError
from metamd.frames import Array
from metamd.validate.check import Check


def bond_scan(
    calculators: Mapping[str, Any], atoms: Atoms, i: int, j: int, lengths_ang: Sequence[float]
) -> Check:
    """Energies against the distance of atoms i and j (from 0), A; the fragment of j moves.

    Args:
        calculators: ASE calculators by name, the reference first.
        atoms: starting structure; energies are counted from it, each calculator from its own.
        i, j: the bond's atoms, from 0.  Where the bond is part of a ring only atom j moves.
        lengths_ang: distances to visit.

    Returns:
        A Check with one curve a calculator (eV) and the RMSE of each against the first (eV).

    Raises:
        InputError: atoms that are the same or do not exist, or no lengths.
    """
    _known(atoms, (i, j), lengths_ang)
    mask = moved_by_bond(atoms, i, j)

    def at(length: float) -> Atoms:
        image = atoms.copy()
        image.set_distance(i, j, float(length), fix=0, mask=mask.tolist())
        return image

    name = f"{atoms.symbols[i]}{i + 1}–{atoms.symbols[j]}{j + 1}"
    return _scan(
        calculators,
        atoms,
        at,
        lengths_ang,
        key=f"scan-bond-{i + 1}-{j + 1}",
        title=f"Stretching {name}",
        x_label=f"distance {name} / Å",
    )


def angle_scan(
    calculators: Mapping[str, Any],
    atoms: Atoms,
    i: int,
    j: int,
    k: int,
    angles_deg: Sequence[float],
) -> Check:
    """Energies against the angle i-j-k (from 0, vertex j) in degrees; the fragment of k turns.

    Arguments, result and errors as in ``bond_scan``.
    """
    _known(atoms, (i, j, k), angles_deg)
    mask = moved_by_bond(atoms, j, k)

    def at(angle: float) -> Atoms:
        image = atoms.copy()
        image.set_angle(i, j, k, float(angle), mask=mask.tolist())
        return image

    name = "–".join(f"{atoms.symbols[a]}{a + 1}" for a in (i, j, k))
    return _scan(
        calculators,
        atoms,
        at,
        angles_deg,
        key=f"scan-angle-{i + 1}-{j + 1}-{k + 1}",
        title=f"Bending {name}",
        x_label=f"angle {name} / °",
    )


def moved_by_bond(atoms: Atoms, i: int, j: int) -> NDArray[np.bool_]:
    """The atoms on j's side of the bond i-j, [n_atoms]; j alone where the two are in one ring."""
    graph = BondGraph.of_atoms(atoms)
    neighbours: dict[int, set[int]] = {k: set() for k in range(len(atoms))}
    for a, b in graph.bonds.tolist():
        neighbours[a].add(b)
        neighbours[b].add(a)
    seen, front = {j}, [j]
    while front:
        here = front.pop()
        for there in neighbours[here] - seen:
            if (here, there) != (j, i):
                seen.add(there)
                front.append(there)
    if i in seen:
        seen = {j}
    mask = np.zeros(len(atoms), dtype=np.bool_)
    mask[sorted(seen)] = True
    return mask


def _scan(
    calculators: Mapping[str, Any],
    atoms: Atoms,
    at: Any,
    values: Sequence[float],
    key: str,
    title: str,
    x_label: str,
) -> Check:
    if not calculators:
        raise InputError("A scan needs at least one calculator.")
    x = np.asarray(values, float)
    notes: list[str] = []
    curves: dict[str, tuple[Array, Array]] = {}
    for name, calculator in calculators.items():
        zero = _energy(atoms.copy(), calculator)
        energy = np.array([_energy(at(value), calculator) for value in x]) - zero
        failed = int(np.isnan(energy).sum())
        if failed:
            notes.append(f"{name} gave no energy at {failed} of {len(x)} points")
        curves[name] = x, energy
    first = next(iter(curves.values()))[1]
    numbers: dict[str, float | None] = {}
    for name, (_, energy) in list(curves.items())[1:]:
        both = np.isfinite(energy) & np.isfinite(first)
        rmse = float(np.sqrt(np.mean((energy - first)[both] ** 2))) if both.any() else None
        numbers[f"{name}: RMSE / eV"] = rmse
    return Check(
        key=key,
        title=title,
        caption="Rigid scan; energies from each potential's own value at the starting structure.",
        x_label=x_label,
        y_label="energy / eV",
        curves=curves,
        numbers=numbers,
        notes=notes,
    )


def _energy(image: Atoms, calculator: Any) -> float:
    """The energy in eV, NaN where the calculator gives none (SCF far from equilibrium)."""
    image.calc = calculator
    try:
        return float(image.get_potential_energy())
    except (MemoryError, ImportError):
        raise
    except Exception as error:
        if is_disk_full(error):
            raise
        # Every calculator fails in its own way; the point is left out and counted.
        return math.nan


def _known(atoms: Atoms, indices: Sequence[int], values: Sequence[float]) -> None:
    if len(set(indices)) != len(indices) or any(not 0 <= k < len(atoms) for k in indices):
        raise InputError(
            f"Atoms {', '.join(str(k + 1) for k in indices)}: a scan needs different atoms of the "
            f"{len(atoms)} there are."
        )
    if not len(values):
        raise InputError("A scan needs at least one value.")


def usual_scans(atoms: Atoms) -> list[Scan]:
    """One bond of each pair of elements, from 0.7 to 2 times its length, and one angle of each
    three elements, from 30 degrees below to 30 above; not in rings, where scans move one atom.
    """
    graph = BondGraph.of_atoms(atoms)
    neighbours: dict[int, list[int]] = {k: [] for k in range(len(atoms))}
    scans: dict[tuple[str, ...], Scan] = {}
    for a, b in graph.bonds.tolist():
        neighbours[a].append(b)
        neighbours[b].append(a)
    for a, b in graph.bonds.tolist():
        # The lighter end moves; a hydrogen never stands still.
        i, j = sorted((a, b), key=lambda k: -atoms.numbers[k])
        kind = (atoms.symbols[i], atoms.symbols[j])
        length = float(atoms.get_distance(i, j, mic=bool(atoms.pbc.any())))
        scans.setdefault(
            kind, Scan(atoms=(i + 1, j + 1), low=0.7 * length, high=2.0 * length, points=27)
        )
    for j, around in neighbours.items():
        for i, k in combinations(sorted(around, key=lambda n: -atoms.numbers[n]), 2):
            three = (atoms.symbols[i], atoms.symbols[j], atoms.symbols[k])
            angle = float(atoms.get_angle(i, j, k, mic=bool(atoms.pbc.any())))
            scans.setdefault(
                three,
                Scan(
                    atoms=(i + 1, j + 1, k + 1),
                    low=max(20.0, angle - 30.0),
                    high=min(179.0, angle + 30.0),
                    points=25,
                ),
            )
    return list(scans.values())
