"""ASE calculators for references that bring none of their own for molecules."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed, Calculator, all_changes

from metamd.errors import InputError


class PySCF(Calculator):  # type: ignore[misc]
    """Hartree-Fock or DFT of a molecule by PySCF (extra ``metamd[pyscf]``).

    Q. Sun et al., J. Chem. Phys. 153, 024109 (2020).

    Parameters: ``method`` ("HF", or a functional that PySCF knows, "PBE" say), ``basis``,
    ``charge``, ``multiplicity``, ``conv_tol`` (hartree), ``max_cycle``, ``grid_level`` (DFT).
    An open shell is spin-unrestricted.

    Raises:
        CalculationFailed: no SCF convergence.
        InputError: periodic atoms.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "forces"]
    default_parameters: ClassVar[dict[str, Any]] = {
        "method": "HF",
        "basis": "def2-svp",
        "charge": 0,
        "multiplicity": 1,
        "conv_tol": 1e-9,
        "max_cycle": 100,
        "grid_level": 3,
    }

    def __init__(self, **parameters: Any) -> None:
        try:
            import pyscf  # noqa: F401
        except ImportError:
            raise InputError('PySCF is not installed: pip install "metamd[pyscf]".') from None
        if unknown := parameters.keys() - self.default_parameters.keys():
            raise InputError(f"PySCF takes no {min(unknown)!r}.")
        super().__init__(**parameters)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        from pyscf import dft, gto, scf

        super().calculate(atoms, properties, system_changes)
        if self.atoms.pbc.any():
            raise InputError(
                "PySCF computes isolated molecules, these atoms are periodic: take another "
                "reference.calculator, or make the structure one without a cell."
            )
        p = self.parameters
        molecule = gto.M(
            atom=list(
                zip(self.atoms.get_chemical_symbols(), self.atoms.positions.tolist(), strict=True)
            ),
            basis=p["basis"],
            charge=p["charge"],
            spin=p["multiplicity"] - 1,
            unit="Angstrom",
            verbose=0,
        )
        open_shell = p["multiplicity"] > 1
        if p["method"].upper() in ("HF", "RHF", "UHF"):
            field = scf.UHF(molecule) if open_shell else scf.RHF(molecule)
        else:
            field = dft.UKS(molecule) if open_shell else dft.RKS(molecule)
            field.xc = p["method"]
            field.grids.level = p["grid_level"]
        field.conv_tol, field.max_cycle = p["conv_tol"], p["max_cycle"]
        energy = field.kernel()
        if not field.converged:
            raise CalculationFailed(f"no SCF convergence within {p['max_cycle']} cycles")
        gradient = field.nuc_grad_method().kernel()
        self.results = {
            "energy": float(energy) * units.Hartree,
            "forces": -np.asarray(gradient) * units.Hartree / units.Bohr,
        }
