"""Normal modes of a structure from its Hessian; rigid-body motion is projected out first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import Atoms, units

from metamd.frames import Array

#: One sqrt(eV/(A^2 u)) as a wave number, cm^-1 (angular frequency over 2 pi c).
PER_CM = units._hbar * 1e10 / np.sqrt(units._e * units._amu) / units.invcm


@dataclass(frozen=True)
class Modes:
    """Normal modes, softest first.

    Attributes:
        wavenumbers_cm1: imaginary ones as negative numbers, [n_modes].
        directions: unit displacement along each mode, [n_modes, n_atoms, 3].
        constants_ev_ang2: force constant along that direction, [n_modes]: displacing by R costs
            1/2 K R^2, and modes do not couple.
        n_rigid: translations and rotations that were projected out.
    """

    wavenumbers_cm1: Array
    directions: Array
    constants_ev_ang2: Array
    n_rigid: int


def displaced(positions: Array, step_ang: float) -> Array:
    """Positions with each coordinate moved by +step, then -step, [6 n_atoms, n_atoms, 3]."""
    n = positions.size
    moves = np.repeat(np.eye(n), 2, axis=0) * step_ang
    moves[1::2] *= -1
    return np.asarray(positions[None] + moves.reshape(2 * n, *positions.shape))


def hessian_of(forces: Array, step_ang: float) -> Array:
    """Second derivatives in eV/A^2, [3n, 3n] symmetrised, from the forces of ``displaced``."""
    flat = forces.reshape(len(forces), -1)
    out = -(flat[0::2] - flat[1::2]) / (2 * step_ang)
    return np.asarray(0.5 * (out + out.T))


def normal_modes(hessian: Array, atoms: Atoms) -> Modes:
    """Modes of a Hessian [3n, 3n] in eV/A^2 at the structure ``atoms``.

    Eigenvectors q of the mass-weighted Hessian become Cartesian directions M^-1/2 q, scaled to
    unit length; K = omega^2 mu, mu the mode's reduced mass.
    """
    root = np.repeat(np.sqrt(atoms.get_masses()), 3)
    free = internal_directions(atoms)
    values, vectors = np.linalg.eigh(free.T @ (hessian / np.outer(root, root)) @ free)
    cartesian = (free @ vectors).T / root
    length = np.linalg.norm(cartesian, axis=1)
    return Modes(
        wavenumbers_cm1=np.sign(values) * np.sqrt(np.abs(values)) * PER_CM,
        directions=(cartesian / length[:, None]).reshape(-1, len(atoms), 3),
        constants_ev_ang2=values / length**2,
        n_rigid=3 * len(atoms) - len(values),
    )


def internal_directions(atoms: Atoms) -> Array:
    """Orthonormal mass-weighted directions without rigid motion: 3n-6, linear 3n-5, cell 3n-3."""
    root = np.sqrt(atoms.get_masses())
    centred = atoms.positions - atoms.get_center_of_mass()
    rigid = [np.outer(root, axis).ravel() for axis in np.eye(3)]
    if not atoms.pbc.any():
        rigid += [(np.cross(axis, centred) * root[:, None]).ravel() for axis in np.eye(3)]
    left, singular, _ = np.linalg.svd(np.array(rigid).T, full_matrices=True)
    # A linear molecule has one rotation less, an atom none.
    rank = int((singular > 1e-3 * singular.max()).sum())
    return np.asarray(left[:, rank:])
