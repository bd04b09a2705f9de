"""Cost of clustering and farthest-point selection; targets of design section 7.

    OMP_NUM_THREADS=2 python benchmarks/bench_cluster.py

320 000 frames x 36 pairs in clusters: 60 s and 2 GB.  1000 of 100 000 frames x 36 pairs by
farthest point: 20 s.  The frames are random walks of nine atoms in a few rotamer-like wells.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from metamd.config import Select
from metamd.frames import Frames
from metamd.select import select
from metamd.select.clusters import broad_clusters


def frames_of_nine_atoms(n: int, seed: int = 0) -> Frames:
    """n frames of a nine-atom molecule in six wells, with energies (harmonic about each)."""
    rng = np.random.default_rng(seed)
    base = rng.normal(size=(6, 9, 3)) * 0.3 + rng.normal(size=(9, 3)) * 1.5
    well = rng.choice(6, size=n, p=[0.5, 0.3, 0.15, 0.04, 0.009, 0.001])
    shift = 0.1 * rng.normal(size=(n, 9, 3))
    energy = 0.5 * 30.0 * np.einsum("nax,nax->n", shift, shift) + 0.1 * well
    return Frames(tuple("CCOHHHHHH"), base[well] + shift, energy=energy, source="bench")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=320_000)
    parser.add_argument("--fps-frames", type=int, default=100_000)
    arguments = parser.parse_args()

    frames = frames_of_nine_atoms(arguments.frames)
    start = time.perf_counter()
    clusters = broad_clusters(frames, Select().flatten, seed=1)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"cluster {len(frames)} x {frames.distances_ang.shape[1]}: {clusters.n} clusters, "
          f"{seconds:.1f} s, peak memory {memory:.2f} GB (of the whole process)")  # fmt: skip

    frames = frames_of_nine_atoms(arguments.fps_frames)
    start = time.perf_counter()
    select(frames, Select(method="fps", count=1000))
    print(f"fps 1000 of {len(frames)} x 36: {time.perf_counter() - start:.1f} s")


if __name__ == "__main__":
    main()
