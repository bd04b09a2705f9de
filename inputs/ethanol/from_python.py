"""The driver from Python: a short loop on ethanol, and what came of it.

    uv run python inputs/ethanol/from_python.py runs/from_python

In a notebook the same calls show their progress in the cell.  Stop it whenever you like; the same
call goes on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import metamd

HERE = Path(__file__).parent

CONFIG = {
    "system": {"structure": str(HERE / "ethanol.xyz")},
    "reference": {
        "kind": "ase",
        "calculator": "tblite.ase:TBLite",
        "arguments": {"method": "GFN2-xTB", "accuracy": 0.001},
    },
    "sample": [
        {
            "name": "metamd",
            "method": "metamd",
            "steps": 4000,
            "stride": 20,
            "walkers": 2,
            "bias": {"height_ev": 0.03, "sigma": 0.2, "pace": 20},
        },
        {"name": "hot", "role": "test", "temperature_k": 600.0, "steps": 2000, "stride": 20},
    ],
    "select": {"count": 300},
    "train": {"datasets": "all", "models": 2, "steps": 3000},
    "loop": {"iterations": 2, "select": {"count": 100, "trust_upper_ev_per_ang": 1.0}},
    "validate": {"temperatures_k": [300.0], "steps": 5000},
}


def main(workdir: str, until: str = "report") -> None:
    summary = metamd.run(CONFIG, workdir, until=until)
    for row in summary.get("cross_errors", []):
        error = row["force_rmse_ev_per_ang"]["mean"]
        print(f"trained on {row['train']}, tested on {row['test']}: {error:.3f} eV/A")
    for number, model in enumerate(metamd.trace(workdir)):
        frames = sum(data["frames"] for data in model["datasets"])
        print(f"model {number}: iteration {model['iteration']}, {frames} frames, {model['path']}")
    data = f"{workdir}/iteration-0/dataset/metamd/train"
    frames = metamd.load_frames(data)
    origin = metamd.trace(workdir, data="iteration-0/dataset/metamd/train", frame=0)
    print(f"{len(frames)} frames in {data}; the first is of step {origin['step']}")


if __name__ == "__main__":
    main(*sys.argv[1:])
