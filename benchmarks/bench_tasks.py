"""Overhead of the engine: fake-fast label tasks and walkers through the real executor.

    uv run python benchmarks/bench_tasks.py [--labels 10000] [--walkers 100] [--workers 2]

Each task does nothing but what every task must: make its folder, take its lock, write a small
result and its manifest.  What is left is the driver, Parsl, and the file system: wall and CPU time
a task, peak memory of the driver, files a task.  A second pass finds everything done.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from metamd.config import Execution
from metamd.execution import Executor, Task

MODULE = """
import numpy as np

def label(folder, number):
    np.savez(folder / "labels.npz", energy=np.zeros(10))
    return {"labelled": 10, "failures": []}

def walk(folder, number, frames):
    rng = np.random.default_rng(number)
    for name in ("in.lammps", "plumed.dat", "system.data", "hills.xyz"):
        (folder / name).write_text("x" * 1000)
    np.savez(folder / "frames.npz", positions=rng.normal(size=(frames, 9, 3)))
    return {"stopped": None, "frames": frames}
"""


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def cpu_s() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    return own.ru_utime + own.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=10_000)
    parser.add_argument("--walkers", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "fake_tasks.py").write_text(MODULE)
        os.environ["PYTHONPATH"] = str(root)
        tables = {
            "walkers": [
                Task("fake_tasks:walk", root / "run" / "sample" / f"walker-{k}",
                     {"number": k, "frames": 500}, f"walker {k}")
                for k in range(options.walkers)
            ],
            "labels": [
                Task("fake_tasks:label", root / "run" / "label" / f"batch-{k:05d}",
                     {"number": k}, f"batch {k}")
                for k in range(options.labels)
            ],
        }  # fmt: skip
        quiet = Console(file=sys.stderr)
        execution = Execution(workers=options.workers)
        with Executor(execution, root / "logs", quiet) as executor:
            executor.run_all("warm-up", [Task("fake_tasks:label", root / "w", {"number": 0}, "w")])
            print(f"driver with Parsl started: {peak_mb():.0f} MB")
            for kind, tasks in tables.items():
                begun, used = time.perf_counter(), cpu_s()
                executor.run_all(kind, tasks)
                wall, cpu = time.perf_counter() - begun, cpu_s() - used
                n = len(tasks)
                print(
                    f"{n} {kind}: {wall:.1f} s, {1e3 * wall / n:.2f} ms a task "
                    f"(driver's CPU {1e3 * cpu / n:.2f} ms), peak memory {peak_mb():.0f} MB"
                )
            begun = time.perf_counter()
            executor.run_all("again", tables["labels"])
            again = time.perf_counter() - begun
            print(f"all done before: {1e3 * again / options.labels:.3f} ms a task")
        files = sum(len(names) for _, _, names in os.walk(root / "run" / "label"))
        print(f"files: {files / options.labels:.1f} a label task")
        logs = sum(p.stat().st_size for p in (root / "logs").rglob("*") if p.is_file())
        print(f"Parsl's logs: {logs / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
