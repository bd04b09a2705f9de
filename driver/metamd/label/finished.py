"""Labels out of finished calculations: outputs of DFT programs, read by dpdata.

A frame takes the labels of the output whose geometry is its own: the same elements, and pair
distances that agree within ``MATCH_ANG``.  Programs may have turned or moved an isolated molecule,
and may have sorted atoms by element; forces are turned and sorted back.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.spatial import cKDTree

from metamd.config import Reference
from metamd.errors import DataError
from metamd.frames import Array, Frames, concatenate, minimum_image

#: Distances of a frame and of an output agree within this, A: outputs print five digits or more,
#: and over this distance a force of a stiff bond changes by some 0.005 eV/A.
MATCH_ANG = 1e-4


@dataclass
class Finished:
    """What the outputs hold.

    Attributes:
        frames: every converged calculation of the wanted elements; None where there is none.
        problems: ``path: reason`` of outputs that gave nothing.
    """

    frames: Frames | None = None
    problems: list[str] = field(default_factory=list)


def read_outputs(reference: Reference, symbols: tuple[str, ...], periodic: bool) -> Finished:
    """All outputs that ``reference.outputs`` names, atoms in the order of ``symbols``."""
    found = Finished()
    parts: list[Frames] = []
    for pattern in reference.output_patterns:
        paths = sorted(glob.glob(pattern))
        if not paths:
            found.problems.append(f"{pattern}: no such file")
        for path in paths:
            try:
                parts.append(_read(path, reference.format, symbols, periodic))
            except DataError as error:
                found.problems.append(str(error))
            except Exception as error:
                # dpdata's readers raise whatever their parsing runs into.
                reason = str(error).strip().splitlines() or [type(error).__name__]
                found.problems.append(f"{path}: dpdata cannot read it ({reason[-1]})")
    if parts:
        found.frames = concatenate(parts)
    return found


def _read(path: str, form: str | None, symbols: tuple[str, ...], periodic: bool) -> Frames:
    import dpdata

    system = dpdata.LabeledSystem(path, fmt=form or "auto")
    data = system.data
    if len(system) == 0:
        raise DataError(f"{path}: holds no converged calculation.")
    names = [str(data["atom_names"][t]) for t in data["atom_types"]]
    if sorted(names) != sorted(symbols):
        raise DataError(f"{path}: its atoms are not those of the frames.")
    order = np.empty(len(names), dtype=int)
    order[np.argsort(np.array(symbols), kind="stable")] = np.argsort(np.array(names), kind="stable")
    virials = data.get("virials")
    return Frames(
        symbols,
        np.asarray(data["coords"], float)[:, order],
        cell=np.asarray(data["cells"], float) if periodic else None,
        energy=np.asarray(data["energies"], float),
        forces=np.asarray(data["forces"], float)[:, order],
        virial=np.asarray(virials, float) if periodic and virials is not None else None,
        source=path,
    )


def label_from_outputs(
    frames: Frames, reference: Reference
) -> tuple[Frames | None, list[int], dict[int, str]]:
    """Labels of the frames whose calculation has finished.

    Returns:
        the labelled frames, their indices, and the reason for each frame that has none.
    """
    found = read_outputs(reference, frames.symbols, frames.cell is not None)
    missing = "no finished calculation of this geometry"
    if found.problems:
        missing += f" ({len(found.problems)} outputs gave nothing; the first: {found.problems[0]})"
    if found.frames is None:
        return None, [], dict.fromkeys(range(len(frames)), missing)
    tree = cKDTree(found.frames.distances_ang)
    _, match = tree.query(frames.distances_ang, p=np.inf, distance_upper_bound=MATCH_ANG)
    rows: list[int] = []
    forces: list[Array] = []
    failures: dict[int, str] = {}
    for k, m in enumerate(match.tolist()):
        turn = None if m == len(found.frames) else _turn(frames, k, found.frames, m)
        if turn is None:
            failures[k] = missing
            continue
        assert found.frames.forces is not None
        rows.append(k)
        forces.append(found.frames.forces[m] @ turn)
    if not rows:
        return None, [], failures
    chosen = found.frames[match[rows]]
    labelled = replace(
        frames[rows], energy=chosen.energy, forces=np.array(forces), virial=chosen.virial
    )
    return labelled, rows, failures


def _turn(frames: Frames, k: int, outputs: Frames, m: int) -> Array | None:
    """The rotation [3, 3] (rows times it) from an output to the frame; None where none fits."""
    if frames.cell is not None:
        assert outputs.cell is not None
        same_cell = np.abs(frames.cell[k] - outputs.cell[m]).max() < MATCH_ANG
        delta = frames.positions[k] - outputs.positions[m]
        shift = minimum_image((delta - delta[0])[None], frames.cell[k : k + 1])[0]
        return np.eye(3) if same_cell and np.abs(shift).max() < 3 * MATCH_ANG else None
    there = outputs.positions[m] - outputs.positions[m].mean(axis=0)
    here = frames.positions[k] - frames.positions[k].mean(axis=0)
    u, _, vt = np.linalg.svd(there.T @ here)
    # A proper rotation: a mirror image has the same distances and is another molecule.
    u[:, -1] *= np.sign(np.linalg.det(u @ vt))
    turn: Array = u @ vt
    return turn if np.abs(there @ turn - here).max() < 5 * MATCH_ANG else None
