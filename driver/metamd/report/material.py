"""What a report is made from: ``summary.json`` and the files it points to, read with tolerance.

A file that is missing or torn (the run may still be writing it) costs the figures that need it
and becomes a note on the page; it never costs the page.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from metamd.errors import WorkspaceError
from metamd.frames import Array, Frames, load_frames
from metamd.reference import with_reference_energy
from metamd.spread import Components, matrix_components
from metamd.workspace import RUN_FILE

#: Frames that figures are drawn from, at most: of one arm, and of all arms together.
FIGURE_FRAMES = 4000
_ALL_FRAMES = 16000
#: Numbers of one distance matrix history, at most; larger systems are thinned further.
_MATRIX_NUMBERS = 20_000_000


@dataclass
class Material:
    """A summary, the folder its paths are relative to, and what could not be read."""

    folder: Path
    summary: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    _frames: dict[str, Frames | None] = field(default_factory=dict)

    @classmethod
    def read(cls, workdir: Path) -> Material:
        """Read ``workdir/summary.json``.

        Raises:
            WorkspaceError: there is none, or it is not a JSON object.
        """
        path = workdir / "summary.json"
        try:
            summary = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise WorkspaceError(
                f"{path}: no such file; a report is made from the work folder of metamd run."
            ) from None
        except (OSError, ValueError) as error:
            raise WorkspaceError(f"{path}: cannot be read ({error}).") from error
        if not isinstance(summary, dict):
            raise WorkspaceError(f"{path}: is not a summary (a JSON object was expected).")
        return cls(workdir, summary)

    def table(self, key: str) -> dict[str, Any]:
        """A table of the summary, empty where it is missing."""
        value = self.summary.get(key)
        return value if isinstance(value, dict) else {}

    def rows(self, key: str) -> list[dict[str, Any]]:
        """A list of tables of the summary, empty where it is missing."""
        value = self.summary.get(key)
        return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []

    def path(self, relative: Any) -> Path | None:
        """A path of the summary in full; None where there is none."""
        return self.folder / str(relative) if relative else None

    def note(self, text: str) -> None:
        """Say once on the page what is missing."""
        if text not in self.notes:
            self.notes.append(text)

    def _unreadable(self, relative: Any, error: Exception) -> None:
        text = str(error).replace(str(self.folder / str(relative)), "").strip(": ")
        self.note(f"Not shown: {relative}: {text or type(error).__name__}")

    def frames(self, relative: Any) -> Frames | None:
        """The frames in a file, read once; None, with a note, where they cannot be read."""
        path = self.path(relative)
        if path is None:
            return None
        key = str(path)
        if key not in self._frames:
            try:
                self._frames[key] = load_frames(path)
            except Exception as error:
                # Torn files fail in many ways (zip, npz, text); none may cost the page.
                self._unreadable(relative, error)
                self._frames[key] = None
        return self._frames[key]

    @cached_property
    def arms(self) -> dict[str, Frames]:
        """Frames of each arm that has any, thinned for figures."""
        out = {}
        rows = self.rows("arms")
        for arm in rows:
            name, frames = str(arm.get("name")), self.frames(arm.get("frames"))
            if frames is None or not len(frames):
                continue
            out[name] = thinned(frames, min(FIGURE_FRAMES, _ALL_FRAMES // len(rows)))
            if len(out[name]) < len(frames):
                self.note(
                    f"The figures of arm {name} show {len(out[name])} of its {len(frames)} "
                    "frames, evenly spaced."
                )
        return out

    @cached_property
    def with_energy(self) -> dict[str, Frames]:
        """Of each arm the frames whose energy is the reference's: sampled, or else labelled."""
        out = {}
        for arm in self.rows("arms"):
            name = str(arm.get("name"))
            if name not in self.arms:
                continue
            found = with_reference_energy(self.arms[name])
            if found is None:
                found = with_reference_energy(self.arms[name], self.frames(arm.get("labelled")))
            if found is not None:
                out[name] = found
        return out

    @cached_property
    def zero_ev(self) -> float | None:
        """The lowest reference energy of all arms, eV."""
        lowest = [f.energy.min() for f in self.with_energy.values() if f.energy is not None]
        return float(min(lowest)) if lowest else None

    @cached_property
    def components(self) -> Components | None:
        """Principal components of 1/r over the arms; None with too few frames."""
        first = next(iter(self.arms.values()), None)
        if first is None:
            return None
        given = {n: f for n, f in self.arms.items() if f.symbols == first.symbols}
        return matrix_components(given) if sum(len(f) for f in given.values()) > 2 else None

    @cached_property
    def stored_config(self) -> str:
        """What the work folder keeps of a run that was started from Python, without a run file."""
        try:
            config = json.loads((self.folder / RUN_FILE).read_text(encoding="utf-8"))["config"]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        return json.dumps(config, indent=2)

    def timestep_fs(self, arm: str) -> float | None:
        """The arm's time step; of summaries that do not hold it, by the run file kept in them."""
        for row in self.rows("arms"):
            if row.get("name") == arm and isinstance(row.get("timestep_fs"), float | int):
                return float(row["timestep_fs"])
        try:
            tables = tomllib.loads(self.summary.get("config_toml") or "").get("sample", [])
            for table in tables:
                if table.get("name") == arm:
                    return float(table.get("timestep_fs", 0.5))
        except (tomllib.TOMLDecodeError, TypeError, ValueError, AttributeError):
            pass
        return None

    @cached_property
    def times(self) -> tuple[dict[str, Array], str]:
        """Time of each arm's frames in ps, and the axis label.

        Where the time of some arm is not known, all are counted in frames.
        """
        out = {}
        for arm, frames in self.arms.items():
            step = self.timestep_fs(arm)
            if "time_fs" in frames.info:
                out[arm] = np.asarray(frames.info["time_fs"], float) * 1e-3
            elif "step" in frames.info and step is not None:
                out[arm] = np.asarray(frames.info["step"], float) * step * 1e-3
            else:
                return {a: np.arange(len(f), dtype=float) for a, f in self.arms.items()}, "frame"
        return out, "time / ps"

    def trajectory(self, run: dict[str, Any]) -> Frames | None:
        """The trajectory of a stability run; None where there is none."""
        frames = self.frames(run.get("trajectory"))
        return frames if frames is not None and len(frames) else None

    def predictions(self) -> Iterator[tuple[dict[str, Any], int, Frames, Array, Array]]:
        """(row of cross_errors, seed, reference frames, predicted energy, predicted forces).

        A row names its test frames ("frames") and its models' predictions ("predictions": a list
        of {"seed", "path"}, files of ``metamd.validate.errors.save_predictions``).
        """
        for row in self.rows("cross_errors"):
            for given in row.get("predictions") or []:
                reference = self.frames(row.get("frames"))
                path = self.path(given.get("path"))
                if reference is None or not reference.labelled or path is None:
                    continue
                try:
                    with np.load(path, allow_pickle=False) as data:
                        energy, forces = data["energy"], data["forces"]
                except Exception as error:
                    self._unreadable(given.get("path"), error)
                    continue
                if forces.shape != reference.positions.shape:
                    self.note(f"Not shown: {given.get('path')} does not fit its test frames.")
                    continue
                yield row, int(given.get("seed", 0)), reference, energy, forces


def thinned(frames: Frames, at_most: int = FIGURE_FRAMES) -> Frames:
    """At most so many frames, evenly spaced; fewer where the distance matrices would be large."""
    pairs = max(1, frames.n_atoms * (frames.n_atoms - 1) // 2)
    at_most = max(1, min(at_most, _MATRIX_NUMBERS // pairs))
    if len(frames) <= at_most:
        return frames
    return frames[np.unique(np.linspace(0, len(frames) - 1, at_most).round().astype(int))]


def read_lcurve(path: Path) -> tuple[list[str], Array] | None:
    """Columns of DeePMD's ``lcurve.out`` [n_rows, n_columns]; None while it has no rows."""
    names: list[str] = []
    rows: list[list[float]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("#"):
            words = line[1:].split()
            if "step" in words:
                names = words
        elif len(words := line.split()) == len(names) and names:
            try:
                rows.append([float(w) for w in words])
            except ValueError:
                # The last line while DeePMD is writing it.
                continue
    return (names, np.array(rows)) if rows else None
