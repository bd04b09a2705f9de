"""Wall time of `metamd run` against a shell script of the same commands, in one go.

    uv run python benchmarks/bench_run.py inputs/ethanol/run.toml

The script has what a person would type: every walker, `dp train`, `dp freeze`, `dp compress`, one
prediction a model, `lmp` for the stability runs, two (the number of workers) at a time with xargs.
It is made from the finished work folder, so both do the same work.  Prints seconds and the ratio.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from metamd.execution import program_environment

PREDICT = (
    "from metamd.predict import predict; from metamd.frames import load_npz; "
    "import sys; [predict([sys.argv[1]], load_npz(p)) for p in sys.argv[2:]]"
)


def stages(work: Path, copy: Path) -> list[list[str]]:
    """Shell commands of each stage; what is in one stage may run side by side."""
    python, base = sys.executable, work / "iteration-0"
    sample, train, errors, runs = [], [], [], []
    for deck in sorted(base.glob("sample/*/walker-*/in.lammps")):
        folder = fresh(deck.parent, copy, ["in.lammps", "*.data", "*.dat", "*.json", "start.xyz"])
        sample.append(f"cd {folder} && {python} -m metamd.sample.walker {folder} > log 2>&1")
    tests = " ".join(str(p) for p in sorted(base.glob("dataset/*/heldout.npz")))
    for file in sorted(base.glob("train/*/seed-*/input.json")):
        folder = fresh(file.parent, copy, ["input.json"])
        train.append(
            f"cd {folder} && (dp --tf train input.json && dp --tf freeze -o model.pb && "
            "dp --tf compress -i model.pb -o compressed.pb) > log 2>&1"
        )
        errors.append(f"{python} -c '{PREDICT}' {folder}/compressed.pb {tests} > /dev/null 2>&1")
    for deck in sorted(base.glob("validate/stability/*/in.lammps")):
        folder = fresh(deck.parent, copy, ["in.lammps", "*.data", "model.pb"])
        runs.append(f"cd {folder} && lmp -in in.lammps > log 2>&1")
    return [sample, train, errors + runs]


def fresh(folder: Path, copy: Path, patterns: list[str]) -> Path:
    """A copy of a task's inputs alone."""
    target = copy / "-".join(folder.parts[-3:])
    target.mkdir(parents=True)
    for pattern in patterns:
        for path in folder.glob(pattern):
            shutil.copy2(path, target / path.name)
    return target


def main() -> None:
    run_file, workers = Path(sys.argv[1]), len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        work, copy = Path(name) / "work", Path(name) / "script"
        begun = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "metamd.cli", "run", run_file, "--workdir", work], check=True
        )
        ours = time.perf_counter() - begun
        table = stages(work, copy)
        begun = time.perf_counter()
        for commands in table:
            subprocess.run(
                ["xargs", "-P", str(workers), "-d", "\n", "-I", "{}", "bash", "-c", "{}"],
                input="\n".join(commands),
                text=True,
                env=program_environment(),
                check=True,
            )
        script = time.perf_counter() - begun
    print(f"metamd run {ours:.0f} s, script {script:.0f} s, ratio {ours / script:.3f}")


if __name__ == "__main__":
    main()
