"""The starting structure: a file, a SMILES (RDKit), or a box packed by packmol."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.io import read, write

from metamd.bonds import BondGraph
from metamd.config import Molecule, Packmol, System
from metamd.errors import InputError
from metamd.execution import program_environment
from metamd.frames import MIN_VOLUME_ANG3, cell_of, check_distances

#: packmol tries for hours where there is no room; it is stopped after this.
PACK_SECONDS = 300.0
#: g/cm3 of one u/A^3.
_DENSITY = 1.66053907


def build_structure(system: System) -> Atoms:
    """The starting structure of a run file's [system], not touched by anything random but seeds.

    Raises:
        InputError: not readable or empty, atoms on top of each other, a SMILES that cannot be
            embedded, molecules that do not fit into the box, a missing optional package.
    """
    if system.structure is not None:
        atoms, where = _from_file(system.structure, "system.structure"), str(system.structure)
    elif system.smiles is not None:
        atoms, where = from_smiles(system.smiles, system.seed, "system.smiles"), "system.smiles"
        charge = int(atoms.info["formal_charge"])
        if charge != system.charge:
            raise InputError(
                f"system.smiles: {system.smiles!r} has the charge {charge:+d}, but "
                f"system.charge = {system.charge}."
            )
    else:
        assert system.packmol is not None
        atoms, where = pack_box(system.packmol, system.seed), "system.packmol"
    atoms.info, atoms.calc = {}, None
    atoms.set_constraint()
    check_distances(atoms.positions, atoms.get_chemical_symbols(), where)
    periodic = system.periodic
    if periodic is None and atoms.pbc.any() and not atoms.pbc.all():
        raise InputError(
            f"{where}: is periodic along some of the axes only; say system.periodic = true (along "
            "all of them, with an empty layer) or false."
        )
    atoms.pbc = bool(atoms.pbc.any()) if periodic is None else periodic
    if atoms.pbc.any() and (atoms.cell.rank < 3 or atoms.get_volume() < MIN_VOLUME_ANG3):
        asked = "system.periodic = true" if periodic else "it is periodic"
        raise InputError(f"{where}: {asked}, but there is no cell.")
    if not atoms.pbc.any():
        atoms.cell = None
    return atoms


def walker_starts(starts: Path | None, atoms: Atoms, walkers: int, key: str) -> list[Atoms]:
    """What each walker of an arm starts from.

    Args:
        starts: file of starting structures; None for ``atoms`` itself.
        atoms: the system's structure; the others have its atoms, in its order, and its bonds.
        walkers: how many; the structures are taken in turn.
        key: where the file is named, for messages.

    Raises:
        InputError: not readable, other atoms or bonds, more structures than walkers.
    """
    if starts is None:
        return [atoms] * walkers
    try:
        images = read(starts, ":")
    except Exception as error:
        raise InputError(f"{starts}: {key} cannot be read as structures ({error}).") from error
    if len(images) > walkers:
        raise InputError(
            f"{starts}: {key} holds {len(images)} structures for {walkers} "
            f"walker{'s' if walkers > 1 else ''}; set walkers = {len(images)} or more."
        )
    symbols, periodic = atoms.get_chemical_symbols(), bool(atoms.pbc.any())
    graph = BondGraph.of_atoms(atoms)
    found = []
    for number, image in enumerate(images, start=1):
        where = f"{starts}: {key}, structure {number}"
        if image.get_chemical_symbols() != symbols:
            raise InputError(
                f"{where}: its atoms are not those of the system's structure, in the same order."
            )
        cell = atoms.cell if image.cell.rank < 3 else image.cell
        start = Atoms(symbols, image.positions, cell=cell if periodic else None, pbc=atoms.pbc)
        check_distances(start.positions, symbols, where)
        changes = graph.changes(start.positions, cell_of(start))
        if changes:
            raise InputError(f"{where}: is another molecule than the system's: {changes[0]}.")
        found.append(start)
    return [found[k % len(found)] for k in range(walkers)]


def _from_file(path: Path, key: str) -> Atoms:
    try:
        atoms = read(path)
    except Exception as error:
        raise InputError(f"{path}: {key} cannot be read as a structure ({error}).") from error
    if len(atoms) == 0:
        raise InputError(f"{path}: {key} holds no atoms.")
    return Atoms(
        atoms.get_chemical_symbols(),
        atoms.positions,
        cell=atoms.cell,
        pbc=atoms.pbc,
    )


def from_smiles(smiles: str, seed: int, key: str) -> Atoms:
    """A molecule with hydrogens: ETKDG embedding with a seed, then MMFF94 (or UFF).

    Raises:
        InputError: RDKit is not installed, or makes nothing of the SMILES.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import rdDistGeom, rdForceFieldHelpers
    except ImportError:
        raise InputError(
            f'{key} needs RDKit, which is not installed: pip install "metamd[smiles]".'
        ) from None
    with rdBase.BlockLogs():
        molecule = Chem.MolFromSmiles(smiles)
    if molecule is None or molecule.GetNumAtoms() == 0:
        raise InputError(f"{key}: {smiles!r} is not a SMILES that RDKit understands.")
    molecule = Chem.AddHs(molecule)
    if rdDistGeom.EmbedMolecule(molecule, randomSeed=seed) != 0:
        raise InputError(f"{key}: RDKit finds no three-dimensional structure for {smiles!r}.")
    if rdForceFieldHelpers.MMFFHasAllMoleculeParams(molecule):
        rdForceFieldHelpers.MMFFOptimizeMolecule(molecule, maxIters=2000)
    elif rdForceFieldHelpers.UFFHasAllMoleculeParams(molecule):
        rdForceFieldHelpers.UFFOptimizeMolecule(molecule, maxIters=2000)
    atoms = Atoms(
        [atom.GetSymbol() for atom in molecule.GetAtoms()],
        np.array(molecule.GetConformer().GetPositions()),
    )
    atoms.info["formal_charge"] = Chem.GetFormalCharge(molecule)
    return atoms


def pack_box(config: Packmol, seed: int) -> Atoms:
    """A periodic box of molecules, packed by packmol.

    L. Martinez, R. Andrade, E. G. Birgin, J. M. Martinez, J. Comput. Chem. 30, 2157 (2009).

    Raises:
        InputError: packmol is missing, or does not find room.
    """
    program = shutil.which("packmol", path=program_environment()["PATH"])
    if program is None:
        raise InputError(
            "system.packmol needs the program packmol, which is not on PATH: "
            'pip install "metamd[packmol]".'
        )
    parts = [_molecule(m, seed, f"system.packmol.molecules[{k + 1}]") for k, m in
             enumerate(config.molecules)]  # fmt: skip
    box = _box(config, parts)
    lines = [f"tolerance {config.tolerance_ang}", "filetype xyz", "output box.xyz", f"seed {seed}"]
    lines.append("pbc " + " ".join(repr(float(x)) for x in box))
    for k, (molecule, _) in enumerate(zip(config.molecules, parts, strict=True)):
        sides = " ".join(repr(float(x)) for x in box)
        lines += [f"structure {k}.xyz", f"  number {molecule.count}"]
        lines += [f"  inside box 0. 0. 0. {sides}", "end structure"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for k, part in enumerate(parts):
            write(folder / f"{k}.xyz", part, format="xyz")
        (folder / "box.inp").write_text("\n".join(lines) + "\n")
        # packmol seeks in its input: a file, no pipe.
        with (
            (folder / "box.inp").open() as deck,
            (folder / "packmol.log").open("w") as log,
            contextlib.suppress(subprocess.TimeoutExpired),
        ):
            subprocess.run(
                [program],
                cwd=folder,
                stdin=deck,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=program_environment(),
                check=False,
                timeout=PACK_SECONDS,
            )
        # A box that does not fit is written all the same, as far as it got.
        if "Success!" not in (folder / "packmol.log").read_text():
            raise InputError(
                "system.packmol: packmol finds no room for these molecules; take a larger box or "
                "a smaller tolerance_ang."
            )
        packed = read(folder / "box.xyz")
    return Atoms(packed.get_chemical_symbols(), packed.positions, cell=box, pbc=True)


def _molecule(molecule: Molecule, seed: int, key: str) -> Atoms:
    if molecule.structure is not None:
        return _from_file(molecule.structure, f"{key}.structure")
    assert molecule.smiles is not None
    return from_smiles(molecule.smiles, seed, f"{key}.smiles")


def _box(config: Packmol, parts: Sequence[Atoms]) -> np.ndarray:
    """Edges in A, [3]: those given, or a cube of the density given."""
    if config.box_ang is not None:
        return np.array(config.box_ang)
    assert config.density_g_cm3 is not None
    mass = sum(
        m.count * float(part.get_masses().sum())
        for m, part in zip(config.molecules, parts, strict=True)
    )
    return np.full(3, (mass * _DENSITY / config.density_g_cm3) ** (1 / 3))
