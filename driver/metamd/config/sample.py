"""The arms: how configurations are made, and what biases them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from metamd.config.base import Name, NonNegative, Seed, Table


class Bias(Table):
    """Metadynamics on the pair distances (Herr 2018, eq. 1)."""

    cv: Literal["matrix", "mean", "dist"] = "matrix"
    """What hills live in: the whole matrix D (MATRIX_METAD, the paper's method), or under PLUMED's
    own METAD one number of it: the mean of D, or the distance in D to the starting structure."""
    metric: Literal["INVERSE", "DISTANCE", "SCREENED"] = "INVERSE"
    """What is compared: 1/r (the paper's formula), r, or the screened form."""
    height_ev: PositiveFloat = 0.03
    """Height of a bump, eV."""
    sigma: PositiveFloat = 0.2
    """Width of a bump in units of the metric: 1/A for INVERSE, A for DISTANCE; to be given for
    cv = "mean" and "dist", whose spread is another (MD shows it)."""
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

    @model_serializer(mode="wrap")
    def _with_own_sigma(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """The sigma that must be given, also where it equals the default of the whole matrix."""
        values: dict[str, Any] = serialize(self)
        return values if self.cv == "matrix" else {**values, "sigma": self.sigma}

    @model_validator(mode="after")
    def _fits(self) -> Bias:
        if self.cv == "matrix":
            return self
        if "sigma" not in self.model_fields_set:
            raise ValueError(f'cv = "{self.cv}" needs its own sigma')
        if self.metric == "SCREENED":
            raise ValueError('metric = "SCREENED" is a bias only; it has no cv')
        if self.hills or self.ramp_steps is not None:
            raise ValueError('hills and ramp_steps belong to cv = "matrix"')
        return self


class Wte(Table):
    """Well-tempered ensemble: metadynamics on the potential energy (Joshi 2021)."""

    biasfactor: Annotated[float, Field(gt=1)] = 64.0
    """Bias factor: fluctuations of the energy grow by its square root (thesis: 16 to 256)."""
    sigma_ev: PositiveFloat | None = None
    """Width of a hill, eV; none: the spread of the energy in a short NVT run before."""
    height_ev: PositiveFloat | None = None
    """Height of the first hill, eV; none: kB T (the thesis gives none)."""
    pace: PositiveInt = 100
    """Steps between hills (the thesis gives none)."""
    measure_steps: Annotated[int, Field(ge=100)] = 4000
    """Steps of the NVT run that sigma_ev is measured in, after equilibration_steps."""


class Nms(Table):
    """Normal-mode sampling (Smith 2017, Herr 2018)."""

    kt_ev: PositiveFloat | None = None
    """kB T of the displacements, eV; none: that of temperature_k (paper: 0.002 hartree)."""
    displacement_ang: PositiveFloat = 0.01
    """Step of the finite differences that give the Hessian, A."""
    max_force_ev_per_ang: PositiveFloat = 0.002
    """The structure is relaxed until no force is larger, eV/A."""
    min_wavenumber_cm1: PositiveFloat = 20.0
    """Softer (and imaginary) modes are left out, and reported."""


class Rattle(Table):
    """Random displacements of the starting structure."""

    displacement_ang: PositiveFloat = 0.05
    """Standard deviation of each coordinate, A."""
    strain: NonNegative = 0.0
    """Largest entry of a random symmetric strain of the cell."""


class Sample(Table):
    """One arm: how configurations are made."""

    name: Name
    """The arm's name, used in folders, tables and figures."""
    method: Literal["md", "metamd", "wte", "nms", "rattle"] = "md"
    """Molecular dynamics; metadynamics on the distance matrix, or on the energy (well-tempered
    ensemble); normal-mode sampling; random displacements."""
    engine: Literal["reference", "model", "lammps"] = "reference"
    """What moves the atoms: the reference, a DeePMD model, or the LAMMPS lines ``commands``."""
    model: Path | None = None
    """Frozen DeePMD model for engine = "model"."""
    commands: tuple[str, ...] = ()
    """pair_style lines for engine = "lammps"; by default those of a LAMMPS reference."""
    files: tuple[Path, ...] = ()
    """Files that these lines, the PLUMED file or the deck need."""
    ensemble: Literal["nve", "nvt", "npt"] = "nvt"
    """Ensemble of the dynamics."""
    thermostat: Literal["langevin", "csvr", "nose-hoover"] = "langevin"
    """Thermostat of an NVT run. Under csvr and nose-hoover, which scale all velocities, an isolated
    molecule neither drifts nor turns, and its other motions have the temperature."""
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
    frames: PositiveInt = 1000
    """Frames of each walker of method = "nms" and "rattle", which make no steps."""
    walkers: PositiveInt = 1
    """Independent walkers, each with its own seed (and its own hills)."""
    starts: Path | None = None
    """File of starting structures (conformers, say), anything ASE reads: walker k starts from the
    k-th of them, from the first again where there are more walkers; by default all start from
    the system's structure."""
    seed: Seed = 1
    """Seed of the first walker; walker k uses seed + 1000 k."""
    bias: Bias | None = None
    """The bias of method = "metamd"."""
    wte: Wte | None = None
    """Keys of method = "wte"."""
    nms: Nms | None = None
    """Keys of method = "nms"."""
    rattle: Rattle | None = None
    """Keys of method = "rattle"."""
    wall_ang: PositiveFloat | None = None
    """Wall on the distance of every atom from the centre, A, for md and wte (metamd has its own in
    the bias): a hot cluster evaporates without."""
    plumed: Path | None = None
    """A person's own PLUMED file, instead of the one made here."""
    deck: Path | None = None
    """A person's own LAMMPS deck, instead of the one made here."""
    rigid_water: bool = False
    """Hold water rigid by SHAKE under a model or lines of your own: a model trained on labels of
    potential = "tip3p", which hold no bond forces, moves no other way."""
    allow_bond_breaking: bool = False
    """Keep sampling when the bond graph of the starting structure is broken (that of a metal or
    another network in a cell may change anyhow)."""
    max_force_ev_per_ang: PositiveFloat = 100.0
    """A walker whose largest reference force exceeds this has exploded and stops."""
    role: Literal["train", "test"] = "train"
    """``test``: frames of this arm only test models, no model is trained on them."""

    @model_validator(mode="after")
    def _fits(self) -> Sample:
        if self.method != "metamd" and self.bias is not None:
            raise ValueError('bias belongs to method = "metamd"')
        for name in ("wte", "nms", "rattle"):
            if self.method != name and getattr(self, name) is not None:
                raise ValueError(f'{name} belongs to method = "{name}"')
        if self.method == "metamd" and self.bias is None and not (self.plumed or self.deck):
            raise ValueError(
                'method = "metamd" needs a [sample.bias] table (or plumed = "own.dat")'
            )
        if self.wall_ang is not None and (self.method not in ("md", "wte") or self.plumed):
            raise ValueError('wall_ang belongs to method = "md" or "wte"; metamd has bias.wall_ang')
        if self.method == "wte" and self.plumed:
            raise ValueError('plumed = "own.dat" belongs to method = "metamd" or "md"')
        if self.rigid_water and not (self.engine == "model" or self.commands):
            raise ValueError('rigid_water belongs to engine = "model", or to commands of your own')
        if self.static and (self.plumed or self.deck):
            raise ValueError(f'method = "{self.method}" has no use for plumed or deck')
        if self.engine == "model" and self.model is None:
            raise ValueError('engine = "model" needs model = "file.pb"')
        if self.stride > self.steps and not self.static:
            raise ValueError("stride is larger than steps, no frame would be kept")
        return self

    @property
    def biased(self) -> bool:
        """Whether a PLUMED file acts on the dynamics."""
        walled = self.wall_ang is not None
        return self.method in ("metamd", "wte") or self.plumed is not None or walled

    @property
    def moves(self) -> bool:
        """Whether frames come out of forces: all but random displacements do."""
        return self.method != "rattle"

    @property
    def static(self) -> bool:
        """Whether frames are made without dynamics."""
        return self.method in ("nms", "rattle")
