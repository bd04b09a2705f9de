"""What is studied, and the reference method that says the truth about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PositiveInt, model_validator

from metamd.config.base import Table


class System(Table):
    """The atoms to start from."""

    structure: Path
    """File with the starting structure, anything ASE reads; relative to the run file."""
    charge: int = 0
    """Total charge, e; reaches the reference."""
    multiplicity: PositiveInt = 1
    """Spin multiplicity 2S+1; reaches the reference."""
    periodic: bool | None = None
    """Periodic boundaries; by default what the structure file says."""


class Reference(Table):
    """Where true energies and forces come from."""

    kind: Literal["ase", "lammps"] = "ase"
    """``ase``: an ASE calculator; ``lammps``: pair_style lines."""
    calculator: str | None = None
    """``module:Class`` of an ASE calculator, ``tblite.ase:TBLite`` say."""
    arguments: dict[str, Any] = Field(default_factory=dict)
    """Keyword arguments of the calculator."""
    potential: Literal["nacl-bmhtf", "tip3p", "tip3p-flexible"] | None = None
    """A LAMMPS force field known by name instead of ``commands``: molten NaCl
    (Born-Mayer-Huggins-Tosi-Fumi), rigid TIP3P water (SHAKE), or the same with harmonic bonds."""
    commands: tuple[str, ...] = ()
    """LAMMPS lines that set up the force field: pair_style, pair_coeff, set charge, fixes.
    LAMMPS types are the elements in alphabetical order, bond and angle types likewise."""
    files: tuple[Path, ...] = ()
    """Files these lines need; copied into every run's folder."""
    atom_style: Literal["atomic", "charge", "full"] = "atomic"
    """LAMMPS atom style that the lines need; ``full`` finds bonds and angles in the structure."""
    units: Literal["metal", "real"] = "metal"
    """LAMMPS units of the lines and their files (ReaxFF: real); results are eV and A always."""
    atomic_energies: bool = True
    """Per-atom energies by ``compute pe/atom``; false where a style of the lines has none."""

    @model_validator(mode="after")
    def _complete(self) -> Reference:
        if self.kind == "ase" and not self.calculator:
            raise ValueError('kind = "ase" needs calculator = "module:Class"')
        if self.kind == "ase" and (self.commands or self.potential):
            key = "commands belong" if self.commands else "potential belongs"
            raise ValueError(f'{key} to kind = "lammps"')
        if self.kind == "lammps" and not (self.commands or self.potential):
            raise ValueError('kind = "lammps" needs potential, or commands = ["pair_style ..."]')
        if self.commands and self.potential:
            raise ValueError("give commands or potential, not both")
        if self.kind == "lammps" and self.calculator:
            raise ValueError('calculator belongs to kind = "ase"')
        return self
