"""Starting structures: files, SMILES and packed boxes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.orca import OrcaProfile
from ase.io import write
from tblite.ase import TBLite

from metamd.bonds import BondGraph
from metamd.config import Reference, System
from metamd.config.runfile import parse_config
from metamd.errors import InputError
from metamd.forcefields import named_forces
from metamd.frames import from_atoms, load_npz, save_npz
from metamd.label.ase_batch import label_batch
from metamd.reference import make_calculator
from metamd.structure import build_structure, walker_starts
from metamd.template import run_file_text


@pytest.mark.parametrize("suffix", ["xyz", "pdb", "cif", "vasp", "gen"])
def test_any_file_that_ase_reads(suffix: str, tmp_path: Path) -> None:
    crystal = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    path = tmp_path / f"crystal.{suffix}"
    write(path, crystal, format={"xyz": "extxyz", "pdb": "proteindatabank"}.get(suffix, suffix))
    atoms = build_structure(System(structure=path))
    assert atoms.get_chemical_formula() == "Cl4Na4"
    assert atoms.pbc.all()
    np.testing.assert_allclose(np.sort(atoms.cell.lengths()), 5.64, atol=1e-3)
    alone = build_structure(System(structure=path, periodic=False))
    assert not alone.pbc.any()
    assert alone.cell.rank == 0


def test_a_slab_says_whether_it_is_periodic(tmp_path: Path) -> None:
    slab = bulk("NaCl", "rocksalt", a=5.64, cubic=True)
    slab.pbc = (True, True, False)
    write(tmp_path / "slab.xyz", slab)
    with pytest.raises(InputError, match=r"slab\.xyz: is periodic along some of the axes only"):
        build_structure(System(structure=tmp_path / "slab.xyz"))
    assert build_structure(System(structure=tmp_path / "slab.xyz", periodic=True)).pbc.all()
    slab.cell[2] = 0.0
    write(tmp_path / "flat.xyz", slab)
    with pytest.raises(
        InputError, match=r"flat\.xyz: system\.periodic = true, but there is no cell"
    ):
        build_structure(System(structure=tmp_path / "flat.xyz", periodic=True))


def test_smiles(ethanol: Any) -> None:
    pytest.importorskip("rdkit")
    atoms = build_structure(System(smiles="CCO"))
    assert sorted(atoms.symbols) == sorted(ethanol.symbols)
    assert len(BondGraph.of(atoms.get_chemical_symbols(), atoms.positions).bonds) == 8
    again = build_structure(System(smiles="CCO"))
    np.testing.assert_array_equal(again.positions, atoms.positions)
    other = build_structure(System(smiles="CCO", seed=5))
    assert np.abs(other.positions - atoms.positions).max() > 1e-3
    with pytest.raises(InputError, match="not a SMILES"):
        build_structure(System(smiles="C(C"))
    with pytest.raises(InputError, match=r"has the charge -1, but system\.charge = 0"):
        build_structure(System(smiles="CC(=O)[O-]"))
    assert len(build_structure(System(smiles="CC(=O)[O-]", charge=-1))) == 7


def test_packed_box_of_water(tmp_path: Path) -> None:
    pytest.importorskip("packmol")
    write(tmp_path / "water.xyz", molecule("H2O"))
    water = {"structure": tmp_path / "water.xyz", "count": 20}
    packmol = {"molecules": [water], "density_g_cm3": 0.9}
    system = System.model_validate({"packmol": packmol})
    atoms = build_structure(system)
    density = atoms.get_masses().sum() * 1.66053907 / atoms.get_volume()
    assert density == pytest.approx(0.9, abs=1e-6)
    assert atoms.pbc.all()
    named_forces("tip3p", atoms)  # twenty whole water molecules
    apart = atoms.get_all_distances(mic=True)[::3, ::3]
    assert apart[np.triu_indices(20, 1)].min() > 1.9, "molecules overlap across the boundary"
    np.testing.assert_array_equal(build_structure(system).positions, atoms.positions)


def test_box_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("packmol")
    monkeypatch.setattr("metamd.structure.PACK_SECONDS", 2.0)
    write(tmp_path / "water.xyz", molecule("H2O"))
    water = {"structure": tmp_path / "water.xyz", "count": 50}
    packmol = {"molecules": [water], "box_ang": [4.0, 4.0, 4.0]}
    with pytest.raises(InputError, match="no room"):
        build_structure(System.model_validate({"packmol": packmol}))


def test_one_source_alone() -> None:
    with pytest.raises(ValueError, match="one of structure, smiles and packmol"):
        System(smiles="C", structure=Path("a.xyz"))
    with pytest.raises(ValueError, match="one of structure, smiles and packmol"):
        System()


def test_missing_file_inside_a_box_is_named(tmp_path: Path) -> None:
    import tomllib

    text = run_file_text("x.xyz").replace('structure = "x.xyz"', "")
    text = text.replace(
        "[reference]",
        "[system.packmol]\ndensity_g_cm3 = 1\n[[system.packmol.molecules]]\ncount = 3\n"
        'structure = "nowhere.xyz"\n[reference]',
    )
    with pytest.raises(InputError, match=r"system\.packmol\.molecules\[1\]\.structure"):
        parse_config(tomllib.loads(text), tmp_path / "run.toml")


def test_charge_and_multiplicity_reach_the_reference(tmp_path: Path) -> None:
    """H2O+ is a doublet: its label is that of a charged, open-shell calculation."""
    water = molecule("H2O")
    reference = Reference(calculator="tblite.ase:TBLite", arguments={"method": "GFN2-xTB"})
    source = save_npz(from_atoms([water], "water"), tmp_path / "water.npz")
    energies = []
    for charge, multiplicity in ((0, 1), (1, 2), (0, 3)):
        folder = tmp_path / f"{charge}-{multiplicity}"
        folder.mkdir()
        label_batch(folder, str(source), 0, 1, reference.model_dump(), charge, multiplicity)
        found = load_npz(folder / "labels.npz").energy
        assert found is not None
        direct = water.copy()
        direct.calc = TBLite(
            method="GFN2-xTB", charge=charge, multiplicity=multiplicity, verbosity=0
        )
        assert found[0] == pytest.approx(direct.get_potential_energy(), abs=1e-6)
        energies.append(found[0])
    assert np.ptp(energies) > 5.0


def test_a_calculator_that_takes_no_charge_is_refused() -> None:
    with pytest.raises(InputError, match=r"system\.charge = 1"):
        make_calculator("ase.calculators.emt:EMT", {}, charge=1)


WATER = molecule("H2O", vacuum=4.0)


@pytest.mark.parametrize(
    ("calculator", "arguments", "file", "line"),
    [
        ("orca:ORCA", {}, "orca.inp", r"^\* ?xyz 1 2 *$"),
        ("orca:ORCA", {"charge": 1, "mult": 2}, "orca.inp", r"^\* ?xyz 1 2 *$"),
        ("gaussian:Gaussian", {}, "Gaussian.com", r"^1 2$"),
        ("nwchem:NWChem", {"dft": {"mult": 2}}, "nwchem.nwi", r"^charge 1$"),
    ],
)
def test_charge_and_multiplicity_are_written_under_the_programs_names(
    calculator: str, arguments: dict[str, Any], file: str, line: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """What ASE writes for the program is looked at; no program is started."""
    monkeypatch.chdir(tmp_path)
    if calculator == "orca:ORCA":
        arguments = {**arguments, "profile": OrcaProfile(command="/opt/orca/orca")}
    made = make_calculator(f"ase.calculators.{calculator}", arguments, charge=1, multiplicity=2)
    write_input = getattr(made, "write_inputfiles", None) or made.write_input
    write_input(WATER, ["energy", "forces"])
    text = (tmp_path / file).read_text()
    assert re.search(line, text, flags=re.MULTILINE), text
    if calculator.startswith("nwchem"):
        assert re.search(r"^ *mult 2$", text, flags=re.MULTILINE), text


def test_vasp_takes_the_charge_and_the_persons_own_spin_keywords() -> None:
    vasp = "ase.calculators.vasp:Vasp"
    made = make_calculator(vasp, {"xc": "PBE", "ispin": 2, "nupdown": 2}, -1, 3)
    assert made.input_params["charge"] == -1
    assert (made.int_params["ispin"], made.float_params["nupdown"]) == (2, 2)
    # Electrons that are counted by the person stay the only word on it.
    made = make_calculator(vasp, {"xc": "PBE", "nelect": 9.0}, -1, 1)
    assert made.input_params["charge"] is None
    with pytest.raises(InputError, match="takes no 'multiplicity'"):
        make_calculator(vasp, {"xc": "PBE"}, 0, 2)


@pytest.mark.parametrize(
    ("calculator", "arguments", "words"),
    [
        ("ase.calculators.vasp:Vasp", {"ispin": 2, "nupdown": 1}, "nupdown = 1 means another mult"),
        ("ase.calculators.gaussian:Gaussian", {"mult": 2}, "mult = 2 means another multiplicity"),
        ("tblite.ase:TBLite", {"charge": 1}, "charge = 1 means another charge than system.charge"),
    ],
)
def test_keywords_that_contradict_the_system_are_refused(
    calculator: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        make_calculator(calculator, arguments, 0, 3)


def test_walkers_start_from_structures_in_turn(ethanol: Atoms, tmp_path: Path) -> None:
    gauche = ethanol.copy()
    gauche.set_dihedral(0, 1, 2, 3, 60.0, indices=[3])
    write(tmp_path / "two.xyz", [ethanol, gauche])
    starts = walker_starts(tmp_path / "two.xyz", ethanol, 3, "starts")
    for start, given in zip(starts, (ethanol, gauche, ethanol), strict=True):
        np.testing.assert_allclose(start.positions, given.positions, atol=1e-7)
    assert np.abs(starts[1].positions - starts[0].positions).max() > 0.5
    assert walker_starts(None, ethanol, 2, "starts") == [ethanol, ethanol]


def test_starts_that_do_not_fit_are_refused(ethanol: Atoms, tmp_path: Path) -> None:
    path = tmp_path / "starts.xyz"
    other, torn, close = ethanol[::-1], ethanol.copy(), ethanol.copy()
    torn.positions[8] += 3.0
    close.positions[8] = close.positions[7] + 0.1
    for bad, words in (
        (other, "starts, structure 2: its atoms are not those"),
        (torn, "starts, structure 2: is another molecule than the system's: bond"),
        (close, "starts, structure 2"),
    ):
        write(path, [ethanol, bad])
        with pytest.raises(InputError, match=words):
            walker_starts(path, ethanol, 2, "starts")
    with pytest.raises(InputError, match=r"holds 2 structures for 1 walker; set walkers = 2"):
        walker_starts(path, ethanol, 1, "starts")
    path.write_text("9\n")
    with pytest.raises(InputError, match=r"starts\.xyz: starts cannot be read as structures"):
        walker_starts(path, ethanol, 2, "starts")
