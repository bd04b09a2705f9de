"""Every conversion between units and sign conventions, in this one place.

Inside metamd: energy eV, length A, time fs, temperature K, force eV/A, pressure bar.
The virial is W = -sum_ij r_ij (x) dV/dr_ij in eV, DeePMD's convention; stress (ASE) is -W/V.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase import units as _ase
from numpy.typing import NDArray

#: Boltzmann's constant, eV/K.
KB_EV_PER_K: float = _ase.kB
#: One hartree in eV.
HARTREE_EV: float = _ase.Hartree
#: One bohr in A.
BOHR_ANG: float = _ase.Bohr
#: One kcal/mol in eV, and its inverse.
KCAL_MOL_EV: float = _ase.kcal / _ase.mol
EV_KCAL_MOL: float = 1.0 / KCAL_MOL_EV
#: LAMMPS ``metal`` counts time in ps.
PS_PER_FS: float = 1e-3
#: 1 eV/A^3 in bar.
BAR_PER_EV_ANG3: float = 1.0 / (1e5 * _ase.Pascal)
MEV_PER_EV: float = 1e3
#: One standard atmosphere in bar (LAMMPS ``real`` counts pressure in atm).
BAR_PER_ATM: float = 1.01325


@dataclass(frozen=True)
class LammpsUnits:
    """What a LAMMPS unit style counts in, as factors to metamd's units.

    Attributes:
        energy_ev: eV per LAMMPS energy; forces follow, lengths are A in both styles.
        time_fs: fs per LAMMPS time.
        pressure_bar: bar per LAMMPS pressure.
    """

    energy_ev: float
    time_fs: float
    pressure_bar: float


#: The unit styles that decks are written in.
LAMMPS_UNITS = {
    "metal": LammpsUnits(1.0, 1e3, 1.0),
    "real": LammpsUnits(KCAL_MOL_EV, 1.0, BAR_PER_ATM),
}


def virial_from_ase_stress(
    stress_voigt: NDArray[np.float64], volume_ang3: float
) -> NDArray[np.float64]:
    """DeePMD's virial [3, 3] (eV) from ASE's stress [6] (eV/A^3, order xx yy zz yz xz xy)."""
    xx, yy, zz, yz, xz, xy = stress_voigt
    stress = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return -stress * volume_ang3


def virial_from_pressure(
    pressure_bar: NDArray[np.float64], volume_ang3: float
) -> NDArray[np.float64]:
    """Virial [3, 3] (eV) from LAMMPS's virial pressure [6] (bar, order xx yy zz xy xz yz)."""
    xx, yy, zz, xy, xz, yz = pressure_bar
    pressure = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
    return pressure * volume_ang3 / BAR_PER_EV_ANG3
