"""Everything that can be found wrong before the first task runs."""

from __future__ import annotations

import tempfile
from contextlib import chdir
from typing import Any

from ase import Atoms

from metamd.blocks import check_execution
from metamd.config import CompareConfig, RunConfig, Sample
from metamd.config.compare import NEED_MODELS
from metamd.errors import InputError, ReferenceFailed
from metamd.forcefields import reference_forces
from metamd.loop.rules import reference_steps, test_labels
from metamd.plugins import plumed_kernel
from metamd.reference import make_calculator, single_point
from metamd.sample.folder import has_callback
from metamd.sample.own_deck import check_own_deck
from metamd.structure import build_structure, walker_starts


def load_structure(config: RunConfig) -> Atoms:
    """The starting structure.

    Raises:
        InputError: as ``build_structure``.
    """
    return build_structure(config.system)


def check_run(config: RunConfig) -> Atoms:
    """Everything that can be found wrong before the first task runs."""
    atoms = load_structure(config)
    check_execution(config.execution)
    reference = config.reference
    if reference.kind == "ase":
        assert reference.calculator is not None
        calculator = make_calculator(
            reference.calculator,
            reference.arguments,
            config.system.charge,
            config.system.multiplicity,
        )
        _check_stress(config, calculator)
    elif reference.kind == "lammps":
        reference_forces(reference, atoms)
    for k, arm in enumerate(config.sample):
        starts = walker_starts(arm.starts, atoms, arm.walkers, f"sample[{k + 1}].starts")
        check_own_deck(
            arm,
            f"sample[{k + 1}].deck",
            callback=has_callback(arm, reference),
            different_starts=len({start.positions.tobytes() for start in starts}),
            repeats=_repeats(config, arm),
        )
        too_far = [a for a in (arm.bias.atoms if arm.bias else ()) if a > len(atoms)]
        if too_far:
            raise InputError(
                f"sample[{k + 1}].bias.atoms: atom {too_far[0]} is not in the structure of "
                f"{len(atoms)} atoms."
            )
        if arm.biased and plumed_kernel() is None:
            raise InputError(
                f"sample[{k + 1}].method: {arm.name!r} needs PLUMED, and no kernel was found; set "
                "PLUMED_KERNEL or `pip install --no-deps hillclimber==0.1.8`."
            )
    _check_budget(config)
    return atoms


def _check_stress(config: RunConfig, calculator: Any) -> None:
    """Without its stress a cell swells as if the atoms did not attract each other."""
    for k, arm in enumerate(config.sample):
        npt = arm.ensemble == "npt" and arm.engine == "reference" and not arm.static
        if npt and "stress" not in getattr(calculator, "implemented_properties", ()):
            raise InputError(
                f'sample[{k + 1}].ensemble: "npt" needs the stress, which '
                f"{config.reference.calculator} does not give."
            )


def check_selection(config: RunConfig) -> None:
    """Refuse a selection by models where there are none, before anything is sampled.

    Raises:
        InputError: names the key.
    """
    select = config.select
    if select.predictions:
        raise InputError(
            "select.predictions: stored predictions belong to stored frames; the frames here are "
            "sampled anew, give select.models."
        )
    if select.method in NEED_MODELS and not select.models:
        raise InputError(f'select.method: "{select.method}" needs select.models.')


def _check_budget(config: RunConfig) -> None:
    """Refuse a budget that the walkers of iteration 0 and the test arms alone spend."""
    budget, loop = config.loop.max_reference_calls, config.loop
    begins_with_reference = not (loop.data or loop.models)
    arms = [arm for arm in config.sample if begins_with_reference or arm.role == "test"]
    steps = reference_steps(arms)
    if budget is not None and budget < steps:
        raise InputError(
            f"loop.max_reference_calls: {budget} is less than the {steps} steps that walkers of "
            "iteration 0 make with the reference."
        )
    labels = test_labels(config)
    if budget is not None and budget < steps + labels:
        raise InputError(
            f"loop.max_reference_calls: {budget} is less than the {steps + labels} that is spent "
            f"before any training frame is labelled: {steps} steps of walkers of iteration 0, "
            f"{labels} labels of test arms."
        )


def _repeats(config: RunConfig, arm: Sample) -> int:
    """How often an arm with its own deck is sampled from the same state."""
    if arm.role == "test":
        return 1
    if isinstance(config, CompareConfig):
        return len(config.compare.seeds)
    carried = arm.bias is not None and arm.bias.cv == "matrix" and config.loop.hills != "fresh"
    return 1 if carried else config.loop.iterations - bool(config.loop.data)


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
        # Calculators of programs write into the current folder, here a person's own.
        with tempfile.TemporaryDirectory() as scratch, chdir(scratch):
            single_point(calculator, atoms)
    except ReferenceFailed as error:
        raise InputError(
            f"reference.arguments: {reference.calculator} cannot compute "
            f"{config.system.origin} ({error})."
        ) from error
