"""The run file: every key with its type, default, unit and meaning in one place.

``metamd schema`` prints the JSON schema of this module and the reference page is made from it.
Unknown keys are errors; units are in the names.
"""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from metamd.errors import InputError

Seed = Annotated[int, Field(ge=0, lt=2**31)]
NonNegative = Annotated[float, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=60)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class System(_Table):
    """The atoms to start from."""

    structure: Path
    """File with the starting structure, anything ASE reads; relative to the run file."""
    charge: int = 0
    """Total charge, e; reaches the reference."""
    multiplicity: PositiveInt = 1
    """Spin multiplicity 2S+1; reaches the reference."""
    periodic: bool | None = None
    """Periodic boundaries; by default what the structure file says."""


class Reference(_Table):
    """Where true energies and forces come from."""

    kind: Literal["ase", "lammps"] = "ase"
    """``ase``: an ASE calculator; ``lammps``: pair_style lines."""
    calculator: str | None = None
    """``module:Class`` of an ASE calculator, ``tblite.ase:TBLite`` say."""
    arguments: dict[str, Any] = {}
    """Keyword arguments of the calculator."""
    commands: tuple[str, ...] = ()
    """LAMMPS lines that set up the force field: pair_style, pair_coeff, fixes."""
    files: tuple[Path, ...] = ()
    """Files these lines need; copied into every run's folder."""
    atom_style: Literal["atomic", "charge", "full"] = "atomic"
    """LAMMPS atom style that the lines need."""
    units: Literal["metal", "real"] = "metal"
    """LAMMPS units of the lines and their files (ReaxFF: real); results are eV and A always."""

    @model_validator(mode="after")
    def _complete(self) -> Reference:
        if self.kind == "ase" and not self.calculator:
            raise ValueError('kind = "ase" needs calculator = "module:Class"')
        if self.kind == "ase" and self.commands:
            raise ValueError('commands belong to kind = "lammps"')
        if self.kind == "lammps" and not self.commands:
            raise ValueError('kind = "lammps" needs commands = ["pair_style ...", ...]')
        if self.kind == "lammps" and self.calculator:
            raise ValueError('calculator belongs to kind = "ase"')
        return self


class Bias(_Table):
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


class Sample(_Table):
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


class Flatten(_Table):
    """Clusters and picks of method = "flatten" (Fonseca 2021)."""

    geometry_clusters: PositiveInt = 10
    """Ward clusters on pair distances."""
    energy_clusters: PositiveInt = 5
    """k-means clusters on energy inside each of them."""
    threshold: Annotated[float, Field(ge=1)] = 1.1
    """Clusters with a force RMSE above this times the overall one are clustered again."""
    fine_clusters: PositiveInt = 200
    """Ward clusters of these frames; larger molecules: 150."""
    worst_fraction: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Part of the fine clusters, the worst, that frames are taken from; not with weighted."""
    weighted: bool = False
    """Take frames from every fine cluster, in proportion to its size (larger molecules)."""
    start: PositiveInt = 200
    """Frames of the first training set of the improved-training loop."""
    step: PositiveInt = 100
    """Frames added in each round, up to ``count``; larger molecules: 500."""
    subset: Annotated[int, Field(ge=10, le=20000)] = 8000
    """Frames clustered by Ward; the others join the cluster of least average distance."""
    pca_components: Annotated[int, Field(ge=0)] = 0
    """Cluster in this many principal components of the distances; 0: in all distances."""
    error_subset: Annotated[int, Field(ge=0)] = 0
    """Frames of each cluster whose forces are predicted to find the bad ones; 0: all."""


class Select(_Table):
    """Which frames are worth a label."""

    method: Literal[
        "random", "time", "energy", "atomic-energy", "force", "fps", "deviation", "flatten"
    ] = "time"
    """At random; evenly in time, global energy, atomic energy or force magnitude (Tovey);
    farthest point in matrix space; disagreement of models; flattened errors (Fonseca)."""
    count: PositiveInt = 1000
    """Frames taken from each arm."""
    seed: Seed = 1
    """Seed of random choices."""
    bins: PositiveInt = 100
    """Bins (of each element) of the methods energy, atomic-energy and force; never more than
    can all be drawn from."""
    metric: Literal["INVERSE", "DISTANCE"] = "INVERSE"
    """Matrix of method = "fps": 1/r or r."""
    sort_pairs: bool = False
    """Sort distances inside each pair of elements, so that like atoms are interchangeable
    (liquids); for fps and flatten."""
    trust_lower_ev_per_ang: NonNegative = 0.05
    """Method deviation: below this largest force deviation the models know the frame."""
    trust_upper_ev_per_ang: PositiveFloat = 0.15
    """Method deviation: from here on the frame is too far off to be worth a label."""
    models: tuple[Path, ...] = ()
    """DeePMD models that predict where a method needs it (deviation: two or more)."""
    predictions: tuple[Path, ...] = ()
    """Stored predictions instead, one file a model, frames in the order of the data."""
    flatten: Flatten = Flatten()
    """Clusters and picks of method = "flatten"."""

    @model_validator(mode="after")
    def _fits(self) -> Select:
        if self.trust_upper_ev_per_ang <= self.trust_lower_ev_per_ang:
            raise ValueError("trust_upper_ev_per_ang must be above trust_lower_ev_per_ang")
        if self.models and self.predictions:
            raise ValueError("give models or predictions, not both")
        return self


class Augment(_Table):
    """Perturbed frames labelled by springs (physics-based augmentation, section 2.2)."""

    frames: PositiveInt = 200
    """How many frames are perturbed and added."""
    atoms: PositiveInt = 1
    """Atoms moved in each of them."""
    max_displacement_ang: PositiveFloat = 0.05
    """Longest displacement of an atom, A."""
    scheme: Literal["paper", "signed", "taylor"] = "taylor"
    """Spring energy of the displacement; about the mean before and after; or after the work of
    the frame's own forces."""
    pairs: Literal["bonds", "bonds+angles", "all"] = "bonds+angles"
    """Pairs whose springs count; the paper sums all."""
    temperature_k: PositiveFloat | None = None
    """Temperature of the frames that springs are fitted to, K; by default their own."""
    components: dict[str, PositiveInt] = {}
    """Gaussian components of a pair of elements, ``{ "H-H" = 4 }``; BIC chooses the others."""
    profile: Literal["best", "paper"] = "best"
    """Mixtures from several starts, or with scikit-learn's defaults."""
    springs: Path | None = None
    """A table of ``metamd springs --json`` to use instead."""
    weight: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training batches drawn from augmented frames (DeePMD's sys_probs)."""
    seed: Seed = 1
    """Seed of frames, atoms and displacements."""


class Label(_Table):
    """Single points of the reference."""

    batch: PositiveInt = 100
    """Frames a task."""
    reuse: bool = True
    """Take over energies and forces that the reference itself gave while sampling; a few of
    them are computed again and must agree."""
    recheck: PositiveInt = 5
    """How many taken-over labels of each arm are computed again."""
    recheck_tolerance_ev_per_ang: PositiveFloat = 1e-3
    """Largest difference in a force for which a taken-over label counts as agreeing; the noise
    of the reference's own convergence must lie below, a bias lies far above."""


class Dataset(_Table):
    """Training and held-out frames: contiguous blocks of each trajectory."""

    heldout_fraction: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    """Part of each walker's trajectory that no model is trained on."""
    blocks: PositiveInt = 5
    """Contiguous blocks a trajectory is cut into; the last part of each is held out."""
    gap: Annotated[int, Field(ge=0)] = 2
    """Frames dropped on each border, so that neighbours do not fall on both sides."""


class Train(_Table):
    """DeePMD training."""

    datasets: Literal["each", "all"] = "each"
    """``each``: one ensemble an arm, for comparison; ``all``: one ensemble on all arms pooled."""
    models: PositiveInt = 2
    """Models an ensemble, differing in their seeds."""
    steps: PositiveInt = 40000
    """Training steps (batches)."""
    backend: Literal["tensorflow", "pytorch"] = "tensorflow"
    """DeePMD back-end; PyTorch needs the extra ``metamd[torch]``."""
    deepmd: Path | None = None
    """A DeePMD input file passed through; what it leaves out is filled in."""
    cutoff_ang: PositiveFloat = 6.0
    """Cutoff of the descriptor, A."""
    batch_size: PositiveInt = 4
    """Frames a batch."""
    start_learning_rate: PositiveFloat = 2e-3
    """Learning rate at the start."""
    stop_learning_rate: PositiveFloat = 1e-6
    """Learning rate at the end; it decays exponentially in between."""
    energy_only: bool = False
    """Leave forces out of the loss (Herr 2018 trained so)."""
    compress: bool = True
    """Compress the frozen model (tabulated embedding; TensorFlow back-end)."""
    seed: Seed = 1
    """Seed of the first model; model k uses seed + k."""


class Validate(_Table):
    """What a model is worth, on frames it has not seen and in dynamics."""

    checks: tuple[Literal["cross_errors", "stability"], ...] = ("cross_errors", "stability")
    """Which checks run."""
    usable_force_error_ev_per_ang: PositiveFloat = 0.1
    """Above this force RMSE on any test set the verdict says: not usable."""
    temperatures_k: tuple[PositiveFloat, ...] = (300.0, 500.0)
    """Temperatures of the stability runs, K."""
    steps: PositiveInt = 20000
    """Steps of a stability run."""
    timestep_fs: PositiveFloat = 0.5
    """Time step of a stability run, fs."""
    seed: Seed = 1
    """Seed of the stability runs."""


class Execution(_Table):
    """Where tasks run (Parsl)."""

    kind: Literal["local"] = "local"
    """``local``: worker processes on this machine."""
    workers: PositiveInt | None = None
    """Tasks at a time; by default one a core."""
    threads: PositiveInt = 1
    """Threads a task."""
    retries: Annotated[int, Field(ge=0)] = 0
    """How often a failed task is tried again."""


class RunConfig(_Table):
    """A whole run file."""

    system: System
    reference: Reference
    sample: Annotated[tuple[Sample, ...], Field(min_length=1)]
    select: Select = Select()
    label: Label = Label()
    dataset: Dataset = Dataset()
    train: Train = Train()
    validation: Validate = Field(default=Validate(), alias="validate")
    execution: Execution = Execution()

    @model_validator(mode="after")
    def _fits(self) -> RunConfig:
        names = [arm.name for arm in self.sample]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two [[sample]] tables have the name {name!r}")
        if not any(arm.role == "train" for arm in self.sample):
            raise ValueError('no [[sample]] has role = "train"')
        for arm in self.sample:
            if arm.engine == "lammps" and not (
                arm.commands or arm.deck or self.reference.kind == "lammps"
            ):
                raise ValueError(
                    f'[[sample]] {arm.name!r}: engine = "lammps" needs commands (pair_style lines)'
                )
        return self


def load_config(path: str | Path) -> RunConfig:
    """Read and check a run file; paths in it become absolute.

    Raises:
        InputError: no such file, no TOML, an unknown key, a value of the wrong type or range.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such run file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not valid TOML ({error}).") from error
    return parse_config(data, path)


def parse_config(data: dict[str, Any], path: Path) -> RunConfig:
    """Check a run file's content; ``path`` is for messages and relative paths."""
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{path}: {_first_problem(error)}") from None
    return _absolute(config, path.resolve().parent, path)


def _first_problem(error: ValidationError) -> str:
    """One sentence about the first problem, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    key = ""
    for part in first["loc"]:
        key += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if key else str(part)
    message = {
        "extra_forbidden": "unknown key",
        "missing": "is missing",
    }.get(first["type"], first["msg"].removeprefix("Value error, "))
    if first["type"] not in ("extra_forbidden", "missing", "value_error"):
        message += f" (got {first['input']!r})"
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{key + ': ' if key else ''}{message}{more}."


def _absolute(config: RunConfig, folder: Path, path: Path) -> RunConfig:
    """Resolve the run file's paths against its folder and check that they are there."""

    def existing(value: Path, key: str) -> Path:
        full = (folder / value).resolve()
        if not full.exists():
            raise InputError(f"{path}: {key}: no such file: {full}.")
        return full

    def fixed(table: Any, key: str) -> Any:
        changes: dict[str, Any] = {}
        for name, value in table:
            if isinstance(value, Path):
                changes[name] = existing(value, f"{key}.{name}")
            elif isinstance(value, tuple) and value and isinstance(value[0], Path):
                changes[name] = tuple(existing(v, f"{key}.{name}") for v in value)
        return table.model_copy(update=changes)

    return config.model_copy(
        update={
            "system": fixed(config.system, "system"),
            "reference": fixed(config.reference, "reference"),
            "sample": tuple(fixed(arm, f"sample[{k + 1}]") for k, arm in enumerate(config.sample)),
            "select": fixed(config.select, "select"),
            "train": fixed(config.train, "train"),
        }
    )


def schema_json() -> str:
    """JSON schema of the run file."""
    return json.dumps(RunConfig.model_json_schema(by_alias=True), indent=2)
