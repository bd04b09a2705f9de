"""Predictions of a real DeePMD model (trained for a few steps: its physics does not matter)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from metamd.errors import InputError, TaskError
from metamd.frames import Frames, save_deepmd
from metamd.predict import predict

pytestmark = pytest.mark.slow


def chain(n: int = 12, symbols: str = "CCOH") -> Frames:
    rng = np.random.default_rng(0)
    base = np.array([[0.0, 0, 0], [1.2, 0, 0], [1.8, 1.0, 0], [3.0, 1.0, 0.4]])
    positions = base + 0.06 * rng.normal(size=(n, 4, 3))
    return Frames(tuple(symbols), positions, energy=rng.normal(size=n),
                  forces=rng.normal(size=(n, 4, 3)), source="chain")  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose type map is in another order than the frames' elements."""
    folder = tmp_path_factory.mktemp("model")
    save_deepmd(chain(), folder / "system")
    descriptor = {"type": "se_e2_a", "sel": [4, 4, 4], "rcut": 4.0, "rcut_smth": 1.0,
                  "neuron": [4, 8], "axis_neuron": 2, "seed": 1}  # fmt: skip
    settings = {
        "model": {
            "type_map": ["O", "H", "C"],
            "descriptor": descriptor,
            "fitting_net": {"neuron": [8], "seed": 1},
        },
        "learning_rate": {"type": "exp", "decay_steps": 2, "start_lr": 1e-3, "stop_lr": 1e-5},
        "loss": {"start_pref_f": 1000, "limit_pref_f": 1},
        "training": {
            "training_data": {"systems": ["system"], "batch_size": 4},
            "numb_steps": 4,
            "seed": 1,
        },
    }
    (folder / "input.json").write_text(json.dumps(settings))
    dp = [str(Path(sys.executable).with_name("dp")), "--tf"]
    threads = {f"DP_{k}_OP_PARALLELISM_THREADS": "1" for k in ("INTRA", "INTER")}
    for step in (["train", "input.json"], ["freeze", "-o", "model.pb"]):
        subprocess.run([*dp, *step], cwd=folder, check=True, capture_output=True,
                       env={**os.environ, "OMP_NUM_THREADS": "1", **threads})  # fmt: skip
    return folder / "model.pb"


def test_forces_are_the_gradient_and_atoms_add_up(
    model: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    frames = chain()
    found = predict([model, model], frames, atomic=True, batch=5)
    assert found.energy is not None
    assert found.atomic_energy is not None
    assert found.forces.shape == (2, 12, 4, 3)
    assert found.max_force_deviation().max() == 0.0
    np.testing.assert_allclose(found.atomic_energy.sum(axis=2), found.energy, rtol=1e-10)
    step, ends = 1e-4, []
    for sign in (1, -1):
        moved = frames.positions.copy()
        moved[:, 2, 1] += sign * step
        energy = predict([model], Frames(frames.symbols, moved)).energy
        assert energy is not None
        ends.append(energy[0])
    numeric = -(ends[0] - ends[1]) / (2 * step)
    assert np.abs(numeric).max() > 1e-4
    np.testing.assert_allclose(found.forces[0, :, 2, 1], numeric, rtol=1e-5, atol=1e-8)
    said = capfd.readouterr()
    assert said.out == said.err == ""


def test_unknown_elements_and_files_that_are_no_models(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"knows the elements O, H, C; chain also has N"):
        predict([model], chain(symbols="CCNH"))
    broken = tmp_path / "broken.pb"
    broken.write_text("nothing")
    with pytest.raises(TaskError, match=r"broken.pb: cannot be loaded as a DeePMD model"):
        predict([broken], chain())
