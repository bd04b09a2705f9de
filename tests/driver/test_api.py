"""The Python functions: what the command does, without global state, with a bar in a notebook."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import metamd
from metamd.errors import InputError
from metamd.progress import TaskProgress

from .conftest import ROOT


def test_the_example_script_runs(tmp_path: Path) -> None:
    """Up to its data sets, in a folder of its own; the training is that of every other test."""
    script = ROOT / "inputs" / "ethanol" / "from_python.py"
    text = script.read_text().replace('"steps": 4000', '"steps": 600').replace(
        '"steps": 2000', '"steps": 200')  # fmt: skip
    (tmp_path / "ethanol.xyz").write_bytes((script.parent / "ethanol.xyz").read_bytes())
    (tmp_path / "script.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "script.py", "runs/mine", "dataset"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the first is of step 0" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ethanol.xyz", "runs", "script.py"]
    assert metamd.read_status(tmp_path / "runs/mine").state == "ended after dataset"
    page = metamd.write_report(tmp_path / "runs/mine")
    assert page.stat().st_size > 1000


def test_bad_input_is_an_exception(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"system: is missing"):
        metamd.run({"reference": {}}, tmp_path / "w")
    with pytest.raises(InputError, match="no such run file"):
        metamd.run(tmp_path / "no.toml")
    assert list(tmp_path.iterdir()) == []


def test_no_function_hides_behind_a_module() -> None:
    """``import metamd.x`` sets ``metamd.x``: a function of that name would be gone."""
    package = Path(metamd.__file__).parent
    modules = {path.stem for path in package.glob("*.py")} | {p.name for p in package.iterdir()}
    assert "predict" in modules
    assert not modules & set(metamd.__all__)


def test_every_function_is_documented() -> None:
    for name in metamd.__all__:
        thing = getattr(metamd, name)
        assert name == "__version__" or len(thing.__doc__) > 40
        assert name == "__version__" or f"``{name}(" in (metamd.__doc__ or "")


def test_a_notebook_gets_a_bar_in_its_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPython's display is replaced by a list; rich must take the console for a notebook's."""
    shown: list[str] = []

    class Handle:
        def update(self, content: Any) -> None:
            shown.append(content)

    def display(content: Any, display_id: bool) -> Handle:
        assert display_id
        shown.append(content)
        return Handle()

    module = types.ModuleType("IPython.display")
    module.HTML, module.display = str, display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    with TaskProgress(Console(force_jupyter=True), "label <a>", 4, 1) as bar:
        bar.update(2.5)
    assert len(shown) == 3
    assert "label &lt;a&gt; <progress max=4 value=1.000>" in shown[0]
    assert "value=2.500" in shown[1]
    assert "4 of 4 tasks, done in" in shown[2]
