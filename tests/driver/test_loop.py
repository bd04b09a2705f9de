"""The loop on real programs: two iterations of ethanol, killed at random moments.

One run serves all checks of the normal tests: it is killed three times on its way.  The slow test
kills twenty times.  What an undisturbed run would have given is known from iteration 0 alone, whose
data sets cost no training.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase.io import read

from metamd.config import load_config
from metamd.frames import Frames, load_frames, load_npz
from metamd.loop.provenance import trace_frame, trace_model
from metamd.predict import predict
from metamd.reference import fingerprint
from metamd.repulsion import zbl_energy_ev
from metamd.status import read_status
from metamd.train import _last_checkpoint

from .conftest import ETHANOL
from .test_execution import wait_for

METAMD = [sys.executable, "-m", "metamd.cli"]

#: Two iterations with hills carried and a warm start; test arm, ensemble of two, all tiny.
LOOP = f"""
[system]
structure = "{ETHANOL}"
[reference]
calculator = "tblite.ase:TBLite"
arguments = {{ method = "GFN2-xTB", accuracy = 0.001 }}
[[sample]]
name = "metamd"
method = "metamd"
equilibration_steps = 50
steps = 400
stride = 4
walkers = 2
allow_bond_breaking = true
max_force_ev_per_ang = 1000
[sample.bias]
height_ev = 0.03
pace = 20
[[sample]]
name = "hot"
role = "test"
temperature_k = 600
steps = 100
stride = 5
[select]
count = 100
[label]
batch = 20
[dataset]
gap = 1
[train]
datasets = "all"
models = 2
steps = 1000
compress = false
repulsion = "zbl"
deepmd = "own.json"
[loop]
iterations = 2
hills = "carry"
training = "warm"
warm_steps = 300
[loop.select]
count = 20
trust_lower_ev_per_ang = 0.01
trust_upper_ev_per_ang = 50
[validate]
checks = ["cross_errors"]
"""

OWN_DEEPMD = {
    "model": {
        "descriptor": {
            "type": "se_e2_a", "rcut": 6.0, "rcut_smth": 0.5, "sel": [2, 6, 1],
            "neuron": [4, 8, 16], "axis_neuron": 4, "precision": "float64",
        },
        "fitting_net": {"neuron": [16, 16], "precision": "float64"},
    }
}  # fmt: skip


def write_run(folder: Path, text: str = LOOP) -> None:
    (folder / "run.toml").write_text(text)
    (folder / "own.json").write_text(json.dumps(OWN_DEEPMD))


def start(folder: Path, work: Path, *more: str) -> subprocess.Popen[bytes]:
    with (folder / "screen.log").open("ab") as log:
        return subprocess.Popen(
            [*METAMD, "run", str(folder / "run.toml"), "--workdir", str(work), *more],
            stdout=log, stderr=log, env=os.environ | {"CI": "true"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip


def descendants(pid: int, work: Path) -> list[int]:
    """Processes that a driver started, theirs, and its workers (Parsl lets them loose)."""
    parents = {}
    workers = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        child = int(stat.parent.name)
        parents[child] = int(fields[1])
        if child != pid and str(work).encode() in _words(child):
            workers.append(child)
    found, new = list(workers), [pid, *workers]
    while new:
        new = [child for child, parent in parents.items() if parent in new]
        found += new
    return sorted(set(found) - {pid})


def _words(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def kill_at_random(folder: Path, work: Path, rng: random.Random, most: int) -> int:
    """Start, kill and start again; every third time a process below the driver is the victim too.

    Returns: kills of drivers that were really at work; fewer than ``most`` when one finished.
    """
    kills = 0
    while kills < most:
        process = start(folder, work)
        deadline = time.monotonic() + rng.uniform(2.0, 25.0)
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
        if process.poll() is not None:
            break
        if kills % 3 == 2 and (below := descendants(process.pid, work)):
            try:
                os.kill(rng.choice(below), signal.SIGKILL)
                time.sleep(2.0)
            except ProcessLookupError:
                pass
        kills += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
    return kills


def finish(folder: Path, work: Path, seconds: float = 500) -> None:
    process = start(folder, work)
    assert process.wait(seconds) == 0, (folder / "screen.log").read_text()[-3000:]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Iteration 0 up to its data sets, never killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_run(folder)
    process = start(folder, folder / "work", "--until", "dataset")
    assert process.wait(200) == 0, (folder / "screen.log").read_text()[-3000:]
    return folder / "work"


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole loop: the driver is killed while it samples and in the second iteration, and
    ``dp train`` once it has a checkpoint."""
    folder = tmp_path_factory.mktemp("killed")
    write_run(folder)
    work = folder / "work"

    def driver_killed_at(log: Path) -> None:
        process = start(folder, work)
        wait_for(lambda: process.poll() is not None or log.exists(), 400)
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
        process.wait()

    driver_killed_at(work / "iteration-0/sample/metamd/walker-0/walker.log")
    process = start(folder, work)
    checkpoint = work / "iteration-0/train/all/seed-1/model.ckpt-100.meta"
    wait_for(lambda: process.poll() is not None or checkpoint.exists(), 400)
    for pid in descendants(process.pid, work):
        if b"train" in _words(pid).split(b"\0"):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: process.poll() is not None or (work / "iteration-1").exists(), 400)
    assert process.poll() is None, (folder / "screen.log").read_text()[-3000:]
    process.send_signal(signal.SIGKILL)
    process.wait()
    driver_killed_at(work / "iteration-1/train/all/seed-1/train.log")
    finish(folder, work)
    return work


def same_data(work: Path, other: Path) -> None:
    """Iteration 0's data sets are equal: same frames, same labels, same provenance."""
    names = sorted(p.name for p in (other / "iteration-0" / "dataset").iterdir())
    assert names == ["hot", "metamd"]
    for name in names:
        for part in ("train", "heldout"):
            mine = work / "iteration-0" / "dataset" / name / part
            theirs = other / "iteration-0" / "dataset" / name / part
            assert mine.exists() == theirs.exists()
            if not mine.exists():
                continue
            a, b = load_frames(mine), load_frames(theirs)
            np.testing.assert_allclose(a.positions, b.positions, rtol=0, atol=1e-6)
            np.testing.assert_allclose(a.forces, b.forces, rtol=0, atol=1e-4)
            with np.load(mine / "provenance.npz") as p, np.load(theirs / "provenance.npz") as q:
                for key in ("arm", "walker", "step", "frame", "iteration"):
                    assert np.array_equal(p[key], q[key]), key


def nothing_redone(work: Path) -> None:
    """Every task's own log ends with its one completion."""
    logs = list(work.glob("iteration-*/**/.task-lock"))
    assert len(logs) >= 12
    for log in logs:
        events = [line.split()[3] for line in log.read_text().splitlines()]
        assert events.count("finished") == 1, (log, events)
        assert events[-1] == "finished", (log, events)
        assert "begun" in events
    assert not list(work.glob("iteration-*/**/*.failed-*"))
    assert not list(work.glob("iteration-*/**/*.old-*"))


def no_hill_doubled(work: Path) -> None:
    """20 hills a walker and iteration; carried ones have step 0, new ones a step each, once."""
    for iteration in (0, 1):
        for walker in (0, 1):
            path = work / f"iteration-{iteration}/sample/metamd/walker-{walker}/hills.xyz"
            steps = [int(s) for s in re.findall(r"\bstep=(\d+)", path.read_text())]
            new = [s for s in steps if s > 0]
            assert new == list(range(20, 401, 20)), path
            assert len(steps) - len(new) == 20 * iteration


def provenance_holds(work: Path) -> None:
    """Every training frame is the frame of the walker that its provenance names, anew labelled."""
    table = json.loads((work / "provenance.json").read_text())
    config = load_config(work.parent / "run.toml")
    source = fingerprint(config.reference, config.system)
    assert [(m["iteration"], m["seed"]) for m in table["models"]] == [
        (0, 1),
        (0, 2),
        (1, 1),
        (1, 2),
    ]
    for model in table["models"]:
        assert (work / model["path"]).exists()
        assert trace_model(work, model["path"]) == model
        assert len(model["datasets"]) == 1 + model["iteration"]
        assert (model["started_from"] is not None) == (model["iteration"] == 1)
    for data in table["datasets"]:
        if data["train"] is None:
            continue
        frames = load_frames(work / data["train"])
        assert len(frames) == data["n_train"]
        for row in (0, len(frames) - 1):
            origin = trace_frame(work, data["train"], row)
            assert origin["iteration"] == data["iteration"]
            assert origin["label_source"] == source
            pool = load_npz(work / origin["frames"])
            assert pool.info["walker"][origin["frame"]] == origin["walker"]
            assert pool.info["step"][origin["frame"]] == origin["step"]
            walker = load_npz(work / origin["walker_folder"] / "frames.npz")
            k = int(np.flatnonzero(walker.info["step"] == origin["step"])[0])
            np.testing.assert_allclose(frames.positions[row], walker.positions[k], atol=1e-9)


def test_killed_loop_gives_the_same_data_and_redoes_nothing(
    killed: Path, undisturbed: Path
) -> None:
    same_data(killed, undisturbed)
    nothing_redone(killed)
    no_hill_doubled(killed)
    provenance_holds(killed)


def set_aside(work: Path) -> list[dict[str, Any]]:
    """Frames without a label: a model trained for seconds samples some that are blown apart."""
    failures: list[dict[str, Any]] = json.loads((work / "summary.json").read_text())["labels"][
        "failures"
    ]
    assert all("forces exceed" in f["reason"] or "max_force" in f["reason"] for f in failures)
    assert len(failures) < 5
    return failures


def test_later_labels_are_the_reference_s_not_the_model_s(killed: Path) -> None:
    """The frames carried a model's energies when they were chosen; nothing of them is left."""
    pool = load_npz(killed / "iteration-1/sample/metamd/frames.npz")
    assert set(pool.info["label_source"]) == {""}
    labelled = load_npz(killed / "iteration-1/label/metamd/labelled.npz")
    assert len(labelled) == 20 - len(set_aside(killed))
    model = pool[labelled.info["frame"]]
    np.testing.assert_allclose(labelled.positions, model.positions, atol=1e-9)
    assert np.abs(labelled.forces - model.forces).max() > 0.1
    from tblite.ase import TBLite

    atoms = labelled.to_atoms(3)
    atoms.calc = TBLite(method="GFN2-xTB", accuracy=0.001, verbosity=0)
    np.testing.assert_allclose(labelled.forces[3], atoms.get_forces(), atol=1e-4)


def test_summary_and_status_tell_the_loop(killed: Path) -> None:
    summary = json.loads((killed / "summary.json").read_text())
    assert summary["status"] == "finished"
    first, second = summary["iterations"]
    assert first["selected"] == {"metamd": 100, "hot": 21}
    assert second["selected"] == {"metamd": 20}
    assert 0 < second["deviation"]["metamd"]["candidates"] <= 1
    assert second["train_frames"]["all"] == first["train_frames"]["all"] + 20 - len(
        set_aside(killed)
    )
    assert first["reference_calls"] == 2 * 450 + 100 + 10
    assert second["reference_calls"] == 20
    assert set(second["force_rmse_ev_per_ang"]) == {"all on hot", "all on metamd"}
    assert "iterations are done" in second["stop"]
    assert [a["name"] for a in summary["arms"]] == ["metamd", "hot", "metamd@1"]
    state = read_status(killed)
    assert state.state == "finished"
    assert state.errors[1] == second["force_rmse_ev_per_ang"]
    assert {(s.iteration, s.stage) for s in state.stages} >= {(0, "sample"), (1, "train")}
    text = (killed / "report.html").read_text()
    assert "metamd@1" in text


def test_killed_training_went_on_from_its_checkpoint(killed: Path) -> None:
    log = (killed / "iteration-0/train/all/seed-1/train.log").read_text()
    assert re.search(r"restart from model .*model\.ckpt-\d+", log)


def test_warm_start_took_the_weights(killed: Path) -> None:
    log = (killed / "iteration-1/train/all/seed-1/train.log").read_text()
    assert "iteration-0/train/all/seed-1/model.ckpt" in log
    curves = [np.loadtxt(killed / f"iteration-{k}/train/all/seed-1/lcurve.out") for k in (0, 1)]
    cold, warm = (float(curve[0, 5]) for curve in curves)  # force RMSE, held out, at step 0
    assert warm < 0.8 * cold


def test_models_repel_where_no_data_can_be(killed: Path) -> None:
    """O and H pushed together: the force is ZBL's, and the gradient of the energy throughout."""
    atoms = read(ETHANOL)
    symbols = atoms.get_chemical_symbols()
    o = symbols.index("O")
    h = min((k for k, s in enumerate(symbols) if s == "H"), key=lambda k: atoms.get_distance(o, k))
    along = atoms.positions[h] - atoms.positions[o]
    along /= np.linalg.norm(along)
    r, step = np.array([0.2, 0.3, 0.5, 0.6, 0.65, 0.9]), 1e-4
    positions = np.repeat(atoms.positions[None], 3 * len(r), axis=0)
    shifts = (r[:, None] + step * np.array([-1.0, 0.0, 1.0])).ravel()
    positions[:, h] = atoms.positions[o] + shifts[:, None] * along
    model = json.loads((killed / "provenance.json").read_text())["models"][-1]["path"]
    said = predict([killed / model], Frames(tuple(symbols), positions))
    assert said.energy is not None
    energy = said.energy[0].reshape(-1, 3)
    slope = -(energy[:, 2] - energy[:, 0]) / (2 * step)
    force = said.forces[0].reshape(-1, 3, 9, 3)[:, 1, h] @ along
    np.testing.assert_allclose(force, slope, rtol=1e-5, atol=1e-3)
    zbl = -np.gradient(zbl_energy_ev(r[0] + step * np.arange(-1.0, 2.0), 8, 1), step)[1]
    # The nets of the other atoms, trained for seconds, still say something.
    assert force[0] == pytest.approx(zbl, rel=0.01)
    assert (force[:5] > 10).all()


def test_a_torn_checkpoint_is_passed_over(tmp_path: Path) -> None:
    """``dp`` killed between the files of one: the one before is taken, or none."""
    assert _last_checkpoint(tmp_path, "model.ckpt") is None
    for number in (900, 1000, 1100):
        for end in ("data-00000-of-00001", "index", "meta"):
            (tmp_path / f"model.ckpt-{number}.{end}").touch()
    assert _last_checkpoint(tmp_path, "model.ckpt") == "model.ckpt-1100"
    (tmp_path / "model.ckpt-1100.meta").unlink()
    assert _last_checkpoint(tmp_path, "model.ckpt") == "model.ckpt-1000"


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills(undisturbed: Path, tmp_path: Path) -> None:
    """SIGKILL at 20 random moments, of drivers and of what runs below them."""
    rng, kills = random.Random(20), 0
    # A fast machine ends a loop after a few of them: then another one is begun.
    for number in range(20):
        folder = tmp_path / str(number)
        folder.mkdir()
        write_run(folder)
        work = folder / "work"
        kills += kill_at_random(folder, work, rng, 20 - kills)
        finish(folder, work, 1500)
        print(f"{kills} kills of running drivers in {number + 1} loops")
        same_data(work, undisturbed)
        nothing_redone(work)
        no_hill_doubled(work)
        provenance_holds(work)
        summary = json.loads((work / "summary.json").read_text())
        assert summary["status"] == "finished"
        assert summary["iterations"][1]["selected"] == {"metamd": 20}
        if kills == 20:
            break
    assert kills == 20
