"""NVT dynamics with ``pair_style deepmd``: how long does the system stay whole?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, covalent_radii
from ase.neighborlist import neighbor_list
from numpy.typing import NDArray

from metamd.bonds import BondGraph
from metamd.config import Sample
from metamd.frames import Array, Frames, save_npz
from metamd.units import KB_EV_PER_K, PS_PER_FS
from metamd.validate.trajectory import run_model

#: Frames kept of a run.
N_FRAMES = 500
#: Instantaneous temperatures beyond this multiple of the thermostat's are no fluctuation: the
#: temperature of n atoms fluctuates by sqrt(2/(3n)), 27 % for nine atoms.
HOT = 5.0
#: As for the temperature: the potential energy of n atoms lies about 3/2 n kB T above the minimum;
#: this multiple of it above the start is an explosion, below the start a false minimum (Herr
#: 2018, figure 7).
FAR = 5.0
#: Atoms closer than this part of the sum of their covalent radii have fallen into each other;
#: H2's bond is 1.2 times that sum.
COLLAPSED = 0.6


def run_stability(
    folder: Path,
    model: str,
    train: str,
    seed: int,
    temperature_k: float,
    steps: int,
    timestep_fs: float,
    symbols: list[str],
    positions: list[list[float]],
    cell: list[list[float]] | None,
    rigid_water: bool = False,
) -> dict[str, Any]:
    """Task: one run, to its end or to the first failure.

    A run fails when a bond of the start breaks or one forms (molecules, also those of a liquid),
    atoms fall into each other, temperature or potential energy leave all bounds (HOT, FAR), or
    LAMMPS gives up.

    Returns: ``intact``, ``failure`` (None or what and when), ``time_ps`` (until the failure),
        ``planned_ps``, ``mean_temperature_k`` (of the good part), ``trajectory`` (file name; None
        where not one frame was written).
    """
    atoms = Atoms(symbols, positions, cell=cell, pbc=cell is not None)
    arm = Sample(
        name="stability",
        engine="model",
        model=Path(model),
        temperature_k=temperature_k,
        timestep_fs=timestep_fs,
        steps=steps,
        stride=max(1, steps // N_FRAMES),
        seed=seed,
        allow_bond_breaking=True,
        max_force_ev_per_ang=1000.0,
        rigid_water=rigid_water,
    )
    outcome = run_model(folder, arm, atoms, model)
    planned_ps = steps * timestep_fs * PS_PER_FS
    frames = outcome.frames
    if frames is None:
        return {
            "planned_ps": planned_ps,
            "trajectory": None,
            "intact": False,
            "failure": f"blew up before the first frame; {outcome.stopped}",
            "time_ps": 0.0,
        }
    kinetic = np.asarray(frames.info["kinetic_temperature_k"], float)
    time_ps = np.asarray(frames.info["step"], float) * timestep_fs * PS_PER_FS
    frames = frames.with_info(time_ps=time_ps)
    save_npz(frames, folder / "frames.npz")
    failure = first_failure(atoms, frames, kinetic, temperature_k)
    if failure is None and outcome.stopped is not None:
        failure = BadFrame(len(frames) - 1, outcome.stopped)
    if failure is not None and failure.index == 0:
        failure = BadFrame(0, f"blew up at the first step; {failure.what}")
    good = kinetic[: len(frames) if failure is None else failure.index]
    return {
        "planned_ps": planned_ps,
        "trajectory": "frames.npz",
        "intact": failure is None,
        "failure": None if failure is None else failure.what,
        "time_ps": planned_ps if failure is None else float(time_ps[failure.index]),
        "mean_temperature_k": float(good.mean()) if len(good) else None,
    }


@dataclass(frozen=True)
class BadFrame:
    """The first bad frame of a run, and what is bad about it."""

    index: int
    what: str


def first_failure(
    atoms: Atoms, frames: Frames, kinetic_k: Array, temperature_k: float
) -> BadFrame | None:
    """The first frame that no sound run passes through.

    Args:
        atoms: the starting structure.
        frames: of the run, with energies.
        kinetic_k: kinetic temperature of each, K, [n_frames].
        temperature_k: the thermostat's, K.
    """
    bonds = BondGraph.of_atoms(atoms)
    found: list[BadFrame] = []
    if not bonds.network:
        broken = ~bonds.intact_mask(frames.positions, frames.cell)
        if broken.any():
            k = int(broken.argmax())
            cell = None if frames.cell is None else frames.cell[k]
            changes = bonds.changes(frames.positions[k], cell)
            found.append(BadFrame(k, changes[0] if changes else "the bond graph changed"))
    if (hot := kinetic_k > HOT * temperature_k).any():
        k = int(hot.argmax())
        found.append(BadFrame(k, f"the temperature reached {kinetic_k[k]:.0f} K"))
    if frames.energy is not None:
        bound = FAR * 1.5 * len(atoms) * KB_EV_PER_K * temperature_k
        change = frames.energy - frames.energy[0]
        if (far := np.abs(change) > bound).any():
            k = int(far.argmax())
            found.append(
                BadFrame(k, f"the potential energy went {change[k]:+.2f} eV from the start")
            )
    # Only up to what is found already: the search for close atoms is the slow one.
    end = min([bad.index for bad in found], default=len(frames))
    if (close := _collapsed(frames[:end])) is not None:
        return close
    return min(found, key=lambda bad: bad.index) if found else None


def _collapsed(frames: Frames) -> BadFrame | None:
    """The first frame with two atoms in each other."""
    radii = np.array([covalent_radii[atomic_numbers[s]] for s in frames.symbols])
    for k in range(len(frames)):
        if (pair := _closest(frames.to_atoms(k), radii)) is not None:
            i, j, d = pair
            a, b = f"{frames.symbols[i]}{i + 1}", f"{frames.symbols[j]}{j + 1}"
            return BadFrame(k, f"{a} and {b} came within {d:.2f} A")
    return None


def _closest(atoms: Atoms, radii: NDArray[np.float64]) -> tuple[int, int, float] | None:
    i, j, d = neighbor_list("ijd", atoms, COLLAPSED * radii)
    if not len(d):
        return None
    k = int(d.argmin())
    return int(min(i[k], j[k])), int(max(i[k], j[k])), float(d[k])
