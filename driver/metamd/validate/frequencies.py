"""Harmonic frequencies of a molecule by any ASE calculator, and their errors (Herr 2018, fig. 8).

The Hessian is the central difference of forces.  Translations and rotations are projected out, so
the 3N-6 (linear: 3N-5) vibrations are what is left.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS

from metamd.errors import TaskError
from metamd.frames import Array
from metamd.harmonic import PER_CM, internal_directions
from metamd.validate.check import Check


def relaxed(
    atoms: Atoms, calculator: Any, fmax_ev_per_ang: float = 1e-3, steps: int = 500
) -> Atoms:
    """A copy at the calculator's nearest minimum (largest force below ``fmax_ev_per_ang``).

    Raises:
        TaskError: not reached within so many steps.
    """
    image = atoms.copy()
    image.calc = calculator
    optimiser = BFGS(image, logfile=None)
    if not optimiser.run(fmax=fmax_ev_per_ang, steps=steps):
        worst = float(np.linalg.norm(image.get_forces(), axis=1).max())
        raise TaskError(
            f"The structure did not relax within {steps} steps (largest force {worst:.2g} eV/A)."
        )
    return image


def hessian(atoms: Atoms, calculator: Any, displacement_ang: float = 0.01) -> Array:
    """Second derivatives of the energy, eV/A^2, [3 n_atoms, 3 n_atoms], symmetrised."""
    image = atoms.copy()
    image.calc = calculator
    n = 3 * len(image)
    out = np.empty((n, n))
    start = image.positions.copy()
    for k in range(n):
        sides = []
        for sign in (1.0, -1.0):
            moved = start.copy().reshape(-1)
            moved[k] += sign * displacement_ang
            image.positions = moved.reshape(-1, 3)
            sides.append(image.get_forces().reshape(-1))
        out[k] = -(sides[0] - sides[1]) / (2.0 * displacement_ang)
    return np.asarray(0.5 * (out + out.T))


def harmonic_frequencies(atoms: Atoms, calculator: Any, displacement_ang: float = 0.01) -> Array:
    """Wave numbers of an isolated molecule's vibrations in cm^-1, ascending; imaginary as negative.

    Args:
        atoms: at (or near) a minimum of this calculator.
        calculator: any ASE calculator with forces.
        displacement_ang: finite difference step.
    """
    mass = np.repeat(atoms.get_masses(), 3)
    weighted = hessian(atoms, calculator, displacement_ang) / np.sqrt(np.outer(mass, mass))
    free = internal_directions(atoms)
    values = np.linalg.eigvalsh(free.T @ weighted @ free)
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)) * PER_CM)


def compare_frequencies(
    calculators: Mapping[str, Any], atoms: Atoms, displacement_ang: float = 0.01
) -> Check:
    """Frequencies of several calculators, each at its own minimum, against the first one's.

    Modes are matched by order, as in Herr's figure 8.

    Returns:
        A Check with mean absolute and largest deviation in cm^-1; a calculator that finds no
        minimum is left out and noted.
    """
    found: dict[str, Array] = {}
    notes = []
    for name, calculator in calculators.items():
        try:
            image = relaxed(atoms, calculator)
            found[name] = harmonic_frequencies(image, calculator, displacement_ang)
        except TaskError as error:
            notes.append(f"{name}: {error}")
    for name, values in found.items():
        if (imaginary := int((values < 0).sum())) > 0:
            notes.append(f"{name}: {imaginary} imaginary, where it relaxed to is no minimum")
    numbers: dict[str, float | None] = {}
    curves: dict[str, tuple[Array, Array]] = {}
    reference = next(iter(calculators))
    if reference in found:
        first = found[reference]
        curves[f"{reference} (exact)"] = first, first
        for name, values in found.items():
            if name == reference:
                continue
            if len(values) != len(first):
                notes.append(f"{name}: has {len(values)} vibrations, not {len(first)}")
                continue
            curves[name] = first, values
            numbers[f"{name}: mean absolute error / cm⁻¹"] = float(np.abs(values - first).mean())
            numbers[f"{name}: largest error / cm⁻¹"] = float(np.abs(values - first).max())
    return Check(
        key="frequencies",
        title="Harmonic frequencies",
        caption="Each potential at its own minimum, modes matched by order; negative is imaginary.",
        x_label=f"{reference} / cm⁻¹",
        y_label="predicted / cm⁻¹",
        curves=curves,
        numbers=numbers,
        notes=notes,
        style="points",
    )
