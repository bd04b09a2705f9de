"""A wandering ethanol: frames that a bias can be recorded on and replayed."""

from __future__ import annotations

import numpy as np
import plumed_cases
from plumed_host import Frame

SPECIES = "C,C,O,H*6"
UNITS = "UNITS LENGTH=A ENERGY=eV\n"


def ethanol() -> np.ndarray:
    """[9, 3], in Angstrom."""
    return next(
        plumed_cases.positions(c)
        for c in plumed_cases.load("bias.json")
        if len(c["species"]) == 9 and c["cell_ang"] is None
    )


def wander(frames: int, seed: int = 7, cell: np.ndarray | None = None) -> list[Frame]:
    """Correlated noise about the structure: neighbouring frames are alike, as in dynamics."""
    rng = np.random.default_rng(seed)
    start = ethanol()
    shift = np.zeros_like(start)
    out: list[Frame] = []
    for _ in range(frames):
        shift = 0.95 * shift + rng.normal(scale=0.03, size=start.shape)
        out.append((start + shift, cell))
    return out
