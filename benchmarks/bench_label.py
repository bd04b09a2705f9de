"""What a label costs: ``label_frames`` with GFN2-xTB against a bare loop over the same frames.

    uv run python benchmarks/bench_label.py --frames 5000 --workers 2

The frames are ethanol moved at random.  The bare loop is what one would write by hand: tblite's
calculator, energy and forces of each frame in turn, one process, one thread.  Printed is the ratio

    time of label_frames / (time of the bare loop / workers)

with the start of the workers, the journal and the files of the labels all inside.  On a machine
with fewer free cores than workers, give ``--workers 1``: the loop alone has a core to itself.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

# One thread a process, in the loop as in the workers, before anything loads OpenMP.
os.environ["OMP_NUM_THREADS"] = "1"

from ase.io import read
from rich.console import Console

from metamd.config import Execution, Label, Reference, System
from metamd.execution import Executor
from metamd.frames import Frames
from metamd.label import label_frames
from metamd.reference import make_calculator

ETHANOL = Path(__file__).resolve().parents[1] / "inputs" / "ethanol" / "ethanol.xyz"
REFERENCE = Reference(calculator="tblite.ase:TBLite", arguments={"method": "GFN2-xTB"})


def moved(n: int) -> Frames:
    """Ethanol with each coordinate moved by 0.05 A (standard deviation)."""
    atoms = read(ETHANOL)
    noise = np.random.default_rng(1).normal(0, 0.05, (n, len(atoms), 3))
    return Frames(tuple(atoms.get_chemical_symbols()), atoms.positions + noise)


def bare_loop(frames: Frames) -> float:
    """Seconds of a plain loop."""
    assert REFERENCE.calculator is not None
    calculator = make_calculator(REFERENCE.calculator, REFERENCE.arguments)
    start = time.perf_counter()
    for k in range(len(frames)):
        atoms = frames.to_atoms(k)
        atoms.calc = calculator
        atoms.get_potential_energy()
        atoms.get_forces()
    return time.perf_counter() - start


def labelled(frames: Frames, workers: int, batch: int) -> float:
    """Seconds of the label stage, workers started and labels on disk."""
    with tempfile.TemporaryDirectory() as name:
        start = time.perf_counter()
        with Executor(Execution(workers=workers), Path(name), Console(quiet=True)) as executor:
            system = System(structure=ETHANOL)
            result = label_frames(
                frames, Label(batch=batch), REFERENCE, system, Path(name) / "label", executor
            )
            seconds = time.perf_counter() - start
        if result.computed != len(frames):
            raise SystemExit(f"{len(result.failures)} frames failed")
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=Label().batch)
    options = parser.parse_args()
    frames = moved(options.frames)
    loop = bare_loop(frames)
    ours = labelled(frames, options.workers, options.batch)
    ratio = ours / (loop / options.workers)
    print(f"{options.frames} frames, {options.workers} workers, batches of {options.batch}")
    print(f"bare loop     {loop:8.2f} s  {1e3 * loop / options.frames:6.3f} ms a frame")
    print(f"label_frames  {ours:8.2f} s  {1e3 * ours / options.frames:6.3f} ms a frame")
    print(f"ratio         {ratio:8.3f}   (target: 1.3 at 50 000 frames)")


if __name__ == "__main__":
    main()
