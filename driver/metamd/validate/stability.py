"""NVT dynamics with ``pair_style deepmd``: how long does the system stay whole?"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from metamd import deck, dump
from metamd.bonds import BondGraph
from metamd.config import Sample
from metamd.deck import Forces, model_commands
from metamd.execution import last_useful_line, run_lmp
from metamd.frames import save_npz
from metamd.units import PS_PER_FS

#: Frames kept of a run.
N_FRAMES = 500
#: Instantaneous temperatures beyond this multiple of the thermostat's are no fluctuation: the
#: temperature of n atoms fluctuates by sqrt(2/(3n)), 27 % for nine atoms.
HOT = 5.0


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
) -> dict[str, Any]:
    """Task: one run, to its end or to the first failure.

    A run fails when a bond of the start breaks or one forms (molecules), the temperature leaves
    the thermostat's by a factor of HOT, or LAMMPS gives up.

    Returns: ``intact``, ``failure`` (None or what and when), ``time_ps`` (until the failure),
        ``planned_ps``, ``mean_temperature_k`` (of the good part), ``trajectory`` (file name).
    """
    atoms = Atoms(symbols, positions, cell=cell, pbc=cell is not None)
    species = sorted(set(symbols))
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
    )
    local = f"model{Path(model).suffix}"
    shutil.copy2(model, folder / local)
    deck.write_data(atoms, species, folder / deck.DATA, "atomic")
    (folder / deck.DECK).write_text(
        deck.sampling_deck(arm, atoms, Forces(model_commands(local, species)), seed)
    )
    for leftover in (deck.DUMP, deck.THERMO):
        (folder / leftover).unlink(missing_ok=True)
    status = run_lmp(folder, deck.DECK, "screen.log", check=False)
    planned_ps = steps * timestep_fs * PS_PER_FS
    result: dict[str, Any] = {"planned_ps": planned_ps, "trajectory": "frames.npz"}
    if not (folder / deck.DUMP).exists():
        line = last_useful_line(folder / "screen.log")
        return result | {"intact": False, "failure": f"did not start: {line}", "time_ps": 0.0}
    frames = dump.add_thermo(
        dump.read_dump(folder / deck.DUMP), dump.read_thermo(folder / deck.THERMO)
    )
    save_npz(frames, folder / "frames.npz")
    (folder / deck.DUMP).unlink()
    kinetic = frames.info["kinetic_temperature_k"]
    time_ps = frames.info["step"] * timestep_fs * PS_PER_FS
    first, what = _first_failure(atoms, frames.positions, kinetic, temperature_k)
    if first is None and (
        status or time_ps[-1] < planned_ps - arm.stride * timestep_fs * PS_PER_FS
    ):
        first, what = len(frames) - 1, f"LAMMPS: {last_useful_line(folder / 'screen.log')}"
    good = kinetic[: len(frames) if first is None else first]
    return result | {
        "intact": first is None,
        "failure": what,
        "time_ps": planned_ps if first is None else float(time_ps[first]),
        "mean_temperature_k": float(good.mean()) if len(good) else None,
    }


def _first_failure(
    atoms: Atoms, positions: Any, kinetic_k: Any, temperature_k: float
) -> tuple[int | None, str | None]:
    """Index of the first bad frame and what is bad about it."""
    bonds = BondGraph.of(
        atoms.get_chemical_symbols(),
        atoms.positions,
        atoms.cell.array if atoms.pbc.any() else None,
    )
    broken = (
        np.zeros(len(positions), dtype=bool) if atoms.pbc.any() else ~bonds.intact_mask(positions)
    )
    hot = kinetic_k > HOT * temperature_k
    bad = broken | hot
    if not bad.any():
        return None, None
    first = int(bad.argmax())
    if broken[first]:
        changes = bonds.changes(positions[first])
        return first, changes[0] if changes else "the bond graph changed"
    return first, f"the temperature reached {kinetic_k[first]:.0f} K"
