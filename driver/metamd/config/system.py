"""What is studied, and the reference method that says the truth about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, PrivateAttr, model_validator

from metamd.config.base import Seed, Table


class Molecule(Table):
    """One kind of molecule in a packed box."""

    structure: Path | None = None
    """File with one molecule, anything ASE reads."""
    smiles: str | None = None
    """Or its SMILES."""
    count: PositiveInt
    """How many of it."""

    @model_validator(mode="after")
    def _one_source(self) -> Molecule:
        if (self.structure is None) == (self.smiles is None):
            raise ValueError("give structure or smiles")
        return self


class Packmol(Table):
    """A periodic box of molecules, packed by packmol."""

    molecules: Annotated[tuple[Molecule, ...], Field(min_length=1)]
    """What is in it."""
    box_ang: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    """Edges of the box, A."""
    density_g_cm3: PositiveFloat | None = None
    """Or the density of a cubic one, g/cm3."""
    tolerance_ang: PositiveFloat = 2.0
    """Least distance between atoms of different molecules, A."""

    @model_validator(mode="after")
    def _one_size(self) -> Packmol:
        if (self.box_ang is None) == (self.density_g_cm3 is None):
            raise ValueError("give box_ang or density_g_cm3")
        return self


class System(Table):
    """The atoms to start from."""

    structure: Path | None = None
    """File with the starting structure, anything ASE reads; relative to the run file."""
    smiles: str | None = None
    """Or a SMILES: embedded by RDKit and relaxed with MMFF94 (extra ``metamd[smiles]``)."""
    packmol: Packmol | None = None
    """Or a box of molecules (extra ``metamd[packmol]``)."""
    seed: Seed = 1
    """Seed of the embedding and of packmol."""
    charge: int = 0
    """Total charge, e; reaches the reference."""
    multiplicity: PositiveInt = 1
    """Spin multiplicity 2S+1; reaches the reference."""
    periodic: bool | None = None
    """Periodic boundaries; by default what the structure file says."""

    @model_validator(mode="after")
    def _one_source(self) -> System:
        given = [self.structure, self.smiles, self.packmol]
        if sum(value is not None for value in given) != 1:
            raise ValueError("give one of structure, smiles and packmol")
        return self

    @property
    def origin(self) -> str:
        """Where the structure comes from, for messages and tables."""
        if self.structure is not None:
            return str(self.structure)
        return f"SMILES {self.smiles}" if self.smiles is not None else "packmol box"


class Reference(Table):
    """Where true energies and forces come from."""

    kind: Literal["ase", "lammps", "files"] = "ase"
    """``ase``: an ASE calculator; ``lammps``: pair_style lines; ``files``: finished calculations,
    outputs of a DFT program, matched to frames by their geometry."""
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

    outputs: tuple[str, ...] = ()
    """Outputs of kind = "files": paths or patterns (``dft/*/OUTCAR``), relative to the run file."""
    format: str | None = None
    """Their format, a name that dpdata knows (``vasp/outcar``, ``gaussian/log``); none: by name."""
    # Apart from the patterns, which stay as given: a copied folder holds the same run.
    _folder: Path = PrivateAttr(default=Path())

    @property
    def output_patterns(self) -> tuple[str, ...]:
        """``outputs``, resolved against the folder of the run file."""
        return tuple(str(self._folder / pattern) for pattern in self.outputs)

    def in_folder(self, folder: Path) -> Reference:
        """The same reference with ``outputs`` relative to ``folder``."""
        copy = self.model_copy()
        copy._folder = folder
        return copy

    @model_validator(mode="after")
    def _complete(self) -> Reference:
        if (self.kind == "files") != bool(self.outputs):
            raise ValueError('kind = "files" and outputs = ["dft/*/OUTCAR"] belong together')
        if self.kind == "files" and (self.calculator or self.commands or self.potential):
            raise ValueError('kind = "files" takes outputs and format alone')
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
