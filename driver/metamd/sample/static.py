"""Samplers without dynamics: normal modes and random displacements.

Frames carry no labels; the label stage computes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms
from ase.optimize import BFGS

from metamd import deck, dump
from metamd.bonds import BondGraph
from metamd.config import Nms, Rattle, Reference, Sample
from metamd.deck import Forces
from metamd.errors import ReferenceFailed, TaskError
from metamd.execution import report_progress, run_lmp
from metamd.frames import MIN_DISTANCE_ANG, Array, Frames, cell_of, save_npz
from metamd.harmonic import Modes, displaced, hessian_of, normal_modes
from metamd.reference import make_calculator, single_point
from metamd.rerun import rerun
from metamd.sample.folder import copy_files, engine_forces, has_callback
from metamd.units import KB_EV_PER_K

#: Draws for each frame wanted, before a sampler gives up on intact molecules.
_TRIES = 20


def run_static(
    folder: Path,
    arm: Sample,
    reference: Reference,
    atoms: Atoms,
    walker: int,
    charge: int,
    multiplicity: int,
) -> dict[str, Any]:
    """Make the frames of one walker of a ``nms`` or ``rattle`` arm.

    Returns: what ``walker_task`` returns.
    """
    rng = np.random.default_rng(arm.seed + 1000 * walker)
    notes: list[str] = []
    if arm.method == "nms":
        surface = _Surface(folder, arm, reference, atoms, charge, multiplicity)
        settings = arm.nms or Nms()
        modes, minimum = _modes(surface, atoms, settings, folder, notes)
        kt_ev = settings.kt_ev or KB_EV_PER_K * arm.temperature_k
        draw = _along_modes(modes, minimum, kt_ev, rng)
    else:
        draw = _rattled(arm.rattle or Rattle(), atoms, rng)
    frames, stopped = _draw(draw, arm, atoms, notes, str(folder))
    save_npz(frames.with_info(bias_ev=0.0), folder / "frames.npz")
    return {"stopped": stopped, "frames": len(frames), "notes": notes}


class _Surface:
    """The potential energy surface of an arm's engine: minima, and forces of many frames."""

    def __init__(
        self,
        folder: Path,
        arm: Sample,
        reference: Reference,
        atoms: Atoms,
        charge: int,
        multiplicity: int,
    ) -> None:
        self.folder, self.atoms = folder, atoms
        self.calculator = None
        self.forces_lines = Forces()
        if has_callback(arm, reference):
            assert reference.calculator is not None
            self.calculator = make_calculator(
                reference.calculator, reference.arguments, charge, multiplicity
            )
            return
        self.forces_lines = engine_forces(arm, reference, atoms)
        if self.forces_lines.constraints:
            raise TaskError(
                f"method = {arm.method!r} has no normal modes of molecules that are held rigid; "
                "use a flexible force field"
            )
        copy_files(folder, arm, reference)

    def minimum(self, fmax_ev_per_ang: float) -> Atoms:
        """The nearest minimum; its cell is that of the structure.

        Raises:
            TaskError: not reached.
        """
        if self.calculator is None:
            return self._lammps_minimum(fmax_ev_per_ang)
        image = self.atoms.copy()
        image.calc = self.calculator
        if not BFGS(image, logfile=None).run(fmax=fmax_ev_per_ang, steps=1000):
            largest = float(np.linalg.norm(image.get_forces(), axis=1).max())
            raise TaskError(f"no minimum within 1000 steps (largest force {largest:.2g} eV/A)")
        return Atoms(image.symbols, image.positions, cell=image.cell, pbc=image.pbc)

    def _lammps_minimum(self, fmax_ev_per_ang: float) -> Atoms:
        folder = self.folder
        species = sorted(set(self.atoms.get_chemical_symbols()))
        deck.write_data(self.atoms, species, folder / deck.DATA, self.forces_lines.atom_style)
        (folder / deck.DECK).write_text(deck.minimise_deck(self.atoms, self.forces_lines))
        run_lmp(folder, deck.DECK, "minimise.log")
        image = dump.read_dump(folder / deck.DUMP).to_atoms(0)
        image.calc = None
        if image.pbc.any():  # back from LAMMPS's axes to those of the structure
            cell = self.atoms.cell.array
            image.positions = image.positions @ dump.lammps_cells(cell[None])[1][0].T
            image.set_cell(cell)
        largest = float(np.linalg.norm(self.forces(image.positions[None])[0], axis=1).max())
        if largest > fmax_ev_per_ang:
            raise TaskError(f"LAMMPS found no minimum (largest force {largest:.2g} eV/A)")
        return image

    def forces(self, positions: Array) -> Array:
        """Forces in eV/A of positions [n_frames, n_atoms, 3].

        Raises:
            TaskError: the reference failed.
        """
        cell = None
        if self.atoms.pbc.any():
            cell = np.tile(self.atoms.cell.array, (len(positions), 1, 1))
        frames = Frames(tuple(self.atoms.get_chemical_symbols()), positions, cell)
        if self.calculator is None:
            labelled = rerun(frames, self.forces_lines, self.folder, structure=self.atoms)
            assert labelled.forces is not None
            return labelled.forces
        out = np.empty_like(positions)
        for k in range(len(frames)):
            try:
                out[k] = single_point(self.calculator, frames.to_atoms(k)).forces
            except ReferenceFailed as error:
                raise TaskError(f"displacement {k}: the reference failed ({error})") from error
            report_progress(self.folder, k / len(frames))
        return out


def _modes(
    surface: _Surface, atoms: Atoms, settings: Nms, folder: Path, notes: list[str]
) -> tuple[Modes, Atoms]:
    """Modes that frames are displaced along, and the minimum they belong to."""
    minimum = surface.minimum(settings.max_force_ev_per_ang)
    step = settings.displacement_ang
    hessian = hessian_of(surface.forces(displaced(minimum.positions, step)), step)
    modes = normal_modes(hessian, minimum)
    # Written for people: all modes, also those that are left out.
    (folder / "modes.json").write_text(
        json.dumps(
            {
                "wavenumbers_cm1": modes.wavenumbers_cm1.tolist(),
                "constants_ev_ang2": modes.constants_ev_ang2.tolist(),
                "positions_ang": minimum.positions.tolist(),
            }
        )
    )
    keep = modes.wavenumbers_cm1 >= settings.min_wavenumber_cm1
    notes.append(f"{int(keep.sum())} modes; {modes.n_rigid} rigid-body motions are projected out")
    left = modes.wavenumbers_cm1[~keep]
    if len(left):
        words = ", ".join(f"{abs(w):.0f}{'i' if w < 0 else ''}" for w in left)
        notes.append(f"modes left out as imaginary or too soft: {words} cm-1")
    if not keep.any():
        raise TaskError("no mode is left to displace along")
    kept = Modes(
        modes.wavenumbers_cm1[keep],
        modes.directions[keep],
        modes.constants_ev_ang2[keep],
        modes.n_rigid,
    )
    return kept, minimum


def _along_modes(
    modes: Modes, minimum: Atoms, kt_ev: float, rng: np.random.Generator
) -> Callable[[], tuple[Array, Array | None]]:
    """R_i = +-sqrt(3 c_i N kT / K_i) with random c_i >= 0 and a sum that is uniform in 0..1.

    J. S. Smith, O. Isayev, A. E. Roitberg, Chem. Sci. 8, 3192 (2017).  The harmonic energy of a
    frame is 3/2 N kT times the sum of its c_i.
    """
    cell = cell_of(minimum)
    n_modes = len(modes.constants_ev_ang2)

    def draw() -> tuple[Array, Array | None]:
        c = rng.dirichlet(np.ones(n_modes)) * rng.uniform()
        length = np.sqrt(3 * c * len(minimum) * kt_ev / modes.constants_ev_ang2)
        r = rng.choice([-1.0, 1.0], n_modes) * length
        return minimum.positions + np.einsum("m,max->ax", r, modes.directions), cell

    return draw


def _rattled(
    settings: Rattle, atoms: Atoms, rng: np.random.Generator
) -> Callable[[], tuple[Array, Array | None]]:
    """Gaussian displacements, and in a cell a random symmetric strain of cell and atoms."""

    def draw() -> tuple[Array, Array | None]:
        positions = atoms.positions
        cell = None
        if atoms.pbc.any():
            strain = rng.uniform(-settings.strain, settings.strain, (3, 3))
            deform = np.eye(3) + 0.5 * (strain + strain.T)
            positions, cell = positions @ deform, atoms.cell.array @ deform
        return positions + rng.normal(0, settings.displacement_ang, positions.shape), cell

    return draw


def _draw(
    draw: Callable[[], tuple[Array, Array | None]],
    arm: Sample,
    atoms: Atoms,
    notes: list[str],
    source: str,
) -> tuple[Frames, str | None]:
    """Draw until ``arm.frames`` are good; what came apart is drawn again, and counted.

    Returns: the frames, and why there are fewer of them (None: there are not).
    """
    symbols = tuple(atoms.get_chemical_symbols())
    graph = BondGraph.of_atoms(atoms)
    positions: list[Array] = []
    cells: list[Any] = []
    rejected = 0
    while len(positions) < arm.frames and rejected < _TRIES * arm.frames:
        x, cell = draw()
        one = Frames(symbols, x[None], None if cell is None else cell[None])
        close = len(symbols) > 1 and float(one.distances_ang.min()) < MIN_DISTANCE_ANG
        if close or not (arm.allow_bond_breaking or graph.intact(x, cell)):
            rejected += 1
            continue
        positions.append(x)
        cells.append(cell)
    if rejected:
        notes.append(f"{rejected} draws with broken bonds or atoms on each other were drawn again")
    if not positions:
        raise TaskError(f"no intact structure in {rejected} draws; displace less")
    stopped = None
    if len(positions) < arm.frames:
        stopped = (
            f"{len(positions)} of {arm.frames} frames: {rejected} draws came apart; displace less"
        )
    frames = Frames(
        symbols,
        np.array(positions),
        None if cells[0] is None else np.array(cells),
        info={"step": np.arange(len(positions))},
        source=source,
    )
    return frames, stopped
