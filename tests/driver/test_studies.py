"""The studies in inputs/: every run file loads, every folder's README quotes the files there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from metamd.config import load_config

from .conftest import ROOT

INPUTS = ROOT / "inputs"
RUN_FILES = sorted(INPUTS.glob("*/*.toml"))
#: Not a study: PLUMED files to copy.
STUDIES = sorted({path.parent for path in RUN_FILES})
COMMAND = re.compile(r"^    ((?:uv run .*)?(?:metamd|python) .*inputs/.*)$", re.MULTILINE)


def test_there_are_studies() -> None:
    assert {"ethanol", "nicotine", "water_cluster", "water_tip3p", "nacl"} <= {
        folder.name for folder in STUDIES
    }


@pytest.mark.parametrize("path", RUN_FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_run_file_loads(path: Path) -> None:
    if "compare" in tomllib.loads(path.read_text()):
        from metamd.config.compare import load_compare

        load_compare(path)
    else:
        load_config(path)


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_readme_quotes_what_is_there(folder: Path) -> None:
    commands = COMMAND.findall((folder / "README.md").read_text())
    assert commands, f"{folder.name}/README.md quotes no command"
    quoted = {word for line in commands for word in line.split() if word.startswith("inputs/")}
    for name in quoted:
        assert (ROOT / name).exists(), f"{folder.name}/README.md: no such file: {name}"
    there = {
        path.relative_to(ROOT).as_posix() for path in (*folder.glob("*.toml"), *folder.glob("*.py"))
    }
    assert there <= quoted, f"not in {folder.name}/README.md: {sorted(there - quoted)}"


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_readme_says_what_it_costs(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    assert re.search(r"core-(hours|minutes)", text), f"{folder.name}/README.md names no cost"
