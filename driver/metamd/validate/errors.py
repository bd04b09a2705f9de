"""Errors of predictions against a reference, and their table over train sets, test sets, seeds.

Conventions: energies per atom in meV, forces in eV/A over Cartesian components (RMSE, MAE and the
largest absolute component), virials per atom in meV likewise.  No constant is taken off the
energies unless asked for: a model that is wrong by a constant is wrong by it here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamd.errors import DataError
from metamd.frames import Array, Frames
from metamd.units import MEV_PER_EV


@dataclass(frozen=True)
class Errors:
    """Errors of one model on one set of frames; the unit is in each name."""

    n_frames: int
    energy_rmse_mev_per_atom: float
    energy_mae_mev_per_atom: float
    energy_max_mev_per_atom: float
    force_rmse_ev_per_ang: float
    force_mae_ev_per_ang: float
    force_max_ev_per_ang: float
    virial_rmse_mev_per_atom: float | None = None
    virial_mae_mev_per_atom: float | None = None
    virial_max_mev_per_atom: float | None = None
    energy_offset_mev_per_atom: float = 0.0
    """The constant that was taken off the energy errors (0: none)."""


def prediction_errors(
    reference: Frames,
    energy: Array,
    forces: Array,
    virial: Array | None = None,
    remove_offset: bool = False,
) -> Errors:
    """Errors of a prediction on labelled frames.

    Args:
        reference: frames with energies and forces.
        energy: predicted, eV, [n_frames].
        forces: predicted, eV/A, [n_frames, n_atoms, 3].
        virial: predicted, eV, [n_frames, 3, 3]; compared where the reference has virials.
        remove_offset: take the mean energy error off first (data with another energy zero).

    Raises:
        DataError: no labels, no frames, or predictions of another shape or that are no numbers.
    """
    true_energy, true_forces = _labels(reference)
    de = (_checked(energy, true_energy.shape, "energies", reference) - true_energy) * (
        MEV_PER_EV / reference.n_atoms
    )
    df = _checked(forces, true_forces.shape, "forces", reference) - true_forces
    offset = float(de.mean()) if remove_offset else 0.0
    de = de - offset
    virials: dict[str, float] = {}
    if virial is not None and reference.virial is not None:
        dv = _checked(virial, reference.virial.shape, "virials", reference) - reference.virial
        dv = dv * (MEV_PER_EV / reference.n_atoms)
        virials = {
            "virial_rmse_mev_per_atom": _rms(dv),
            "virial_mae_mev_per_atom": float(np.abs(dv).mean()),
            "virial_max_mev_per_atom": float(np.abs(dv).max()),
        }
    return Errors(
        n_frames=len(reference),
        energy_rmse_mev_per_atom=_rms(de),
        energy_mae_mev_per_atom=float(np.abs(de).mean()),
        energy_max_mev_per_atom=float(np.abs(de).max()),
        force_rmse_ev_per_ang=_rms(df),
        force_mae_ev_per_ang=float(np.abs(df).mean()),
        force_max_ev_per_ang=float(np.abs(df).max()),
        energy_offset_mev_per_atom=offset,
        **virials,
    )


def frame_force_rmse(reference: Frames, forces: Array) -> Array:
    """Force RMSE of every frame over its components, eV/A, [n_frames].

    Raises:
        DataError: as ``prediction_errors``.
    """
    _, true_forces = _labels(reference)
    df = _checked(forces, true_forces.shape, "forces", reference) - true_forces
    return np.asarray(np.sqrt((df * df).mean(axis=(1, 2))))


def cross_errors(rows: Iterable[tuple[str, str, int, Errors]]) -> list[dict[str, Any]]:
    """``summary.json``'s table from (train set, test set, seed, errors), one row a model and set.

    Every quantity becomes {"mean", "spread", "values"}: spread is the sample standard deviation
    over the seeds (None with a single seed), values follow "seeds".  Order of first appearance.
    """
    groups: dict[tuple[str, str], list[tuple[int, Errors]]] = {}
    for train, test, seed, errors in rows:
        groups.setdefault((train, test), []).append((seed, errors))
    table = []
    for (train, test), members in groups.items():
        entry: dict[str, Any] = {
            "train": train,
            "test": test,
            "n_frames": members[0][1].n_frames,
            "seeds": [seed for seed, _ in members],
        }
        columns = [asdict(errors) for _, errors in members]
        for name in columns[0]:
            if name == "n_frames" or any(column[name] is None for column in columns):
                continue
            if name == "energy_offset_mev_per_atom" and not any(c[name] for c in columns):
                continue
            entry[name] = mean_and_spread([column[name] for column in columns])
        table.append(entry)
    return table


def mean_and_spread(values: Iterable[float]) -> dict[str, Any]:
    """{"mean", "spread", "values"}; spread is the sample standard deviation, None for one value."""
    numbers = [float(v) for v in values]
    if not numbers:
        raise DataError("No values to average.")
    mean = math.fsum(numbers) / len(numbers)
    spread = None
    if len(numbers) > 1:
        spread = math.sqrt(math.fsum((v - mean) ** 2 for v in numbers) / (len(numbers) - 1))
    return {"mean": mean, "spread": spread, "values": numbers}


def save_predictions(path: str | Path, energy: Array, forces: Array) -> Path:
    """Keep a model's predictions (eV, eV/A) on a test set, in the order of its frames.

    The report's parity plots and worst frames are drawn from them.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".part")
    with partial.open("wb") as handle:
        np.savez(handle, energy=energy, forces=forces)
    partial.replace(path)
    return path


def _labels(reference: Frames) -> tuple[Array, Array]:
    if not len(reference):
        raise DataError(f"{reference.source}: an empty test set.")
    if reference.energy is None or reference.forces is None:
        raise DataError(f"{reference.source}: has no energies and forces to compare with.")
    return reference.energy, reference.forces


def _checked(
    value: Array, shape: tuple[int, ...], what: str, reference: Frames
) -> NDArray[np.float64]:
    value = np.asarray(value, dtype=np.float64)
    if value.shape != shape:
        raise DataError(
            f"{reference.source}: predicted {what} have shape {value.shape}, expected {shape}."
        )
    bad = np.flatnonzero(~np.isfinite(value.reshape(shape[0], -1)).all(axis=1))
    if bad.size:
        raise DataError(
            f"{reference.source}: the model predicts {what} that are no numbers for frame "
            f"{bad[0]} ({bad.size} of {shape[0]} frames)."
        )
    return value


def _rms(delta: Array) -> float:
    return float(np.sqrt(np.mean(np.square(delta))))
