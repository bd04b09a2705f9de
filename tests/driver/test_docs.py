"""The manual is true: links, snippets, commands, quoted messages, generated pages."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

import metamd
from metamd import blocks as scheduler
from metamd.cli import app
from metamd.config import CompareConfig, RunConfig, Select, parse_config
from metamd.config.base import Table
from metamd.loop import STAGES

from . import manual
from .conftest import ETHANOL, ROOT

COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
BASE = {
    "system": {"structure": str(ETHANOL)},
    "reference": {"calculator": "tblite.ase:TBLite"},
    "sample": [{"name": "md"}, {"name": "metamd", "method": "metamd", "bias": {}}],
}


def test_the_manual_builds_without_a_broken_link(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "tutorial.html").exists()


def test_links_outside_the_manual() -> None:
    broken, count = [], 0
    for page in [*ROOT.glob("*.md"), *ROOT.glob("inputs/*/README.md")]:
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
            if not target.startswith("http"):
                count += 1
                broken += [] if (page.parent / target).exists() else [f"{page.name}: {target}"]
    assert count >= 3
    assert not broken


def test_generated_pages_say_what_the_code_says(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("generate", manual.DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "generate", generate)
    spec.loader.exec_module(generate)
    assert set(generate.PAGES) == set(manual.GENERATED)
    for name, page in generate.PAGES.items():
        text = page()
        assert len(text) > 4000
        assert (manual.DOCS / name).read_text() == text, (
            f"docs/{name} is not up to date: uv run python docs/generate.py"
        )


TOML = [block for block in manual.blocks() if block.language == "toml"]


@pytest.mark.parametrize("block", TOML, ids=lambda block: block.name)
def test_run_file_snippets_are_read(
    block: manual.Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = BASE | tomllib.loads(block.text)
    if "compare" in data or "arm" in data:
        data["arm"] = [*data.get("arm", []), {"name": "plain", "sample": "md"}]
        CompareConfig.model_validate(data)
        return
    for path in paths_of(RunConfig.model_validate(data)):
        if not path.is_absolute():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).touch()
    config = parse_config(data, tmp_path / "run.toml")
    if config.reference.calculator and "reference" in tomllib.loads(block.text):
        module, _, name = config.reference.calculator.partition(":")
        assert hasattr(importlib.import_module(module), name)
    # Options of a scheduler are checked against Parsl's provider, also where there is none.
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    scheduler.check_execution(config.execution)


def paths_of(table: Any) -> list[Path]:
    """All files that a table names."""
    if isinstance(table, Path):
        return [table]
    if isinstance(table, tuple):
        return [path for value in table for path in paths_of(value)]
    if isinstance(table, Table):
        return [path for _, value in table for path in paths_of(value)]
    return []


def test_there_are_snippets_of_every_page_that_teaches() -> None:
    taught = {block.page.name for block in TOML}
    assert taught >= {
        "tutorial.md", "own-dft.md", "own-deck.md", "loop.md", "cluster.md", "checks.md",
        "selection.md",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("block", "line"), manual.command_lines(), ids=lambda v: v if isinstance(v, str) else ""
)
def test_commands_of_the_documents_parse(block: manual.Block, line: str) -> None:
    _, name, *words = shlex.split(line, comments=True)
    if words[-1:] == ["--help"]:
        words.pop()
        assert name in COMMANDS
        return
    assert name in COMMANDS, block.name
    given = COMMANDS[name].make_context(name, words).params
    assert given.get("until", "report") in STAGES
    if name == "select":
        assert given["method"] in get_args(Select.model_fields["method"].annotation)
    for word in words:
        if word.startswith(("inputs/", "benchmarks/")):
            assert (ROOT / word).exists(), word


def test_programs_named_in_the_documents_are_there() -> None:
    files, modules = set(), set()
    for block in manual.blocks():
        files |= set(re.findall(r"\bpython ((?:inputs|benchmarks|docs)/\S+\.py)", block.text))
        modules |= set(re.findall(r"\bpython -m (metamd[\w.]*)", block.text))
    assert files
    assert modules
    for file in files:
        assert (ROOT / file).exists(), file
    for module in modules:
        assert importlib.util.find_spec(module), module


def test_commands_in_running_text_exist() -> None:
    spans = [
        (page.name, text)
        for page in manual.pages()
        for text in re.findall(r"`(metamd [^`]+)`", page.read_text())
    ]
    assert len(spans) > 20
    for page, text in spans:
        _, name, *_ = text.split()
        assert name in COMMANDS, f"{page}: {text}"
        known = {word for p in COMMANDS[name].params for word in (*p.opts, *p.secondary_opts)}
        asked = set(re.findall(r"(?<=\s)--[a-z-]+", text)) - {"--help"}
        assert asked <= known, f"{page}: {text}"


def test_keys_in_running_text_exist() -> None:
    tables = [name for name in (*RunConfig.model_fields, "validate", "compare") if name != "arm"]
    pattern = re.compile(rf"`((?:{'|'.join(tables)})(?:\.[a-z_]+)+)(?: = [^`]*)?`")
    keys = {(p.name, key) for p in manual.pages() for key in pattern.findall(p.read_text())}
    keys = {(page, key) for page, key in keys if not key.endswith((".toml", ".data"))}
    assert len(keys) > 10
    for page, key in sorted(keys):
        kind: Any = CompareConfig
        for part in key.split("."):
            if kind is None:
                break  # below a table that is passed through
            names = {field.alias or name: field for name, field in kind.model_fields.items()}
            assert part in names, f"{page}: {key}"
            kind = table_of(names[part].annotation)


def table_of(annotation: Any) -> Any:
    """The table that a field holds, or None."""
    if isinstance(annotation, type) and issubclass(annotation, Table):
        return annotation
    return next((t for a in get_args(annotation) if (t := table_of(a)) is not None), None)


def test_python_in_the_documents_compiles_and_imports_what_is_there() -> None:
    found = [block for block in manual.blocks() if block.language == "python"]
    assert found
    for block in found:
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom):
                assert importlib.util.find_spec(str(node.module)), block.name
        for name in re.findall(r"\bmetamd\.(\w+)\(", block.text):
            assert name in metamd.__all__, block.name


MESSAGES = manual.messages(manual.DOCS / "troubleshooting.md")


def test_quoted_messages_are_in_the_source() -> None:
    assert len(MESSAGES) > 40
    texts = manual.templates()
    assert len(texts) > 500
    lost = [message for message in MESSAGES if not any(manual.says(t, message) for t in texts)]
    assert not lost, lost


def test_a_message_that_changed_is_found_out() -> None:
    texts = {f"arm {manual.HOLE}: no walker gave a frame"}
    assert manual.says(*texts, "arm ...: no walker gave a frame")
    assert not manual.says(*texts, "arm ...: no walker made a frame")
    assert not manual.says(*texts, "arm md: no walker gave a frame")
