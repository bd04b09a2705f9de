"""Augmentation: labels against finite differences and a hand-made spring, and what is moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from metamd.augment import Spring, Springs, augment, augment_system, load_springs
from metamd.augment.perturb import counted_pairs, displaced, spring_changes
from metamd.commands import stages
from metamd.config import Augment, Train, load_config
from metamd.errors import DataError, InputError
from metamd.frames import Frames, load_frames, save_deepmd, save_extxyz, save_npz
from metamd.train import Augmented, train_ensemble
from metamd.units import KCAL_MOL_EV


def table(**springs: list[tuple[float, float]]) -> Springs:
    rows = [
        Spring(pair.replace("_", "-"), mean, k, 1.0, 0.0, 0.0)
        for pair, known in springs.items()
        for mean, k in known
    ]
    return Springs(tuple(rows), 500.0, 0.99, "best", {}, "table", 100, 3, 3)


WATER = table(H_O=[(0.97, 700.0), (2.0, 120.0)], H_H=[(1.5, 130.0)])


def waters(n: int = 30, cell: float | None = None) -> Frames:
    rng = np.random.default_rng(0)
    base = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    return Frames(
        ("O", "H", "H"),
        base + 0.05 * rng.normal(size=(n, 3, 3)),
        cell=None if cell is None else np.tile(np.eye(3) * cell, (n, 1, 1)),
        energy=rng.normal(size=n),
        forces=rng.normal(size=(n, 3, 3)),
        source="waters",
    )


def test_one_stretched_bond_by_hand() -> None:
    """O-H from 1.00 to 1.03 A with mu = 0.97 A, k = 700 kcal/mol/A^2."""
    k = 700 * KCAL_MOL_EV
    positions = np.array([[[0.0, 0, 0], [1.0, 0, 0]]])
    force = np.array([[[2.0, 0, 0], [-2.0, 0, 0]]])
    frames = Frames(("O", "H"), positions, energy=np.array([5.0]), forces=force)
    moved = positions.copy()
    moved[0, 1, 0] = 1.03
    expected = {
        "paper": 0.5 * k * 0.03**2,
        "signed": 0.5 * k * (0.06**2 - 0.03**2),
        "taylor": 2.0 * 0.03 + 0.5 * k * 0.03**2,
    }
    for scheme, change in expected.items():
        energy, forces = spring_changes(frames, moved, WATER, scheme, np.array([0]))  # type: ignore[arg-type]
        assert energy[0] - 5.0 == pytest.approx(change)
        np.testing.assert_allclose(forces[0, 1], [-2.0 - k * 0.03, 0, 0])
        np.testing.assert_allclose(forces.sum(axis=1), 0, atol=1e-12)


@pytest.mark.parametrize("cell", [None, 2.2])
def test_taylor_forces_are_the_gradient_of_its_energy(cell: float | None) -> None:
    frames = waters(5, cell)
    columns = np.arange(3)
    moved = displaced(frames, 2, 0.1, np.random.default_rng(1))
    _, forces = spring_changes(frames, moved, WATER, "taylor", columns)
    numeric = np.empty_like(forces)
    step = 1e-5
    for atom, axis in np.ndindex(3, 3):
        ends = []
        for sign in (1, -1):
            at = moved.copy()
            at[:, atom, axis] += sign * step
            ends.append(spring_changes(frames, at, WATER, "taylor", columns)[0])
        numeric[:, atom, axis] = -(ends[0] - ends[1]) / (2 * step)
    assert np.abs(numeric).max() > 0.1
    np.testing.assert_allclose(forces, numeric, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("scheme", ["paper", "signed", "taylor"])
def test_labels_turn_with_the_molecule(scheme: str) -> None:
    frames = waters()
    assert frames.forces is not None
    turn = Rotation.random(random_state=0).as_matrix()
    moved = displaced(frames, 3, 0.1, np.random.default_rng(1))
    energy, forces = spring_changes(frames, moved, WATER, scheme, np.arange(3))  # type: ignore[arg-type]
    turned = replace(frames, positions=frames.positions @ turn, forces=frames.forces @ turn)
    energy2, forces2 = spring_changes(turned, moved @ turn, WATER, scheme, np.arange(3))  # type: ignore[arg-type]
    np.testing.assert_allclose(energy2, energy)
    np.testing.assert_allclose(forces2, forces @ turn, atol=1e-10)


def test_displacements_are_isotropic_and_within_bounds() -> None:
    frames = waters(4000)
    step = displaced(frames, 2, 0.05, np.random.default_rng(2)) - frames.positions
    length = np.linalg.norm(step, axis=2)
    assert ((length > 1e-12).sum(axis=1) == 2).all()
    inside = length[length > 1e-12]
    assert inside.max() <= 0.05 + 1e-12
    assert inside.mean() == pytest.approx(0.025, rel=0.05)
    assert np.abs(step.reshape(-1, 3).mean(axis=0)).max() < 0.001
    with pytest.raises(DataError, match="waters: 4 atoms cannot be moved"):
        displaced(frames, 4, 0.05, np.random.default_rng(0))


def test_pairs_that_count() -> None:
    frames = waters()
    assert list(counted_pairs(frames, "bonds")) == [0, 1]
    assert list(counted_pairs(frames, "bonds+angles")) == [0, 1, 2]
    assert list(counted_pairs(frames, "all")) == [0, 1, 2]
    far = replace(frames, positions=frames.positions * 5)
    with pytest.raises(DataError, match="waters: frame 0 has no bonds"):
        counted_pairs(far, "bonds")


def test_augmented_frames_say_where_they_come_from() -> None:
    frames = waters().with_info(
        arm="md", method="md", label_source="xtb", temperature_k=500.0, kinetic_temperature_k=480.0,
        bias_ev=0.0,
    )  # fmt: skip
    config = Augment(frames=12, atoms=2, max_displacement_ang=0.05)
    new = augment(frames, WATER, config)
    assert len(new) == 12
    assert new.labelled
    assert new.virial is None
    assert set(new.info["method"]) == {"augment-taylor"}
    assert set(new.info["arm"]) == {"md"}
    # Not the reference's labels, and of no temperature.
    assert set(new.info) == {"arm", "method", "origin", "spring_ev"}
    assert frames.energy is not None
    assert new.energy is not None
    np.testing.assert_allclose(
        new.energy - frames.energy[new.info["origin"]], new.info["spring_ev"]
    )
    off = np.linalg.norm(new.positions - frames.positions[new.info["origin"]], axis=2)
    assert off.max() <= 0.05 + 1e-12
    again = augment(frames, WATER, config)
    np.testing.assert_array_equal(again.positions, new.positions)
    with pytest.raises(DataError, match="31 frames were asked for, there are 30"):
        augment(frames, WATER, config.model_copy(update={"frames": 31}))
    with pytest.raises(DataError, match="waters: frame 0 has no energy"):
        augment(frames.without_labels(), WATER, config)


def test_weight_is_deepmds_auto_prob() -> None:
    assert Augmented((Path("a"),), 0.25).auto_prob(2) == "prob_sys_size; 0:2:0.75; 2:3:0.25"
    assert Augmented((Path("a"), Path("b")), 0.1).auto_prob(1) == (
        "prob_sys_size; 0:1:0.9; 1:3:0.1"
    )


def test_a_training_set_gets_a_system_beside_it(tmp_path: Path) -> None:
    frames = waters(60)
    train = save_deepmd(frames[:40], tmp_path / "train")
    config = Augment(frames=20, components={"H-O": 1, "H-H": 1}, profile="paper")
    folder = tmp_path / "augment"
    made = augment_system(train, frames, 500.0, config, folder)
    new = load_frames(made["system"])
    assert len(new) == made["frames"] == 20
    assert new.labelled
    assert made["smallest_ev"] <= made["largest_ev"]
    springs = load_springs(folder / "springs.json")
    # Fitted to all that was sampled, not to the training set alone.
    assert (springs.n_frames, springs.temperature_k) == (60, 500.0)
    assert (folder / "springs.png").stat().st_size > 5000
    assert augment_system(train, frames, 500.0, config, folder) == made
    assert not (tmp_path / "augment.old-1").exists()
    changed = config.model_copy(update={"max_displacement_ang": 0.2})
    augment_system(train, frames, 500.0, changed, folder)
    assert (tmp_path / "augment.old-1" / "springs.json").exists()
    given = config.model_copy(update={"springs": folder / "springs.json"})
    assert augment_system(train, None, None, given, tmp_path / "given")["frames"] == 20
    with pytest.raises(InputError, match="frames of one temperature are needed"):
        augment_system(train, None, None, config, tmp_path / "none")


def test_training_takes_augmented_frames_with_their_weight(tmp_path: Path) -> None:
    frames = waters(60)
    train = save_deepmd(frames[:40], tmp_path / "train")
    config = Augment(frames=20, profile="paper", components={"H-O": 1, "H-H": 1})
    made = augment_system(train, frames, 500.0, config, tmp_path / "augment")
    extra = Augmented((Path(made["system"]),), 0.2)
    plain, more = (
        train_ensemble("m", [train], [], Train(models=1), tmp_path, augmented=with_)[0]
        for with_ in (None, extra)
    )
    data = more.arguments["deepmd"]["training"]
    assert data["training_data"]["systems"] == [str(train), made["system"]]
    assert data["training_data"]["auto_prob"] == "prob_sys_size; 0:1:0.8; 1:2:0.2"
    assert data["validation_data"]["systems"] == [str(train)]
    assert "auto_prob" not in plain.arguments["deepmd"]["training"]["training_data"]
    assert plain.fingerprint != more.fingerprint
    own = tmp_path / "own.json"
    own.write_text('{"training": {"training_data": {"systems": ["a"]}}}')
    with pytest.raises(InputError, match=r"own.json: training\.training_data\.systems"):
        train_ensemble("m", [train], [], Train(deepmd=own), tmp_path, augmented=extra)


@pytest.mark.parametrize(
    ("sample", "augment", "problem"),
    [
        ('method = "md"', "", None),
        ('method = "metamd"\n[sample.bias]', "", "augment needs a .* to fit springs"),
        ('method = "metamd"\n[sample.bias]', 'springs = "none.json"', "augment.springs: no such"),
        ('plumed = "start.xyz"', "", "augment needs a"),
    ],
)
def test_springs_need_plain_dynamics(
    tmp_path: Path, sample: str, augment: str, problem: str | None
) -> None:
    (tmp_path / "start.xyz").write_text("1\n\nO 0 0 0\n")
    (tmp_path / "run.toml").write_text(
        '[system]\nstructure = "start.xyz"\n[reference]\ncalculator = "ase:EMT"\n'
        f'[[sample]]\nname = "arm"\n{sample}\n[augment]\n{augment}\n'
    )
    if problem is None:
        config = load_config(tmp_path / "run.toml")
        assert config.augment == Augment()
        return
    with pytest.raises(InputError, match=problem):
        load_config(tmp_path / "run.toml")


def test_the_train_command_takes_augmented_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = waters(20)
    real, more = (save_deepmd(frames, tmp_path / name) for name in ("real", "more"))
    (tmp_path / "start.xyz").write_text("1\n\nO 0 0 0\n")
    run_file = tmp_path / "run.toml"
    run_file.write_text(
        '[system]\nstructure = "start.xyz"\n[reference]\ncalculator = "ase:EMT"\n'
        '[[sample]]\nname = "arm"\n[train]\nmodels = 1\n'
    )
    asked: list[Any] = []
    monkeypatch.setattr("metamd.single.train_all", lambda tasks, _: asked.append(tasks) or [])
    arguments = ["train", run_file, real, "--augmented", more, "--weight"]
    app = typer.Typer()
    stages.register(app)

    def command(*words: object) -> Any:
        return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)

    assert command(*arguments, 0.25, "-o", tmp_path / "out").exit_code == 0
    data = asked[0]["model"][0].arguments["deepmd"]["training"]["training_data"]
    assert data["systems"] == [str(real), str(more)]
    assert data["auto_prob"] == "prob_sys_size; 0:1:0.75; 1:2:0.25"
    # Other files become systems in the folder, energies of another zero are shifted on request.
    text, stored = save_extxyz(frames, tmp_path / "real.xyz"), save_npz(frames, tmp_path / "a.npz")
    assert frames.energy is not None
    higher = save_npz(replace(frames, energy=frames.energy + 40.0), tmp_path / "higher.npz")
    words = ["train", run_file, text, higher, "--augmented", stored, "--weight", 0.25]
    with pytest.raises(InputError, match="zero"):
        command(*words, "-o", tmp_path / "files")
    out = tmp_path / "aligned"
    assert command(*words, "--align-energies", "-o", out).exit_code == 0
    systems = asked[1]["model"][0].arguments["deepmd"]["training"]["training_data"]["systems"]
    names = ["train-0", "train-1", "augmented-0"]
    assert systems == [str(out / "systems" / name) for name in names]
    for system in systems:
        np.testing.assert_allclose(load_frames(system).energy, frames.energy, atol=0.01)
    bare = save_npz(replace(frames, forces=None), tmp_path / "bare.npz")
    for words in ((real, "--augmented", bare), (bare,)):
        with pytest.raises(DataError, match=f"^{bare}: has no forces; give them"):
            command("train", run_file, *words, "-o", tmp_path / "other")
    with pytest.raises(InputError, match="--weight: 1 is not between 0 and 1"):
        command(*arguments, 1, "-o", tmp_path / "other")
    assert not (tmp_path / "other").exists()
