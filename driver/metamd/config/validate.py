"""What a model is held against."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from metamd.config.base import Seed, Table

CheckName = Literal[
    "cross_errors",
    "clusters",
    "stability",
    "deviation",
    "nve",
    "scans",
    "frequencies",
    "rdf",
    "diffusion",
    "sampling",
]


class Scan(Table):
    """One rigid scan along a bond or an angle."""

    atoms: Annotated[tuple[PositiveInt, ...], Field(min_length=2, max_length=3)]
    """Two atoms of a bond or three of an angle (vertex in the middle), numbers from 1; the
    fragment on the last one's side moves."""
    low: float
    """First value, A or degrees."""
    high: float
    """Last value, A or degrees."""
    points: Annotated[int, Field(ge=2, le=1000)] = 25
    """Number of values, evenly spaced."""

    @model_validator(mode="after")
    def _fits(self) -> Scan:
        if not 0 < self.low < self.high:
            raise ValueError("low must be positive and below high")
        return self


class Trajectory(Table):
    """Dynamics of the reference and of each ensemble by one deck, for rdf and diffusion."""

    temperature_k: PositiveFloat = 300.0
    """Temperature, K."""
    timestep_fs: PositiveFloat = 0.5
    """Time step, fs."""
    equilibration_steps: Annotated[int, Field(ge=0)] = 2000
    """Steps before frames are kept."""
    steps: PositiveInt = 20000
    """Steps."""
    stride: PositiveInt = 20
    """Steps between kept frames."""
    thermostat: Literal["langevin", "csvr", "nose-hoover"] = "csvr"
    """Thermostat; Langevin friction changes the diffusion, the global ones barely do."""
    damping_fs: PositiveFloat = 1000.0
    """Relaxation time of the thermostat, fs."""
    pairs: tuple[Annotated[str, Field(pattern=r"^[A-Z][a-z]?-[A-Z][a-z]?$")], ...] = ()
    """Pairs of elements of the radial distributions, ``["O-O"]``; empty: all."""
    element: str | None = None
    """Atoms that diffusion follows; none: all."""
    blocks: Annotated[int, Field(ge=2)] = 5
    """Blocks of the trajectory that the error bar of diffusion comes from."""
    viscosity_pa_s: PositiveFloat | None = None
    """Shear viscosity for the finite-size correction of diffusion (Yeh, Hummer 2004), Pa s."""
    seed: Seed = 1
    """Seed of velocities and thermostat, the same for all."""


class Validate(Table):
    """What a model is worth, on frames it has not seen and in dynamics."""

    checks: tuple[CheckName, ...] = (
        "cross_errors",
        "clusters",
        "stability",
        "deviation",
        "sampling",
    )
    """Which checks run. cross_errors: every model on every test set; clusters: force error by
    cluster of the test frames; stability: NVT dynamics; deviation: disagreement of an ensemble
    along it; nve: drift of the total energy; scans: bonds and angles; frequencies: harmonic;
    rdf, diffusion: liquids against the reference; sampling: overlap of the data sets."""
    usable_force_error_ev_per_ang: PositiveFloat = 0.1
    """Above this force RMSE on any test set the verdict says: not usable."""
    remove_energy_offset: bool = False
    """Take the mean error off the energies of every test set first, and list it: for test frames
    with another zero of energy than the model's."""
    temperatures_k: tuple[PositiveFloat, ...] = (300.0, 500.0)
    """Temperatures of the stability runs, K."""
    steps: PositiveInt = 20000
    """Steps of a stability run."""
    timestep_fs: PositiveFloat = 0.5
    """Time step of a stability run, fs."""
    stability_members: Literal["first", "all"] = "first"
    """Which models of an ensemble run dynamics."""
    nve_steps: PositiveInt = 2000
    """Steps of the NVE runs (time step as above)."""
    nve_temperature_k: PositiveFloat = 300.0
    """Temperature of the NVE runs, K."""
    scans: tuple[Scan, ...] = ()
    """Bonds and angles to scan; empty: one bond of each pair of elements and one angle of each
    three."""
    rigid_water: bool = False
    """Hold water rigid by SHAKE in dynamics with a model whose labels hold no bond forces
    (``potential = "tip3p"``); nve and scans are not for such a model."""
    trajectory: Trajectory = Trajectory()
    """Dynamics of rdf and diffusion."""
    seed: Seed = 1
    """Seed of the stability and NVE runs."""

    @property
    def checks_frames(self) -> bool:
        """Whether models are tested on labelled frames."""
        return "cross_errors" in self.checks or "clusters" in self.checks
