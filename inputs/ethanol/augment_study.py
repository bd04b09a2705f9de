"""Augmentation of ethanol: the O-H stretch and energy conservation with and without it.

    metamd sample inputs/ethanol/augment.toml -w POOL
    python inputs/ethanol/augment_study.py POOL --workdir STUDY

1000 frames of 500 K dynamics (GFN2-xTB) and 200 augmented ones; the longest displacement is scanned
as in the paper.  Every model is trained for the same number of steps.  Compared with the reference:
the rigid O-H stretch from 0.6 to 2.5 A, inside and outside of what the training set holds, the
error on 200 held-out frames, and the total energy in NVE dynamics.  What is done is not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read
from matplotlib.figure import Figure
from rich.console import Console

from metamd.augment import augment_system, fit_springs
from metamd.config import Augment, Execution, Validate, load_config
from metamd.execution import Executor
from metamd.frames import Frames, load_frames, load_npz, save_deepmd, save_npz
from metamd.reference import make_calculator
from metamd.train import Augmented, train_all, train_ensemble
from metamd.validate.models import validate_models
from metamd.validate.nve import nve_check
from metamd.validate.plan import ModelFile
from metamd.validate.scan import bond_scan
from metamd.workspace import write_json

HERE = Path(__file__).resolve().parent
#: Longest displacements, A (physics-based augmentation, section 3.2).
EPSILON = (0.01, 0.03, 0.05, 0.07, 0.09, 0.11, 0.2, 0.5)
#: Gaussians of each pair of elements, as in the paper's table 2.
COMPONENTS = {"H-H": 4, "C-H": 3, "H-O": 4, "C-C": 1, "C-O": 2}
#: The paper's recipe sums the springs of all pairs.
PAIRS = {"paper": "all", "signed": "all", "taylor": "bonds+angles"}
LENGTHS = np.round(np.arange(0.6, 2.501, 0.05), 3)
OXYGEN, HYDROGEN = 2, 3


def variants(schemes: list[str], epsilons: list[float], springs: Path) -> dict[str, Augment | None]:
    """Name and [augment] table of every model; ``none`` has no augmented frames."""
    found: dict[str, Augment | None] = {"none": None}
    for scheme in schemes:
        for epsilon in epsilons:
            found[f"{scheme}-{epsilon:g}"] = Augment(
                frames=200,
                atoms=1,
                max_displacement_ang=epsilon,
                scheme=scheme,
                pairs=PAIRS[scheme],
                springs=springs,
                weight=1 / 6,
            )
    return found


def springs_of(system: Path, path: Path) -> Path:
    """Springs of the training frames with the paper's numbers of components."""
    if not path.exists():
        table = fit_springs(load_frames(system), 500.0, COMPONENTS, "paper")
        write_json(path, table.as_dict())
    return path


def split(frames: Frames, folder: Path) -> tuple[Path, Path]:
    """1000 training frames (a DeePMD system), 200 held out: the last sixth of each walker."""
    system, test = folder / "train", folder / "test.npz"
    if not system.exists():
        out = np.zeros(len(frames), dtype=bool)
        for walker in np.unique(frames.info["walker"]):
            own = np.flatnonzero(frames.info["walker"] == walker)
            out[own[-len(own) // 6 :]] = True
        save_deepmd(frames[np.flatnonzero(~out)], system)
        save_npz(frames[np.flatnonzero(out)], test)
    return system, test


def examine(model: Path, reference: Any, known: tuple[float, float], steps: int) -> dict[str, Any]:
    """Stretch and NVE of one model."""
    from deepmd.calculator import DP

    start = read(HERE / "ethanol.xyz")
    calculators = {"reference": reference, "model": DP(str(model))}
    scan = bond_scan(calculators, start, OXYGEN, HYDROGEN, LENGTHS)
    true, own = (scan.curves[name][1] for name in calculators)
    inside = (known[0] <= LENGTHS) & (known[1] >= LENGTHS)
    nve = nve_check({"model": calculators["model"]}, start, temperature_k=300.0, steps=steps)
    parts = {"short": known[0] > LENGTHS, "inside": inside, "long": known[1] < LENGTHS}
    rmse = {k: float(np.sqrt(np.nanmean((own - true)[part] ** 2))) for k, part in parts.items()}
    return {
        "reference_ev": true.tolist(),
        "model_ev": own.tolist(),
        "rmse_ev": rmse,
        "rises_outwards": {
            "short": bool((np.diff(own[parts["short"]]) < 0).all()),
            "long": bool((np.diff(own[parts["long"]]) > 0).all()),
        },
        "nve": nve.numbers,
        "nve_notes": list(nve.notes),
    }


def plot(table: dict[str, Any], known: tuple[float, float], path: Path) -> None:
    """Energy against the O-H distance: reference, no augmentation, and the scan of each scheme."""
    schemes = sorted({name.split("-")[0] for name in table if name != "none"})
    figure = Figure(figsize=(4.2 * len(schemes), 3.6), layout="constrained")
    panels = figure.subplots(1, len(schemes), squeeze=False, sharey=True)[0]
    for axes, scheme in zip(panels, schemes, strict=True):
        axes.axvspan(*known, color="#eeeeee")
        axes.plot(LENGTHS, table["none"]["reference_ev"], "k--", label="GFN2-xTB")
        axes.plot(LENGTHS, table["none"]["model_ev"], color="#c44e52", label="no augmentation")
        own = [name for name in table if name.startswith(scheme)]
        for k, name in enumerate(own):
            axes.plot(LENGTHS, table[name]["model_ev"], color=str(0.15 + 0.65 * k / len(own)),
                      linewidth=0.9, label=f"{name.split('-')[1]} Å")  # fmt: skip
        axes.set_title(scheme, fontsize=10)
        axes.set_xlabel("O–H distance (Å)")
        axes.set_ylim(-2, 14)
        axes.legend(frameon=False, fontsize=6)
    panels[0].set_ylabel("energy (eV)")
    figure.savefig(path, dpi=110)


def main() -> None:
    """Train all variants, examine them, and write ``results.json``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pool", type=Path)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--nve-steps", type=int, default=4000)
    parser.add_argument("--schemes", default="taylor,paper")
    parser.add_argument("--epsilon", type=float, nargs="*", default=EPSILON)
    parser.add_argument("--workers", type=int, default=None)
    arguments = parser.parse_args()
    folder: Path = arguments.workdir.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    config = load_config(HERE / "augment.toml")
    system, test = split(load_npz(arguments.pool / "iteration-0/sample/md/frames.npz"), folder)
    start = read(HERE / "ethanol.xyz")
    assert (start.symbols[OXYGEN], start.symbols[HYDROGEN]) == ("O", "H")
    stretch = np.load(system / "set.000" / "coord.npy").reshape(-1, len(start), 3)
    length = np.linalg.norm(stretch[:, OXYGEN] - stretch[:, HYDROGEN], axis=1)
    known = (float(length.min()), float(length.max()))
    with Executor(
        Execution(workers=arguments.workers), folder / "logs", Console(stderr=True)
    ) as executor:
        tasks = {}
        springs = springs_of(system, folder / "springs.json")
        wanted = variants(arguments.schemes.split(","), arguments.epsilon, springs)
        for name, table in wanted.items():
            extra = None
            if table is not None:
                made = augment_system(
                    system, load_frames(system), 500.0, table, folder / "augmented" / name
                )
                extra = Augmented((Path(made["system"]),), table.weight)
            tasks[name] = train_ensemble(
                name, [system], [], config.train, folder / "models", augmented=extra
            )
        models = train_all(tasks, executor)
        files = [ModelFile(m.train, m.seed, m.path) for m in models]
        checked = validate_models(
            files, {"heldout": test}, start, Validate(checks=("cross_errors",)),
            folder / "validate", executor,
        )  # fmt: skip
    heldout = {row["train"]: row["force_rmse_ev_per_ang"]["mean"] for row in checked.cross_errors}
    reference = make_calculator(config.reference.calculator or "", config.reference.arguments)
    found: dict[str, Any] = {}
    for model in models:
        kept = folder / "models" / model.train / "examined.json"
        if not kept.exists():
            write_json(kept, examine(model.path, reference, known, arguments.nve_steps))
        found[model.train] = json.loads(kept.read_text()) | {"heldout": heldout[model.train]}
    write_json(folder / "results.json", {"known_ang": known, "models": found})
    plot(found, known, folder / "stretch.png")
    print(f"training set: O-H from {known[0]:.3f} to {known[1]:.3f} A")
    print("model          stretch RMSE / eV: short, inside, long   held-out force RMSE   NVE drift")
    for name, one in found.items():
        r = one["rmse_ev"]
        drift = one["nve"].get("model: drift / meV/(atom ps)")
        print(f"{name:14s} {r['short']:8.2f} {r['inside']:8.3f} {r['long']:8.2f} "
              f"{one['heldout']:12.4f} {drift if drift is None else round(drift, 4)}")  # fmt: skip


if __name__ == "__main__":
    main()
