"""LAMMPS force fields: a person's own lines, and a few that a run file can name.

``nacl-bmhtf``: molten salt, Born-Mayer-Huggins-Tosi-Fumi.  Parameters of M. P. Tosi and F. G. Fumi,
J. Phys. Chem. Solids 25, 45 (1964), in the form of LAMMPS's ``born/coul/long``,
E = A exp((sigma - r)/rho) - C/r^6 + D/r^8: D is negative there.

``tip3p``: rigid water, W. L. Jorgensen et al., J. Chem. Phys. 79, 926 (1983), in CHARMM's form with
Lennard-Jones on hydrogen (A. D. MacKerell et al., J. Phys. Chem. B 102, 3586 (1998)), the values
of LAMMPS's manual.  SHAKE holds the molecules; bonds and angles have no energy, so labels hold no
bond forces.  ``tip3p-flexible``: the same with CHARMM's harmonic bonds and angle.

In a cell electrostatics are PPPM; without one all pairs count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ase import Atoms

from metamd.config import Reference
from metamd.deck import Forces
from metamd.errors import InputError
from metamd.topology import check_water, topology_of

#: Cutoff without a cell, A: every pair of a cluster.
_ALL_ANG = 200.0
#: Relative accuracy of PPPM forces: 1e-5 of e^2/A^2 is 1.4e-4 eV/A.
_PPPM = 1e-5

#: A (eV), sigma (A), C (eV A^6), D (eV A^8) of a pair; rho = 0.317 A and charges of +-1 e for all.
BMHTF = {
    ("Na", "Na"): (0.263704, 2.340, 1.04857, -0.49932),
    ("Cl", "Na"): (0.210963, 2.755, 6.99049, -8.67570),
    ("Cl", "Cl"): (0.158222, 3.170, 72.40151, -145.42716),
}
BMHTF_RHO_ANG = 0.317
BMHTF_CUTOFF_ANG = 8.0

#: epsilon (kcal/mol) and sigma (A) of a pair.
TIP3P = {("O", "O"): (0.1521, 3.1507), ("H", "O"): (0.0836, 1.7753), ("H", "H"): (0.0460, 0.4000)}
TIP3P_CHARGES = {"O": -0.834, "H": 0.417}
TIP3P_CUTOFF_ANG = 10.0
#: Bond: K (kcal/mol/A^2) and r0 (A); angle: K (kcal/mol/rad^2) and theta0 (degrees); K (x - x0)^2.
TIP3P_BOND = (450.0, 0.9572)
TIP3P_ANGLE = (55.0, 104.52)
#: Rigid water: tolerance and iterations of SHAKE, bond type 1, angle type 1.
SHAKE = "fix rigid all shake 1e-8 100 0 b 1 a 1"


@dataclass(frozen=True)
class Named:
    """A force field that ``reference.potential`` can name."""

    elements: frozenset[str]
    make: Callable[[Sequence[str], bool], Forces]
    water: bool = False


def reference_forces(reference: Reference, atoms: Atoms) -> Forces:
    """The force field of a LAMMPS reference for ``atoms``; LAMMPS types follow sorted elements.

    Raises:
        InputError: a named potential that does not know these atoms.
    """
    if reference.potential is None:
        return Forces(
            reference.commands,
            reference.atom_style,
            reference.units,
            atomic_energies=reference.atomic_energies,
        )
    return named_forces(reference.potential, atoms)


def named_forces(potential: str, atoms: Atoms) -> Forces:
    """A named force field for ``atoms``.

    Raises:
        InputError: elements, or molecules, that it has no parameters for.
    """
    named = POTENTIALS[potential]
    species = sorted(set(atoms.get_chemical_symbols()))
    if unknown := [s for s in species if s not in named.elements]:
        raise InputError(
            f"reference.potential: {potential} knows {' and '.join(sorted(named.elements))}, "
            f"not {unknown[0]}."
        )
    if named.water:
        check_water(atoms, topology_of(atoms), f"reference.potential = {potential!r}")
    return named.make(species, bool(atoms.pbc.any()))


def with_rigid_water(forces: Forces) -> Forces:
    """The same forces in a deck whose water molecules SHAKE holds, at TIP3P's geometry.

    All pairs stay in the neighbour list: a model sums over the atoms of a molecule too.
    """
    lines = (
        "special_bonds lj/coul 1 1 1",
        "bond_style zero",
        f"bond_coeff 1 {TIP3P_BOND[1]}",
        "angle_style zero",
        f"angle_coeff 1 {TIP3P_ANGLE[1]}",
    )
    return replace(
        forces, commands=(*forces.commands, *lines), atom_style="full", constraints=(SHAKE,)
    )


def _nacl(species: Sequence[str], periodic: bool) -> Forces:
    if periodic:
        style = f"born/coul/long {BMHTF_CUTOFF_ANG}"
        lines = [f"pair_style {style}", "pair_modify tail yes"]
        name = ""
    else:
        lines = [f"pair_style hybrid/overlay born {_ALL_ANG} coul/cut {_ALL_ANG}"]
        name = "born "
    for pair, (a, sigma, c, d) in BMHTF.items():
        if types := _types(pair, species):
            lines.append(f"pair_coeff {types} {name}{a} {BMHTF_RHO_ANG} {sigma} {c} {d}")
    if not periodic:
        lines.append("pair_coeff * * coul/cut")
    charges = {"Na": 1.0, "Cl": -1.0}
    return Forces(
        (*lines, *_charges(charges, species), *_kspace(periodic)), "charge", atomic_energies=True
    )


def _tip3p(flexible: bool) -> Callable[[Sequence[str], bool], Forces]:
    def make(species: Sequence[str], periodic: bool) -> Forces:
        pair = f"lj/cut/coul/long {TIP3P_CUTOFF_ANG}" if periodic else f"lj/cut/coul/cut {_ALL_ANG}"
        if flexible:
            bonded = ["harmonic", *(f"{k} {x}" for k, x in (TIP3P_BOND, TIP3P_ANGLE))]
        else:
            bonded = ["zero", str(TIP3P_BOND[1]), str(TIP3P_ANGLE[1])]
        lines = [
            f"pair_style {pair}",
            *(f"pair_coeff {_types(p, species)} {e} {s}" for p, (e, s) in TIP3P.items()),
            f"bond_style {bonded[0]}",
            f"bond_coeff 1 {bonded[1]}",
            f"angle_style {bonded[0]}",
            f"angle_coeff 1 {bonded[2]}",
            "special_bonds lj/coul 0 0 0",
        ]
        return Forces(
            (*lines, *_charges(TIP3P_CHARGES, species), *_kspace(periodic)),
            "full",
            "real",
            constraints=() if flexible else (SHAKE,),
            atomic_energies=True,
        )

    return make


def _types(pair: tuple[str, str], species: Sequence[str]) -> str:
    """``1 2`` for a pair of elements, the smaller first; empty where one is not there."""
    if not set(pair) <= set(species):
        return ""
    return " ".join(map(str, sorted(species.index(s) + 1 for s in pair)))


def _charges(charges: dict[str, float], species: Sequence[str]) -> list[str]:
    return [f"set type {k + 1} charge {charges[s]}" for k, s in enumerate(species)]


def _kspace(periodic: bool) -> list[str]:
    return [f"kspace_style pppm {_PPPM:g}"] if periodic else []


POTENTIALS = {
    "nacl-bmhtf": Named(frozenset({"Na", "Cl"}), _nacl),
    "tip3p": Named(frozenset({"H", "O"}), _tip3p(flexible=False), water=True),
    "tip3p-flexible": Named(frozenset({"H", "O"}), _tip3p(flexible=True), water=True),
}
