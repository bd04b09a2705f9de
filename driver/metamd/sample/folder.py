"""A walker's folder: deck, data file, PLUMED file and what they need."""

from __future__ import annotations

import shutil
from pathlib import Path

from ase import Atoms
from ase.io import write

from metamd import deck, plumed_input
from metamd.config import Reference, Sample
from metamd.deck import Forces, model_commands, model_name
from metamd.errors import InputError
from metamd.forcefields import reference_forces, with_rigid_water
from metamd.plugins import plumed_actions_library
from metamd.sample.own_deck import own_deck
from metamd.topology import check_water, topology_of


def write_walker(
    folder: Path,
    arm: Sample,
    reference: Reference,
    atoms: Atoms,
    walker: int,
    charge: int = 0,
    multiplicity: int = 1,
) -> None:
    """Write a self-contained folder: deck, data file, PLUMED file and what they need.

    A ``wte`` arm needs its ``sigma_ev`` by now.
    """
    forces = engine_forces(arm, reference, atoms)
    copy_files(folder, arm, reference)
    species = sorted(set(atoms.get_chemical_symbols()))
    deck.write_data(atoms, species, folder / deck.DATA, forces.atom_style)
    write(folder / "start.xyz", atoms, format="extxyz")
    if arm.deck is not None:
        text = own_deck(arm, walker)
    else:
        text = deck.sampling_deck(arm, atoms, forces, arm.seed + 1000 * walker)
    (folder / deck.DECK).write_text(text)
    if arm.biased:
        _write_plumed(folder, arm, atoms, walker)
    if has_callback(arm, reference):
        deck.write_callback(folder, arm, reference, charge, multiplicity)


def _write_plumed(folder: Path, arm: Sample, atoms: Atoms, walker: int) -> None:
    path, plugin = folder / deck.PLUMED_FILE, plumed_actions_library()
    if arm.plumed is not None:
        own = arm.plumed.read_text()
        path.write_text(own if plugin is None else plumed_input.with_plugin(own, plugin))
    elif arm.method == "wte":
        assert arm.wte is not None
        assert arm.wte.sigma_ev is not None
        walls = plumed_input.walls(arm.wall_ang, len(atoms))
        path.write_text(
            plumed_input.wte_file(arm.wte, arm.wte.sigma_ev, arm.temperature_k, arm.stride, walls)
        )
    elif arm.wall_ang is not None:
        walls = plumed_input.walls(arm.wall_ang, len(atoms))
        path.write_text(f"{plumed_input.UNITS}\n{walls}")
    elif arm.bias is not None:
        if plugin is None:
            raise InputError(
                "The PLUMED actions of metamd are not built in this installation; "
                "`metamd doctor` says what is missing."
            )
        path.write_text(
            plumed_input.plumed_file(arm.bias, atoms, arm.temperature_k, plugin, arm.stride)
        )
        if arm.bias.hills:
            hills = arm.bias.hills[walker % len(arm.bias.hills)]
            plumed_input.carry_hills(hills, folder / plumed_input.HILLS)
        if arm.bias.cv == "dist":
            chosen = [a - 1 for a in arm.bias.atoms] or list(range(len(atoms)))
            write(folder / plumed_input.START, atoms[chosen], format="xyz")


def copy_files(folder: Path, arm: Sample, reference: Reference) -> None:
    """Copy the model and the files that the lines of the deck need."""
    if arm.engine == "model" and arm.model is not None:
        shutil.copy2(arm.model, folder / model_name(arm.model))
    for path in (*arm.files, *(reference.files if arm.engine != "model" else ())):
        shutil.copy2(path, folder / path.name)


def has_callback(arm: Sample, reference: Reference) -> bool:
    """Whether an ASE calculator drives LAMMPS, through the walker's program."""
    return arm.engine == "reference" and reference.kind == "ase"


def brings_labels(arm: Sample, reference: Reference) -> bool:
    """Whether an arm's frames come with the reference's energies and forces, without bias."""
    own_lines = bool(arm.commands or arm.deck)
    by_lammps = arm.engine != "model" and reference.kind == "lammps" and not own_lines
    return not arm.static and (has_callback(arm, reference) or by_lammps)


def engine_forces(arm: Sample, reference: Reference, atoms: Atoms) -> Forces:
    """What moves the atoms of an arm, as LAMMPS lines; none for a callback.

    Raises:
        DataError: ``rigid_water`` for a structure that is not water alone.
    """
    forces = _unconstrained(arm, reference, atoms)
    if not arm.rigid_water:
        return forces
    check_water(atoms, topology_of(atoms), f"[[sample]] {arm.name!r}, rigid_water")
    return with_rigid_water(forces)


def _unconstrained(arm: Sample, reference: Reference, atoms: Atoms) -> Forces:
    if has_callback(arm, reference):
        return Forces()
    if arm.engine == "model":
        assert arm.model is not None
        species = sorted(set(atoms.get_chemical_symbols()))
        return Forces(model_commands(model_name(arm.model), species))
    if arm.commands:
        return Forces(arm.commands, reference.atom_style, reference.units)
    if reference.kind == "lammps":
        return reference_forces(reference, atoms)
    return Forces((), reference.atom_style, reference.units)
