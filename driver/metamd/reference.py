"""The reference method: one frame in, energy and forces out, or a reason why not."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
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
from metamd.frames import Frames
from metamd.units import virial_from_ase_stress

#: What ASE's calculators call charge and multiplicity, beside those that list them as parameters.
_NAMES = {
    "Aims": {"charge": "charge"},
    "GPAW": {"charge": "charge"},
    "Gaussian": {"charge": "charge", "multiplicity": "mult"},
    "NWChem": {"charge": "charge"},
    "ORCA": {"charge": "charge", "multiplicity": "mult"},
    "Psi4": {"charge": "charge", "multiplicity": "multiplicity"},
    "QChem": {"multiplicity": "multiplicity"},
    "Turbomole": {"charge": "total charge", "multiplicity": "multiplicity"},
    "Vasp": {"charge": "charge"},
}
#: Keywords that state the same, and how much less they are: nupdown = multiplicity - 1.
_SAME = {
    "charge": {"charge": 0, "total charge": 0, "tot_charge": 0, "net_charge": 0, "netcharge": 0},
    "multiplicity": {"multiplicity": 0, "mult": 0, "nupdown": 1, "tot_magnetization": 1},
}
#: Keywords by which somebody has seen to it in a way that cannot be compared.
_OWN = {
    "charge": "charge|nelec",
    "multiplicity": "spin|magmom|magnetization|unpaired|uhf",
}


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
    """An ASE calculator from ``module:Class``; charge and multiplicity by its names for them.

    Raises:
        InputError: no such module or class, arguments it refuses, or a charged or open-shell
            system for a calculator that takes neither, or arguments that say otherwise.
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
    keywords = {**arguments, **_state_keywords(calculator, cls, arguments, charge, multiplicity)}
    if "verbosity" in known:
        keywords.setdefault("verbosity", 0)
    try:
        return cls(**keywords)
    except Exception as error:
        raise InputError(f"reference.arguments: {calculator} refuses them ({error}).") from error


def _state_keywords(
    calculator: str, cls: type, arguments: dict[str, Any], charge: int, multiplicity: int
) -> dict[str, int]:
    """Charge and multiplicity under the calculator's names, where the arguments leave them out.

    Raises:
        InputError: the arguments say something else, or the calculator has no name for one.
    """
    known = getattr(cls, "default_parameters", {}) or {}
    names = next((_NAMES[c.__name__] for c in cls.__mro__ if c.__name__ in _NAMES), {})
    given = dict(_flat(arguments))
    out: dict[str, int] = {}
    for key, value, plain in (("charge", charge, 0), ("multiplicity", multiplicity, 1)):
        exact = [word for word in _SAME[key] if word in given]
        for word in exact:
            expected = value - _SAME[key][word]
            # Negative numbers of unpaired electrons mean: whatever comes out.
            free = _SAME[key][word] and isinstance(given[word], int | float) and given[word] < 0
            if given[word] is not None and given[word] != expected and not free:
                raise InputError(
                    f"reference.arguments: {word} = {given[word]!r} means another {key} than "
                    f"system.{key} = {value}; let the two agree."
                )
        own = bool(exact) or any(re.search(_OWN[key], word) for word in given)
        if key in known and not exact:
            out[key] = value
        elif value == plain or exact:
            continue
        elif key in names and not (own and key == "charge"):
            out[names[key]] = value
        elif not own:
            raise InputError(
                f"system.{key} = {value}: {calculator} takes no {key!r}; name its own keyword "
                "in reference.arguments."
            )
    return out


def _flat(arguments: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Keywords at any depth, in lower case."""
    for key, value in arguments.items():
        yield key.lower(), value
        if isinstance(value, dict):
            yield from _flat(value)


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


def with_reference_energy(frames: Frames, labelled: Frames | None = None) -> Frames | None:
    """Frames of an arm with energies of the reference; None where there are none.

    Those it sampled, else those it labelled, which then stand for all.  A model, other LAMMPS
    lines or a deck of one's own leave ``label_source`` empty: their energies have another zero.
    Frames of a file that says nothing of the source have the energies they were given.
    """
    for given in (frames, labelled):
        if given is None or given.energy is None or not len(given):
            continue
        if np.all(np.asarray(given.info.get("label_source", "given")) != ""):
            return given
    return None
