"""What the driver's tests share: ethanol, its run file, the real programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from ase import Atoms
from ase.io import read

ROOT = Path(__file__).resolve().parents[2]
ETHANOL = ROOT / "inputs" / "ethanol" / "ethanol.xyz"


@pytest.fixture
def ethanol() -> Atoms:
    """GFN2-xTB minimum of ethanol."""
    return read(ETHANOL)
