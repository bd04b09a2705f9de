"""The figures of a finished ethanol run beside what the study is expected to show.

    uv run python benchmarks/ethanol_figures.py runs/ethanol

Prints; it judges nothing, since training on another machine gives other digits.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main() -> None:
    summary = json.loads((Path(sys.argv[1]) / "summary.json").read_text())
    error = {
        (e["train"], e["test"]): e["force_rmse_ev_per_ang"]["mean"] for e in summary["cross_errors"]
    }
    arms = {arm["name"]: arm for arm in summary["arms"]}
    rows = [
        ("MD-trained / MetaMD-trained on MetaMD frames",
         error["md", "metamd"] / error["metamd", "metamd"], "at least 2"),
        ("MetaMD-trained / MD-trained on MD frames",
         error["metamd", "md"] / error["md", "md"], "at most 1.3"),
        ("MetaMD-trained / MD-trained on 600 K frames",
         error["metamd", "hot"] / error["md", "hot"], "at most 1"),
        ("95th percentile of energy in MetaMD frames, eV",
         arms["metamd"]["energy_p95_ev"], "below 2.5"),
        ("MetaMD frames with all bonds intact", arms["metamd"]["bonds_intact_fraction"], "1"),
        ("wall time of the run, s", summary["seconds"]["total"], "below 600"),
    ]  # fmt: skip
    for what, value, asked in rows:
        print(f"{what:<50} {value:8.3f}   asked: {asked}")
    for (train, test), value in error.items():
        print(f"force RMSE of {train}-trained on {test}: {value:.3f} eV/A")


if __name__ == "__main__":
    main()
