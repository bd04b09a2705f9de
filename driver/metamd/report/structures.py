"""Structures worth a look, for the 3D view: 3Dmol.js draws them, a still picture stands for print.

The still pictures need no script; the view turns with the mouse, plays the end of a failed run and
shows force errors as arrows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from ase.data import atomic_numbers, covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.figure import Figure as MplFigure
from matplotlib.patches import Circle

from metamd.bonds import BROKEN_FACTOR, BondGraph
from metamd.errors import MetamdError
from metamd.frames import Array, Frames, load_frames
from metamd.report.draw import INK, to_svg
from metamd.report.material import Material
from metamd.topology import whole_molecules

#: Frames of a failed run's end that the view plays.
END_FRAMES = 40
#: Structures shown, and the largest system of which pictures are made.
MAX_STRUCTURES = 12
MAX_ATOMS = 2000
_PICTURE_ATOMS = 400
#: The longest error arrow is drawn this long, A.
_ARROW_ANG = 1.6


@dataclass(frozen=True)
class Structure:
    """One entry of the 3D view.

    Attributes:
        title, caption: what it is; plain text.
        xyz: one or several frames as extended XYZ, molecules whole and in the cell.
        bonds: of each frame the pairs of bonded atoms, [[[i, j], ...], ...].
        arrows: force errors as [[x, y, z, x', y', z'], ...], A; empty for none.
        picture: a still SVG; empty for large systems.
    """

    title: str
    caption: str
    xyz: str
    bonds: list[list[list[int]]]
    arrows: list[list[float]]
    picture: str

    def as_dict(self) -> dict[str, Any]:
        """What the script of the page needs."""
        return {
            "title": self.title,
            "xyz": self.xyz,
            "bonds": self.bonds,
            "arrows": self.arrows,
        }


def structures(material: Material) -> list[Structure]:
    """The starting structure, failed runs' ends, worst-predicted and highest frames."""
    out: list[Structure] = []
    _start(material, out)
    _failures(material, out)
    _worst(material, out)
    _highest(material, out)
    return out[:MAX_STRUCTURES]


def _start(material: Material, out: list[Structure]) -> None:
    path = material.path(material.table("system").get("structure"))
    if path is not None and path.is_file():
        try:
            frames = load_frames(path)
        except (MetamdError, OSError, ValueError):
            frames = None
        if frames is not None and len(frames):
            _add(out, "Starting structure", "As given in the run file.", frames[:1])
            return
    lowest = None
    for name, frames in material.with_energy.items():
        if frames.energy is not None:
            k = int(frames.energy.argmin())
            if lowest is None or frames.energy[k] < lowest[0]:
                lowest = frames.energy[k], name, frames[[k]]
    if lowest is not None:
        _add(out, "Lowest frame", f"The frame of lowest energy, of arm {lowest[1]}.", lowest[2])


def _failures(material: Material, out: list[Structure]) -> None:
    seen: set[tuple[str, float]] = set()
    for run in material.rows("stability"):
        name, kelvin = str(run.get("train")), float(run.get("temperature_k") or 0.0)
        # One picture a model and temperature; the seeds fail alike.
        if run.get("intact") or (name, kelvin) in seen:
            continue
        frames = material.trajectory(run)
        if frames is None:
            continue
        if "time_ps" in frames.info:
            # What came after the failure is of no meaning.
            until = np.asarray(frames.info["time_ps"], float) <= float(run.get("time_ps") or 0.0)
            frames = frames[: max(1, int(until.sum()))]
        seen.add((name, kelvin))
        _add(
            out,
            f"{name}-trained, {kelvin:g} K: failed",
            f"Last frames of the run with seed {run.get('seed')}, which failed after "
            f"{float(run.get('time_ps') or 0.0):.3g} ps: {run.get('failure') or 'no reason kept'}.",
            frames[-END_FRAMES:],
        )


def _worst(material: Material, out: list[Structure]) -> None:
    worst: dict[str, tuple[float, str, int, Frames, Array]] = {}
    for row, seed, reference, _, forces in material.predictions():
        assert reference.forces is not None
        delta = forces - reference.forces
        error = np.sqrt(np.square(delta).mean(axis=(1, 2)))
        if not np.isfinite(error).any():
            continue
        k = int(np.nanargmax(error))
        name = str(row.get("train"))
        if name not in worst or error[k] > worst[name][0]:
            worst[name] = float(error[k]), str(row.get("test")), seed, reference[[k]], delta[k]
    for name, (error, test, seed, frame, delta) in worst.items():
        _add(
            out,
            f"{name}-trained: worst frame",
            f"Of all held-out frames this one, of {test}, is predicted worst (seed {seed}): force "
            f"RMSE {error:.2f} eV/Å. Arrows are the force errors, the longest "
            f"{np.linalg.norm(delta, axis=1).max():.2f} eV/Å.",
            frame,
            delta,
        )


def _highest(material: Material, out: list[Structure]) -> None:
    for name, frames in material.with_energy.items():
        if frames.energy is not None and material.zero_ev is not None:
            k = int(frames.energy.argmax())
            above = float(frames.energy[k]) - material.zero_ev
            which = "sampled" if frames is material.arms[name] else "had labelled"
            _add(
                out,
                f"{name}: highest frame",
                f"The frame of highest reference energy that arm {name} {which}, {above:.2f} eV "
                "above the lowest of all arms.",
                frames[[k]],
            )


def _add(
    out: list[Structure], title: str, caption: str, frames: Frames, error: Array | None = None
) -> None:
    if frames.n_atoms > MAX_ATOMS:
        return
    frames = whole_molecules(frames)
    arrows: list[list[float]] = []
    last = frames.positions[-1]
    if error is not None:
        longest = float(np.linalg.norm(error, axis=1).max()) or 1.0
        tips = last + error * (_ARROW_ANG / longest)
        arrows = np.round(np.hstack([last, tips]), 3).tolist()
    bonds = [_bonds(frames[[k]]) for k in range(len(frames))]
    key = f"still-{len(out)}"
    picture = ""
    if frames.n_atoms <= _PICTURE_ATOMS:
        picture = still(frames[[-1]], bonds[-1], key, title, np.array(arrows) if arrows else None)
    out.append(Structure(title, caption, _xyz(frames), bonds, arrows, picture))


def _bonds(frame: Frames) -> list[list[int]]:
    """Bonded pairs of one frame; not those that run through the faces of the cell."""
    x, cell = frame.positions[0], None if frame.cell is None else frame.cell[0]
    graph = BondGraph.of(frame.symbols, x, cell)
    i, j = graph.bonds.T
    radii = np.array([covalent_radii[atomic_numbers[s]] for s in frame.symbols])
    near = np.linalg.norm(x[i] - x[j], axis=1) < BROKEN_FACTOR * (radii[i] + radii[j])
    return [[int(a), int(b)] for a, b in graph.bonds[near]]


def _xyz(frames: Frames) -> str:
    text = []
    for k, positions in enumerate(frames.positions):
        cell = ""
        if frames.cell is not None:
            cell = 'Lattice="' + " ".join(f"{v:.4f}" for v in frames.cell[k].ravel()) + '"'
        text.append(f"{frames.n_atoms}\n{cell}")
        text += [
            f"{s} {x:.3f} {y:.3f} {z:.3f}"
            for s, (x, y, z) in zip(frames.symbols, positions, strict=True)
        ]
    return "\n".join(text) + "\n"


def still(
    frame: Frames, bonds: list[list[int]], key: str, label: str, arrows: Array | None = None
) -> str:
    """A still picture as SVG: seen along the thinnest direction, near atoms in front.

    Args:
        frame: one frame; the edges of its cell are drawn where it has one.
        bonds: pairs of atoms.
        key: prefix of the ids in the SVG.
        label: what a screen reader says.
        arrows: start and end of each arrow, A, [n_atoms, 6].
    """
    symbols, positions = frame.symbols, frame.positions[0]
    radii = np.array([covalent_radii[atomic_numbers[s]] for s in symbols])
    colours = [jmol_colors[atomic_numbers[s]] for s in symbols]
    centre = positions.mean(axis=0)
    axes3 = _view(positions - centre, frame.cell is not None)
    seen = (positions - centre) @ axes3.T
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "metamd", "figure.dpi": 72}):
        canvas = MplFigure(figsize=(2.2, 1.7))
        axes = canvas.add_axes((0.0, 0.0, 1.0, 1.0))
        axes.set_axis_off()
        axes.set_aspect("equal")
        corners = seen
        if frame.cell is not None:
            edges = (_edges(frame.cell[0]) - centre) @ axes3.T
            for edge in edges:
                axes.plot(
                    *edge[:, :2].T, color=INK, alpha=0.5, linewidth=0.7, zorder=edge[:, 2].min()
                )
            corners = np.concatenate([seen, edges.reshape(-1, 3)])
        for i, j in bonds:
            depth = float(min(seen[i, 2], seen[j, 2]))
            line = seen[[i, j]]
            axes.plot(line[:, 0], line[:, 1], color="#8a929b", linewidth=4, zorder=depth)
        for k, (x, y, z) in enumerate(seen):
            axes.add_patch(
                Circle((x, y), 0.45 * radii[k], facecolor=colours[k], edgecolor=INK, zorder=z + 0.3)
            )
        if arrows is not None:
            tips = (arrows[:, 3:] - centre) @ axes3.T
            for tail, tip in zip(seen, tips, strict=True):
                axes.annotate(
                    "",
                    xy=(tip[0], tip[1]),
                    xytext=(tail[0], tail[1]),
                    arrowprops={"arrowstyle": "->", "color": "#d1555b", "linewidth": 1.4},
                    zorder=1e6,
                )
        margin = 0.9 if arrows is None else 1.8
        axes.set_xlim(corners[:, 0].min() - margin, corners[:, 0].max() + margin)
        axes.set_ylim(corners[:, 1].min() - margin, corners[:, 1].max() + margin)
        return to_svg(canvas, key, label)


def _view(centred: Array, periodic: bool) -> Array:
    """Rows: right, up and towards the eye. A cell is seen from a little above its corner."""
    if periodic:
        turn, tilt = np.radians([-20.0, 15.0])
        about_y = [[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]]
        about_x = [[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]
        return np.array(about_x) @ np.array(about_y)
    return np.linalg.svd(centred)[2] if len(centred) > 2 else np.eye(3)


def _edges(cell: Array) -> Array:
    """Start and end of the twelve edges of a cell [3, 3], [12, 2, 3]."""
    corners = [np.array(c) for c in np.ndindex(2, 2, 2)]
    ends = [(c, c + e) for c in corners for e in np.eye(3, dtype=int) if (c + e).max() < 2]
    return np.array(ends) @ cell
