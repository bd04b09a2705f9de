"""Everything that can be found wrong before the first task runs."""

from __future__ import annotations

from ase import Atoms
from ase.io import read

from metamd.blocks import check_execution
from metamd.config import RunConfig
from metamd.errors import InputError, ReferenceFailed
from metamd.frames import check_distances
from metamd.plugins import plumed_kernel
from metamd.reference import make_calculator, single_point


def load_structure(config: RunConfig) -> Atoms:
    """The starting structure.

    Raises:
        InputError: not readable, empty, or with atoms on top of each other.
    """
    path = config.system.structure
    try:
        atoms = read(path)
    except Exception as error:
        raise InputError(
            f"{path}: system.structure cannot be read as a structure ({error})."
        ) from error
    if len(atoms) == 0:
        raise InputError(f"{path}: system.structure holds no atoms.")
    check_distances(atoms.positions, atoms.get_chemical_symbols(), str(path))
    periodic = config.system.periodic
    if periodic and abs(atoms.get_volume() if atoms.cell.rank == 3 else 0.0) < 1e-6:
        raise InputError(f"{path}: system.periodic = true, but the file has no cell.")
    atoms.pbc = bool(atoms.pbc.any()) if periodic is None else periodic
    if not atoms.pbc.any():
        atoms.cell = None
    return atoms


def check_run(config: RunConfig) -> Atoms:
    """Everything that can be found wrong before the first task runs."""
    atoms = load_structure(config)
    check_execution(config.execution)
    reference = config.reference
    if reference.kind == "ase":
        assert reference.calculator is not None
        make_calculator(
            reference.calculator,
            reference.arguments,
            config.system.charge,
            config.system.multiplicity,
        )
    for k, arm in enumerate(config.sample):
        too_far = [a for a in (arm.bias.atoms if arm.bias else ()) if a > len(atoms)]
        if too_far:
            raise InputError(
                f"sample[{k + 1}].bias.atoms: atom {too_far[0]} is not in the structure of "
                f"{len(atoms)} atoms."
            )
        if (arm.bias or arm.plumed) and plumed_kernel() is None:
            raise InputError(
                f"sample[{k + 1}].method: {arm.name!r} needs PLUMED, and no kernel was found; set "
                "PLUMED_KERNEL or `pip install --no-deps hillclimber==0.1.8`."
            )
    return atoms


def check_reference(config: RunConfig, atoms: Atoms) -> None:
    """One single point of the starting structure, before a new run makes anything.

    Many calculators look at their arguments only when they compute.

    Raises:
        InputError: the reference cannot compute the structure.
    """
    reference = config.reference
    if reference.kind != "ase" or reference.calculator is None:
        return
    calculator = make_calculator(
        reference.calculator,
        reference.arguments,
        config.system.charge,
        config.system.multiplicity,
    )
    try:
        single_point(calculator, atoms)
    except ReferenceFailed as error:
        raise InputError(
            f"reference.arguments: {reference.calculator} cannot compute "
            f"{config.system.structure} ({error})."
        ) from error
