"""A short-range prior for training: ZBL repulsion where no data can be.

DeePMD's TensorFlow back-end interpolates between a pair table and the net by the distance of
each atom's nearest neighbour (``use_srtab``).  The table made here is the universal screened
nuclear repulsion (Ziegler, Biersack, Littmark 1985), the formula of LAMMPS's ``pair_style zbl``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
from ase.data import atomic_numbers

from metamd.frames import Array

#: e^2 / (4 pi eps_0), eV A (CODATA 2018).
COULOMB_EV_ANG = 14.399645478
#: Bohr radius times 0.8854, A; LAMMPS's ``a0``.
_SCREENING_ANG = 0.46850
_COEFFICIENTS = ((0.18175, 3.19980), (0.50986, 0.94229), (0.28022, 0.40290), (0.02817, 0.20162))
_STEP_ANG = 0.005


def zbl_energy_ev(r_ang: Array, z1: int, z2: int) -> Array:
    """Universal repulsion of two nuclei, eV, at distances ``r_ang`` [n]."""
    a = _SCREENING_ANG / (z1**0.23 + z2**0.23)
    phi = sum(c * np.exp(-d * r_ang / a) for c, d in _COEFFICIENTS)
    return np.asarray(COULOMB_EV_ANG * z1 * z2 / r_ang * phi)


def write_zbl_table(
    path: Path, species: Sequence[str], outer_ang: float, cutoff_ang: float
) -> Path:
    """Write DeePMD's pair table: distance and one energy column a pair of elements.

    Up to ``outer_ang`` it is ZBL; from there a quintic switch takes it to zero at twice that,
    so that bonded neighbours further out do not repel an atom that is too close to another.
    """
    r: Array = np.arange(1.0, round(cutoff_ang / _STEP_ANG) + 1) * _STEP_ANG
    x = np.clip((r - outer_ang) / outer_ang, 0.0, 1.0)
    switch = 1 - 10 * x**3 + 15 * x**4 - 6 * x**5
    numbers = [atomic_numbers[s] for s in species]
    columns = [
        switch * zbl_energy_ev(r, z1, z2) for z1, z2 in combinations_with_replacement(numbers, 2)
    ]
    np.savetxt(path, np.column_stack([r, *columns]), fmt="%.12g")
    return path
