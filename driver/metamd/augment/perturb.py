"""Labelled frames near known ones, by springs (papers: physics-based augmentation, 2.2 and 4).

With r and r' the pair distances of a frame and of its perturbed copy, dR the displacements, and
(mu, k) the spring of the nearest component at r, summed over the pairs that count:

    paper    E' = E + sum 1/2 k (r' - r)^2                the spring is relaxed in the frame
    signed   E' = E + sum 1/2 k [(r' - mu)^2 - (r - mu)^2]    it is relaxed at mu
    taylor   E' = E - F.dR + sum 1/2 k (r' - r)^2         the frame's own forces come first

The force on an atom changes by what the springs at r' pull more than at r.  Only with ``taylor``
are the new forces minus the gradient of the new energy: ``paper`` leaves the work of the frame's
own forces out of the energy, and ``signed`` puts the springs' work about mu in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from numpy.typing import NDArray

from metamd.augment.springs import Springs
from metamd.config import Augment
from metamd.descriptor import pair_name
from metamd.errors import DataError
from metamd.frames import MIN_DISTANCE_ANG, Array, Frames, minimum_image

Scheme = Literal["paper", "signed", "taylor"]
Pairs = Literal["bonds", "bonds+angles", "all"]

#: Atoms closer than this times the sum of their covalent radii are bonded.
BOND_FACTOR = 1.25
_TRIES = 100
#: What is true of a frame that was sampled and labelled, but not of its perturbed copy.
_OF_SAMPLED_FRAMES = ("label_source", "temperature_k", "kinetic_temperature_k", "bias_ev")


def spring_changes(
    frames: Frames, moved: Array, springs: Springs, scheme: Scheme, columns: NDArray[np.intp]
) -> tuple[Array, Array]:
    """Energies and forces of perturbed frames.

    Args:
        frames: labelled, n_frames.
        moved: perturbed positions, A, [n_frames, n_atoms, 3].
        springs: of every pair of elements in ``columns``.
        scheme: see the head of this module.
        columns: pairs that count, columns of ``Frames.distances_ang``.

    Returns:
        Energies, eV, [n_frames], and forces, eV/A, [n_frames, n_atoms, 3].
    """
    if frames.energy is None or frames.forces is None:
        raise DataError(f"{frames.source}: frame 0 has no energy and forces to start from.")
    i, j = (side[columns] for side in frames.pairs)
    r = frames.distances_ang[:, columns]
    delta = moved[:, j] - moved[:, i]
    if frames.cell is not None:
        delta = minimum_image(delta, frames.cell)
    new = np.sqrt(np.einsum("fpx,fpx->fp", delta, delta))
    mean, k = np.empty_like(r), np.empty_like(r)
    names = np.array(
        [pair_name(frames.symbols[a], frames.symbols[b]) for a, b in zip(i, j, strict=True)]
    )
    for name in np.unique(names):
        same = names == name
        mean[:, same], k[:, same] = springs.nearest(str(name), r[:, same])
    direction = delta / new[..., None]
    if scheme == "signed":
        energy = 0.5 * k * ((new - mean) ** 2 - (r - mean) ** 2)
        # What the spring pulled with before is in the frame's forces already.
        old = frames.positions[:, j] - frames.positions[:, i]
        if frames.cell is not None:
            old = minimum_image(old, frames.cell)
        pull = (k * (new - mean))[..., None] * direction
        pull -= (k * (r - mean))[..., None] * (old / r[..., None])
    else:
        energy = 0.5 * k * (new - r) ** 2
        pull = (k * (new - r))[..., None] * direction
    forces = frames.forces.copy()
    for pair, (a, b) in enumerate(zip(i, j, strict=True)):
        forces[:, a] += pull[:, pair]
        forces[:, b] -= pull[:, pair]
    total = frames.energy + energy.sum(axis=1)
    if scheme == "taylor":
        total = total - np.einsum("fax,fax->f", frames.forces, moved - frames.positions)
    return total, forces


def counted_pairs(frames: Frames, pairs: Pairs) -> NDArray[np.intp]:
    """Pairs whose springs are summed, columns of ``Frames.distances_ang``.

    Args:
        frames: bonds are those of frame 0, by covalent radii.
        pairs: ``bonds``; ``bonds+angles``: also atoms with a common neighbour; ``all``.  In
            ethanol 8, 21 and 36 springs for 21 modes.

    Raises:
        DataError: frame 0 has no bonds.
    """
    i, j = frames.pairs
    if pairs == "all":
        return np.arange(len(i))
    radii = np.array([covalent_radii[atomic_numbers[s]] for s in frames.symbols])
    bonded = frames[[0]].distances_ang[0] < BOND_FACTOR * (radii[i] + radii[j])
    if not bonded.any():
        raise DataError(f'{frames.source}: frame 0 has no bonds; use pairs = "all".')
    if pairs == "bonds":
        return np.flatnonzero(bonded)
    graph = np.zeros((frames.n_atoms, frames.n_atoms), dtype=int)
    graph[i[bonded], j[bonded]] = graph[j[bonded], i[bonded]] = 1
    return np.flatnonzero(bonded | ((graph @ graph)[i, j] > 0))


def displaced(
    frames: Frames, n_atoms: int, max_displacement_ang: float, rng: np.random.Generator
) -> Array:
    """Positions with ``n_atoms`` random atoms of each frame moved.

    Directions are isotropic and lengths uniform in (0, max_displacement_ang], each atom its own
    (paper, section 2.2).  A draw that puts atoms on each other is drawn again.

    Returns:
        A, [n_frames, n_atoms, 3].

    Raises:
        DataError: more atoms than there are, or no draw keeps the atoms of a frame apart.
    """
    if n_atoms > frames.n_atoms:
        raise DataError(
            f"{frames.source}: {n_atoms} atoms cannot be moved, frames have {frames.n_atoms}."
        )
    out = np.empty_like(frames.positions)
    todo = np.arange(len(frames))
    for _ in range(_TRIES):
        step = np.zeros((len(todo), frames.n_atoms, 3))
        which = rng.permuted(np.tile(np.arange(frames.n_atoms), (len(todo), 1)), axis=1)
        which = which[:, :n_atoms]
        direction = rng.normal(size=(len(todo), n_atoms, 3))
        direction /= np.linalg.norm(direction, axis=2, keepdims=True)
        length = max_displacement_ang * (1.0 - rng.random((len(todo), n_atoms, 1)))
        step[np.arange(len(todo))[:, None], which] = length * direction
        out[todo] = frames.positions[todo] + step
        trial = Frames(
            frames.symbols, out[todo], None if frames.cell is None else frames.cell[todo]
        )
        todo = todo[(trial.distances_ang < MIN_DISTANCE_ANG).any(axis=1)]
        if not len(todo):
            return out
    raise DataError(
        f"{frames.source}: frame {todo[0]}: atoms come closer than {MIN_DISTANCE_ANG} A in every "
        f"draw; {max_displacement_ang} A is too far."
    )


def augment(frames: Frames, springs: Springs, config: Augment) -> Frames:
    """Perturbed copies of random frames, labelled by springs.

    Args:
        frames: labelled.
        springs: of ``fit_springs`` (or of a file), not necessarily of these frames.
        config: how many frames and atoms, how far, which scheme and pairs.

    Returns:
        ``config.frames`` new frames without virial; ``info`` has ``method`` ("augment-" and the
        scheme), ``origin`` (the frame perturbed), ``spring_ev`` (energy change), and the origin's
        arm, walker and step, but no ``label_source``: these labels are no reference's.

    Raises:
        DataError: no labels, or fewer frames than asked for.
    """
    if frames.energy is None or frames.forces is None:
        raise DataError(f"{frames.source}: frame 0 has no energy and forces to start from.")
    if config.frames > len(frames):
        raise DataError(
            f"{frames.source}: {config.frames} frames were asked for, there are {len(frames)}."
        )
    rng = np.random.default_rng(config.seed)
    origin = np.sort(rng.choice(len(frames), config.frames, replace=False))
    base = frames[origin]
    moved = displaced(base, config.atoms, config.max_displacement_ang, rng)
    columns = counted_pairs(frames, config.pairs)
    energy, forces = spring_changes(base, moved, springs, config.scheme, columns)
    assert base.energy is not None
    new = Frames(
        symbols=frames.symbols,
        positions=moved,
        cell=base.cell,
        energy=energy,
        forces=forces,
        info={k: v for k, v in base.info.items() if k not in _OF_SAMPLED_FRAMES},
        source=f"{frames.source} (augmented)",
    )
    return new.with_info(
        method=f"augment-{config.scheme}", origin=origin, spring_ev=energy - base.energy
    )


def describe_pairs(frames: Frames, pairs: Pairs, columns: Sequence[int]) -> str:
    """One sentence on which pairs count."""
    n = frames.n_atoms
    modes = max(3 * n - (6 if frames.cell is None else 3), 1)
    return (
        f"{len(columns)} of {n * (n - 1) // 2} pairs count ({pairs}), for {modes} internal modes."
    )
