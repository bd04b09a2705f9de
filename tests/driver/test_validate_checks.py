"""Scans, frequencies, energy conservation, RDF and diffusion against independent calculations."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.calculators.calculator import CalculationFailed
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones
from ase.calculators.morse import MorsePotential
from ase.vibrations import Vibrations

from metamd.config import Reference
from metamd.config.validate import Trajectory
from metamd.errors import DataError, InputError, TaskError
from metamd.frames import Frames, save_npz
from metamd.report import write_report
from metamd.validate.frequencies import compare_frequencies, harmonic_frequencies, relaxed
from metamd.validate.nve import drift_mev_per_atom_ps, nve_check, nve_energies
from metamd.validate.scan import angle_scan, bond_scan, moved_by_bond
from metamd.validate.structure import (
    finite_size_correction,
    mean_square_displacement,
    radial_distribution,
    rdf_check,
    self_diffusion,
    unwrapped,
)
from metamd.validate.tasks import _marked, frequencies_task, liquid_task, scans_task

MORSE = {"epsilon": 1.0, "r0": 1.2, "rho0": 4.0, "rcut1": 8.0, "rcut2": 9.0}


def xtb():
    # With several threads xTB is 20 times slower on so small a molecule.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from tblite.ase import TBLite

    return TBLite(method="GFN2-xTB", verbosity=0)


def test_bond_scan_against_the_morse_formula():
    pair = Atoms("N2", [[0, 0, 0], [0, 0, 1.2]])
    r = np.linspace(0.9, 2.5, 12)
    soft = {**MORSE, "epsilon": 0.8}
    check = bond_scan(
        {"reference": MorsePotential(**MORSE), "soft": MorsePotential(**soft)}, pair, 0, 1, r
    )

    def morse(depth):
        e = np.exp(-MORSE["rho0"] * (r / MORSE["r0"] - 1))
        return depth * (e * e - 2 * e) + depth

    x, y = check.curves["reference"]
    np.testing.assert_allclose(x, r)
    np.testing.assert_allclose(y, morse(1.0), atol=1e-10)
    rmse = np.sqrt(np.mean((morse(1.0) - morse(0.8)) ** 2))
    assert rmse > 0.01
    assert check.numbers["soft: RMSE / eV"] == pytest.approx(rmse, rel=1e-9)


def test_scans_move_the_fragment_and_nothing_else():
    ethanol = molecule("CH3CH2OH")
    c, o = 1, 2  # C-O
    mask = moved_by_bond(ethanol, c, o)
    assert sorted(ethanol.symbols[mask]) == ["H", "O"]

    class Spy(LennardJones):
        seen: ClassVar[list[np.ndarray]] = []

        def calculate(self, atoms=None, *args, **kwargs):
            Spy.seen.append(atoms.positions.copy())
            super().calculate(atoms, *args, **kwargs)

    bond_scan({"spy": Spy()}, ethanol, c, o, [1.6, 2.0])
    start, first, second = Spy.seen
    np.testing.assert_allclose(first[~mask], start[~mask])
    assert np.linalg.norm(second[o] - second[c]) == pytest.approx(2.0)
    shift = second[mask] - start[mask]
    np.testing.assert_allclose(shift, np.broadcast_to(shift[0], shift.shape), atol=1e-12)
    Spy.seen.clear()
    check = angle_scan({"spy": Spy()}, ethanol, 0, c, o, [100.0, 120.0])
    image = ethanol.copy()
    image.positions = Spy.seen[-1]
    assert image.get_angle(0, c, o) == pytest.approx(120.0)
    np.testing.assert_allclose(image.positions[~mask], ethanol.positions[~mask], atol=1e-12)
    assert check.key == "scan-angle-1-2-3"


def test_scan_in_a_ring_moves_one_atom():
    ring = molecule("C6H6")
    assert moved_by_bond(ring, 0, 1).sum() == 1


def test_scan_counts_points_without_energy():
    class Fails(MorsePotential):
        def calculate(self, atoms=None, *args, **kwargs):
            if atoms.get_distance(0, 1) > 2.0:
                raise CalculationFailed("no SCF")
            super().calculate(atoms, *args, **kwargs)

    pair = Atoms("N2", [[0, 0, 0], [0, 0, 1.2]])
    check = bond_scan(
        {"reference": Fails(**MORSE), "m": MorsePotential(**MORSE)}, pair, 0, 1, [1.1, 1.5, 2.5]
    )
    assert check.notes == ["reference gave no energy at 1 of 3 points"]
    assert np.isnan(check.curves["reference"][1]).tolist() == [False, False, True]
    assert check.numbers["m: RMSE / eV"] == pytest.approx(0.0, abs=1e-12)
    assert json.loads(json.dumps(check.as_dict()))["curves"][0]["y"][2] is None
    with pytest.raises(InputError):
        bond_scan({"m": MorsePotential(**MORSE)}, pair, 0, 5, [1.0])


def test_frequencies_agree_with_ase(tmp_path: Path):
    """Water and (linear) carbon dioxide by xTB, within 1 cm^-1 of ASE's Vibrations."""
    for name, n in (("H2O", 3), ("CO2", 4)):
        image = relaxed(molecule(name), xtb(), fmax_ev_per_ang=1e-4)
        ours = harmonic_frequencies(image, xtb())
        assert len(ours) == n
        vibrations = Vibrations(image, name=str(tmp_path / name))
        vibrations.run()
        theirs = np.sort(vibrations.get_frequencies().real)[-n:]
        assert theirs.max() > 1500
        np.testing.assert_allclose(ours, theirs, atol=1.0)


def test_frequency_of_a_spring_and_of_a_saddle():
    pair = Atoms("N2", [[0, 0, 0], [0, 0, 1.2]])
    value = harmonic_frequencies(pair, MorsePotential(**MORSE), displacement_ang=1e-3)
    k = 2 * MORSE["epsilon"] * (MORSE["rho0"] / MORSE["r0"]) ** 2
    mass = pair.get_masses()[0] / 2
    omega = math.sqrt(k / mass) / (units._c * 100 * 2 * math.pi)
    omega *= math.sqrt(units._e * 1e20 / units._amu)
    assert value == pytest.approx([omega], rel=1e-5)
    pair.set_distance(0, 1, 1.2 * (1 + math.log(2) / 4) + 0.3)
    assert harmonic_frequencies(pair, MorsePotential(**MORSE))[0] < 0


def test_compared_frequencies_and_a_model_without_minimum():
    pair = Atoms("N2", [[0, 0, 0], [0, 0, 1.25]])
    check = compare_frequencies(
        {
            "reference": MorsePotential(**MORSE),
            "soft": MorsePotential(**{**MORSE, "epsilon": 0.81}),
        },
        pair,
    )
    reference = check.curves["soft"][0][0]
    error = check.numbers["soft: mean absolute error / cm⁻¹"]
    assert error == pytest.approx(0.1 * reference, rel=5e-3)
    assert check.notes == []
    # A linear start stays linear: a saddle of water's bending, which is said.
    water = Atoms("HOH", [[0, 0, -0.96], [0, 0, 0], [0, 0, 0.96]])
    assert "imaginary" in compare_frequencies({"xtb": xtb()}, water).notes[0]
    with pytest.raises(TaskError, match="did not relax"):
        relaxed(pair, MorsePotential(**MORSE), fmax_ev_per_ang=1e-9, steps=1)


def test_energy_is_conserved_to_second_order():
    copper = bulk("Cu", cubic=True)
    spread = []
    for dt in (2.0, 4.0):
        time, energy = nve_energies(copper, EMT(), 300, dt, steps=int(400 / dt), stride=1)
        assert time[-1] == pytest.approx(0.4)
        spread.append(energy.std())
        slope = np.linalg.lstsq(np.stack([time, np.ones_like(time)], 1), energy, rcond=None)[0][0]
        assert drift_mev_per_atom_ps(time, energy, len(copper)) == pytest.approx(
            slope * 1000 / len(copper), rel=1e-6, abs=1e-9
        )
    assert spread[1] / spread[0] == pytest.approx(4.0, rel=0.25)


def test_nve_that_blows_up_is_said():
    class Fails(EMT):
        count = 0

        def calculate(self, *args, **kwargs):
            Fails.count += 1
            if Fails.count > 30:
                raise CalculationFailed("blown up")
            super().calculate(*args, **kwargs)

    copper = bulk("Cu", cubic=True)
    check = nve_check({"EMT": EMT(), "fails": Fails()}, copper, steps=60, stride=5)
    assert len(check.notes) == 1
    assert check.notes[0].startswith("fails: ended after 0.0125 of 0.03 ps")
    assert "EMT: drift / meV/(atom ps)" in check.numbers


class NoNumbers(EMT):
    """A model that is broken from the start."""

    def calculate(self, *args, **kwargs):
        super().calculate(*args, **kwargs)
        self.results["energy"] = float("nan")


class NoStart(EMT):
    def calculate(self, *args, **kwargs):
        raise CalculationFailed("no SCF")


def test_nve_without_energy_at_the_start_costs_that_model_only():
    copper = bulk("Cu", cubic=True)
    calculators = {"reference": EMT(), "nan": NoNumbers(), "fails": NoStart(), "other": EMT()}
    check = nve_check(calculators, copper, steps=20, stride=5)
    assert list(check.curves) == ["reference", "other"]
    assert check.notes == [
        "nan: no energy at the start: it is no number",
        "fails: no energy at the start: no SCF",
    ]
    with pytest.raises(TaskError, match="nan: no energy at the start"):
        nve_check({"nan": NoNumbers()}, copper, steps=20, stride=5)


def gas(n_frames: int = 20, skewed: bool = False) -> Frames:
    rng = np.random.default_rng(5)
    cell = np.array([[9.0, 0, 0], [0, 10.0, 0], [0, 0, 11.0]])
    if skewed:
        cell[1, 0], cell[2, 1] = 2.0, -3.0
    symbols = ("O", "H", "H") * 12
    fraction = rng.uniform(-1, 2, (n_frames, len(symbols), 3))
    return Frames(symbols, fraction @ cell, cell=np.broadcast_to(cell, (n_frames, 3, 3)).copy())


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize(("a", "b"), [("O", "O"), ("O", "H")])
def test_rdf_against_a_plain_histogram(a: str, b: str, skewed: bool):
    frames = gas(skewed=skewed)
    r, g = radial_distribution(frames, a, b, r_max_ang=4.0, bins=20)
    edges = np.linspace(0, 4.0, 21)
    counts = np.zeros(20)
    ia = [k for k, s in enumerate(frames.symbols) if s == a]
    ib = [k for k, s in enumerate(frames.symbols) if s == b]
    pairs = [(i, j) for i in ia for j in ib if i != j]
    shifts = np.array(list(np.ndindex(5, 5, 5))) - 2
    for x, cell in zip(frames.positions, frames.cell, strict=True):
        fraction = (x @ np.linalg.inv(cell)) % 1.0
        for i, j in pairs:
            images = (fraction[j] - fraction[i] + shifts) @ cell
            counts += np.histogram(np.linalg.norm(images, axis=1), edges)[0]
    volume = abs(np.linalg.det(frames.cell[0]))
    shell = 4 / 3 * np.pi * np.diff(edges**3)
    expected = counts / len(frames) / (len(pairs) / volume) / shell
    assert expected[5:].mean() == pytest.approx(1.0, abs=0.3)
    np.testing.assert_allclose(r, 0.5 * (edges[1:] + edges[:-1]), atol=1e-6)
    # Single precision may put a pair into the next bin.
    one = 2 / len(frames) / (len(pairs) / volume) / shell
    assert (np.abs(g - expected) <= 1e-4 + one * 1.01).all()
    assert np.abs(g - expected).mean() < 0.01


def test_rdf_check_and_bad_input():
    check = rdf_check({"reference": gas(10), "model": gas(20)}, "O", "H")
    assert check.numbers["model: mean |Δg|"] > 0
    assert check.curves["model"][0].max() < 4.5
    isolated = Frames(("O",), np.zeros((1, 1, 3)))
    for frames, element in ((isolated, "O"), (gas(2), "N")):
        with pytest.raises(DataError):
            radial_distribution(frames, element, element)


def walk(n_frames: int, n_atoms: int, step: float, seed: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(0, step, (n_frames, n_atoms, 3)), axis=0)


def test_msd_against_loops_and_mdanalysis():
    x = walk(40, 3, 0.4)
    expected = [
        np.mean([np.sum((x[t + lag] - x[t]) ** 2, axis=1) for t in range(40 - lag)])
        for lag in range(40)
    ]
    msd = mean_square_displacement(x)
    np.testing.assert_allclose(msd, expected, rtol=1e-9, atol=1e-10)
    assert msd[5] > 1.0
    MDAnalysis = pytest.importorskip("MDAnalysis")
    from MDAnalysis.analysis.msd import EinsteinMSD

    universe = MDAnalysis.Universe.empty(3, trajectory=True)
    universe.load_new(x.astype(np.float32))
    theirs = EinsteinMSD(universe, fft=False).run().results.timeseries
    np.testing.assert_allclose(msd, theirs, rtol=1e-4, atol=1e-4)


def test_unwrapped_undoes_the_wrapping():
    x = walk(60, 5, 0.3)
    cell = np.array([[6.0, 0, 0], [1.5, 6.0, 0], [0, 0, 7.0]])
    wrapped = ((x @ np.linalg.inv(cell)) % 1.0) @ cell
    frames = Frames(("Ar",) * 5, wrapped, cell=np.broadcast_to(cell, (60, 3, 3)).copy())
    found = unwrapped(frames)
    np.testing.assert_allclose(found - found[0], x - x[0], atol=1e-9)


def test_self_diffusion_of_a_random_walk():
    """D = <step^2> / (6 dt) is known; the error bar must cover it."""
    n_atoms, step, dt = 200, 0.3, 0.1
    x = walk(1000, n_atoms, step)
    # Taking the mass centre's motion off leaves (N - 1)/N of it.
    exact = 3 * step**2 / (6 * dt) * (n_atoms - 1) / n_atoms * 1e-4
    cell = np.broadcast_to(np.eye(3) * 20.0, (1000, 3, 3)).copy()
    frames = Frames(("Ar",) * n_atoms, x % 20.0, cell=cell)
    found = self_diffusion(frames, dt, temperature_k=300.0, viscosity_pa_s=1e-3)
    assert len(found.blocks) == 5
    assert 0 < found.error < 0.05 * exact
    assert found.value == pytest.approx(exact, abs=3 * found.error)
    assert found.value == pytest.approx(exact, rel=0.05)
    correction = finite_size_correction(300.0, 1e-3, 20.0)
    assert found.corrected == pytest.approx(found.value + correction)
    # 2.837297 * 1.380649e-23 J/K * 300 K / (6 pi * 1e-3 Pa s * 20e-10 m), in cm^2/s
    assert correction == pytest.approx(3.1172e-6, rel=1e-3)
    with pytest.raises(DataError, match="too few"):
        self_diffusion(frames[:20], dt)


def test_checks_are_drawn_in_the_report(tmp_path: Path):
    pair = Atoms("N2", [[0, 0, 0], [0, 0, 1.2]])
    calculators = {"reference": MorsePotential(**MORSE), "model": MorsePotential(**MORSE)}
    checks = [
        bond_scan(calculators, pair, 0, 1, np.linspace(0.9, 2.0, 8)).as_dict(),
        compare_frequencies(calculators, pair).as_dict(),
        {"key": "bad", "title": "Wrong", "curves": [{"name": "a"}]},
    ]
    (tmp_path / "summary.json").write_text(json.dumps({"status": "finished", "checks": checks}))
    text = write_report(tmp_path).read_text()
    assert 'id="check-scan-bond-1-2"' in text
    assert 'id="check-frequencies"' in text
    assert "model: RMSE / eV" in text
    assert "The check “Wrong” could not be drawn" in text


ARGON = {"kind": "lammps", "commands": ["pair_style lj/cut 30.0", "pair_coeff * * 0.0104 3.4"]}


def system_of(atoms: Atoms, reference: dict | None) -> dict:
    return {
        "symbols": atoms.get_chemical_symbols(), "positions": atoms.positions.tolist(),
        "cell": None, "reference": reference, "charge": 0, "multiplicity": 1, "models": {},
    }  # fmt: skip


def test_scans_and_frequencies_against_a_force_field_of_lammps(tmp_path: Path):
    """The same as ASE's own Lennard-Jones: the reference may be a pair style."""
    reference = Reference.model_validate(ARGON).model_dump(mode="json")
    pair = Atoms("Ar2", [[0, 0, 0], [0, 0, 3.8]])
    scan = {"atoms": [1, 2], "low": 3.3, "high": 6.0, "points": 5}
    (found,) = scans_task(tmp_path, system_of(pair, reference), [scan])["checks"]
    assert found["has_reference"]
    (curve,) = found["curves"]
    assert curve["name"] == "reference"
    r = np.linspace(3.3, 6.0, 5)
    energy = 4 * 0.0104 * ((3.4 / r) ** 12 - (3.4 / r) ** 6)
    start = 4 * 0.0104 * ((3.4 / 3.8) ** 12 - (3.4 / 3.8) ** 6)
    np.testing.assert_allclose(curve["y"], energy - start, atol=1e-7)
    (modes,) = frequencies_task(tmp_path, system_of(pair, reference))["checks"]
    lj = LennardJones(sigma=3.4, epsilon=0.0104, rc=30.0, smooth=False)
    expected = harmonic_frequencies(relaxed(pair, lj), lj)
    np.testing.assert_allclose(modes["curves"][0]["x"], expected, atol=0.05)


def test_checks_without_a_reference_deviate_from_nothing(tmp_path: Path):
    pair = Atoms("N2", [[0, 0, 0], [0, 0, 1.2]])
    check = bond_scan(
        {"md": MorsePotential(**MORSE), "metamd": MorsePotential(**{**MORSE, "epsilon": 0.8})},
        pair, 0, 1, [1.1, 1.3],
    )  # fmt: skip
    assert check.numbers
    alone = _marked(check, of_reference=False)
    assert alone["numbers"] == {}
    assert alone["has_reference"] is False
    assert len(alone["curves"]) == 2
    assert _marked(check, of_reference=True)["numbers"] == dict(check.numbers)
    with pytest.raises(DataError, match="Neither a reference"):
        frequencies_task(tmp_path, system_of(pair, None))
    rigid = Reference(kind="lammps", potential="tip3p").model_dump(mode="json")
    with pytest.raises(DataError, match="holds its molecules rigid"):
        frequencies_task(tmp_path, system_of(molecule("H2O"), rigid))


def test_a_liquid_without_the_reference_s_trajectory(tmp_path: Path):
    """It failed, or finished calculations have none: g(r) is drawn, no deviation is made up."""
    rng = np.random.default_rng(5)
    files = {}
    for name in ("reference", "md", "metamd"):
        x = rng.uniform(0, 9, (20, 12, 3))
        cell = np.repeat(9.0 * np.eye(3)[None], 20, axis=0)
        files[name] = str(save_npz(Frames(("Ar",) * 12, x, cell), tmp_path / f"{name}.npz"))
    settings = Trajectory().model_dump(mode="json")
    (full,) = liquid_task(tmp_path, files, ["rdf"], settings)["checks"]
    assert set(full["numbers"]) >= {"md: mean |Δg|", "metamd: mean |Δg|"}
    del files["reference"]
    (alone,) = liquid_task(tmp_path, files, ["rdf"], settings)["checks"]
    assert alone["numbers"] == {}
    assert alone["has_reference"] is False
