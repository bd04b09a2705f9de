"""What a task was given counts by content: other frames or models under an old name are not it."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.lj import LennardJones
from ase.io import read, write
from rich.console import Console

from metamd.commands.stages import register
from metamd.config import Execution, Validate, load_config
from metamd.errors import InputError, TaskError
from metamd.execution import Executor
from metamd.frames import Frames, from_atoms, load_npz, save_deepmd, save_npz
from metamd.loop import run
from metamd.predict import predict
from metamd.validate.models import Validation, validate_models
from metamd.validate.plan import ModelFile

from .conftest import ETHANOL, ROOT, printed_by
from .test_label import gaussian_log

MODELS = sorted((ROOT / "tests" / "data" / "ethanol_models").glob("*.pb"))

LICENSED = """
from pathlib import Path
from ase.calculators.lj import LennardJones

class LJ(LennardJones):
    # The first walker gets no licence until there is a file of that name.
    def calculate(self, *args, **kwargs):
        if Path.cwd().name == "walker-0" and not (Path(__file__).parent / "licence").exists():
            raise RuntimeError("no licence")
        super().calculate(*args, **kwargs)
"""

ARGON = """
[system]
structure = "argon.xyz"
[reference]
calculator = "licensed:LJ"
arguments = { epsilon = 0.01, sigma = 3.4, rc = 20.0 }
[[sample]]
name = "md"
temperature_k = 20
equilibration_steps = 0
steps = 400
stride = 100
walkers = 2
allow_bond_breaking = true
[select]
count = 4
[label]
reuse = false
"""


@pytest.fixture
def argon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run file of four atoms, its calculator in a module beside it."""
    positions = [[0.0, 0, 0], [3.8, 0, 0], [0, 3.8, 0], [0, 0, 3.8]]
    write(tmp_path / "argon.xyz", Atoms("Ar4", positions))
    (tmp_path / "licensed.py").write_text(LICENSED)
    (tmp_path / "run.toml").write_text(ARGON)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_labels_belong_to_the_frames_of_a_walker_that_came_late(argon: Path) -> None:
    config, work = load_config(argon / "run.toml"), argon / "work"
    quiet = Console(quiet=True)
    first = run(config, work, until="label", console=quiet)
    assert [s["walker"] for s in first["arms"][0]["stopped_walkers"]] == [0]
    (argon / "licence").touch()
    second = run(config, work, until="label", console=quiet)
    assert second["arms"][0]["stopped_walkers"] == []
    labelled = load_npz(work / "iteration-0" / "label" / "md" / "labelled.npz")
    assert set(labelled.info["walker"]) == {0, 1}
    true = []
    for k in range(len(labelled)):
        atoms = labelled.to_atoms(k)
        atoms.calc = LennardJones(epsilon=0.01, sigma=3.4, rc=20.0)
        true.append(atoms.get_potential_energy())
    assert np.ptp(true) > 1e-4
    np.testing.assert_allclose(labelled.energy, true, rtol=0, atol=1e-9)

    # What is known of later stages outlives a run of the first one that changes nothing ...
    decisions = (work / "provenance.json").read_bytes()
    assert run(config, work, until="sample", console=quiet)["labels"] == second["labels"]
    assert (work / "provenance.json").read_bytes() == decisions
    assert json.loads((work / "summary.json").read_text())["labels"]["computed"] == 4
    # ... and not one that does.
    shutil.rmtree(work / "iteration-0" / "sample" / "md" / "walker-0")
    (argon / "licence").unlink()
    assert "labels" not in run(config, work, until="sample", console=quiet)
    assert "labels" not in json.loads((work / "summary.json").read_text())


def ethanol_frames() -> Frames:
    rng = np.random.default_rng(3)
    atoms = read(ETHANOL)
    positions = atoms.positions + rng.normal(0, 0.05, (5, len(atoms), 3))
    return Frames(
        tuple(atoms.get_chemical_symbols()),
        positions,
        energy=rng.normal(size=5),
        forces=rng.normal(size=positions.shape),
    )


def force_error(model: Path, frames: Frames) -> float:
    return float(np.sqrt(np.mean((predict([model], frames).forces[0] - frames.forces) ** 2)))


def test_errors_are_those_of_the_model_that_lies_there_now(tmp_path: Path) -> None:
    frames = ethanol_frames()
    test = save_npz(frames, tmp_path / "test.npz")
    model = tmp_path / "model.pb"

    def judged(executor: Executor) -> Validation:
        return validate_models(
            [ModelFile("given", 1, model)],
            {"test": test},
            read(ETHANOL),
            Validate(checks=("cross_errors",)),
            tmp_path / "validate",
            executor,
        )

    with Executor(Execution(workers=1), tmp_path / "logs", Console(quiet=True)) as executor:
        for file in MODELS:
            shutil.copyfile(file, model)
            (row,) = judged(executor).cross_errors
            found = row["force_rmse_ev_per_ang"]["mean"]
            assert found == pytest.approx(force_error(file, frames), rel=1e-6)
        lock = tmp_path / "validate" / "errors" / "given-seed-1" / ".task-lock"
        before = lock.stat().st_mtime_ns
        judged(executor)
        assert lock.stat().st_mtime_ns == before


FILES = """
[system]
structure = "water.xyz"
[reference]
kind = "files"
outputs = ["dft/*.log"]
format = "gaussian/log"
[[sample]]
name = "rattle"
method = "rattle"
frames = 60
[select]
count = 60
method = "time"
[dataset]
blocks = 2
gap = 0
[train]
models = 1
steps = 20
compress = false
[validate]
checks = ["cross_errors"]
"""


def test_outputs_that_come_after_the_training_change_the_errors_too(tmp_path: Path) -> None:
    water = molecule("H2O")
    write(tmp_path / "water.xyz", water)
    (tmp_path / "run.toml").write_text(FILES)
    (tmp_path / "dft").mkdir()
    config, work, quiet = load_config(tmp_path / "run.toml"), tmp_path / "work", Console(quiet=True)
    run(config, work, until="select", console=quiet)
    pool = load_npz(work / "iteration-0" / "sample" / "rattle" / "frames.npz")
    images = [pool.to_atoms(k) for k in range(len(pool))]
    for atoms in images:
        atoms.calc = LennardJones(epsilon=0.1, sigma=0.8, rc=20.0)
        atoms.get_forces()
    known = from_atoms(images, "known")

    def computed(which: range) -> None:
        for k in which:
            gaussian_log(known, k, tmp_path / "dft" / f"{k}.log")

    computed(range(0, 40))
    first = run(config, work, console=quiet)
    computed(range(40, 60))
    second = run(config, work, console=quiet)
    assert (first["labels"]["computed"], second["labels"]["computed"]) == (40, 60)
    (row,) = second["cross_errors"]
    heldout = load_npz(work / row["frames"])
    assert row["n_frames"] == len(heldout) > first["cross_errors"][0]["n_frames"]
    error = force_error(work / second["models"][0]["path"], heldout)
    assert row["force_rmse_ev_per_ang"]["mean"] == pytest.approx(error, rel=1e-6)


COUNTING = """
from pathlib import Path
from ase.calculators.lj import LennardJones

class LJ(LennardJones):
    def calculate(self, *args, **kwargs):
        with (Path(__file__).parent / "calls").open("a") as f:
            f.write("x")
        super().calculate(*args, **kwargs)
"""


def command(*words: object) -> str:
    return printed_by(register, *words)


def test_label_goes_on_in_its_own_folder_and_in_no_other(argon: Path) -> None:
    (argon / "counted.py").write_text(COUNTING)
    run_file, out = argon / "run.toml", argon / "labels"
    run_file.write_text(ARGON.replace("licensed:LJ", "counted:LJ"))
    rng = np.random.default_rng(1)
    start = read(argon / "argon.xyz")
    frames = from_atoms([start] * 6, "argon")
    frames = replace(frames, positions=frames.positions + rng.normal(0, 0.1, (6, 4, 3)))
    data = save_npz(frames, argon / "frames.npz")
    assert "6 labelled" in command("label", run_file, data, "-o", out)
    calls = len((argon / "calls").read_text())
    # As a kill leaves it between the last label and the end of the batch.
    (out / "batch-00000" / "manifest.json").unlink()
    (out / "labelled.npz").unlink()
    assert "6 labelled" in command("label", run_file, data, "-o", out)
    assert len((argon / "calls").read_text()) == calls
    assert len(load_npz(out / "labelled.npz")) == 6
    other = save_npz(frames[:3], argon / "other.npz")
    with pytest.raises(InputError, match=r"--output .*labels: is not empty; nothing there is"):
        command("label", run_file, other, "-o", out)
    with pytest.raises(InputError, match=r"--workdir .*labels: belongs to another run \(command"):
        run(load_config(run_file), out, console=Console(quiet=True))
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("metamd.single.save_extxyz", Mock(side_effect=full))
        with pytest.raises(TaskError, match=r"labels: the disk is full; free some space"):
            command("label", run_file, data, "-o", out)


def test_train_and_validate_go_on_in_their_own_folders(argon: Path) -> None:
    run_file, out = argon / "run.toml", argon / "models"
    tables = """
[train]
models = 1
steps = 30
compress = false
[validate]
checks = ["cross_errors"]
"""
    run_file.write_text(ARGON.replace("licensed:LJ", "ase.calculators.lj:LennardJones") + tables)
    rng = np.random.default_rng(1)
    images = []
    for _ in range(12):
        images.append(read(argon / "argon.xyz"))
        images[-1].positions += rng.normal(0, 0.05, (4, 3))
        images[-1].calc = LennardJones(epsilon=0.01, sigma=3.4, rc=20.0)
        images[-1].get_forces()
    frames = from_atoms(images, "argon")
    system, data = save_deepmd(frames, argon / "system"), save_npz(frames, argon / "test.npz")
    for folder, words in {
        out: ["train", run_file, system],
        argon / "judged": ["validate", run_file, "--model", out / "model" / "seed-1" / "model.pb",
                           "--data", data],
    }.items():  # fmt: skip
        command(*words, "-o", folder)
        (manifest,) = folder.rglob("manifest.json")
        before = manifest.stat().st_mtime_ns
        command(*words, "-o", folder)
        assert manifest.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="judged: is not empty; nothing there is overwritten"):
        command("train", run_file, system, "-o", argon / "judged")
