"""The whole run file: read, checked, its paths resolved."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, ValidationError, model_validator

from metamd.config.base import Table
from metamd.config.execution import Execution
from metamd.config.loop import Loop
from metamd.config.sample import Sample
from metamd.config.select import Augment, Select
from metamd.config.system import Reference, System
from metamd.config.train import Dataset, Label, Train
from metamd.config.validate import Validate
from metamd.errors import InputError

AnyTable = TypeVar("AnyTable", bound=Table)


class RunConfig(Table):
    """A whole run file."""

    system: System
    reference: Reference
    sample: Annotated[tuple[Sample, ...], Field(min_length=1)]
    select: Select = Select()
    label: Label = Label()
    dataset: Dataset = Dataset()
    augment: Augment | None = None
    """Augmented frames that training takes as well; by default none."""
    train: Train = Train()
    validation: Validate = Field(default=Validate(), alias="validate")
    loop: Loop = Loop()
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
            if arm.engine == "reference" and self.reference.kind == "files" and arm.moves:
                raise ValueError(
                    f"[[sample]] {arm.name!r}: finished calculations move no atoms; take "
                    'engine = "model" or "lammps"'
                )
            if arm.engine == "lammps" and not (
                arm.commands or arm.deck or self.reference.kind == "lammps"
            ):
                raise ValueError(
                    f'[[sample]] {arm.name!r}: engine = "lammps" needs commands (pair_style lines)'
                )
        self._loop_fits()
        self._augment_fits()
        return self

    def _loop_fits(self) -> None:
        loop, needs_ensemble = self.loop, ("deviation", "flatten")
        has_test = any(arm.role == "test" for arm in self.sample)
        if loop.stop_force_error_ev_per_ang is not None and not has_test:
            raise ValueError(
                'loop.stop_force_error_ev_per_ang needs a [[sample]] with role = "test"'
            )
        if loop.iterations > 1 and self.train.models < 2 and loop.select.method in needs_ensemble:
            raise ValueError(
                f'loop.select.method = "{loop.select.method}" needs train.models = 2 or more: one '
                "model cannot disagree with itself"
            )

    def _augment_fits(self) -> None:
        """Springs come from plain dynamics: the spread of a biased run is no temperature's."""
        if self.augment is None or self.augment.springs is not None:
            return
        if not any(is_thermal(arm) for arm in self.sample):
            raise ValueError(
                'augment needs a [[sample]] with method = "md" and role = "train" to fit springs '
                'to, or springs = "file.json"'
            )


def is_thermal(arm: Sample) -> bool:
    """Are this arm's training frames plain dynamics at its temperature?"""
    return arm.method == "md" and arm.role == "train" and arm.plumed is None and arm.deck is None


Config = TypeVar("Config", bound=RunConfig)


def load_config(path: str | Path) -> RunConfig:
    """Read and check a run file; paths in it become absolute.

    Raises:
        InputError: no such file, no TOML, an unknown key, a value of the wrong type or range.
    """
    return read_config(Path(path), RunConfig)


def read_config(path: Path, kind: type[Config]) -> Config:
    """As ``load_config``, for any file that has the tables of a run file."""
    try:
        data = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such run file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: is not valid TOML ({error}).") from error
    return _parsed(data, path, kind)


def parse_config(data: dict[str, Any], path: Path) -> RunConfig:
    """Check a run file's content; ``path`` is for messages and relative paths."""
    return _parsed(data, path, RunConfig)


def _parsed(data: dict[str, Any], path: Path, kind: type[Config]) -> Config:
    try:
        config = kind.model_validate(data)
    except ValidationError as error:
        raise InputError(f"{path}: {_first_problem(error)}") from None
    return _absolute(config, path)


def _first_problem(error: ValidationError) -> str:
    """One sentence about the first problem, and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    key = ""
    for part in first["loc"]:
        if isinstance(part, int):
            key += f"[{part + 1}]"
        else:
            name = part if part.isprintable() else repr(part)
            key += f".{name}" if key else name
    message = {
        "extra_forbidden": "unknown key",
        "missing": "is missing",
    }.get(first["type"], first["msg"].removeprefix("Value error, "))
    if first["type"] not in ("extra_forbidden", "missing", "value_error"):
        message += f" (got {first['input']!r})"
    more = f" ({len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{key + ': ' if key else ''}{message}{more}."


def absolute_paths(table: AnyTable, path: Path, key: str) -> AnyTable:
    """A table with its paths resolved against the folder of the file ``path``.

    Raises:
        InputError: one of them is not there; the message names ``key``.
    """
    folder = path.resolve().parent

    def existing(value: Path, name: str) -> Path:
        full = (folder / value).resolve()
        if not full.exists():
            raise InputError(f"{path}: {key}.{name}: no such file: {full}.")
        return full

    changes: dict[str, Any] = {}
    for name, value in table:
        if isinstance(value, Path):
            changes[name] = existing(value, name)
        elif isinstance(value, tuple) and value and isinstance(value[0], Path):
            changes[name] = tuple(existing(v, name) for v in value)
        elif isinstance(value, Table):
            changes[name] = absolute_paths(value, path, f"{key}.{name}")
        elif isinstance(value, tuple) and value and isinstance(value[0], Table):
            changes[name] = tuple(
                absolute_paths(v, path, f"{key}.{name}[{k + 1}]") for k, v in enumerate(value)
            )
    return table.model_copy(update=changes)


def _absolute(config: Config, path: Path) -> Config:
    """Resolve the run file's paths against its folder and check that they are there."""

    def fixed(table: AnyTable, key: str) -> AnyTable:
        return absolute_paths(table, path, key)

    return config.model_copy(
        update={
            "system": fixed(config.system, "system"),
            "reference": fixed(config.reference, "reference").in_folder(path.resolve().parent),
            "sample": tuple(fixed(arm, f"sample[{k + 1}]") for k, arm in enumerate(config.sample)),
            "select": fixed(config.select, "select"),
            "augment": config.augment and fixed(config.augment, "augment"),
            "train": fixed(config.train, "train"),
            "loop": fixed(config.loop, "loop"),
        }
    )


def schema_json() -> str:
    """JSON schema of the run file."""
    return json.dumps(RunConfig.model_json_schema(by_alias=True), indent=2)
