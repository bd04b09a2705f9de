"""Run files: what is wrong in one is said in one sentence, with file and key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from metamd.cli import app
from metamd.config import load_compare, load_config, schema_json
from metamd.errors import InputError
from metamd.template import run_file_text
from metamd.validate.citations import run_citations

from .conftest import ETHANOL, ROOT

BASE = run_file_text(str(ETHANOL))


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


BAD = {
    "missing structure": (str(ETHANOL), "nowhere.xyz", "system.structure"),
    "unknown key": ("stride = 20", "strides = 20", "sample[1].strides: unknown key"),
    "unknown table": ("[select]", "[selection]", "selection: unknown key"),
    "wrong type": ("steps = 40000", 'steps = "many"', "train.steps"),
    "negative time step": ("timestep_fs = 0.5", "timestep_fs = -0.5", "sample[1].timestep_fs"),
    "unknown method": ('method = "md"', 'method = "magic"', "sample[1].method"),
    "bias on md": ('method = "metamd"', 'method = "md"', "bias belongs to"),
    "no bias": ("[sample.bias]", "[sample.nothing]", "sample[2].nothing: unknown key"),
    "bias factor": ("height_ev = 0.03", "biasfactor = 1.0", "sample[2].bias.biasfactor"),
    "same name": ('name = "hot"', 'name = "md"', "two [[sample]] tables"),
    "bad name": ('name = "hot"', 'name = "../hot"', "sample[3].name"),
    "stride": ("stride = 20", "stride = 20000", "stride is larger than steps"),
    "zero walkers": ("walkers = 2", "walkers = 0", "sample[1].walkers"),
    "no calculator": ('calculator = "tblite.ase:TBLite"', "", "needs calculator"),
    "not toml": ("[train]", "[train", "not valid TOML"),
    "zero models": ("models = 2", "models = 0", "train.models"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_run_file_is_refused_with_file_and_key(case: str, tmp_path: Path) -> None:
    old, new, words = BAD[case]
    assert old in BASE
    path = write(tmp_path, BASE.replace(old, new, 1))
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert str(path) in str(caught.value)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 400


def test_good_run_files() -> None:
    # compare.toml is of another kind: a run file is inside.
    paths = [path for path in ROOT.glob("inputs/*/*.toml") if path.name != "compare.toml"]
    assert {path.parent.name for path in paths} >= {"ethanol", "ethylene_glycol", "nacl"}
    for path in paths:
        config = load_compare(path) if path.name.startswith("compare") else load_config(path)
        assert config.system.structure is None or config.system.structure.is_absolute()
    compared = load_config(ROOT / "inputs" / "ethanol" / "run.toml")
    assert {arm.method for arm in compared.sample} == {"md", "metamd"}


def test_schema_names_every_table_and_documents_every_key() -> None:
    schema: dict[str, Any] = json.loads(schema_json())
    assert set(schema["properties"]) >= {"system", "reference", "sample", "train", "validate"}
    tables = {k: t for k, t in schema["$defs"].items() if t.get("type") == "object"}
    assert len(tables) >= 8
    for name, table in tables.items():
        for key, value in table["properties"].items():
            assert value.get("description"), f"{name}.{key} has no description"


def test_init_writes_a_run_file_that_loads_and_never_overwrites(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    result = CliRunner().invoke(app, ["init", str(ETHANOL), "-o", str(path)])
    assert result.exit_code == 0, result.output
    assert load_config(path).system.structure == ETHANOL
    before = path.read_text()
    again = CliRunner().invoke(app, ["init", str(ETHANOL), "-o", str(path)])
    assert isinstance(again.exception, InputError)
    assert path.read_text() == before


def test_a_run_cites_the_papers_of_its_selection_and_augmentation(tmp_path: Path) -> None:
    # The default checks cite two of them as well.
    base = BASE.replace("[validate]", '[validate]\nchecks = ["cross_errors"]')
    plain = run_citations(load_config(write(tmp_path, base)))
    more = (
        base.replace('method = "time"', 'method = "flatten"')
        + "[augment]\n[loop]\niterations = 2\n"
    )
    cited = run_citations(load_config(write(tmp_path, more)))
    new = [entry["reference"] for entry in cited if entry not in plain]
    assert len(new) == 3
    assert "124102" in new[0]
    assert "107206" in new[1]
    assert "augmentation" in new[2]
    checked = run_citations(load_config(write(tmp_path, BASE)))
    assert [c["reference"] in new[:2] for c in checked if c not in plain] == [True, True]
