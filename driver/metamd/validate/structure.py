"""Liquids: radial distribution functions, mean square displacement, self-diffusion.

RDFs are MDAnalysis's (InterRDF); the displacement is the FFT algorithm of Calandrini 2011
(Collection SFN 12, 201).  The finite-size correction is that of Yeh and Hummer 2004 (J. Phys. Chem.
B 108, 15873): D0 = D + 2.837 kB T / (6 pi eta L).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import units
from ase.geometry import cell_to_cellpar

from metamd.errors import DataError
from metamd.frames import Array, Frames
from metamd.validate.check import Check

#: xi of a cubic box in the finite-size correction.
YEH_HUMMER_XI = 2.837297
#: 1 A^2/ps in cm^2/s.
CM2_S_PER_ANG2_PS = 1e-4


def radial_distribution(
    frames: Frames, a: str, b: str, r_max_ang: float | None = None, bins: int = 200
) -> tuple[Array, Array]:
    """g(r) of elements a and b: bin centres in A and g, [bins] each.

    Args:
        frames: periodic frames.
        a, b: elements; the same one leaves out each atom's own distance.
        r_max_ang: by default (and at most) half the smallest height of the cells.
        bins: number of bins between 0 and r_max_ang.

    Raises:
        DataError: no frames, no cell, or no such atoms.
    """
    from MDAnalysis.analysis.rdf import InterRDF

    if frames.cell is None or not len(frames):
        raise DataError(f"{frames.source}: a radial distribution needs periodic frames.")
    for element in (a, b):
        if element not in frames.symbols:
            raise DataError(f"{frames.source}: has no {element} atoms.")
    half = 0.5 * float(_heights(frames.cell).min())
    r_max = half if r_max_ang is None else min(r_max_ang, half)
    universe = _universe(frames)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rdf = InterRDF(
            universe.select_atoms(f"name {a}"),
            universe.select_atoms(f"name {b}"),
            nbins=bins,
            range=(0.0, r_max),
            exclusion_block=(1, 1) if a == b else None,
        ).run()
    return np.asarray(rdf.results.bins, float), np.asarray(rdf.results.rdf, float)


def rdf_check(
    systems: Mapping[str, Frames], a: str, b: str, r_max_ang: float | None = None, bins: int = 200
) -> Check:
    """g(r) of the same pair in several trajectories, the reference first.

    Returns:
        A Check with, against the first one, the mean absolute and the largest deviation of g and
        the shift of the main peak in A.
    """
    cells = [f.cell for f in systems.values() if f.cell is not None]
    if len(cells) != len(systems) or not cells:
        raise DataError("A radial distribution needs periodic frames.")
    half = min(0.5 * float(_heights(cell).min()) for cell in cells)
    r_max = half if r_max_ang is None else min(r_max_ang, half)
    curves = {n: radial_distribution(f, a, b, r_max, bins) for n, f in systems.items()}
    r, first = next(iter(curves.values()))
    numbers: dict[str, float | None] = {}
    for name, (_, g) in list(curves.items())[1:]:
        numbers[f"{name}: mean |Δg|"] = float(np.abs(g - first).mean())
        numbers[f"{name}: largest |Δg|"] = float(np.abs(g - first).max())
        numbers[f"{name}: shift of the main peak / Å"] = float(r[g.argmax()] - r[first.argmax()])
    return Check(
        key=f"rdf-{a}-{b}",
        title=f"Radial distribution {a}–{b}",
        caption="g(r), all frames with equal weight.",
        x_label="r / Å",
        y_label=f"g({a}–{b})",
        curves=curves,
        numbers=numbers,
    )


def unwrapped(frames: Frames) -> Array:
    """Positions without jumps through the cell's faces, A, [n_frames, n_atoms, 3].

    Frames must be close enough that no atom moves half a cell between two of them.
    """
    if frames.cell is None:
        return frames.positions
    step = np.diff(frames.positions, axis=0)
    cell = 0.5 * (frames.cell[1:] + frames.cell[:-1])
    fraction = np.einsum("fax,fxy->fay", step, np.linalg.inv(cell))
    step = step - np.einsum("fax,fxy->fay", np.round(fraction), cell)
    return np.concatenate([frames.positions[:1], frames.positions[0] + np.cumsum(step, axis=0)])


def mean_square_displacement(positions: Array) -> Array:
    """MSD at every lag, mean over atoms and time origins, A^2, [n_frames].

    Args:
        positions: unwrapped, A, [n_frames, n_atoms, 3], evenly spaced in time.
    """
    n = len(positions)
    x = positions - positions.mean(axis=0)
    square = np.einsum("fax,fax->fa", x, x)
    spectrum = np.fft.rfft(x, n=2 * n, axis=0)
    power = np.einsum("fax,fax->fa", spectrum, spectrum.conj()).real
    product = np.fft.irfft(power, n=2 * n, axis=0)[:n]
    # Sum over origins of r^2(t) + r^2(t + lag), by running sums from both ends.
    total = np.cumsum(square, axis=0)
    ends = total[::-1] + (total[-1] - np.concatenate([np.zeros((1, x.shape[1])), total[:-1]]))
    count = np.arange(n, 0, -1)[:, None]
    return np.asarray(((ends - 2.0 * product) / count).mean(axis=1))


@dataclass(frozen=True)
class Diffusion:
    """A self-diffusion coefficient; the unit of each is cm^2/s.

    Attributes:
        value: from the whole trajectory.
        error: standard error from the blocks.
        corrected: for the finite size of the box; None where no viscosity is given.
        blocks: from each block alone.
    """

    value: float
    error: float
    corrected: float | None
    blocks: tuple[float, ...]


def self_diffusion(
    frames: Frames,
    interval_ps: float,
    element: str | None = None,
    fit_ps: tuple[float, float] | None = None,
    blocks: int = 5,
    temperature_k: float | None = None,
    viscosity_pa_s: float | None = None,
) -> Diffusion:
    """Self-diffusion from the slope of the mean square displacement, D = slope / 6.

    Args:
        frames: periodic frames, evenly spaced in time; the drift of the mass centre is removed.
        interval_ps: time between frames.
        element: follow these atoms; by default all.
        fit_ps: lags of the straight line; by default 10 to 50 % of a block.
        blocks: the error bar is the standard error of this many blocks of the trajectory.
        temperature_k, viscosity_pa_s: for the finite-size correction, with L the cube root of the
            volume; it holds for a cubic cell.

    Raises:
        DataError: no cell, an unknown element, or blocks with too few frames for the fit.
    """
    if frames.cell is None:
        raise DataError(f"{frames.source}: self-diffusion needs periodic frames.")
    if blocks < 2:
        raise DataError("An error bar needs at least two blocks.")
    positions = _followed(frames, element)
    length = len(frames) // blocks
    low, high = fit_ps or (0.1 * length * interval_ps, 0.5 * length * interval_ps)
    first, last = max(1, round(low / interval_ps)), min(length - 1, round(high / interval_ps))
    if last - first < 2:
        raise DataError(
            f"{frames.source}: {len(frames)} frames in {blocks} blocks are too few for a line "
            f"between {low:g} and {high:g} ps."
        )

    def slope(part: Array) -> float:
        lag = np.arange(first, last + 1)
        msd = mean_square_displacement(part)[first : last + 1]
        return float(np.polyfit(lag * interval_ps, msd, 1)[0]) / 6.0 * CM2_S_PER_ANG2_PS

    each = tuple(slope(positions[k * length : (k + 1) * length]) for k in range(blocks))
    value = slope(positions)
    error = float(np.std(each, ddof=1)) / math.sqrt(blocks)
    corrected = None
    if temperature_k is not None and viscosity_pa_s is not None:
        volume = float(np.abs(np.linalg.det(frames.cell)).mean())
        corrected = value + finite_size_correction(temperature_k, viscosity_pa_s, volume ** (1 / 3))
    return Diffusion(value, error, corrected, each)


def diffusion_check(
    systems: Mapping[str, Frames],
    interval_ps: float,
    element: str | None = None,
    blocks: int = 5,
    temperature_k: float | None = None,
    viscosity_pa_s: float | None = None,
) -> Check:
    """Mean square displacement and self-diffusion of several trajectories, the reference first.

    Arguments as in ``self_diffusion``; curves are over one block, the lags the fit may use.
    """
    curves: dict[str, tuple[Array, Array]] = {}
    numbers: dict[str, float | None] = {}
    notes: list[str] = []
    for name, frames in systems.items():
        try:
            found = self_diffusion(
                frames,
                interval_ps,
                element,
                blocks=blocks,
                temperature_k=temperature_k,
                viscosity_pa_s=viscosity_pa_s,
            )
        except DataError as error:
            notes.append(f"{name}: {error}")
            continue
        numbers[f"{name}: D / cm²/s"] = found.value
        numbers[f"{name}: standard error of D / cm²/s"] = found.error
        if found.corrected is not None:
            numbers[f"{name}: D corrected for the size of the box / cm²/s"] = found.corrected
        msd = mean_square_displacement(_followed(frames, element))[: len(frames) // blocks]
        curves[name] = np.asarray(np.arange(len(msd)) * interval_ps), msd
    return Check(
        key="diffusion",
        title=f"Mean square displacement{'' if element is None else f' of {element}'}",
        caption=f"Self-diffusion is a sixth of the slope between 10 and 50 % of a block; its error "
        f"is that of the mean of {blocks} blocks.",
        x_label="time / ps",
        y_label="mean square displacement / Å²",
        curves=curves,
        numbers=numbers,
        notes=notes,
    )


def finite_size_correction(temperature_k: float, viscosity_pa_s: float, length_ang: float) -> float:
    """What a cubic box of this length takes off the self-diffusion, cm^2/s (Yeh, Hummer 2004)."""
    metres2_per_s = float(
        YEH_HUMMER_XI
        * units._k
        * temperature_k
        / (6.0 * math.pi * viscosity_pa_s * length_ang * 1e-10)
    )
    return metres2_per_s * 1e4


def _followed(frames: Frames, element: str | None) -> Array:
    """Unwrapped positions of an element's atoms (None: all) about the mass centre, A."""
    if element is not None and element not in frames.symbols:
        raise DataError(f"{frames.source}: has no {element} atoms.")
    followed = [k for k, s in enumerate(frames.symbols) if element in (None, s)]
    positions = unwrapped(frames)
    mass = frames.to_atoms(0).get_masses()
    positions = positions - np.average(positions, axis=1, weights=mass)[:, None]
    return np.asarray(positions[:, followed])


def _heights(cell: Array) -> Array:
    """Distances between opposite faces, A, [n_frames, 3]."""
    return np.asarray(1.0 / np.linalg.norm(np.linalg.inv(cell), axis=1))


def _universe(frames: Frames):  # type: ignore[no-untyped-def]
    import MDAnalysis
    from MDAnalysis.coordinates.memory import MemoryReader

    assert frames.cell is not None
    universe = MDAnalysis.Universe.empty(frames.n_atoms, trajectory=False)
    universe.add_TopologyAttr("name", list(frames.symbols))
    dimensions = np.array([cell_to_cellpar(cell) for cell in frames.cell], dtype=np.float32)
    # Single precision is MDAnalysis's own: wrapped first, or far atoms would lose digits.
    fraction = np.einsum("fax,fxy->fay", frames.positions, np.linalg.inv(frames.cell)) % 1.0
    # In MDAnalysis's frame of axes, which the cell's parameters define.
    from ase.geometry import cellpar_to_cell

    box = np.array([cellpar_to_cell(d) for d in dimensions])
    wrapped = np.einsum("fax,fxy->fay", fraction, box).astype(np.float32)
    universe.load_new(wrapped, format=MemoryReader, dimensions=dimensions)
    return universe
