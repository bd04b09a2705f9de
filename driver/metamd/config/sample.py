"""The arms: how configurations are made, and what biases them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from metamd.config.base import Name, Seed, Table


class Bias(Table):
    """MATRIX_METAD on all pair distances (Herr 2018, eq. 1; design section 3)."""

    metric: Literal["INVERSE", "DISTANCE", "SCREENED"] = "INVERSE"
    """What is compared: 1/r (the paper's formula), r, or the screened form."""
    height_ev: PositiveFloat = 0.03
    """Height of a bump, eV."""
    sigma: PositiveFloat = 0.2
    """Width of a bump in units of the metric: 1/A for INVERSE, A for DISTANCE."""
    pace: PositiveInt = 20
    """Steps between bumps."""
    biasfactor: Annotated[float, Field(gt=1)] | None = None
    """Well-tempered bias factor; none: constant heights, as in the paper."""
    cutoff_ang: PositiveFloat | None = None
    """Cutoff of the switched metric (INVERSE only), A; none: all pairs."""
    atoms: tuple[PositiveInt, ...] = ()
    """Atoms in the matrix, numbers from 1; empty: all."""
    wall_ang: PositiveFloat | None = None
    """Wall on the distance of every atom from the centre, A: keeps a cluster together."""
    hills: tuple[Path, ...] = ()
    """Hills files to begin with, of the same atoms, metric and sigma: walker k takes file k
    (modulo their number) and goes on depositing."""
    ramp_steps: PositiveInt | None = None
    """Steps over which hills, read and new, grow to their height; none: at once."""


class Sample(Table):
    """One arm: how configurations are made."""

    name: Name
    """The arm's name, used in folders, tables and figures."""
    method: Literal["md", "metamd"] = "md"
    """Plain molecular dynamics, or metadynamics on the distance matrix."""
    engine: Literal["reference", "model", "lammps"] = "reference"
    """What moves the atoms: the reference, a DeePMD model, or ``commands``."""
    model: Path | None = None
    """Frozen DeePMD model for engine = "model"."""
    commands: tuple[str, ...] = ()
    """pair_style lines for engine = "lammps"; by default those of a LAMMPS reference."""
    files: tuple[Path, ...] = ()
    """Files that these lines, the PLUMED file or the deck need."""
    ensemble: Literal["nve", "nvt", "npt"] = "nvt"
    """Ensemble of the dynamics."""
    thermostat: Literal["langevin", "csvr", "nose-hoover"] = "langevin"
    """Thermostat of an NVT run."""
    temperature_k: PositiveFloat = 300.0
    """Temperature, K."""
    damping_fs: PositiveFloat = 50.0
    """Relaxation time of the thermostat, fs (Langevin 50 fs: 20/ps)."""
    pressure_bar: float = 1.0
    """Pressure of an NPT run, bar."""
    timestep_fs: PositiveFloat = 0.5
    """Time step, fs."""
    equilibration_steps: Annotated[int, Field(ge=0)] = 0
    """Steps before the bias starts and frames are kept."""
    steps: PositiveInt = 12000
    """Steps of each walker."""
    stride: PositiveInt = 20
    """Steps between kept frames."""
    walkers: PositiveInt = 1
    """Independent walkers, each with its own seed (and its own hills)."""
    seed: Seed = 1
    """Seed of the first walker; walker k uses seed + k."""
    bias: Bias | None = None
    """The bias of method = "metamd"."""
    plumed: Path | None = None
    """A person's own PLUMED file, instead of the one made here."""
    deck: Path | None = None
    """A person's own LAMMPS deck, instead of the one made here."""
    allow_bond_breaking: bool = False
    """Keep sampling when the bond graph of the starting structure is broken."""
    max_force_ev_per_ang: PositiveFloat = 100.0
    """A walker whose largest reference force exceeds this has exploded and stops."""
    role: Literal["train", "test"] = "train"
    """``test``: frames of this arm only test models, no model is trained on them."""

    @model_validator(mode="after")
    def _fits(self) -> Sample:
        if self.method == "md" and self.bias is not None:
            raise ValueError('bias belongs to method = "metamd"')
        if self.method == "metamd" and self.bias is None and not (self.plumed or self.deck):
            raise ValueError(
                'method = "metamd" needs a [sample.bias] table (or plumed = "own.dat")'
            )
        if self.engine == "model" and self.model is None:
            raise ValueError('engine = "model" needs model = "file.pb"')
        if self.stride > self.steps:
            raise ValueError("stride is larger than steps, no frame would be kept")
        return self
