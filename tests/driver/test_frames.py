"""Frames: every format gives back what was written, and bad data is named."""

from __future__ import annotations

import bz2
import gzip
import shutil
from dataclasses import replace
from pathlib import Path

import dpdata
import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from ase.units import Bohr

from metamd.dump import read_dump, write_dump
from metamd.errors import DataError
from metamd.execution import run_lmp
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
from metamd.units import KCAL_MOL_EV


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
        atomic_energy=rng.normal(-25, 1, (n, 4)),
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
    for name in ("positions", "cell", "energy", "forces", "virial", "atomic_energy"):
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
    assert frames.atomic_energy is not None
    np.testing.assert_allclose(images[3].get_potential_energies(), frames.atomic_energy[3])
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


def brute_force_distances(delta: np.ndarray, cell: np.ndarray, reach: int) -> np.ndarray:
    """Shortest of all images within ``reach`` cells, [n] for delta [n, 3]."""
    shifts = np.array(list(np.ndindex(*3 * (2 * reach + 1,)))) - reach
    images = delta[:, None] + shifts @ cell
    return np.linalg.norm(images, axis=2).min(axis=1)


@pytest.mark.parametrize(
    "cell",
    [
        [[5.0, 0, 0], [12.0, 5.0, 0], [0, 0, 5.0]],
        [[5.0, 0, 0], [-9.0, 6.0, 0], [13.0, 8.0, 7.0]],
        [[6.0, 0, 0], [3.0, 5.2, 0], [0, 0, 8.0]],
    ],
)
def test_minimum_image_is_the_nearest_however_far_the_cell_leans(cell: list[list[float]]) -> None:
    box = np.array(cell)
    rng = np.random.default_rng(1)
    delta = rng.uniform(-1, 1, (500, 3)) @ box
    found = minimum_image(np.stack([delta, delta[::-1]]), np.stack([box, box]))
    nearest = brute_force_distances(delta, box, 6)
    np.testing.assert_allclose(np.linalg.norm(found[0], axis=1), nearest, atol=1e-10)
    np.testing.assert_array_equal(found[1], found[0][::-1])
    moved = (found[0] - delta) @ np.linalg.inv(box)
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-9)
    # Beside a cell that needs no reduction.
    upright = np.array([[7.0, 0, 0], [1.0, 7.0, 0], [0.5, 1.0, 9.0]])
    mixed = minimum_image(np.stack([delta, delta]), np.stack([upright, box]))
    lengths = np.linalg.norm(mixed, axis=2)
    np.testing.assert_allclose(lengths[0], brute_force_distances(delta, upright, 6), atol=1e-10)
    np.testing.assert_allclose(lengths[1], nearest, atol=1e-10)


def test_cells_of_slabs(tmp_path: Path) -> None:
    """A flat cell is refused; a whole one counts in all directions, which is said."""
    slab = Atoms("Ar2", [[0, 0, 0], [2, 2, 1]], cell=[4, 4, 0], pbc=[True, True, False])
    write(tmp_path / "flat.xyz", [slab])
    flat = pytest.raises(
        DataError, match=r"flat\.xyz: frame 0 is periodic, but its cell has no vol"
    )
    with pytest.warns(UserWarning, match=r"flat\.xyz: is periodic along some"), flat:
        load_frames(tmp_path / "flat.xyz")
    slab.cell[2] = [0, 0, 20]
    write(tmp_path / "slab.xyz", [slab])
    with pytest.warns(UserWarning, match=r"slab\.xyz: is periodic along some cell vectors only"):
        assert load_frames(tmp_path / "slab.xyz").cell is not None


def test_sgdml_files_have_their_cell_and_units(tmp_path: Path) -> None:
    frames = some_frames(True)
    assert frames.cell is not None
    assert frames.energy is not None
    assert frames.forces is not None
    ang = {
        "z": np.array([8, 1, 1, 6]), "R": frames.positions, "lattice": frames.cell[0].T,
        "E": frames.energy / KCAL_MOL_EV, "F": frames.forces / KCAL_MOL_EV,
    }  # fmt: skip
    bohr = ang | {
        "R": frames.positions / Bohr, "lattice": ang["lattice"] / Bohr, "F": frames.forces * Bohr,
        "E": frames.energy, "e_unit": "eV", "r_unit": "bohr",
    }  # fmt: skip
    for name, data in (("ang", ang), ("named", ang | {"r_unit": "Ang"}), ("bohr", bohr)):
        np.savez(tmp_path / f"{name}.npz", **data)
        back = load_frames(tmp_path / f"{name}.npz")
        for key in ("positions", "cell", "energy", "forces"):
            np.testing.assert_allclose(getattr(back, key), getattr(frames, key), err_msg=name)
    np.savez(tmp_path / "nm.npz", **(ang | {"r_unit": "nm"}))
    with pytest.raises(DataError, match=r"nm\.npz: r_unit is 'nm'; Ang and bohr are understood"):
        load_frames(tmp_path / "nm.npz")


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


def test_a_deepmd_system_with_forces_in_one_set_only_is_refused(tmp_path: Path) -> None:
    system = save_deepmd(replace(some_frames(False), info={}), tmp_path / "system")
    shutil.copytree(system / "set.000", system / "set.001")
    assert len(load_frames(system)) == 14
    (system / "set.001" / "force.npy").unlink()
    with pytest.raises(DataError, match=r"set\.001: has no forces, .*set\.000 has\."):
        load_frames(system)


def test_deepmd_systems_keep_their_provenance(tmp_path: Path) -> None:
    frames = some_frames(False).with_info(arm="hot", temperature_k=500.0, bias_ev=np.arange(7) / 7)
    system = save_deepmd(frames, tmp_path / "system")
    back = load_frames(system)
    assert set(back.info) == {"step", "walker", "arm", "temperature_k", "bias_ev"}
    for key, column in frames.info.items():
        np.testing.assert_array_equal(back.info[key], column)
    # Frames that another program added have none; nor has anyone else's.
    shutil.copytree(system / "set.000", system / "set.001")
    with pytest.warns(UserWarning, match=r"provenance\.npz: left out, it has 7 entries for 14"):
        assert not load_frames(system).info
    (system / "provenance.npz").write_bytes(b"PK torn")
    with pytest.raises(DataError, match=r"provenance\.npz: cannot be read"):
        load_frames(system)


def dpdata_system(symbols: str, n: int, seed: int) -> dpdata.LabeledSystem:
    rng = np.random.default_rng(seed)
    names = sorted(set(symbols))
    return dpdata.LabeledSystem(
        data={
            "atom_names": names,
            "atom_numbs": [symbols.count(e) for e in names],
            "atom_types": np.array([names.index(e) for e in symbols]),
            "orig": np.zeros(3),
            "cells": np.tile(20.0 * np.eye(3), (n, 1, 1)),
            "coords": rng.uniform(0, 5, (n, len(symbols), 3)),
            "energies": rng.normal(size=n),
            "forces": rng.normal(size=(n, len(symbols), 3)),
        }
    )


def test_mixed_deepmd_systems_have_their_real_elements(tmp_path: Path) -> None:
    """dpdata's mixed format, where type.raw holds placeholders: read, or refused by its frame."""
    water, sulphide = dpdata_system("OHH", 6, 0), dpdata_system("SHH", 4, 1)
    one = dpdata.MultiSystems(water, type_map=["S", "O", "H"])
    one.to("deepmd/npy/mixed", str(tmp_path / "one"))
    assert set(np.loadtxt(tmp_path / "one" / "3" / "type.raw")) == {0}
    frames = load_frames(tmp_path / "one" / "3")
    assert frames.symbols == ("O", "H", "H")
    np.testing.assert_allclose(frames.positions, one.systems["S0O1H2"].data["coords"], atol=1e-5)
    both = tmp_path / "both"
    dpdata.MultiSystems(water, sulphide).to("deepmd/npy/mixed", str(both))
    with pytest.raises(
        DataError, match=r"both/3/set\.000: frame 6 has other elements than frame 0"
    ):
        load_frames(both / "3")
    # What the message advises.
    again = dpdata.MultiSystems()
    again.load_systems_from_file(str(both / "3"), fmt="deepmd/npy/mixed")
    again.to("deepmd/npy", str(tmp_path / "split"))
    parts = {load_frames(p.parent).symbols for p in (tmp_path / "split").rglob("type.raw")}
    assert parts == {("O", "H", "H"), ("S", "H", "H")}
    # Atoms of type -1 fill the smaller systems up.
    types = np.load(tmp_path / "one" / "3" / "set.000" / "real_atom_types.npy")
    types[:, 2] = -1
    np.save(tmp_path / "one" / "3" / "set.000" / "real_atom_types.npy", types)
    assert load_frames(tmp_path / "one" / "3").symbols == ("O", "H")


def test_deepmd_without_type_map_takes_the_one_that_is_given(tmp_path: Path) -> None:
    frames = some_frames(False)
    system = save_deepmd(frames, tmp_path / "system")
    with pytest.raises(DataError, match="system: takes no type map, it has its own elements"):
        load_frames(system, ["H", "O", "C"])
    (system / "type_map.raw").unlink()
    assert load_frames(system, ["C", "H", "O"]).symbols == frames.symbols
    with pytest.raises(
        DataError, match=r"type\.raw: type 2 has no element in the type map \(C H\)"
    ):
        load_frames(system, ["C", "H"])


LAMMPS_DUMPS = """
units real
atom_style atomic
region box prism -1 11 -2 9 0.5 10 2.5 -1.5 1.0
create_box 2 box
create_atoms 1 random 4 123 NULL
create_atoms 2 random 3 1234 NULL
mass 1 1.0
mass 2 16.0
pair_style lj/cut 5.0
pair_coeff * * 0.01 1.0
dump default all atom 1 default.dump
dump zipped all atom 1 zipped.dump.gz
dump xsu all custom 1 xsu.dump id type xsu ysu zsu
dump xu all custom 1 xu.dump id type xu yu zu fx fy fz
dump x all custom 1 x.dump id type x y z fx fy fz
dump_modify xsu format float %.12g
dump_modify xu format float %.12g
dump_modify x format float %.12g units yes time yes
velocity all create 300 1
fix 1 all nve
run 3
"""


def test_dumps_as_lammps_writes_them(tmp_path: Path) -> None:
    """Scaled coordinates in a tilted box that begins anywhere; compressed; with units."""
    (tmp_path / "in.dumps").write_text(LAMMPS_DUMPS)
    run_lmp(tmp_path, "in.dumps", "screen.log")
    (tmp_path / "zipped.bz2").write_bytes(bz2.compress((tmp_path / "xsu.dump").read_bytes()))
    want = load_frames(tmp_path / "xu.dump", ["H", "O"])
    assert want.symbols == tuple("HHHHOOO")
    assert want.cell is not None
    np.testing.assert_allclose(want.cell[0], [[12, 0, 0], [2.5, 11, 0], [-1.5, 1, 9.5]], atol=1e-9)
    digits = {"default.dump": 1e-4, "zipped.dump.gz": 1e-4, "xsu.dump": 1e-9, "zipped.bz2": 1e-9}
    for name, tolerance in (digits | {"x.dump": 1e-9}).items():
        found = load_frames(tmp_path / name, ["H", "O"])
        assert found.symbols == want.symbols
        moved = (found.positions - want.positions) @ np.linalg.inv(want.cell[0])
        np.testing.assert_allclose(moved, np.round(moved), atol=tolerance, err_msg=name)
        np.testing.assert_allclose(found.cell, want.cell, err_msg=name)
    found = load_frames(tmp_path / "x.dump", ["H", "O"])
    assert found.forces is not None
    assert want.forces is not None
    assert np.abs(want.forces).max() > 0
    np.testing.assert_allclose(found.forces, want.forces * KCAL_MOL_EV, rtol=1e-9)
    with pytest.raises(DataError, match=r"xu\.dump: frame 0 has atoms of type 2, .* names 1 \(H\)"):
        load_frames(tmp_path / "xu.dump", ["H"])
    whole = (tmp_path / "zipped.dump.gz").read_bytes()
    (tmp_path / "torn.gz").write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.warns(UserWarning, match=r"torn\.gz: frame \d is torn and left out"):
        assert 0 < len(load_frames(tmp_path / "torn.gz", ["H", "O"])) < 4


def test_a_type_map_may_not_contradict_the_elements(tmp_path: Path) -> None:
    text = (
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n2\nITEM: BOX BOUNDS ff ff ff\n"
        + "-9 9\n" * 3
        + "ITEM: ATOMS id type element x y z\n1 1 O 0 0 0\n2 2 H 0 0 1\n"
    )
    path = tmp_path / "f.dump.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert load_frames(path, ["O", "H"]).symbols == load_frames(path).symbols == ("O", "H")
    with pytest.raises(DataError, match="an atom of type 1 is O in the element column and H in"):
        load_frames(path, ["H", "O"])


@pytest.mark.parametrize("prefix", ["REF_", "dft_", "DFT_"])
@pytest.mark.parametrize("label", ["virials", "virial", "stress"])
def test_labels_with_a_prefix_are_read(prefix: str, label: str, tmp_path: Path) -> None:
    """As ASE writes the files that MACE and GAP are trained on."""
    frames = some_frames(True)
    assert frames.energy is not None
    assert frames.forces is not None
    assert frames.virial is not None
    assert frames.cell is not None
    virial = frames.virial + frames.virial.transpose(0, 2, 1)
    images = []
    for k in range(len(frames)):
        atoms = Atoms(frames.symbols, frames.positions[k], cell=frames.cell[k], pbc=True)
        atoms.info[f"{prefix}energy"] = frames.energy[k]
        atoms.arrays[f"{prefix}forces"] = frames.forces[k]
        stress = -virial[k] / atoms.get_volume()
        atoms.info[f"{prefix}{label}"] = stress if label == "stress" else virial[k]
        images.append(atoms)
    write(tmp_path / "mace.xyz", images)
    back = load_frames(tmp_path / "mace.xyz")
    np.testing.assert_allclose(back.energy, frames.energy, atol=1e-7)
    np.testing.assert_allclose(back.forces, frames.forces, atol=1e-7)
    np.testing.assert_allclose(back.virial, virial, atol=1e-5)
    assert not back.info


def test_labels_of_other_names_are_told(tmp_path: Path) -> None:
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 1]], info={"my_energy": -3.0})
    write(tmp_path / "f.xyz", atoms)
    with pytest.warns(UserWarning, match=r"f\.xyz: my_energy is not read as a label"):
        assert load_frames(tmp_path / "f.xyz").energy is None


def test_energy_and_forces_of_a_prefix_go_before_an_energy_alone(tmp_path: Path) -> None:
    """ASE's ``energy`` (of another method, often free energies) beside a whole REF_ label."""
    atoms = Atoms("OH", [[0, 0, 0], [0, 0, 1]], info={"energy": -1.0, "REF_energy": -3.0})
    atoms.arrays["REF_forces"] = np.full((2, 3), 0.5)
    write(tmp_path / "both.xyz", atoms)
    frames = load_frames(tmp_path / "both.xyz")
    assert frames.energy == pytest.approx([-3.0])
    np.testing.assert_allclose(frames.forces, 0.5)
    del atoms.arrays["REF_forces"]
    write(tmp_path / "energy.xyz", atoms)
    assert load_frames(tmp_path / "energy.xyz").energy == pytest.approx([-1.0])
