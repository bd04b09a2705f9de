"""The whole chain on real programs with tiny budgets: run, look, kill, go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metamd.config import Reference, Sample
from metamd.frames import load_frames, load_npz
from metamd.predict import predict
from metamd.sample.folder import write_walker

from .conftest import ETHANOL, ROOT
from .test_bias_free import BIASES, run_lmp_walker, total_forces, with_total_force
from .test_execution import running, wait_for

METAMD = [sys.executable, "-m", "metamd.cli"]

RUN = f"""
[system]
structure = "{ETHANOL}"
[reference]
calculator = "tblite.ase:TBLite"
arguments = {{ method = "GFN2-xTB", accuracy = 0.001 }}
[[sample]]
name = "md"
steps = 300
equilibration_steps = 50
stride = 5
walkers = 2
[[sample]]
name = "metamd"
method = "metamd"
steps = 600
stride = 5
[sample.bias]
height_ev = 0.03
[[sample]]
name = "hot"
role = "test"
temperature_k = 600
steps = 200
stride = 5
[select]
count = 100
[dataset]
gap = 1
[augment]
frames = 30
weight = 0.2
profile = "paper"
components = {{ "C-C" = 1, "C-H" = 2, "C-O" = 2, "H-H" = 2, "H-O" = 2 }}
[train]
models = 2
steps = 300
deepmd = "own.json"
[validate]
steps = 400
temperatures_k = [300]
"""


#: A person's own network, in doubles: LAMMPS and Python then agree beyond 1e-6.
OWN_DEEPMD = {
    "model": {
        "descriptor": {
            "type": "se_e2_a",
            "rcut": 6.0,
            "rcut_smth": 0.5,
            "sel": [2, 6, 1],
            "neuron": [8, 16, 32],
            "axis_neuron": 4,
            "precision": "float64",
            "seed": 1,
        },
        "fitting_net": {"neuron": [32, 32], "precision": "float64"},
    }
}


#: The same with one model an arm: every start of `dp` costs many seconds.
SMALL_RUN = RUN.replace("models = 2", "models = 1\ncompress = false")


def start(folder: Path, workdir: Path, text: str = RUN) -> subprocess.Popen[bytes]:
    (folder / "run.toml").write_text(text)
    (folder / "own.json").write_text(json.dumps(OWN_DEEPMD))
    with (folder / "screen.log").open("ab") as log:
        return subprocess.Popen(
            [*METAMD, "run", str(folder / "run.toml"), "--workdir", str(workdir)],
            stdout=log,
            stderr=log,
            env=os.environ | {"CI": "true"},
            # A shell that starts the tests in the background has SIGINT ignored, and we inherit it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The work folder of an undisturbed run."""
    folder = tmp_path_factory.mktemp("run")
    process = start(folder, folder / "work")
    assert process.wait(1500) == 0, (folder / "screen.log").read_text()[-3000:]
    return folder / "work"


def summary_of(workdir: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((workdir / "summary.json").read_text())
    return data


def test_summary_has_what_was_promised(finished: Path) -> None:
    summary = summary_of(finished)
    assert summary["status"] == "finished"
    pairs = {(e["train"], e["test"]) for e in summary["cross_errors"]}
    assert pairs == {(a, b) for a in ("md", "metamd") for b in ("md", "metamd", "hot")}
    for entry in summary["cross_errors"]:
        for key in ("energy_rmse_mev_per_atom", "force_rmse_ev_per_ang"):
            assert len(entry[key]["values"]) == 2
            assert entry[key]["mean"] == pytest.approx(np.mean(entry[key]["values"]))
            assert entry[key]["mean"] > 0
            assert entry[key]["spread"] > 0
    assert {s["train"] for s in summary["stability"]} == {"md", "metamd"}
    assert set(summary["seconds"]) >= {"sample", "label", "train", "validate", "total"}
    assert summary["verdict"]["usable"] is False
    assert "ot usable" in summary["verdict"]["text"]
    assert summary["labels"]["rechecked"] == 15
    assert summary["labels"]["worst_recheck_ev_per_ang"] < 1e-5
    assert {a["name"]: a["n_frames"] for a in summary["arms"]} == {
        "md": 122,
        "metamd": 121,
        "hot": 41,
    }


def test_errors_in_the_summary_are_those_of_the_models(finished: Path) -> None:
    """An independent pass over model and frames gives the number in the table."""
    summary = summary_of(finished)
    model = next(m for m in summary["models"] if m["train"] == "md")
    frames = load_npz(finished / "iteration-0" / "dataset" / "metamd" / "heldout.npz")
    forces = predict([finished / model["path"]], frames).forces[0]
    assert frames.forces is not None
    rmse = np.sqrt(np.mean((forces - frames.forces) ** 2))
    entry = next(e for e in summary["cross_errors"] if (e["train"], e["test"]) == ("md", "metamd"))
    assert entry["force_rmse_ev_per_ang"]["values"][0] == pytest.approx(rmse, rel=1e-6)


def test_a_persons_own_deepmd_input_goes_through(finished: Path) -> None:
    used = json.loads(next(finished.rglob("md/seed-2/input.json")).read_text())
    assert used["model"]["descriptor"] == OWN_DEEPMD["model"]["descriptor"]
    assert used["model"]["fitting_net"] == {"neuron": [32, 32], "precision": "float64", "seed": 2}
    assert used["model"]["type_map"] == ["C", "H", "O"]
    assert used["training"]["numb_steps"] == 300


def test_augmented_frames_join_the_training_set_they_are_made_of(finished: Path) -> None:
    (made,) = summary_of(finished)["augmented"]
    assert (made["name"], made["frames"]) == ("md", 30)
    used = json.loads(next(finished.rglob("md/seed-1/input.json")).read_text())
    data = used["training"]["training_data"]
    assert [Path(p).parts[-3:] for p in data["systems"]] == [
        ("dataset", "md", "train"),
        ("augment", "md", "system"),
    ]
    assert data["auto_prob"] == "prob_sys_size; 0:1:0.8; 1:2:0.2"
    models = json.loads((finished / "provenance.json").read_text())["models"]
    assert {(m["train"], *m["augmented"]) for m in models} == {
        ("md", "iteration-0/augment/md/system"),
        ("metamd",),
    }
    # A biased arm has no springs of its own.
    biased = json.loads(next(finished.rglob("metamd/seed-1/input.json")).read_text())
    assert "auto_prob" not in biased["training"]["training_data"]


def test_held_out_frames_are_in_no_training_set(finished: Path) -> None:
    data = finished / "iteration-0" / "dataset"
    for name in ("md", "metamd"):
        train, heldout = load_frames(data / name / "train"), load_frames(data / name / "heldout")
        assert (data / name / "train" / "nopbc").exists()
        distance = np.abs(train.positions[:, None] - heldout.positions[None]).max(axis=(2, 3))
        assert distance.min() > 1e-3


def test_report_is_one_file(finished: Path) -> None:
    page = (finished / "report.html").read_text()
    assert len(page) > 50_000
    assert "ot usable" in page
    assert 'src="http' not in page


@pytest.mark.parametrize("kind", BIASES)
def test_a_model_engine_writes_no_bias(kind: str, finished: Path, tmp_path: Path) -> None:
    """engine = "model": what a biased run writes is the model's own prediction, to 1e-6."""
    model = finished / summary_of(finished)["models"][0]["path"]
    arm = Sample.model_validate(
        {
            "name": "m",
            **BIASES[kind],
            "engine": "model",
            "model": model,
            "steps": 30,
            "stride": 3,
            "ensemble": "nve",
            "allow_bond_breaking": True,
        }
    )
    atoms = load_frames(ETHANOL).to_atoms(0)
    write_walker(tmp_path, arm, Reference(calculator="tblite.ase:TBLite"), atoms, 0)
    with_total_force(tmp_path)
    frames = run_lmp_walker(tmp_path, "metal")
    total = total_forces(tmp_path, frames.info["step"], 9)
    oracle = predict([model], frames)
    assert oracle.energy is not None
    assert frames.forces is not None
    assert np.abs(total - frames.forces).max() > 1.0
    np.testing.assert_allclose(frames.forces, oracle.forces[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(frames.energy, oracle.energy[0], rtol=0, atol=1e-6)


def test_a_second_run_redoes_nothing(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in finished.rglob("manifest.json")}
    assert len(before) >= 12
    again = start(finished.parent, finished)
    assert again.wait(200) == 0
    after = {p: p.stat().st_mtime_ns for p in finished.rglob("manifest.json")}
    assert before == after


def test_interrupt_stops_within_ten_seconds(tmp_path: Path) -> None:
    process = start(tmp_path, tmp_path / "work")
    folder = tmp_path / "work" / "iteration-0" / "sample" / "md" / "walker-0"
    wait_for(lambda: (folder / "walker.log").exists(), 100)
    begun = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    assert time.monotonic() - begun < 10
    assert "goes on from here" in (tmp_path / "screen.log").read_text()
    assert not running(process.pid)


def test_readme_runs_the_ethanol_study() -> None:
    """The command that the README prints first is the one that .ci/run and users run."""
    readme = (ROOT / "README.md").read_text()
    assert "uv run metamd run inputs/ethanol/run.toml --workdir runs/ethanol" in readme
