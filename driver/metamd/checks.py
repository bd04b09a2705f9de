"""Checks that energies, forces and files of a data set belong together.

Energies are compared with forces through the work between neighbouring frames: for close frames
a and b, E_b - E_a is nearly -1/2 (F_a + F_b).(R_b - R_a).  That finds a wrong unit inside a file
and another energy zero between files, without knowing either.  Where frames lie too far apart for
it, only gross differences (``GROSS_EV_PER_ATOM``) are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from metamd.errors import DataError
from metamd.frames import Array, Frames, minimum_image
from metamd.units import HARTREE_EV, KCAL_MOL_EV

#: No rearrangement of the same atoms changes the energy by more than this.
GROSS_EV_PER_ATOM = 5.0
#: Frames of each file that are compared.
_SAMPLE = 300
#: Work must explain energy differences this well before its slope is believed.
_CORRELATION = 0.8
_UNITS = {
    "kcal/mol": KCAL_MOL_EV,
    "kJ/mol": KCAL_MOL_EV / 4.184,
    "hartree": HARTREE_EV,
    "rydberg": HARTREE_EV / 2,
    "meV": 1e-3,
}


@dataclass(frozen=True)
class _Steps:
    """Energy differences and work between pairs of frames, eV, [n]."""

    difference: Array
    work: Array


def check_energies(frames: Frames) -> None:
    """Refuse energies that jump between frames, or are in another unit than the forces.

    Args:
        frames: one file; nothing is checked without energies.

    Raises:
        DataError: with file and frame.
    """
    if frames.energy is None or len(frames) < 2:
        return
    _check_jump(frames)
    if frames.forces is None or len(frames) < 10:
        return
    steps = _steps(frames, frames)
    work2, both = float(steps.work @ steps.work), float(steps.work @ steps.difference)
    norm = np.sqrt(work2 * float(steps.difference @ steps.difference))
    if norm == 0 or both < _CORRELATION * norm:
        return
    # The geometric mean of both regressions: neither side is free of error.
    slope = float(np.sqrt(steps.difference @ steps.difference / work2))
    if 0.6 < slope < 1.6:
        return
    raise DataError(
        f"{frames.source}: energies change {slope:.4g} times as much between frames as the work "
        f"of the forces says{_unit_hint(slope)}; energies must be in eV and forces in eV/A."
    )


def check_same_zero(parts: Sequence[Frames]) -> None:
    """Refuse files of the same atoms whose energies have different zeros or units.

    Raises:
        DataError: names both files and the difference.
    """
    for part in parts[1:]:
        offset = energy_offset(parts[0], part)
        if offset is not None and offset != 0.0:
            a, b = parts[0], part
            assert a.energy is not None
            assert b.energy is not None
            ratio = float(b.energy.mean() / a.energy.mean()) if a.energy.mean() else 1.0
            raise DataError(
                f"{b.source}: its energies lie {offset:+.4g} eV from those of {a.source} "
                f"(frame 0: {b.energy[0]:.6g} and {a.energy[0]:.6g} eV)"
                f"{_unit_hint(ratio, 0.03) or ': another energy zero'}. Bring them to one zero, or "
                "ask for alignment."
            )


def align_zeros(parts: Sequence[Frames]) -> list[Frames]:
    """Shift the energies of every file to the zero of the first, by ``energy_offset``."""
    out = [parts[0]]
    for part in parts[1:]:
        offset = energy_offset(parts[0], part)
        shifted = part.energy
        if offset is not None and part.energy is not None:
            shifted = part.energy - offset
        out.append(replace(part, energy=shifted))
    return out


def energy_offset(a: Frames, b: Frames) -> float | None:
    """Constant by which energies of ``b`` lie above those of ``a``, eV.

    The median over close pairs of frames of what the work between them leaves; 0 where it is
    within its scatter, None without labels.
    """
    if a.energy is None or b.energy is None or a.symbols != b.symbols:
        return None
    gross = GROSS_EV_PER_ATOM * a.n_atoms
    difference = float(np.median(b.energy) - np.median(a.energy))
    if a.forces is None or b.forces is None:
        return difference if abs(difference) > gross else 0.0
    steps = _steps(a, b)
    left = steps.difference - steps.work
    offset = float(np.median(left))
    scatter = 1.4826 * float(np.median(np.abs(left - offset)))
    clear = abs(offset) > 5 * scatter and abs(offset) > 0.01 * a.n_atoms
    return offset if clear or abs(difference) > gross else 0.0


def _check_jump(frames: Frames) -> None:
    """A gap in the sorted energies that no geometry explains."""
    assert frames.energy is not None
    order = np.argsort(frames.energy)
    gaps = np.diff(frames.energy[order])
    at = int(gaps.argmax())
    if gaps[at] <= GROSS_EV_PER_ATOM * frames.n_atoms:
        return
    low, high = order[: at + 1], order[at + 1 :]
    odd, others = (low, high) if len(low) < len(high) else (high, low)
    frame = int(odd.min())
    usual = float(np.median(frames.energy[others]))
    ratio = float(frames.energy[frame] / usual) if usual else 1.0
    raise DataError(
        f"{frames.source}: frame {frame}: energy {frames.energy[frame]:.6g} eV, the others are "
        f"near {usual:.6g} eV{_unit_hint(ratio, 0.03)}; {len(odd)} of {len(frames)} frames are "
        "so. They have another unit or another energy zero."
    )


def _unit_hint(factor: float, tolerance: float = 0.25) -> str:
    """What a factor between energies may come from."""
    for unit, value in _UNITS.items():
        if abs(np.log(abs(factor) * value)) < tolerance:
            return f", as if they were in {unit}"
        if abs(np.log(abs(factor) / value)) < tolerance:
            return f", as if they had been converted from {unit} twice"
    return ""


def _steps(a: Frames, b: Frames) -> _Steps:
    """For sampled frames of ``b`` the step from the nearest sampled frame of ``a``."""
    assert a.energy is not None
    assert b.energy is not None
    assert a.forces is not None
    assert b.forces is not None
    one, two = _spread(len(a)), _spread(len(b))
    near = a[one]
    far = near if a is b else b[two]
    off = cdist(near.distances_ang, far.distances_ang)
    if a is b:
        np.fill_diagonal(off, np.inf)
    pick = off.argmin(axis=0)
    start, force = near.positions[pick], a.forces[one][pick]
    end, end_force = far.positions, b.forces[two]
    if a.cell is not None:
        move = minimum_image(end - start, a.cell[one][pick])
    else:
        turn = _rotations(end, start)
        centred = end - end.mean(axis=1, keepdims=True)
        move = np.einsum("fax,fxy->fay", centred, turn) - (
            start - start.mean(axis=1, keepdims=True)
        )
        end_force = np.einsum("fax,fxy->fay", end_force, turn)
    work = -0.5 * np.einsum("fax,fax->f", force + end_force, move)
    return _Steps(b.energy[two] - a.energy[one][pick], work)


def _spread(n: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, n - 1, min(n, _SAMPLE)).round().astype(np.intp))


def _rotations(moving: Array, fixed: Array) -> Array:
    """Proper rotations [f, 3, 3] that bring ``moving`` (rows times matrix) onto ``fixed``."""
    x = moving - moving.mean(axis=1, keepdims=True)
    y = fixed - fixed.mean(axis=1, keepdims=True)
    u, _, vt = np.linalg.svd(np.einsum("fax,fay->fxy", x, y))
    sign = np.sign(np.linalg.det(u @ vt))
    u[:, :, -1] *= sign[:, None]
    rotation: Array = u @ vt
    return rotation
