"""Molecules of a structure: bonds and angles for LAMMPS's ``atom_style full``.

Made from the bond graph of one structure (``bonds.py``).  Types are numbered in alphabetical
order of the elements: for water bond type 1 is H-O and angle type 1 is H-O-H.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.lammps import Prism
from ase.data import atomic_masses, atomic_numbers
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order, connected_components

from metamd.bonds import BondGraph
from metamd.errors import DataError
from metamd.frames import Frames, minimum_image

Ints = NDArray[np.intp]


@dataclass(frozen=True)
class Topology:
    """Bonds and angles of a structure, with LAMMPS's type numbers.

    Attributes:
        molecule: number of each atom's molecule, from 1, [n_atoms].
        bonds: indices of bonded atoms, [n_bonds, 2], and ``bond_types`` [n_bonds] from 1.
        angles: end, centre, end, [n_angles, 3], and ``angle_types`` [n_angles] from 1.
        bond_names, angle_names: elements of each type, ``H-O`` and ``H-O-H`` say.
    """

    molecule: Ints
    bonds: Ints
    bond_types: Ints
    bond_names: tuple[str, ...]
    angles: Ints
    angle_types: Ints
    angle_names: tuple[str, ...]


def topology_of(atoms: Atoms) -> Topology:
    """The molecules of a structure, from the distances between its atoms."""
    symbols = atoms.get_chemical_symbols()
    bonds = BondGraph.of_atoms(atoms).bonds
    neighbours: list[list[int]] = [[] for _ in symbols]
    for i, j in bonds.tolist():
        neighbours[i].append(j)
        neighbours[j].append(i)
    angles = np.array(
        [(a, c, b) for c, near in enumerate(neighbours) for a, b in combinations(sorted(near), 2)],
        dtype=np.intp,
    ).reshape(-1, 3)
    molecule = connected_components(_graph(bonds, len(symbols)), directed=False)[1] + 1
    bond_names, bond_types = _types([(symbols[i], symbols[j]) for i, j in bonds.tolist()])
    angle_names, angle_types = _types(
        [(symbols[a], symbols[c], symbols[b]) for a, c, b in angles.tolist()]
    )
    return Topology(
        molecule.astype(np.intp), bonds, bond_types, bond_names, angles, angle_types, angle_names
    )


def whole_molecules(frames: Frames) -> Frames:
    """Periodic frames with each molecule in one piece and its centre in the cell, for pictures.

    Molecules are those of the first frame.  Frames without a cell are returned as they are.
    """
    if frames.cell is None:
        return frames
    bonds = BondGraph.of(frames.symbols, frames.positions[0], frames.cell[0]).bonds
    graph = _graph(bonds, frames.n_atoms)
    molecule = connected_components(graph, directed=False)[1]
    x = frames.positions.copy()
    _, roots, size = np.unique(molecule, return_index=True, return_counts=True)
    for root in roots:
        order, before = breadth_first_order(graph, root, directed=False)
        for atom in order[1:]:
            near = x[:, [before[atom]]]
            x[:, [atom]] = near + minimum_image(x[:, [atom]] - near, frames.cell)
    sorted_atoms, first = np.argsort(molecule, kind="stable"), np.cumsum(size) - size
    centre = np.add.reduceat(x[:, sorted_atoms], first, axis=1) / size[:, None]
    outside = np.floor(np.einsum("fmx,fxy->fmy", centre, np.linalg.inv(frames.cell)))
    x -= np.einsum("fmx,fxy->fmy", outside, frames.cell)[:, molecule]
    return replace(frames, positions=x)


def _graph(bonds: Ints, n_atoms: int) -> coo_matrix:
    return coo_matrix((np.ones(len(bonds)), tuple(bonds.T)), shape=(n_atoms, n_atoms)).tocsr()


def _types(groups: list[tuple[str, ...]]) -> tuple[tuple[str, ...], Ints]:
    """Type names in alphabetical order, and each group's number from 1; read both ways alike."""
    labels = ["-".join(min(g, g[::-1])) for g in groups]
    names = sorted(set(labels))
    return tuple(names), np.array([names.index(label) + 1 for label in labels], dtype=np.intp)


def check_water(atoms: Atoms, topology: Topology, where: str) -> None:
    """Refuse a structure that is anything but whole water molecules.

    Raises:
        DataError: another element, or a molecule that is not one O bonded to two H.
    """
    symbols = atoms.get_chemical_symbols()
    for number in range(1, int(topology.molecule.max(initial=0)) + 1):
        members = np.flatnonzero(topology.molecule == number)
        found = sorted(symbols[k] for k in members)
        if found != ["H", "H", "O"]:
            raise DataError(
                f"{where}: the molecule of atom {members[0] + 1} is {''.join(found)}, and this "
                "potential is for water alone (each O with two H closer than 1.16 A)."
            )
    if topology.angle_names not in ((), ("H-O-H",)):
        raise DataError(f"{where}: a molecule is not bonded as H-O-H.")


def write_full_data(atoms: Atoms, species: Sequence[str], path: Path) -> None:
    """LAMMPS data file of ``atom_style full``: molecules, bonds and angles, charges 0.

    Charges come from ``set type`` lines of the force field.  Type k is ``species[k-1]``.
    """
    topology = topology_of(atoms)
    prism = Prism(atoms.cell.array, pbc=atoms.pbc)
    positions = prism.vector_to_lammps(atoms.positions, wrap=False)
    lx, ly, lz, xy, xz, yz = (float(x) for x in prism.get_lammps_prism())
    sections: dict[str, list[str]] = {
        "Masses": [
            f"{k + 1} {float(atomic_masses[atomic_numbers[s]])!r}" for k, s in enumerate(species)
        ],
        "Atoms # full": [
            f"{k + 1} {mol} {species.index(symbol) + 1} 0.0 {x!r} {y!r} {z!r}"
            for k, (mol, symbol, (x, y, z)) in enumerate(
                zip(topology.molecule, atoms.symbols, positions.tolist(), strict=True)
            )
        ],
        "Bonds": _rows(topology.bond_types, topology.bonds),
        "Angles": _rows(topology.angle_types, topology.angles),
    }
    counts = {
        "atoms": len(atoms),
        "atom types": len(species),
        "bonds": len(topology.bonds),
        "bond types": len(topology.bond_names),
        "angles": len(topology.angles),
        "angle types": len(topology.angle_names),
    }
    lines = ["# metamd", "", *(f"{n} {name}" for name, n in counts.items() if n), ""]
    lines += [f"0 {lx!r} xlo xhi", f"0 {ly!r} ylo yhi", f"0 {lz!r} zlo zhi"]
    if xy or xz or yz:
        lines.append(f"{xy!r} {xz!r} {yz!r} xy xz yz")
    for name, rows in sections.items():
        if rows:
            lines += ["", name, "", *rows]
    path.write_text("\n".join(lines) + "\n")


def _rows(types: Ints, members: Ints) -> list[str]:
    return [
        f"{n + 1} {kind} {' '.join(str(k + 1) for k in group)}"
        for n, (kind, group) in enumerate(zip(types, members.tolist(), strict=True))
    ]
