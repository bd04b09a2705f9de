"""Writes the reference pages: run-file.md from the typed config, commands.md from the commands.

    uv run python docs/generate.py

A test fails where a page does not say what the code says.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin

import typer
from pydantic_core import PydanticUndefined

from metamd.cli import app
from metamd.config import CompareConfig, RunConfig
from metamd.config.base import Table

DOCS = Path(__file__).resolve().parent
NOTE = "<!-- Written by docs/generate.py; change the docstrings in {source} instead. -->\n"

#: Units by the end of a key's name, longer endings first.
UNITS = {
    "_ev_per_ang": "eV/A",
    "_g_cm3": "g/cm3",
    "_pa_s": "Pa s",
    "_cm1": "1/cm",
    "_ang": "A",
    "_bar": "bar",
    "_min": "min",
    "_ev": "eV",
    "_fs": "fs",
    "_k": "K",
}

RUN_FILE = """# Run file: every key
A run file is TOML. Unknown keys are errors, units are in the names, and paths are relative to the
run file. Three tables are needed: `[system]`, `[reference]` and one `[[sample]]`;
`metamd init STRUCTURE` writes a file to begin with, and `metamd schema` prints this page as JSON
schema.
"""

COMPARE_FILE = """# Compare file
`metamd compare` reads a run file with two more tables; see
[Checks and comparisons](checks.md#comparing-ways-to-make-a-training-set).
"""

COMMANDS = """# Commands
Exit status: 0; 1 for a failure; 2 for bad input; 130 for Ctrl-C. `--help` after any command prints
what stands here.
"""


def run_file_page() -> str:
    """The reference of run and compare files."""
    done: dict[type[Table], str] = {}
    parts = [NOTE.format(source="driver/metamd/config"), RUN_FILE]
    parts += _tables(RunConfig, "", done)
    parts.append(COMPARE_FILE)
    own = [name for name in CompareConfig.model_fields if name not in RunConfig.model_fields]
    parts += _tables(CompareConfig, "", done, own)
    return "\n".join(parts)


def _tables(
    kind: type[Table], path: str, done: dict[type[Table], str], names: list[str] | None = None
) -> Iterator[str]:
    """The sections of the tables that ``kind`` holds, each followed by its own tables."""
    for name, field in kind.model_fields.items():
        if names is not None and name not in names:
            continue
        table, many = _table_in(field.annotation)
        if table is None:
            continue
        key = f"{path}.{field.alias or name}".lstrip(".")
        title = f"[[{key}]]" if many else f"[{key}]"
        what, here = _plain(table.__doc__), _plain(field.description)
        if here.rstrip(".") not in what:
            what += " " + here
        yield f"## `{title}`\n{what}\n"
        if table in done:
            yield f"Keys as in {done[table]}.\n"
            continue
        slug = key.replace(".", "").lower()
        done[table] = f"[`{title}`](#{slug})"
        yield _keys(table, next((u for end, u in UNITS.items() if key.endswith(end)), ""))
        yield from _tables(table, key, done)


def _table_in(annotation: Any) -> tuple[type[Table] | None, bool]:
    """The table that a field holds, and whether it holds many."""
    if inspect.isclass(annotation) and get_origin(annotation) is None:
        return (annotation, False) if issubclass(annotation, Table) else (None, False)
    for part in get_args(annotation):
        table, _ = _table_in(part)
        if table is not None:
            return table, get_origin(annotation) is tuple
    return None, False


def _keys(table: type[Table], unit: str) -> str:
    """The plain keys of a table; ``unit`` is that of the table's own name."""
    properties = table.model_json_schema(by_alias=True)["properties"]
    rows = ["| key | value | default | unit | meaning |", "|---|---|---|---|---|"]
    for name, field in table.model_fields.items():
        if _table_in(field.annotation)[0] is not None:
            continue
        key = field.alias or name
        default = _default(field)
        own = next((u for end, u in UNITS.items() if key.endswith(end)), unit)
        cells = [f"`{key}`", _value(properties[key]), default, own, _plain(field.description)]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n" if len(rows) > 2 else ""


def _default(field: Any) -> str:
    if field.is_required():
        return "needed"
    value = field.default_factory() if field.default_factory is not None else field.default
    if value is None or value is PydanticUndefined or value in ((), {}):
        return ""
    return f"`{json.dumps(value)}`"


def _plain(text: str | None) -> str:
    return " ".join((text or "").replace("``", "`").split())


def _value(schema: dict[str, Any]) -> str:
    """What a key takes, in words."""
    if "anyOf" in schema:
        return " or ".join(_value(s) for s in schema["anyOf"] if s.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f'`"{value}"`' for value in schema["enum"])
    if "const" in schema:
        return f'`"{schema["const"]}"`'
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items") or schema.get("prefixItems", [{}])[0]
        return f"list ({_value(items)})"
    if kind == "object":
        return "table"
    word = {"integer": "whole number", "number": "number", "boolean": "true, false"}.get(kind or "")
    if word is None:
        return "file" if schema.get("format") == "path" else "text"
    return word + _range(schema)


def _range(schema: dict[str, Any]) -> str:
    signs = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[key]:g}" for key, sign in signs.items() if key in schema]
    if schema.get("exclusiveMaximum") == 2**31:
        bounds = [">= 0"]  # a seed
    return " " + ", ".join(bounds) if bounds else ""


def commands_page() -> str:
    """The reference of the commands, from the functions that --help is made of."""
    parts = [NOTE.format(source="driver/metamd/commands and cli.py"), COMMANDS]
    for command in app.registered_commands:
        function = command.callback
        assert function is not None
        parts += _command(command.name or function.__name__, function)
    return "\n".join(parts)


@dataclass(frozen=True)
class Parameter:
    """One argument or option of a command."""

    title: str
    value: str
    many: bool
    needed: bool
    default: str
    help: str
    is_option: bool


def _parameter(parameter: inspect.Parameter) -> Parameter:
    kind, info = get_args(parameter.annotation)[:2]
    is_option = isinstance(info, typer.models.OptionInfo)
    plain = [part for part in get_args(kind) if part is not type(None)] or [kind]
    many = get_origin(kind) is list or get_origin(plain[0]) is list
    inner = get_args(plain[0])[0] if get_args(plain[0]) else plain[0]
    # Beside Annotated, typer takes the first spelling for a default.
    spelled = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
    spelled = spelled or ["--" + parameter.name.replace("_", "-")]
    default = parameter.default
    needed = default is inspect.Parameter.empty
    quiet = needed or default is None or default is False or default == ""
    return Parameter(
        title=", ".join(spelled) if is_option else parameter.name.upper(),
        value={Path: "path", int: "whole number", float: "number", bool: ""}.get(inner, "text"),
        many=many,
        needed=needed,
        default="" if quiet else f"`{default}`",
        help=_plain(info.help),
        is_option=is_option,
    )


def _command(name: str, function: Any) -> Iterator[str]:
    signature = inspect.signature(function, eval_str=True)
    parameters = [_parameter(p) for p in signature.parameters.values()]
    parameters.sort(key=lambda p: p.is_option)
    words = [p.title + ("..." if p.many else "") for p in parameters if not p.is_option]
    needed = [p for p in parameters if p.is_option and p.needed]
    words += [f"{p.title.split(',')[0]} {p.value.split()[-1].upper()}" for p in needed]
    if any(p.is_option and not p.needed for p in parameters):
        words.append("[OPTIONS]")
    yield f"## metamd {name}\n```text\n{' '.join(['metamd', name, *words])}\n```"
    paragraphs = inspect.cleandoc(function.__doc__ or "").split("\n\n")
    yield "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs) + "\n"
    if not parameters:
        return
    rows = ["| | value | default | |", "|---|---|---|---|"]
    for p in parameters:
        value = p.value + (", repeatable" if p.many else "")
        cells = [f"`{p.title}`", value, "needed" if p.needed else p.default, p.help]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    yield "\n".join(rows) + "\n"


PAGES = {"run-file.md": run_file_page, "commands.md": commands_page}


def main() -> None:
    """Write both pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page())
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
