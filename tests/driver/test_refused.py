"""Bad input of every kind through the command: status 2, one or two sentences, nothing written.

The command's ``main`` runs in this process; three cases run the real command as well.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.io import read, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metamd.config import parse_config
from metamd.errors import InputError
from metamd.frames import Frames, save_deepmd, save_npz
from metamd.template import run_file_text
from metamd.workspace import Workspace

from .conftest import ETHANOL
from .test_bad_input import command, snapshot

BASE = run_file_text(str(ETHANOL)) + "\n[loop]\niterations = 2\n\n[execution]\nworkers = 2\n"

#: Changes of the run file: old text, new text, what the message must name beside the file.
RUN_FILE: dict[str, tuple[str, str, list[str]]] = {
    "structure missing": (str(ETHANOL), "no.xyz", ["system.structure", "no such file"]),
    "structure a folder": (str(ETHANOL), str(ETHANOL.parent), ["system.structure"]),
    "structure empty": (str(ETHANOL), "empty.xyz", ["system.structure"]),
    "structure not one": (str(ETHANOL), "own.dat", ["system.structure"]),
    "periodic without cell": ("charge = 0", "charge = 0\nperiodic = true", ["system.periodic"]),
    "charge a word": ("charge = 0", 'charge = "plus"', ["system.charge"]),
    "multiplicity zero": ("multiplicity = 1", "multiplicity = 0", ["system.multiplicity"]),
    "no system": ("[system]", "[sistem]", ["system"]),
    "unknown table": ("[train]", "[trian]", ["trian", "unknown key"]),
    "unknown key": ("[select]", "[select]\ncuont = 3", ["select.cuont", "unknown key"]),
    "unknown key in an arm": ("walkers = 2", "walker = 2", ["sample[1].walker"]),
    "not TOML": ("[train]", "[train", ["not valid TOML"]),
    "key twice": ("models = 2", "models = 2\nmodels = 3", ["not valid TOML"]),
    "no arm": ("[[sample]]", "[[samples]]", ["sample"]),
    "arm without name": ('name = "md"', "", ["sample[1].name", "missing"]),
    "arm's name a path": ('name = "md"', 'name = "../md"', ["sample[1].name"]),
    "same name": ('name = "hot"', 'name = "md"', ["two [[sample]]", "md"]),
    "only test arms": ('[[sample]]\nname = "md"', '[[sample]]\nrole = "test"\nname = "md"',
                       []),
    "unknown method": ('method = "md"', 'method = "mc"', ["sample[1].method"]),
    "unknown engine": ('method = "md"', 'method = "md"\nengine = "gpu"', ["sample[1].engine"]),
    "model engine without model": ('method = "md"', 'method = "md"\nengine = "model"',
                                   ["model", "sample[1]"]),
    "model missing": ('method = "md"', 'method = "md"\nengine = "model"\nmodel = "no.pb"',
                      ["sample[1].model", "no such file"]),
    "starts missing": ("walkers = 2", 'walkers = 2\nstarts = "no.xyz"',
                       ["sample[1].starts", "no such file"]),
    "own PLUMED file missing": ('method = "md"', 'method = "md"\nplumed = "no.dat"',
                                ["sample[1].plumed"]),
    "own deck missing": ('method = "md"', 'method = "md"\ndeck = "no.lammps"', ["sample[1].deck"]),
    "negative temperature": ("temperature_k = 300.0", "temperature_k = -1", ["temperature_k"]),
    "zero time step": ("timestep_fs = 0.5", "timestep_fs = 0", ["sample[1].timestep_fs"]),
    "steps a fraction": ("steps = 10000", "steps = 0.5", ["sample[1].steps"]),
    "stride beyond steps": ("stride = 20", "stride = 20000", ["stride"]),
    "unknown thermostat": ("walkers = 2", 'walkers = 2\nthermostat = "ice"', ["thermostat"]),
    "seed too large": ("walkers = 2", "walkers = 2\nseed = 3000000000", ["sample[1].seed"]),
    "bias on plain dynamics": ('method = "metamd"', 'method = "md"', ["bias belongs to"]),
    "no height": ("height_ev = 0.03", "height_ev = 0.0", ["bias.height_ev"]),
    "bias factor one": ("pace = 20", "pace = 20\nbiasfactor = 1.0", ["bias.biasfactor"]),
    "atom not there": ("sigma = 0.2", "sigma = 0.2\natoms = [1, 12]", ["bias.atoms", "12"]),
    "hills missing": ("sigma = 0.2", 'sigma = 0.2\nhills = ["no.xyz"]', ["bias.hills"]),
    "calculator unknown": ("tblite.ase:TBLite", "tblite.ase:Magic", ["reference.calculator"]),
    "calculator not importable": ("tblite.ase:TBLite", "no_such:Calc", ["reference.calculator"]),
    "calculator without class": ("tblite.ase:TBLite", "tblite", ["reference.calculator"]),
    "calculator's argument": ("GFN2-xTB", "GFN7-xTB", ["reference.arguments"]),
    "commands for ase": ('kind = "ase"', 'kind = "ase"\ncommands = ["pair_style zbl 1 2"]',
                         ["commands"]),
    "reference kind": ('kind = "ase"', 'kind = "dft"', ["reference.kind"]),
    "unknown selection": ('method = "time"', 'method = "luck"', ["select.method"]),
    "nothing selected": ("count = 1000", "count = 0", ["select.count"]),
    "trust levels crossed": ("count = 1000", "count = 9\ntrust_lower_ev_per_ang = 9.0",
                             ["trust_upper_ev_per_ang"]),
    "no models": ("models = 2", "models = 0", ["train.models"]),
    "training steps": ("steps = 40000", 'steps = "many"', ["train.steps"]),
    "own DeePMD input missing": ("models = 2", 'models = 2\ndeepmd = "no.json"', ["train.deepmd"]),
    "back-end": ("models = 2", 'models = 2\nbackend = "jax"', ["train.backend"]),
    "repulsion radii": ("models = 2", "models = 2\nrepulsion_inner_ang = 0.9",
                        ["repulsion_outer_ang"]),
    "unknown check": ("[validate]", '[validate]\nchecks = ["luck"]', ["validate.checks"]),
    "one model in a loop": ("models = 2", "models = 1", ["train.models"]),
    "no iteration": ("iterations = 2", "iterations = 0", ["loop.iterations"]),
    "hills of the loop": ("iterations = 2", 'iterations = 2\nhills = "new"', ["loop.hills"]),
    "loop's data missing": ("iterations = 2", 'iterations = 2\ndata = ["no.npz"]', ["loop.data"]),
    "data and models": ("iterations = 2", 'data = ["a"]\nmodels = ["b"]', ["data and models"]),
    "stop fraction": ("iterations = 2", "stop_candidate_fraction = 1.5",
                      ["loop.stop_candidate_fraction"]),
    "unknown scheduler": ("workers = 2", 'kind = "cloud"', ["execution.kind"]),
    "no such scheduler here": ("workers = 2", 'kind = "lsf"', ["execution.kind", "bsub"]),
    "provider without scheduler": ("workers = 2", 'provider = { partition = "x" }', ["provider"]),
    "workers zero": ("workers = 2", "workers = 0", ["execution.workers"]),
    "time limit": ("workers = 2", "limits_min = { train = -1 }", ["limits_min.train"]),
}  # fmt: skip


#: Messages about another file name that one.
OF_THE_STRUCTURE = ("structure a folder", "structure empty", "structure not one",
                    "periodic without cell")  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames good and bad, and other things that people give."""
    folder = tmp_path_factory.mktemp("data")
    atoms = read(ETHANOL)
    rng = np.random.default_rng(1)
    n = 30
    frames = Frames(
        symbols=tuple(atoms.get_chemical_symbols()),
        positions=atoms.positions + rng.normal(scale=0.02, size=(n, 9, 3)),
        energy=rng.normal(scale=0.1, size=n),
        forces=rng.normal(size=(n, 9, 3)),
    )
    save_npz(frames, folder / "good.npz")
    save_npz(frames.without_labels(), folder / "bare.npz")
    save_deepmd(frames, folder / "system")
    save_deepmd(frames, folder / "untyped")
    (folder / "untyped" / "type_map.raw").unlink()
    torn = (folder / "good.npz").read_bytes()
    (folder / "torn.npz").write_bytes(torn[: len(torn) // 2])
    np.savez(folder / "other.npz", a=np.zeros(3))
    write(folder / "water.xyz", Atoms("OHH", [[0, 0, 0], [0.96, 0, 0], [0, 0.96, 0]]))
    (folder / "empty.xyz").write_text("")
    text = (folder / "water.xyz").read_text()
    (folder / "torn.xyz").write_text(text + text[:30])
    (folder / "hills.xyz").write_text(text)
    (folder / "model.pb").write_text("not a model")
    (folder / "table.json").write_text("{]")
    (folder / "full").mkdir()
    (folder / "full" / "thesis.tex").write_text("precious")
    return folder


#: Commands on data: words ({d} is the folder of ``data``, {t} a new one), and what they must name.
ON_DATA: dict[str, tuple[str, list[str]]] = {
    "no such file": ("export {d}/no.npz -o {t}/a.xyz", ["no.npz", "no such file"]),
    "torn npz": ("export {d}/torn.npz -o {t}/a.xyz", ["torn.npz"]),
    "other npz": ("export {d}/other.npz -o {t}/a.xyz", ["other.npz", "needs arrays"]),
    "empty xyz": ("export {d}/empty.xyz -o {t}/a.xyz", ["empty.xyz"]),
    "torn xyz": ("export {d}/torn.xyz -o {t}/a.xyz", ["torn.xyz", "frame 1"]),
    "system without types": ("export {d}/untyped -o {t}/a.xyz", ["untyped", "type_map.raw"]),
    "two molecules": ("export {d}/good.npz {d}/water.xyz -o {t}/a.xyz", ["water.xyz", "atoms"]),
    "count beyond the pool": ("select {d}/good.npz --method random --count 99",
                              ["good.npz", "99"]),
    "count zero": ("select {d}/good.npz --method random --count 0", ["count"]),
    "unknown method": ("select {d}/good.npz --method luck --count 3", ["method"]),
    "no energies": ("select {d}/bare.npz --method energy --count 3", ["bare.npz"]),
    "deviation without models": ("select {d}/good.npz --method deviation --count 3",
                                 ["good.npz", "models"]),
    "model missing": ("select {d}/good.npz --method deviation --count 3 --model {d}/no.pb",
                      ["no.pb"]),
    "predictions of others": ("select {d}/good.npz --method flatten --count 3 "
                              "--predictions {d}/water.xyz", ["water.xyz"]),
    "springs without temperature": ("springs {d}/good.npz", ["temperature"]),
    "table torn": ("augment {d}/good.npz --temperature-k 300 --springs {d}/table.json "
                   "-o {t}/a.npz", ["table.json"]),
    "augment without labels": ("augment {d}/bare.npz --temperature-k 300 -o {t}/a.npz",
                               ["bare.npz"]),
    "no hills": ("hills {d}/hills.xyz", ["hills.xyz"]),
    "hills missing": ("hills {d}/no.xyz", ["no.xyz"]),
    "components beyond": ("pca {d}/good.npz --components 99 -o {t}/pca.dat", ["omponents"]),
    "status of no run": ("status {d}/full", ["full", "not a metamd work folder"]),
    "report of no run": ("report {d}/full", ["full", "not a metamd work folder"]),
    "init of nothing": ("init {d}/no.xyz", ["no.xyz"]),
    "label into a full folder": ("label {t}/run.toml {d}/good.npz -o {d}/full", ["full"]),
    "train into a full folder": ("train {t}/run.toml {d}/system -o {d}/full", ["full"]),
    "train on nothing": ("train {t}/run.toml {d}/no -o {t}/new", ["no"]),
    "validate without model": ("validate {t}/run.toml --model {d}/no.pb --data {d}/good.npz "
                               "-o {t}/new", ["no.pb"]),
    "run file missing": ("run {d}/no.toml --workdir {t}/w", ["no.toml", "no such run file"]),
    "stage unknown": ("run {t}/run.toml --workdir {t}/w --until lunch", ["until", "lunch"]),
    "work folder a file": ("run {t}/run.toml --workdir {d}/empty.xyz", ["--workdir", "empty.xyz"]),
    "work folder full of other things": ("run {t}/run.toml --workdir {d}/full",
                                         ["--workdir", "full"]),
    "trace of no run": ("trace {d}/full", ["full"]),
}  # fmt: skip


def check_message(printed: str, words: list[str]) -> None:
    """One or two sentences that name everything in ``words``."""
    assert "Traceback" not in printed
    text = " ".join(printed.split())
    for word in words:
        assert word in text or word in text.replace(" ", ""), (word, text)
    text = text[text.index("error: ") :]
    sentences = re.findall(r"[.!?](?=\s+[A-Z]|$)", text)
    assert len(sentences) <= 2, text
    assert len(text) < 700, text


def test_there_are_enough_cases() -> None:
    assert len(RUN_FILE) + len(ON_DATA) >= 90


@pytest.mark.parametrize("case", RUN_FILE)
def test_run_file(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, words = RUN_FILE[case]
    assert old in BASE
    text = BASE.replace(old, new) if case in ("no arm", "only test arms") else BASE.replace(
        old, new, 1)  # fmt: skip
    if case == "only test arms":
        text = text.replace('name = "metamd"', 'role = "test"\nname = "metamd"')
        words = ['role = "train"']
    (tmp_path / "run.toml").write_text(text)
    (tmp_path / "empty.xyz").write_text("")
    (tmp_path / "own.dat").write_text("d: DISTANCE ATOMS=1,2\n")
    before = snapshot(tmp_path)
    status, printed = command(
        ["run", str(tmp_path / "run.toml"), "--workdir", str(tmp_path / "work")],
        capsys, monkeypatch,
    )  # fmt: skip
    assert status == 2, printed
    named = "run.toml" if case not in OF_THE_STRUCTURE else "system."
    check_message(printed, [named, *words])
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("case", ON_DATA)
def test_commands(
    case: str, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    words, named = ON_DATA[case]
    (tmp_path / "run.toml").write_text(BASE)
    before = snapshot(data) | snapshot(tmp_path)
    monkeypatch.chdir(tmp_path)
    status, printed = command(
        [w.format(d=data, t=tmp_path) for w in words.split()], capsys, monkeypatch
    )
    assert status == 2, printed
    check_message(printed, named)
    assert snapshot(data) | snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["structure missing", "not TOML", "no such scheduler here"])
def test_the_real_command(name: str, tmp_path: Path) -> None:
    old, new, words = RUN_FILE[name]
    (tmp_path / "run.toml").write_text(BASE.replace(old, new, 1))
    done = subprocess.run(
        [sys.executable, "-m", "metamd.cli", "run", "run.toml", "--workdir", "work"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, env=os.environ | {"CI": "1"},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    check_message(done.stderr, words)
    assert [p.name for p in tmp_path.iterdir()] == ["run.toml"]


@pytest.mark.parametrize("variable", ["PLUMED_KERNEL"])
def test_environment(
    variable: str, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, str(tmp_path / "nothing.so"))
    (tmp_path / "run.toml").write_text(BASE)
    status, printed = command(
        ["run", str(tmp_path / "run.toml"), "--workdir", str(tmp_path / "w")], capsys, monkeypatch
    )
    assert status == 2
    check_message(printed, [variable, "sample[2]"])


def test_second_driver_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from metamd.config import load_config

    (tmp_path / "run.toml").write_text(BASE)
    with Workspace(tmp_path / "w", load_config(tmp_path / "run.toml")):
        status, printed = command(
            ["run", str(tmp_path / "run.toml"), "--workdir", str(tmp_path / "w")],
            capsys, monkeypatch,
        )  # fmt: skip
    assert status == 2
    check_message(printed, ["another metamd run", str(tmp_path / "w")])


# -- any run file at all -------------------------------------------------------------------

_SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["md", "metamd", "model", "reference", "test", "slurm", "deviation", "a.xyz"])
)  # fmt: skip
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3)
    ),
    max_leaves=6,
)


def _tables() -> dict[str, list[str]]:
    """Keys of every table of the run file, from its own schema."""
    import json

    from metamd.config import schema_json

    schema = json.loads(schema_json())
    found: dict[str, list[str]] = {"": list(schema["properties"])}
    for name, table in schema["$defs"].items():
        found[name] = list(table.get("properties", {}))
    return found


def _mutated() -> st.SearchStrategy[dict[str, object]]:
    """A good run file with some keys replaced, dropped or added at any depth."""
    import tomllib

    base = tomllib.loads(BASE)
    keys = sorted({key for names in _tables().values() for key in names})
    change = st.tuples(
        st.sampled_from(sorted(base)), st.integers(0, 2),
        st.sampled_from(keys) | st.text(max_size=5), _VALUES, st.booleans(),
    )  # fmt: skip

    def apply(changes: list[tuple[str, int, str, object, bool]]) -> dict[str, object]:
        import copy

        file = copy.deepcopy(base)
        for table, k, key, value, whole in changes:
            if whole:
                file[table] = value
                continue
            target = file.get(table)
            if isinstance(target, list) and target:
                target = target[k % len(target)]
            if isinstance(target, dict):
                target[key] = value
        return file

    return st.lists(change, min_size=1, max_size=4).map(apply)


def _only_input_errors(content: dict[str, object]) -> None:
    try:
        parse_config(content, Path("run.toml"))
    except InputError as error:
        text = str(error)
        assert text.startswith("run.toml: ")
        assert "\n" not in text
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}: {error}") from error


QUIET = (HealthCheck.too_slow, HealthCheck.data_too_large)


@settings(max_examples=300, deadline=None, suppress_health_check=QUIET)
@given(_mutated())
def test_any_run_file_is_taken_or_refused(content: dict[str, object]) -> None:
    _only_input_errors(content)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None, suppress_health_check=QUIET)
@given(_mutated())
def test_ten_thousand_run_files(content: dict[str, object]) -> None:
    _only_input_errors(content)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """The file itself may be anything."""
    from metamd.config import load_config

    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"any\.toml"):
        load_config(path)
