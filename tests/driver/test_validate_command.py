"""``metamd validate`` with real models: every check against an independent calculation, bad input.

The models are of tests/data/ethanol_models: an ensemble of two for ethanol in vacuum.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read
from ase.vibrations import Vibrations

from metamd.frames import Frames, load_npz, save_npz
from metamd.judge import cluster_labels
from metamd.predict import predict

from .conftest import ETHANOL, ROOT

MODELS = sorted((ROOT / "tests" / "data" / "ethanol_models").glob("*.pb"))
RUN = f"""
[system]
structure = "{ETHANOL}"
[reference]
calculator = "tblite.ase:TBLite"
arguments = {{ method = "GFN2-xTB", accuracy = 0.001 }}
[[sample]]
name = "md"
[validate]
checks = [{{checks}}]
temperatures_k = [300]
steps = 200
nve_steps = 100
[[validate.scans]]
atoms = [1, 2]
low = 1.3
high = 1.9
points = 5
[[validate.scans]]
atoms = [1, 2, 3]
low = 95
high = 120
points = 3
[execution]
workers = 1
"""
ALL = (
    "cross_errors",
    "clusters",
    "stability",
    "deviation",
    "nve",
    "scans",
    "frequencies",
    "sampling",
)


def labelled(n: int, width: float, seed: int) -> Frames:
    """Rattled ethanol with GFN2-xTB's energies and forces."""
    from tblite.ase import TBLite

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    atoms = read(ETHANOL)
    atoms.calc = TBLite(method="GFN2-xTB", verbosity=0)
    start, rng = atoms.positions.copy(), np.random.default_rng(seed)
    positions = start + rng.normal(0, width, (n, *start.shape))
    energy, forces = [], []
    for x in positions:
        atoms.positions = x
        energy.append(atoms.get_potential_energy())
        forces.append(atoms.get_forces())
    symbols = tuple(atoms.get_chemical_symbols())
    return Frames(symbols, positions, energy=np.array(energy), forces=np.array(forces))


def validate(folder: Path, checks: tuple[str, ...], models: list[Path], data: list[Path]) -> Any:
    """The command's exit status, its summary and what it printed."""
    run_file = folder / "run.toml"
    run_file.write_text(RUN.replace("{checks}", ", ".join(f'"{c}"' for c in checks)))
    command = [sys.executable, "-m", "metamd.cli", "validate", str(run_file)]
    for path in models:
        command += ["--model", str(path)]
    for path in data:
        command += ["--data", str(path)]
    command += ["-o", str(folder / "out")]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
        env=os.environ | {"CI": "1"},
    )
    path = folder / "out" / "summary.json"
    summary = json.loads(path.read_text()) if path.exists() else None
    return done.returncode, summary, done.stdout + done.stderr


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sets")
    return {
        "near": save_npz(labelled(30, 0.03, 1), folder / "near.npz"),
        "far": save_npz(labelled(30, 0.08, 2), folder / "far.npz"),
    }


@pytest.fixture(scope="module")
def judged(
    sets: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("judged")
    status, summary, text = validate(folder, ALL, MODELS, list(sets.values()))
    assert status == 0, text
    return folder / "out", summary, text


def check_of(summary: dict[str, Any], key: str) -> dict[str, Any]:
    return next(c for c in summary["checks"] if c["key"] == key)


def curves_of(check: dict[str, Any]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {c["name"]: (np.array(c["x"], float), np.array(c["y"], float)) for c in check["curves"]}


def model_calculator() -> Any:
    from deepmd.calculator import DP

    return DP(model=MODELS[0])


def test_nothing_is_missing(judged: tuple[Path, dict[str, Any], str]) -> None:
    folder, summary, text = judged
    assert summary["failed_checks"] == []
    assert {c["key"] for c in summary["checks"]} == {
        "clusters",
        "deviation",
        "nve",
        "scan-bond-1-2",
        "scan-angle-1-2-3",
        "frequencies",
        "overlap",
    }
    page = (folder / "report.html").read_text()
    for check in summary["checks"]:
        assert f'id="check-{check["key"]}"' in page
        assert all(np.isfinite(v) for v in check["numbers"].values())
    assert "Further checks" in text
    assert "tested on near (30 frames) and far (30 frames)" in page
    assert "could not be" not in page


def test_cross_errors_of_an_ensemble(
    judged: tuple[Path, dict[str, Any], str], sets: dict[str, Path]
) -> None:
    for entry in judged[1]["cross_errors"]:
        frames = load_npz(sets[entry["test"]])
        found = predict(MODELS, frames)
        assert found.energy is not None
        assert frames.energy is not None
        df = found.forces - frames.forces
        de = (found.energy - frames.energy) * 1000 / 9
        for name, values in (
            ("force_rmse_ev_per_ang", np.sqrt((df**2).mean(axis=(1, 2, 3)))),
            ("force_max_ev_per_ang", np.abs(df).max(axis=(1, 2, 3))),
            ("energy_mae_mev_per_atom", np.abs(de).mean(axis=1)),
        ):
            assert entry[name]["values"] == pytest.approx(values, rel=1e-6)
    far, near = (
        next(e for e in judged[1]["cross_errors"] if e["test"] == t)["force_rmse_ev_per_ang"]
        for t in ("far", "near")
    )
    assert far["mean"] > near["mean"] > 0.01


def test_clusters_add_up(judged: tuple[Path, dict[str, Any], str], sets: dict[str, Path]) -> None:
    check = check_of(judged[1], "clusters")
    frames = [load_npz(sets[n]) for n in ("near", "far")]
    per_frame = np.concatenate(
        [
            np.sqrt(((predict(MODELS[:1], f).forces[0] - f.forces) ** 2).mean(axis=(1, 2)))
            for f in frames
        ]
    )
    from metamd.frames import concatenate

    labels = cluster_labels(concatenate(frames))
    expected = sorted(np.sqrt(np.mean(per_frame[labels == k] ** 2)) for k in np.unique(labels))
    assert len(expected) > 5
    np.testing.assert_allclose(curves_of(check)["model"][1], expected, rtol=1e-6)
    overall = check["numbers"]["model: overall force RMSE / eV/Å"]
    assert overall == pytest.approx(np.sqrt(np.mean(per_frame**2)), rel=1e-6)


def test_deviation_is_half_the_difference_of_two(
    judged: tuple[Path, dict[str, Any], str],
) -> None:
    folder, summary, _ = judged
    time, deviation = curves_of(check_of(summary, "deviation"))["model, 300 K"]
    run = summary["stability"][0]
    frames = load_npz(folder / run["trajectory"])
    a, b = predict(MODELS, frames).forces
    expected = 0.5 * np.linalg.norm(a - b, axis=2).max(axis=1)
    at = frames.info["time_ps"]
    assert run["intact"]
    assert time[-1] == pytest.approx(0.1)
    np.testing.assert_allclose(deviation, np.interp(time, at, expected), rtol=1e-4)
    assert deviation.min() > 0


def test_scans_and_frequencies_by_ase_alone(
    judged: tuple[Path, dict[str, Any], str], tmp_path: Path
) -> None:
    """The model's curves are what ASE gives at these structures; frequencies within 1 cm⁻¹."""
    curves = curves_of(check_of(judged[1], "scan-bond-1-2"))
    assert list(curves) == ["reference", "model"]
    calculator = model_calculator()
    start = read(ETHANOL)

    def energy(image: Atoms) -> float:
        image.calc = calculator
        return float(image.get_potential_energy())

    r, found = curves["model"]
    np.testing.assert_allclose(r, np.linspace(1.3, 1.9, 5))
    from metamd.validate.scan import moved_by_bond

    mask = moved_by_bond(start, 0, 1)
    axis = start.positions[1] - start.positions[0]
    for length, value in zip(r, found, strict=True):
        image = start.copy()
        image.positions[mask] += axis / np.linalg.norm(axis) * (length - np.linalg.norm(axis))
        assert energy(image) - energy(start.copy()) == pytest.approx(value, abs=2e-5)
    _, ours = curves_of(check_of(judged[1], "frequencies"))["model"]
    from metamd.validate.frequencies import relaxed

    image = relaxed(start, calculator)
    vibrations = Vibrations(image, name=str(tmp_path / "vib"))
    vibrations.run()
    waves = vibrations.get_frequencies()
    waves = np.where(np.abs(waves.imag) > np.abs(waves.real), -np.abs(waves.imag), waves.real)
    # Six of ASE's are translations and rotations.
    theirs = np.sort(waves[np.argsort(np.abs(waves))[6:]])
    assert len(ours) == 21
    np.testing.assert_allclose(np.sort(ours), theirs, atol=1.0)


def test_overlap_against_loops(
    judged: tuple[Path, dict[str, Any], str], sets: dict[str, Path]
) -> None:
    check = check_of(judged[1], "overlap")
    frames = {n: load_npz(p) for n, p in sets.items()}
    low = min(f.energy.min() for f in frames.values())
    high = max(f.energy.max() for f in frames.values())
    edges = np.linspace(low, high, 21)
    parts = [np.histogram(f.energy, edges)[0] / len(f) for f in frames.values()]
    expected = sum(min(a, b) for a, b in zip(*parts, strict=True))
    assert check["numbers"]["near and far: overlap in energy"] == pytest.approx(expected, abs=0.04)
    geometry = check["numbers"]["near and far: overlap in geometry"]
    assert 0 < geometry < 1
    assert check["ticks"] == [f"{a} and {b}" for a, b in combinations(sets, 2)]


def test_bad_input_costs_its_own_part_only(sets: dict[str, Path], tmp_path: Path) -> None:
    """No DeePMD file, an element the model does not know, an empty set: said, the rest is made."""
    garbage = tmp_path / "garbage.pb"
    garbage.write_bytes(b"this is no model")
    (tmp_path / "empty.xyz").write_text("")
    amine = labelled(3, 0.01, 3)
    symbols = tuple("N" if s == "O" else s for s in amine.symbols)
    save_npz(
        Frames(symbols, amine.positions, energy=amine.energy, forces=amine.forces),
        tmp_path / "amine.npz",
    )
    data = [sets["near"], tmp_path / "empty.xyz", tmp_path / "amine.npz"]
    status, summary, text = validate(
        tmp_path, ("cross_errors", "clusters", "sampling"), [garbage, MODELS[0]], data
    )
    assert status == 0, text
    reasons = {f["check"]: f["reason"] for f in summary["failed_checks"]}
    assert "cannot be loaded as a DeePMD model" in reasons["model model, seed 1"]
    assert "garbage.pb" in reasons["model model, seed 1"]
    assert "empty.xyz" in reasons["test set empty"]
    assert "knows the elements C, H, O" in reasons["errors of model, seed 2, on amine"]
    assert [(e["test"], e["seeds"]) for e in summary["cross_errors"]] == [("near", [2])]
    assert check_of(summary, "clusters")
    page = (tmp_path / "out" / "report.html").read_text()
    for reason in ("cannot be loaded as a DeePMD model", "knows the elements C, H, O"):
        assert reason in page
        assert reason in " ".join(text.split())
    assert 'id="parity"' in page


def test_no_model_at_all(sets: dict[str, Path], tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pb"
    garbage.write_bytes(b"this is no model")
    status, summary, text = validate(tmp_path, ("cross_errors",), [garbage], [sets["near"]])
    assert status == 1
    assert "No verdict" in summary["verdict"]["text"]
    assert "cannot be loaded as a DeePMD model" in text
    assert (tmp_path / "out" / "report.html").exists()
    missing = tmp_path / "gone.pb"
    (tmp_path / "second").mkdir()
    status, _, text = validate(tmp_path / "second", ("cross_errors",), [missing], [sets["near"]])
    assert status == 2
    assert f"--model {missing}: no such file" in " ".join(text.split())
    assert not (tmp_path / "second" / "out").exists()
