"""Ratios of the bias's cost, all measured in one run: uv run python benchmarks/bench_bias.py

The bias against stock METAD on 325 DISTANCE+CUSTOM arguments (bias and forces are compared
first), against reading its store from memory, under CUTOFF from 125 to 32 768 atoms, and with
MERGE on a trajectory: --trajectory FILE.xyz of 10 000 frames or so, any that ASE reads.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY / "tests" / "hosts"))

from plumed_host import Finished, drive  # noqa: E402

UNITS = "UNITS LENGTH=A ENERGY=eV\n"
ATOMS, SIGMA, HEIGHT_EV = 26, 0.5, 0.001
# Stock METAD cuts a Gaussian at this exponent and stretches it to end at zero.
EXPONENT_CUTOFF = 6.25


def molecule(rng: np.random.Generator) -> np.ndarray:
    """26 points at least 1.2 A apart, [26, 3]: as many as nicotine has."""
    points: list[np.ndarray] = []
    while len(points) < ATOMS:
        p = rng.random(3) * 6.0
        if all(np.linalg.norm(p - q) > 1.2 for q in points):
            points.append(p)
    return np.array(points)


def inverse_distances(x: np.ndarray) -> np.ndarray:
    i, j = np.triu_indices(ATOMS, 1)
    return 1 / np.linalg.norm(x[j] - x[i], axis=1)


def write_hills(folder: Path, hills: list[np.ndarray]) -> None:
    """The same bumps for both: as matrices for METAD, as structures for MATRIX_METAD."""
    pairs = ATOMS * (ATOMS - 1) // 2
    names = [f"c{p}" for p in range(pairs)]
    with (folder / "HILLS").open("w") as out:
        out.write(f"#! FIELDS time {' '.join(names)} {' '.join('sigma_' + n for n in names)} "
                  "height biasf\n#! SET multivariate false\n"
                  "#! SET kerneltype stretched-gaussian\n")  # fmt: skip
        widths = " ".join([str(SIGMA)] * pairs)
        for k, x in enumerate(hills):
            values = " ".join(repr(float(v)) for v in inverse_distances(x))
            out.write(f"{k} {values} {widths} {HEIGHT_EV} -1\n")
    with (folder / "HILLS.xyz").open("w") as out:
        for k, x in enumerate(hills):
            out.write(f'{ATOMS}\nProperties=species:S:1:pos:R:3:id:I:1 pbc="F F F" step={k + 1} '
                      f'time=0.0 height={HEIGHT_EV} sigma="{SIGMA}" biasf=inf metric=INVERSE '
                      f"pairs={pairs}\n")  # fmt: skip
            for serial, row in enumerate(x.tolist(), start=1):
                out.write(f"X {row[0]!r} {row[1]!r} {row[2]!r} {serial}\n")


def stock_input() -> str:
    i, j = np.triu_indices(ATOMS, 1)
    lines = [UNITS]
    for p, (a, b) in enumerate(zip(i + 1, j + 1, strict=True)):
        lines.append(f"d{p}: DISTANCE ATOMS={a},{b} NOPBC\n")
        lines.append(f"c{p}: CUSTOM ARG=d{p} FUNC=1/x PERIODIC=NO\n")
    names = ",".join(f"c{p}" for p in range(len(i)))
    widths = ",".join([str(SIGMA)] * len(i))
    lines.append(f"b: METAD ARG={names} SIGMA={widths} HEIGHT=1 PACE=100000 FILE=HILLS "
                 "RESTART=YES\n")  # fmt: skip
    return "".join(lines) + "PRINT ARG=b.bias FILE=COLVAR FMT=%.17g\n"


def own_input() -> str:
    return (UNITS + f"b: MATRIX_METAD GROUP=1-{ATOMS} NOPBC SIGMA={SIGMA} PACE=0\n"
            "PRINT ARG=b.bias FILE=COLVAR FMT=%.17g\n")  # fmt: skip


def seconds_per_step(done: Finished) -> float:
    """PLUMED's own timers: the least of each phase, so that set-up and neighbours do not count."""
    total = 0.0
    for line in done.output.splitlines():
        words = line.split()
        if len(words) > 6 and words[1] in ("4", "5") and ("loop)" in line):
            total += float(words[-2])  # columns: cycles total average minimum maximum
    assert total > 0, done.output
    return total


def against_stock(sizes: list[int], folder: Path) -> None:
    rng = np.random.default_rng(1)
    start = molecule(rng)
    print("\n26 atoms, 325 pairs, every hill active: MATRIX_METAD against DISTANCE+CUSTOM+METAD")
    print(f"{'hills':>8} {'stock ms':>10} {'ours ms':>10} {'ratio':>8}   agreement: bias, forces")
    for size in sizes:
        here = folder / str(size)
        here.mkdir()
        hills = [start + rng.normal(scale=0.02, size=start.shape) for _ in range(size)]
        frames = [(start + rng.normal(scale=0.02, size=start.shape), None) for _ in range(60)]
        write_hills(here, hills)
        stock = drive(here, stock_input(), frames, timeout_s=600)
        v_stock, f_stock = stock.table()["b.bias"], stock.forces()[0]
        (here / "COLVAR").unlink()
        own = drive(here, own_input(), frames, timeout_s=600)
        v_own, f_own = own.table()["b.bias"], own.forces()[0]
        # Undo METAD's stretching, which is exact while every hill is within its cutoff.
        a = 1 / (1 - np.exp(-EXPONENT_CUTOFF))
        v_want = a * v_own + (1 - a) * HEIGHT_EV * size
        bias_error = np.abs(v_stock / v_want - 1).max()
        force_error = np.abs(f_stock - a * f_own).max() / np.abs(f_stock).max()
        if bias_error > 1e-6 or force_error > 1e-6:
            raise SystemExit(f"they do not agree: bias {bias_error:.1e}, forces {force_error:.1e}")
        s, o = 1e3 * seconds_per_step(stock), 1e3 * seconds_per_step(own)
        print(f"{size:8d} {s:10.4f} {o:10.4f} {s / o:7.1f}x   {bias_error:.0e}, {force_error:.0e}")


def build_core(folder: Path) -> Path:
    program = folder / "bench_bias_core"
    source = REPOSITORY / "benchmarks" / "bench_bias_core.cpp"
    subprocess.run(
        ["c++", "-std=c++17", "-O3", "-I", REPOSITORY / "plumed_cvs" / "core", source, "-o",
         program],
        check=True,
    )  # fmt: skip
    return program


def core(program: Path, *arguments: object) -> list[list[str]]:
    done = subprocess.run(
        [program, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    return [line.split()[1:] for line in done.stdout.splitlines()]


def against_memory(program: Path, sizes: list[int]) -> None:
    print("\n325 pairs, nothing skipped: the bias against reading its store once")
    print(f"{'hills':>8} {'with':>8} {'read ms':>10} {'bias ms':>10} {'ratio':>8}")
    for isa, hills, bias, read in core(program, "hills", 325, *sizes):
        print(f"{hills:>8} {isa:>8} {float(read):10.4f} {float(bias):10.4f} "
              f"{float(bias) / float(read):7.2f}x")  # fmt: skip


def under_cutoff(program: Path, hills: int, sizes: list[int]) -> None:
    print(f"\nCUTOFF=5 A at 0.1 atoms per cubic A, {hills} hills: us a step and atom")
    print(f"{'atoms':>8} {'us':>10} {'active':>8} {'to 1000':>8}")
    rows = core(program, "cutoff", hills, *sizes)
    base = next(float(r[1]) for r in rows if r[0] == "1000")
    for atoms, us, active, *_ in rows:
        print(f"{atoms:>8} {float(us):10.3f} {active:>8} {float(us) / base:7.2f}x")


def merged(program: Path, trajectory: Path, sigma: float, folder: Path) -> None:
    import ase.io

    text = folder / "trajectory.txt"
    with text.open("w") as out:
        for frame in ase.io.iread(trajectory):
            rows = "\n".join(" ".join(f"{v:.10f}" for v in row) for row in frame.positions)
            out.write(f"{len(frame)}\n{rows}\n")
    print(f"\nMERGE on {trajectory.name}, SIGMA={sigma} 1/A")
    print(f"{'merge':>8} {'hills':>8} {'stored':>8} {'ms':>10} {'to 1000':>8} {'force error':>12}")
    rows = core(program, "merge", text, sigma, 0.3, 0.5, 0.7)
    base = float(rows[0][3])
    for _, radius, hills, ms, stored, error in rows:
        print(f"{radius:>8} {hills:>8} {stored:>8} {float(ms):10.4f} {float(ms) / base:7.2f}x "
              f"{float(error):11.3%}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stock", type=int, nargs="*", default=[100, 1000])
    parser.add_argument("--hills", type=int, nargs="*", default=[100, 1000, 10000, 50000])
    parser.add_argument("--atoms", type=int, nargs="*", default=[125, 1000, 8000, 32768])
    parser.add_argument("--cutoff-hills", type=int, default=50)
    parser.add_argument("--trajectory", type=Path)
    parser.add_argument("--sigma", type=float, default=0.2)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = build_core(folder)
        against_stock(options.stock, folder)
        against_memory(program, options.hills)
        under_cutoff(program, options.cutoff_hills, options.atoms)
        if options.trajectory:
            merged(program, options.trajectory, options.sigma, folder)


if __name__ == "__main__":
    main()
