"""Self-diffusion of rigid TIP3P from independent walkers, with the correction for the finite box.

    metamd sample inputs/water_tip3p/diffusion.toml -w runs/tip3p_diffusion
    python inputs/water_tip3p/diffusion.py runs/tip3p_diffusion

Every walker gives one D (oxygens, straight line through the mean square displacement between 2 and
10 ps); their mean has the standard error of independent values.  The same trajectory is evaluated
once more with loops over numpy arrays, which share no code with metamd.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from metamd.frames import Frames, load_npz
from metamd.validate.structure import (
    finite_size_correction,
    mean_square_displacement,
    radial_distribution,
    self_diffusion,
    unwrapped,
)

#: Shear viscosity of TIP3P at 298 K and 1 bar, Pa s: M. A. Gonzalez and J. L. F. Abascal, J. Chem.
#: Phys. 132, 096101 (2010).
VISCOSITY_PA_S = 0.321e-3
FIT_PS = (2.0, 10.0)
THESIS_BOX_ANG = 31.72


def main() -> None:
    """Print D of every walker, their mean, the corrected value and the independent check."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("workdir", type=Path, help="Work folder of metamd sample.")
    parser.add_argument("--timestep-fs", type=float, default=2.0)
    parser.add_argument("--temperature-k", type=float, default=300.0)
    parser.add_argument("--viscosity-pa-s", type=float, default=VISCOSITY_PA_S)
    arguments = parser.parse_args()
    folder = arguments.workdir / "iteration-0" / "sample" / "nvt"
    walkers = [load_npz(path) for path in sorted(folder.glob("walker-*/frames.npz"))]
    if len(walkers) < 2:
        raise SystemExit(f"{folder}: a standard error needs two walkers or more.")
    steps = np.diff(walkers[0].info["step"])
    interval_ps = float(steps[0]) * arguments.timestep_fs * 1e-3
    values = []
    for number, frames in enumerate(walkers):
        found = self_diffusion(frames, interval_ps, "O", FIT_PS)
        values.append(found.value)
        print(f"walker {number}: {len(frames) * interval_ps:.0f} ps, D = {_text(found.value)}")
    assert walkers[0].cell is not None
    length = float(walkers[0].cell[0, 0, 0])
    mean = float(np.mean(values))
    error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    own, there = (
        finite_size_correction(arguments.temperature_k, arguments.viscosity_pa_s, box)
        for box in (length, THESIS_BOX_ANG)
    )
    print(f"mean of {len(values)}: D({length:.3f} A) = {_text(mean)} +- {_text(error)}")
    print(f"correction at {arguments.viscosity_pa_s * 1e3:.3f} mPa s: {_text(own)}")
    print(f"infinite box: D0 = {_text(mean + own)} +- {_text(error)}")
    print(f"box of the thesis: D({THESIS_BOX_ANG} A) = {_text(mean + own - there)}")
    check_independently(walkers[0])


def check_independently(frames: Frames) -> None:
    """MSD and g(O-O) of one trajectory by plain loops, against metamd's functions."""
    oxygen = [k for k, symbol in enumerate(frames.symbols) if symbol == "O"]
    msd = mean_square_displacement(unwrapped(frames)[:, oxygen])
    # LAMMPS writes unwrapped coordinates itself; no unwrapping is needed here.
    positions = frames.positions[:, oxygen]
    lags = (1, 10, 50)
    plain = [((positions[lag:] - positions[:-lag]) ** 2).sum(axis=2).mean() for lag in lags]
    worst = max(abs(msd[lag] / value - 1) for lag, value in zip(lags, plain, strict=True))
    print(f"mean square displacement against loops: relative difference {worst:.1e}")

    few = frames[:: max(1, len(frames) // 50)]
    r, g = radial_distribution(few, "O", "O", bins=90)
    assert few.cell is not None
    length = few.cell[:, 0, 0]
    width = r[1] - r[0]
    count = np.zeros(len(r))
    for frame, box in zip(few.positions[:, oxygen], length, strict=True):
        for k in range(len(oxygen) - 1):
            difference = frame[k + 1 :] - frame[k]
            difference -= box * np.round(difference / box)
            distance = np.linalg.norm(difference, axis=1)
            count += np.histogram(distance, bins=len(r), range=(0, width * len(r)))[0]
    shell = 4 / 3 * np.pi * np.diff((width * np.arange(len(r) + 1)) ** 3)
    # Every oxygen has N - 1 others, not N: MDAnalysis counts so, and g differs by 1/N.
    pairs = len(oxygen) * (len(oxygen) - 1) / 2
    expected = len(few) * pairs / np.mean(length**3) * shell
    print(f"g(O-O) against loops: largest difference {np.abs(count / expected - g).max():.1e}")
    print(f"g(O-O): first peak {g.max():.2f} at {r[g.argmax()]:.2f} A")


def _text(value_cm2_s: float) -> str:
    return f"{value_cm2_s * 1e5:.2f}e-5 cm2/s"


if __name__ == "__main__":
    main()
