"""The whole run file: read, checked, its paths resolved."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from metamd.config.base import Table
from metamd.config.execution import Execution
from metamd.config.loop import Loop
from metamd.config.sample import Sample
from metamd.config.select import Select
from metamd.config.system import Reference, System
from metamd.config.train import Dataset, Label, Train
from metamd.config.validate import Validate
from metamd.errors import InputError


class RunConfig(Table):
    """A whole run file."""

    system: System
    reference: Reference
    sample: Annotated[tuple[Sample, ...], Field(min_length=1)]
    select: Select = Select()
    label: Label = Label()
    dataset: Dataset = Dataset()
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
            elif name == "outputs":
                changes[name] = tuple(str(folder / pattern) for pattern in value)
            elif isinstance(value, Table):
                changes[name] = fixed(value, f"{key}.{name}")
            elif isinstance(value, tuple) and value and isinstance(value[0], Table):
                changes[name] = tuple(
                    fixed(v, f"{key}.{name}[{k + 1}]") for k, v in enumerate(value)
                )
        return table.model_copy(update=changes)

    return config.model_copy(
        update={
            "system": fixed(config.system, "system"),
            "reference": fixed(config.reference, "reference"),
            "sample": tuple(fixed(arm, f"sample[{k + 1}]") for k, arm in enumerate(config.sample)),
            "select": fixed(config.select, "select"),
            "train": fixed(config.train, "train"),
            "loop": fixed(config.loop, "loop"),
        }
    )


def schema_json() -> str:
    """JSON schema of the run file."""
    return json.dumps(RunConfig.model_json_schema(by_alias=True), indent=2)
