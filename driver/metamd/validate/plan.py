"""Which tasks judge models: one function call a task, each in a folder of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ase import Atoms

from metamd.config import Reference, System, Validate
from metamd.execution import Task
from metamd.identity import task_argument
from metamd.validate import tasks

ERRORS_TASK = "metamd.validate.models:model_errors"
STABILITY_TASK = "metamd.validate.stability:run_stability"
_TASKS = "metamd.validate.tasks"


@dataclass(frozen=True)
class ModelFile:
    """A frozen model to judge: what it was trained on, its seed, its file."""

    train: str
    seed: int
    path: Path


Ensembles = Mapping[str, Sequence[ModelFile]]


@dataclass(frozen=True)
class Plan:
    """What the tasks are made from.

    Attributes:
        start: structure that dynamics starts from.
        config: the checks and their settings.
        folder: of the whole validation.
        reference, system: what models are compared with, where it is given.
    """

    start: Atoms
    config: Validate
    folder: Path
    reference: Reference | None = None
    system: System | None = None

    @property
    def _reference_moves(self) -> bool:
        """Finished calculations of a DFT program have no forces for new geometries."""
        return self.reference is not None and self.reference.kind != "files"

    def errors_folder(self, model: ModelFile) -> Path:
        return self.folder / "errors" / f"{model.train}-seed-{model.seed}"

    def errors(self, model: ModelFile, tests: Mapping[str, Path]) -> Task:
        """Errors of one model on all test sets."""
        return Task(
            ERRORS_TASK,
            self.errors_folder(model),
            {
                "model": str(model.path),
                "tests": {k: str(v) for k, v in tests.items()},
                "elements": sorted(set(self.start.get_chemical_symbols())),
                "remove_offset": self.config.remove_energy_offset,
            },
            f"errors of {model.train}, seed {model.seed}",
        )

    def stability(self, ensembles: Ensembles) -> list[tuple[ModelFile, Task]]:
        """Dynamics with the first model of each ensemble, or with all of them."""
        every = self.config.stability_members == "all"
        return [
            (model, self._stability(model, number, temperature))
            for ensemble in ensembles.values()
            for number, model in enumerate(ensemble if every else ensemble[:1])
            for temperature in self.config.temperatures_k
        ]

    def _stability(self, model: ModelFile, number: int, temperature: float) -> Task:
        member = f"-member-{number + 1}" if number else ""
        return Task(
            STABILITY_TASK,
            self.folder / "stability" / f"{model.train}-{temperature:g}K{member}",
            {
                "model": str(model.path),
                "train": model.train,
                "seed": self.config.seed + number,
                "temperature_k": temperature,
                "steps": self.config.steps,
                "timestep_fs": self.config.timestep_fs,
                **self._structure(),
                "rigid_water": self.config.rigid_water,
            },
            f"{temperature:g} K dynamics of {model.train}, seed {model.seed}",
        )

    def _structure(self) -> dict[str, Any]:
        return {
            "symbols": self.start.get_chemical_symbols(),
            "positions": self.start.positions.tolist(),
            "cell": self.start.cell.array.tolist() if self.start.pbc.any() else None,
        }

    def checks(self, ensembles: Ensembles) -> list[Task]:
        """Scans, frequencies, NVE, and the trajectories that liquids are analysed from."""
        c, wanted = self.config, self.config.checks
        system = {
            **self._structure(),
            "reference": self.reference and task_argument(self.reference),
            "charge": self.system.charge if self.system else 0,
            "multiplicity": self.system.multiplicity if self.system else 1,
            "models": {name: str(members[0].path) for name, members in ensembles.items()},
        }

        def task(kind: str, folder: str, title: str, **more: Any) -> Task:
            where = self.folder / folder
            return Task(f"{_TASKS}:{kind}_task", where, {"system": system, **more}, title)

        out = []
        if "scans" in wanted:
            scans = [task_argument(scan) for scan in c.scans]
            out.append(task("scans", "scans", "scans of bonds and angles", scans=scans))
        if "frequencies" in wanted:
            out.append(task("frequencies", "frequencies", "harmonic frequencies"))
        if "nve" in wanted:
            settings = {
                "temperature_k": c.nve_temperature_k,
                "timestep_fs": c.timestep_fs,
                "steps": c.nve_steps,
                "seed": c.seed,
            }
            out.append(task("nve", "nve", "energy conservation", settings=settings))
        if "rdf" in wanted or "diffusion" in wanted:
            names = [tasks.REFERENCE] if self._reference_moves else []
            settings = task_argument(c.trajectory)
            out += [
                task(
                    "trajectory",
                    f"trajectory/{name}",
                    f"trajectory of {name}",
                    name=name,
                    settings=settings,
                    rigid_water=self.config.rigid_water,
                )
                for name in [*names, *ensembles]
            ]
        return out

    def liquid(self, trajectories: Mapping[str, str]) -> Task:
        """What trajectories of a liquid say: radial distributions, self-diffusion."""
        kinds = [kind for kind in ("rdf", "diffusion") if kind in self.config.checks]
        return Task(
            f"{_TASKS}:liquid_task",
            self.folder / "liquid",
            {
                "trajectories": dict(trajectories),
                "checks": kinds,
                "settings": task_argument(self.config.trajectory),
            },
            " and ".join(kinds),
        )

    def deviation(self, ensembles: Ensembles, run: Mapping[str, Any]) -> Task:
        """Disagreement of an ensemble along a stability run of one of its models."""
        return Task(
            f"{_TASKS}:deviation_task",
            self.folder / "deviation" / f"{run['train']}-{run['temperature_k']:g}K",
            {
                "models": [str(m.path) for m in ensembles[run["train"]]],
                "trajectory": run["trajectory"],
                "until_ps": run["time_ps"],
                "timestep_fs": self.config.timestep_fs,
            },
            f"deviation of {run['train']}, {run['temperature_k']:g} K",
        )
