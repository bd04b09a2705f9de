"""What the driver's tests share: ethanol, its run file, the real programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from ase import Atoms
from ase.io import read
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[2]
ETHANOL = ROOT / "inputs" / "ethanol" / "ethanol.xyz"


@pytest.fixture
def ethanol() -> Atoms:
    """GFN2-xTB minimum of ethanol."""
    return read(ETHANOL)


def printed_by(register: Callable[[typer.Typer], None], *words: object) -> str:
    """What a command of one of ``metamd.commands`` prints; it ends well, its errors are raised."""
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, [str(w) for w in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output
