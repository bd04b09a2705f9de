"""The reference method: one frame in, energy and forces out, or a reason why not."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from numpy.typing import NDArray

from metamd import identity
from metamd.config import Reference, System
from metamd.disk import no_room, why_disk_full
from metamd.errors import DiskFull, InputError, ReferenceFailed
from metamd.units import virial_from_ase_stress


@dataclass(frozen=True)
class SinglePoint:
    """What the reference says of one frame.

    Attributes:
        energy_ev: potential energy.
        forces: eV/A, [n_atoms, 3].
        virial: eV, [3, 3]; None for an isolated molecule or a calculator without stress.
    """

    energy_ev: float
    forces: NDArray[np.float64]
    virial: NDArray[np.float64] | None = None


def make_calculator(
    calculator: str, arguments: dict[str, Any], charge: int = 0, multiplicity: int = 1
) -> Calculator:
    """An ASE calculator from ``module:Class``; charge and multiplicity where it takes them.

    Raises:
        InputError: no such module or class, arguments it refuses, or a charged or open-shell
            system for a calculator that takes neither.
    """
    module_name, _, class_name = calculator.partition(":")
    if not module_name or not class_name:
        raise InputError(
            f'reference.calculator: {calculator!r} is not of the form "module:Class", '
            '"tblite.ase:TBLite" say.'
        )
    try:
        cls = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise InputError(f"reference.calculator: {calculator!r} is unknown ({error}).") from error
    known = getattr(cls, "default_parameters", {}) or {}
    keywords = dict(arguments)
    for key, value, plain in (("charge", charge, 0), ("multiplicity", multiplicity, 1)):
        if key in known:
            keywords.setdefault(key, value)
        elif value != plain and key not in keywords:
            raise InputError(
                f"system.{key} = {value}: {calculator} takes no {key!r}; name its own keyword "
                "in reference.arguments."
            )
    if "verbosity" in known:
        keywords.setdefault("verbosity", 0)
    try:
        return cls(**keywords)
    except Exception as error:
        raise InputError(f"reference.arguments: {calculator} refuses them ({error}).") from error


def single_point(calculator: Calculator, atoms: Atoms) -> SinglePoint:
    """Energy, forces and (in a cell) virial of ``atoms``, which are not changed.

    Raises:
        ReferenceFailed: the calculator gave up (no SCF convergence, say) or returned no numbers.
        DiskFull: it found no room for its files; the frame is as good as any.
    """
    atoms = atoms.copy()
    atoms.calc = calculator
    try:
        energy = float(atoms.get_potential_energy())
        forces = np.array(atoms.get_forces(), dtype=np.float64)
        virial = None
        if atoms.pbc.any() and "stress" in calculator.implemented_properties:
            virial = virial_from_ase_stress(atoms.get_stress(), atoms.get_volume())
    except Exception as error:
        # Calculators raise what they like (tblite: CalculationFailed or RuntimeError); whatever
        # it is, this frame has no label, and the reason travels on.
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[-1] if lines else 'no reason given'}"
        full = why_disk_full(error) or (reason if no_room(Path.cwd()) else None)
        if full is not None:
            raise DiskFull(f"the reference found no room on the disk ({full})") from error
        raise ReferenceFailed(reason) from error
    if not (np.isfinite(energy) and np.isfinite(forces).all()):
        raise ReferenceFailed("the reference returned an energy or force that is not a number")
    return SinglePoint(energy, forces, virial)


def fingerprint(reference: Reference, system: System) -> str:
    """Names one reference method: labels may be taken over only between equal fingerprints."""
    return identity.fingerprint(
        {
            "reference": identity.table_identity(reference, exclude=set()),
            "charge": system.charge,
            "multiplicity": system.multiplicity,
        }
    )
