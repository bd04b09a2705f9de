"""Bad input and bad walkers, through the command: one clear message, nothing overwritten."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write

from metamd import cli
from metamd.config import Execution, Reference, Sample, System
from metamd.execution import Executor
from metamd.sample import sample_arms
from metamd.template import run_file_text
from metamd.workspace import Workspace

from .conftest import ETHANOL


def command(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> tuple[int, str]:
    """Exit status and what was printed."""
    monkeypatch.setattr("sys.argv", ["metamd", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    printed = capsys.readouterr()
    code = stop.value.code
    return (code if isinstance(code, int) else 0), printed.out + printed.err


def run_file(tmp_path: Path, old: str = "", new: str = "") -> Path:
    path = tmp_path / "run.toml"
    text = run_file_text(str(ETHANOL))
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_atoms_on_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    atoms = read(ETHANOL)
    atoms.positions[3] = atoms.positions[2] + [0.2, 0, 0]
    write(tmp_path / "bad.xyz", atoms)
    path = run_file(tmp_path, str(ETHANOL), str(tmp_path / "bad.xyz"))
    status, printed = command(
        ["run", str(path), "--workdir", str(tmp_path / "work")], capsys, monkeypatch
    )
    assert status == 2
    assert "bad.xyz" in printed
    assert "0.200 A apart" in printed


def test_missing_plumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUMED_KERNEL", str(tmp_path / "nothing.so"))
    path = run_file(tmp_path)
    status, printed = command(
        ["run", str(path), "--workdir", str(tmp_path / "work")], capsys, monkeypatch
    )
    assert status == 2
    assert "PLUMED_KERNEL" in printed
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("kind", ["other run", "other files", "in use", "read-only"])
def test_work_folder(
    kind: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from metamd.config import load_config

    path, work = run_file(tmp_path), tmp_path / "work"
    config = load_config(path)
    words = {"other run": "train.steps", "other files": "no metamd", "in use": "another metamd run",
             "read-only": "not writable"}  # fmt: skip
    held = None
    if kind == "other run":
        with Workspace(work, config):
            pass
        path = run_file(tmp_path, "steps = 40000", "steps = 7")
    elif kind == "other files":
        work.mkdir()
        (work / "thesis.tex").write_text("precious")
    elif kind == "in use":
        held = Workspace(work, config)
        held.__enter__()
    else:
        work.mkdir()
        work.chmod(0o555)
    before = snapshot(work)
    try:
        status, printed = command(["run", str(path), "--workdir", str(work)], capsys, monkeypatch)
    finally:
        if held is not None:
            held.__exit__(None, None, None)
        work.chmod(0o755)
    assert status == 2, printed
    assert words[kind] in printed
    assert str(work) in printed.replace("\n", "")
    assert snapshot(work) == before


def test_wrong_option(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    status, printed = command(["run", "--nonsense"], capsys, monkeypatch)
    assert status == 2
    assert "nonsense" in printed
    assert "Traceback" not in printed


def arm(**changes: object) -> Sample:
    settings: dict[str, object] = {
        "name": "wild",
        "method": "metamd",
        "bias": {"height_ev": 2.0, "sigma": 0.3, "pace": 4},
        "steps": 1000,
        "stride": 2,
    }
    return Sample.model_validate(settings | changes)


def test_a_walker_that_tears_the_molecule_stops_and_keeps_good_frames(
    ethanol: Atoms, tmp_path: Path
) -> None:
    reference = Reference(calculator="tblite.ase:TBLite", arguments={"method": "GFN2-xTB"})
    with Executor(Execution(workers=1), tmp_path / "logs") as executor:
        (result,) = sample_arms(
            (arm(),), System(structure=ETHANOL), reference, ethanol, tmp_path, executor
        )
    assert len(result.stopped) == 1
    assert result.stopped[0]["reason"].startswith("step ")
    assert 1 < len(result.frames) < 501
    assert np.diff(result.frames.info["step"]).min() == 2
    assert result.frames.forces is not None
    assert np.abs(result.frames.forces).max() < arm().max_force_ev_per_ang


def test_a_failed_scf_in_the_callback_stops_the_walker(ethanol: Atoms, tmp_path: Path) -> None:
    """Three SCF iterations do not do: the run must end, not go on with stale forces."""
    from metamd.execution import Failure, Task
    from metamd.sample.arm import WALKER_TASK, _walker_arguments

    reference = Reference(
        calculator="tblite.ase:TBLite", arguments={"method": "GFN2-xTB", "max_iterations": 3}
    )
    plain = Sample(name="md", steps=50, stride=5)
    arguments = _walker_arguments(plain, System(structure=ETHANOL), reference, ethanol, 0)
    task = Task(WALKER_TASK, tmp_path / "walker-0", arguments, "walker")
    with Executor(Execution(workers=1), tmp_path / "logs") as executor:
        (outcome,) = executor.run("sample", [task])
    assert isinstance(outcome, Failure)
    assert "step 0: the reference failed" in outcome.reason
    log = (outcome.folder / "outcome.json").read_text()
    assert json.loads(log)["frames"] == 0


def test_status_of_a_folder_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, printed = command(["status", str(tmp_path)], capsys, monkeypatch)
    assert status == 2
    assert "not a metamd work folder" in printed
    assert os.listdir(tmp_path) == []


def test_the_first_single_point_leaves_no_file_where_the_person_stands(
    ethanol: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from metamd.config import load_config
    from metamd.loop.check import check_reference

    (tmp_path / "program.py").write_text(
        "from pathlib import Path\n"
        "from ase.calculators.emt import EMT\n"
        "class Program(EMT):\n"
        "    def calculate(self, *a, **k):\n"
        "        Path('program.out').write_text('as ORCA does')\n"
        "        super().calculate(*a, **k)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    path = run_file(tmp_path, "tblite.ase:TBLite", "program:Program")
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "GFN2" not in line))
    stand = tmp_path / "here"
    stand.mkdir()
    monkeypatch.chdir(stand)
    check_reference(load_config(path), ethanol)
    assert list(stand.iterdir()) == []
