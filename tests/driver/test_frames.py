"""Frames: every format gives back what was written, and bad data is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from metamd.dump import read_dump, write_dump
from metamd.errors import DataError
from metamd.frames import (
    Frames,
    check_distances,
    concatenate,
    load_frames,
    load_npz,
    minimum_image,
    save_deepmd,
    save_extxyz,
    save_npz,
)


def some_frames(periodic: bool, n: int = 7) -> Frames:
    rng = np.random.default_rng(3)
    cell = None
    if periodic:
        cell = np.tile(np.array([[9.0, 0, 0], [2.0, 8.0, 0], [-1.5, 1.0, 7.0]]), (n, 1, 1))
    return Frames(
        symbols=("O", "H", "H", "C"),
        positions=rng.uniform(0, 7, (n, 4, 3)),
        cell=cell,
        energy=rng.normal(-100, 1, n),
        forces=rng.normal(0, 1, (n, 4, 3)),
        virial=rng.normal(0, 1, (n, 3, 3)) if periodic else None,
        info={"step": np.arange(n) * 10, "walker": np.zeros(n, int)},
    )


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("form", ["deepmd", "extxyz", "npz"])
def test_round_trip_is_exact(form: str, periodic: bool, tmp_path: Path) -> None:
    frames = some_frames(periodic)
    if form == "deepmd":
        back = load_frames(save_deepmd(frames, tmp_path / "system"))
        assert (tmp_path / "system" / "nopbc").exists() == (not periodic)
    elif form == "extxyz":
        back = load_frames(save_extxyz(frames, tmp_path / "f.xyz"))
    else:
        back = load_npz(save_npz(frames, tmp_path / "f.npz"))
    assert back.symbols == frames.symbols
    for name in ("positions", "cell", "energy", "forces", "virial"):
        mine, theirs = getattr(frames, name), getattr(back, name)
        if mine is None:
            assert theirs is None, name
        else:
            np.testing.assert_allclose(theirs, mine, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("periodic", [False, True])
def test_dump_round_trip(periodic: bool, tmp_path: Path) -> None:
    frames = some_frames(periodic)
    write_dump(frames, tmp_path / "f.dump")
    text = (tmp_path / "f.dump").read_text().replace("ATOMS id x", "ATOMS id element x")
    rows = iter(range(10**6))
    lines = []
    for line in text.splitlines():
        words = line.split()
        if len(words) == 4 and words[0].isdigit():
            line = " ".join([words[0], frames.symbols[next(rows) % 4], *words[1:]])
        lines.append(line)
    (tmp_path / "f.dump").write_text("\n".join(lines) + "\n")
    back = read_dump(tmp_path / "f.dump")
    np.testing.assert_array_equal(back.positions, frames.positions)
    if periodic:
        assert back.cell is not None
        assert frames.cell is not None
        np.testing.assert_allclose(back.cell, frames.cell, atol=1e-12)


def test_extended_xyz_is_what_ase_reads(tmp_path: Path) -> None:
    frames = some_frames(True)
    images = read(save_extxyz(frames, tmp_path / "f.xyz"), ":")
    assert frames.energy is not None
    assert frames.forces is not None
    assert [a.get_potential_energy() for a in images] == pytest.approx(frames.energy.tolist())
    np.testing.assert_allclose(images[3].get_forces(), frames.forces[3])
    assert images[3].info["step"] == 30


def test_minimum_image_agrees_with_ase_in_a_skewed_cell() -> None:
    frames = some_frames(True, n=20)
    assert frames.cell is not None
    i, j = frames.pairs
    for k in range(len(frames)):
        atoms = Atoms("OHHC", frames.positions[k], cell=frames.cell[k], pbc=True)
        oracle = atoms.get_all_distances(mic=True)[i, j]
        np.testing.assert_allclose(frames.distances_ang[k], oracle, atol=1e-10)
    delta = np.array([[[4.4, 0.0, 0.0]]])
    assert np.linalg.norm(minimum_image(delta, frames.cell[:1])) <= 4.5


def test_bad_data_is_named(tmp_path: Path) -> None:
    frames = some_frames(False)
    assert frames.energy is not None
    energy = frames.energy.copy()
    energy[4] = np.nan
    with pytest.raises(DataError, match="energy of frame 4 is not a number"):
        Frames(frames.symbols, frames.positions, energy=energy, source="x")
    with pytest.raises(DataError, match="one data set holds one system"):
        concatenate([frames, Frames(("O", "H", "H", "N"), frames.positions)])
    with pytest.raises(DataError, match="no such file"):
        load_frames(tmp_path / "nothing.xyz")
    (tmp_path / "broken.xyz").write_text("3\nProperties=species:S:1:pos:R:3\nH 0 0 0\n")
    with pytest.raises(DataError, match=r"broken\.xyz"):
        load_frames(tmp_path / "broken.xyz")
    with pytest.raises(DataError, match=r"atoms 1 \(H\) and 2 \(H\) are 0\.300 A apart"):
        check_distances(np.array([[0, 0, 0], [0, 0, 0.3]]), ["H", "H"], "start.xyz")
