"""A run may move: another folder, another machine, and nothing that is finished is done again."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from ase.build import molecule

from metamd.config import Label, Reference, RunConfig, Sample, System, load_config
from metamd.errors import WorkspaceError
from metamd.execution import Task
from metamd.frames import from_atoms
from metamd.identity import (
    content_hash,
    fingerprint,
    table_identity,
    task_argument,
    without_places,
)
from metamd.label.stage import _tasks
from metamd.loop import run
from metamd.reference import fingerprint as reference_fingerprint
from metamd.sample.arm import _walker_arguments
from metamd.workspace import Workspace

from .conftest import ETHANOL

RUN = """
[system]
structure = "ethanol.xyz"
[reference]
calculator = "tblite.ase:TBLite"
arguments = { method = "GFN2-xTB" }
[[sample]]
name = "md"
steps = 40
stride = 10
[select]
count = 3
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A folder with a run file and its structure."""
    folder = tmp_path / "laptop"
    folder.mkdir()
    shutil.copy2(ETHANOL, folder / "ethanol.xyz")
    (folder / "run.toml").write_text(RUN)
    return folder


def finished(work: Path) -> dict[str, int]:
    """Each finished task and when it was finished."""
    return {
        path.parent.relative_to(work).as_posix(): path.stat().st_mtime_ns
        for path in work.rglob("manifest.json")
    }


def test_moved_run_goes_on_and_redoes_nothing(study: Path, tmp_path: Path) -> None:
    first = run(load_config(study / "run.toml"), study / "work", until="label")
    before = finished(study / "work")
    assert any("sample" in name for name in before)
    assert any("label" in name for name in before)
    cluster = tmp_path / "cluster" / "home"
    shutil.move(study, cluster)
    again = run(load_config(cluster / "run.toml"), cluster / "work", until="label")
    assert finished(cluster / "work") == before
    assert not [*(cluster / "work").rglob("*.old-*")]
    assert again["labels"] == first["labels"]
    assert again["labels"]["reused"] == 3


def test_other_content_under_the_same_name_is_another_run(study: Path) -> None:
    run(load_config(study / "run.toml"), study / "work", until="sample")
    text = (study / "ethanol.xyz").read_text()
    (study / "ethanol.xyz").write_text(text.replace("H ", "F ", 1))
    with pytest.raises(WorkspaceError, match=r"system\.structure\.content differs"):
        run(load_config(study / "run.toml"), study / "work", until="sample")


def test_what_a_key_is_by_default_does_not_make_another_run(study: Path) -> None:
    plain = load_config(study / "run.toml")
    (study / "run.toml").write_text(RUN.replace("[select]", '[select]\nmethod = "time"'))
    spelt = load_config(study / "run.toml")
    assert RunConfig.model_fields["select"].default.method == "time"
    assert table_identity(plain, set()) == table_identity(spelt, set())
    (study / "run.toml").write_text(RUN.replace("count = 3", "count = 4"))
    assert table_identity(plain, set()) != table_identity(load_config(study / "run.toml"), set())


class LaterReference(Reference):
    """The table of a version with one more key."""

    more: float = 1.0


class LaterSample(Sample):
    """The same of an arm."""

    more: Path | None = None


def test_a_key_that_a_later_version_adds_does_not_redo_tasks(tmp_path: Path) -> None:
    """Tasks hold what is not a default, and understand it as what was meant."""
    method = {"kind": "lammps", "potential": "tip3p", "units": "real"}
    table = {"name": "a", "method": "metamd", "bias": {}, "walkers": 3, "wall_ang": None}
    reference, later = Reference(**method), LaterReference(**method)
    arm, later_arm = Sample(**table), LaterSample(**table)
    assert arm.bias is not None
    assert Reference.model_validate(task_argument(reference)) == reference
    assert Sample.model_validate(task_argument(arm)) == arm
    # One number of the matrix must be given its sigma, also where it is the matrix's default.
    mean = Sample(**table | {"bias": {"cv": "mean", "sigma": 0.2}})
    assert Sample.model_validate(task_argument(mean)) == mean
    assert "more" not in task_argument(later_arm)
    atoms = molecule("H2O")
    system = System(structure=ETHANOL)
    walker = _walker_arguments(arm, system, reference, atoms, 0)
    assert walker == _walker_arguments(later_arm, system, later, atoms, 0)
    frames = from_atoms([atoms], "water")
    tasks = [
        _tasks(frames, np.array([0]), Label(), each, system, tmp_path, atoms)
        for each in (reference, later)
    ]
    assert tasks[0][0].arguments == tasks[1][0].arguments
    assert tasks[0][0].arguments["reference"] == method


def test_places_in_arguments_do_not_count_but_names_do() -> None:
    def at(root: str, name: str) -> str:
        values = {"source": f"{root}/iteration-0/{name}", "files": ["/opt/ffield.reax"], "n": 3}
        return fingerprint(without_places(values, Path(root)))

    assert at("/a/work", "x.npz") == at("/b/c", "x.npz")
    assert at("/a/work", "x.npz") != at("/a/work", "y.npz")


def test_files_that_arguments_name_count_by_content(tmp_path: Path) -> None:
    """A potential, a basis; the program itself may be updated, or lie elsewhere."""
    system = System(structure=Path("start.xyz"))

    def method(folder: Path, potential: str) -> str:
        folder.mkdir(exist_ok=True)
        (folder / "ml.model").write_text(potential)
        (folder / "dft").write_bytes(b"\x7fELF" + potential.encode())
        arguments = {
            "models": [str(folder / "ml.model")],
            "command": str(folder / "dft"),
            "title": "/ethanol",
        }
        reference = Reference(calculator="mine:Mine", arguments=arguments)
        task = Task("f:g", folder / "x", {"reference": reference.model_dump(mode="json")}, "x")
        (folder / "run.json").touch()
        assert task.fingerprint == task.fingerprint
        return reference_fingerprint(reference, system) + task.fingerprint

    first = method(tmp_path / "a", "one")
    assert method(tmp_path / "b", "one") == first
    other = method(tmp_path / "a", "two")
    assert other[:16] != first[:16]
    assert other[16:] != first[16:]


def test_a_copied_run_with_finished_outputs_is_the_same_run(study: Path, tmp_path: Path) -> None:
    text = RUN.replace('calculator = "tblite.ase:TBLite"', 'kind = "files"')
    text = text.replace('arguments = { method = "GFN2-xTB" }', 'outputs = ["dft/*/OUTCAR"]')
    text = text.replace('name = "md"\nsteps = 40\nstride = 10', 'name = "r"\nmethod = "rattle"')
    (study / "run.toml").write_text(text)
    with Workspace(study / "work", load_config(study / "run.toml")):
        pass
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    config = load_config(copy / "run.toml")
    with Workspace(copy / "work", config):
        pass
    assert config.reference.output_patterns == (str(copy / "dft/*/OUTCAR"),)
    (copy / "run.toml").write_text(text.replace("dft/", "other/"))
    with (
        pytest.raises(WorkspaceError, match=r"reference\.outputs\[1\] differs"),
        Workspace(copy / "work", load_config(copy / "run.toml")),
    ):
        pass


def test_large_files_are_told_apart_by_their_ends(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as handle:
        handle.truncate(65 * 2**20)
    first = content_hash(path)
    with path.open("r+b") as handle:
        handle.seek(-1, 2)
        handle.write(b"x")
    assert content_hash(path) != first
