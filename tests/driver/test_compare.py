"""A comparison: its file, its verdict from the numbers, its stages with real dynamics."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_case
from ase.cluster import Icosahedron
from ase.io import write
from rich.console import Console

from metamd.augment import fit_springs
from metamd.compare.run import _Comparison
from metamd.compare.summary import State
from metamd.config import CompareConfig, load_compare
from metamd.errors import InputError, TaskError
from metamd.execution import Executor
from metamd.frames import load_frames, save_npz
from metamd.loop.provenance import trace_frame
from metamd.report import print_summary, write_report
from metamd.validate.comparison import _trend, comparison_verdict, generality
from metamd.validate.errors import mean_and_spread
from metamd.workspace import Workspace

from .conftest import ETHANOL, ROOT

FILE = f"""
[system]
structure = "{ETHANOL}"
[reference]
calculator = "tblite.ase:TBLite"
arguments = {{ method = "GFN2-xTB", accuracy = 0.001 }}
[compare]
seeds = [1, 2]
sizes = [10, 30]
test_frames = 20
[[sample]]
name = "md"
steps = 400
stride = 5
[[sample]]
name = "metamd"
method = "metamd"
steps = 400
stride = 5
[sample.bias]
height_ev = 0.03
[train]
steps = 50
compress = false
[validate]
steps = 100
temperatures_k = [300]
"""


def written(folder: Path, text: str = FILE) -> Path:
    path = folder / "compare.toml"
    path.write_text(text)
    return path


def test_arms_are_the_samplers_where_none_are_given(tmp_path: Path) -> None:
    config = load_compare(written(tmp_path))
    assert [(a.name, a.sample) for a in config.arms] == [("md", "md"), ("metamd", "metamd")]
    named = FILE + '[[arm]]\nname = "a"\nsample = "md"\n[[arm]]\nname = "b"\nsample = "md"\n'
    named += 'select = { method = "fps" }\naugment = { frames = 5 }\n'
    arms = load_compare(written(tmp_path, named)).arms
    assert arms[1].select is not None
    assert arms[1].select.method == "fps"
    assert load_compare(ROOT / "inputs" / "ethanol" / "compare.toml").compare.seeds == (1, 2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sizes = [30, 10]", "sizes must ascend"),
        ("seeds = [1, 1]", "a seed is given twice"),
        ("size = [10]", r"compare\.size: unknown key"),
        ('[[arm]]\nname = "a"\nsample = "cold"', "sample = 'cold' is none of md, metamd"),
        ('[[arm]]\nname = "a"\nsample = "md"', "two arms or more"),
        (
            '[[arm]]\nname = "a"\nsample = "md"\n[[arm]]\nname = "b"\nsample = "md"\n'
            'select = { method = "deviation" }',
            "needs select.models",
        ),
        (
            '[[arm]]\nname = "a"\nsample = "md"\n[[arm]]\nname = "b"\nsample = "md"\n'
            "augment = { frames = 11 }",
            "more than the smallest training set",
        ),
        (
            '[[arm]]\nname = "a"\nsample = "md"\n[[arm]]\nname = "b"\nsample = "metamd"\n'
            "augment = { frames = 5 }",
            "springs from plain dynamics, which sample = 'metamd' is not",
        ),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    key = text.split(" = ")[0]
    if key in ("sizes", "seeds"):
        old = next(line for line in FILE.splitlines() if line.startswith(key))
        text = FILE.replace(old, text)
    elif key == "size":
        text = FILE.replace("[compare]", f"[compare]\n{text}")
    else:
        text = FILE + text
    with pytest.raises(InputError, match=message) as found:
        load_compare(written(tmp_path, text))
    assert "compare.toml" in str(found.value)


#: Force RMSE by arm, size, test set and seed: md learns its own frames and gets worse on others.
ERRORS = {
    ("md", 100, "md"): (0.12, 0.13, 0.11),
    ("md", 100, "metamd"): (0.40, 0.42, 0.41),
    ("md", 100, "nms"): (0.30, 0.30, 0.33),
    ("md", 400, "md"): (0.05, 0.05, 0.06),
    ("md", 400, "metamd"): (0.50, 0.53, 0.50),
    ("md", 400, "nms"): (0.40, 0.41, 0.40),
    ("metamd", 100, "md"): (0.20, 0.21, 0.19),
    ("metamd", 100, "metamd"): (0.25, 0.26, 0.24),
    ("metamd", 100, "nms"): (0.24, 0.25, 0.23),
    ("metamd", 400, "md"): (0.10, 0.11, 0.09),
    ("metamd", 400, "metamd"): (0.12, 0.13, 0.11),
    ("metamd", 400, "nms"): (0.14, 0.13, 0.15),
    ("nms", 100, "md"): (0.15, 0.25, 0.20),
    ("nms", 100, "metamd"): (0.30, 0.20, 0.25),
    ("nms", 100, "nms"): (0.20, 0.20, 0.20),
    ("nms", 400, "md"): (0.25, 0.16, 0.20),
    ("nms", 400, "metamd"): (0.25, 0.28, 0.24),
    ("nms", 400, "nms"): (0.10, 0.10, 0.10),
}


def compared() -> dict[str, Any]:
    compare: dict[str, Any] = {
        "seeds": [1, 2, 3],
        "sizes": [100, 400],
        "budget_labels": 400,
        "arms": [
            {"name": n, "sample": n, "method": n, "select": "time", "labels": 400,
             "augment_frames": 0, "sampling_steps": 9000}
            for n in ("md", "metamd", "nms")
        ],
        "learning": [
            {"arm": arm, "size": size, "test": test, "seeds": [1, 2, 3],
             "force_rmse_ev_per_ang": mean_and_spread(values)}
            for (arm, size, test), values in ERRORS.items()
        ],
    }  # fmt: skip
    return compare | {"generality": generality(compare)}


RUNS = [
    {"train": "md", "temperature_k": 500.0, "time_ps": 1.25, "intact": False},
    {"train": "md", "temperature_k": 500.0, "time_ps": 5.0, "intact": True},
    {"train": "metamd", "temperature_k": 500.0, "time_ps": 5.0, "intact": True},
]


def test_generality_against_plain_sums() -> None:
    found = compared()["generality"]
    assert [a["name"] for a in found["arms"]] == ["md", "nms", "metamd"]
    md, nms, metamd = found["arms"]
    per_seed = np.mean([ERRORS["md", 400, "metamd"], ERRORS["md", 400, "nms"]], axis=0)
    assert md["foreign_ev_per_ang"]["values"] == pytest.approx(per_seed)
    assert md["foreign_ev_per_ang"]["spread"] == pytest.approx(per_seed.std(ddof=1))
    assert md["own_ev_per_ang"]["mean"] == pytest.approx(np.mean(ERRORS["md", 400, "md"]))
    before = np.mean([ERRORS["md", 100, "metamd"], ERRORS["md", 100, "nms"]], axis=0)
    change = per_seed - before
    assert md["change_ev_per_ang"] == pytest.approx(change.mean())
    assert md["change_error_ev_per_ang"] == pytest.approx(change.std(ddof=1) / np.sqrt(3))
    assert (md["trend"], metamd["trend"], nms["trend"]) == ("worse", "better", "unclear")
    ratio = md["foreign_ev_per_ang"]["mean"] / nms["foreign_ev_per_ang"]["mean"]
    assert found["worst_ratio"] == pytest.approx(ratio)
    test = next(t for t in found["tests"] if t["test"] == "metamd")
    assert [r["arm"] for r in test["arms"]] == ["md", "nms", "metamd"]
    assert test["worst_to_next"] == pytest.approx(0.51 / 0.25667, rel=1e-3)


def test_verdict_answers_the_question_in_words() -> None:
    verdict = comparison_verdict(compared(), RUNS, 0.1)
    assert verdict["headline"] == "Most general: metamd"
    lines = verdict["text"].splitlines()
    assert lines[0].startswith("Most general: metamd. At 400 labelled frames an arm")
    assert "md is the worst with 0.457 ± 0.012, 2.0 times the next" in lines[0]
    assert "hides that: there md has the smallest error of all, 0.053" in lines[1]
    md = next(line for line in lines if line.startswith("From 100 to 400 frames of md"))
    assert md.endswith("more data made it less general.")
    assert "no clear change" in next(x for x in lines if "frames of nms" in x)
    assert "md 1 of 2 intact (first failure after 1.2 ps at 500 K); metamd 1 of 1" in lines[-2]
    assert not verdict["usable"]
    assert "None is usable at 0.1 eV/Å" in lines[-1]
    assert comparison_verdict(compared(), RUNS, 0.16)["usable"]
    assert "No verdict" in comparison_verdict({}, [], 0.1)["text"]


def test_one_seed_has_no_trend() -> None:
    compare = compared()
    for row in compare["learning"]:
        row["force_rmse_ev_per_ang"] = mean_and_spread(row["force_rmse_ev_per_ang"]["values"][:1])
    found = generality(compare)
    assert {a["trend"] for a in found["arms"]} == {"unclear"}
    assert found["arms"][0]["change_ev_per_ang"] is not None


def row(arm: str, size: int, test: str, values: tuple[float, ...]) -> dict[str, Any]:
    return {
        "arm": arm, "size": size, "test": test, "seeds": list(range(1, len(values) + 1)),
        "force_rmse_ev_per_ang": mean_and_spread(values),
    }  # fmt: skip


def of_rows(
    rows: list[dict[str, Any]], arms: dict[str, str], seeds: tuple[int, ...] = (1, 2, 3)
) -> dict[str, Any]:
    """A comparison of arms, each with its sampler."""
    compare: dict[str, Any] = {
        "seeds": list(seeds),
        "sizes": sorted({r["size"] for r in rows}),
        "arms": [{"name": name, "sample": sample} for name, sample in arms.items()],
        "learning": rows,
    }
    return compare | {"generality": generality(compare)}


THREE = {name: name for name in ("md", "metamd", "nms")}


@pytest.mark.parametrize("seeds_left", [0, 2])
def test_an_arm_without_numbers_on_a_set_is_the_worst(seeds_left: int) -> None:
    """All seeds or one of them fail there; on the rest it has the smallest errors of all."""
    rows = [row("md", 100, t, (0.02, 0.02, 0.02)) for t in ("md", "nms")]
    rows += [row("md", 100, "metamd", (0.02,) * seeds_left)] if seeds_left else []
    for arm, error in (("metamd", 0.05), ("nms", 0.08)):
        rows += [row(arm, 100, t, (error, error + 0.001, error)) for t in THREE]
    compare = of_rows(rows, THREE)
    found = compare["generality"]
    assert [a["name"] for a in found["arms"]] == ["nms", "metamd"]
    assert found["failed"] == [{"name": "md", "size": 100, "tests": ["metamd"]}]
    verdict = comparison_verdict(compare, [], 0.1)
    assert verdict["headline"] == "Most general: metamd"
    assert "md gives no numbers on metamd frames: worse than any error." in verdict["text"]
    assert "every test set: nms, metamd;" in verdict["text"]


def test_a_set_that_no_arm_has_numbers_on_is_known_by_name() -> None:
    rows = [row("md", 100, "md", (0.02, 0.03)), row("md", 100, "nms", (0.02, 0.03))]
    compare = of_rows(rows, {"md": "md"}, seeds=(1, 2)) | {"tests": ["md", "nms", "hot"]}
    compare["generality"] = generality(compare)
    verdict = comparison_verdict(compare, [], 0.1)
    assert verdict["headline"] == "No verdict"
    assert "md gives no numbers on hot frames" in verdict["text"]
    assert not verdict["usable"]


ONE_SAMPLER = {"random": "md", "fps": "md"}
ONE_SAMPLER_ROWS = [
    row("random", 100, "md", (0.07, 0.08, 0.075)),
    row("random", 400, "md", (0.050, 0.052, 0.051)),
    row("fps", 100, "md", (0.06, 0.07, 0.065)),
    row("fps", 400, "md", (0.030, 0.031, 0.029)),
]


def test_selections_of_one_sampler_are_ranked_on_its_frames() -> None:
    compare = of_rows(ONE_SAMPLER_ROWS, ONE_SAMPLER)
    assert [a["name"] for a in compare["generality"]["arms"]] == ["random", "fps"]
    verdict = comparison_verdict(compare, [], 0.1)
    assert verdict["headline"] == "Most accurate on md frames: fps"
    lines = verdict["text"].splitlines()
    assert lines[0].startswith("Most accurate on md frames: fps. At 400 labelled frames an arm its")
    assert "RMSE is 0.030 ± 0.001 eV/Å" in lines[0]
    assert lines[0].endswith("random is the worst with 0.051 ± 0.001, 1.7 times as much.")
    assert "frames of fps the error on md frames goes from 0.065" in verdict["text"]
    assert "more data made it more accurate." in verdict["text"]
    assert "general" not in verdict["text"]
    assert verdict["usable"]
    # Test frames of another sampler are others' frames.
    rows = ONE_SAMPLER_ROWS + [
        row(arm, size, "hot", (0.2, 0.2, 0.2)) for arm in ONE_SAMPLER for size in (100, 400)
    ]
    assert comparison_verdict(of_rows(rows, ONE_SAMPLER), [], 0.1)["headline"].startswith(
        "Most general"
    )


def shown(folder: Path, compare: dict[str, Any], runs: list[dict[str, Any]]) -> tuple[str, str]:
    """The report's page and what the terminal shows of a comparison."""
    summary = report_case.build(folder, 8)
    summary |= {"kind": "compare", "compare": compare}
    summary["verdict"] = comparison_verdict(compare, runs, 0.1)
    report_case.write(folder, copy.deepcopy(summary))
    console = Console(width=150, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    print_summary(summary, console)
    return write_report(folder).read_text(), console.export_text()


def test_report_of_selections_of_one_sampler(tmp_path: Path) -> None:
    page, text = shown(tmp_path, of_rows(ONE_SAMPLER_ROWS, ONE_SAMPLER), [])
    assert 'id="learning-by-size"' in page
    assert "could not be made" not in page
    assert "0.030 ± 0.001" in text
    assert "more accurate" in text


def test_usable_says_what_is_known_of_the_dynamics() -> None:
    rows = [row(arm, 100, t, (0.03, 0.03, 0.03)) for arm in THREE for t in THREE]
    compare = of_rows(rows, THREE)

    def last(runs: list[dict[str, Any]]) -> str:
        return comparison_verdict(compare, runs, 0.1)["text"].splitlines()[-1]

    assert last([]).endswith("test set: md, metamd, nms; no dynamics were run.")
    broken = [{"train": n, "intact": k == 1, "time_ps": 1.0} for n in THREE for k in (0, 1)]
    assert last(broken) == (
        "None is usable: md's errors are within 0.1 eV/Å on every test set, but 1 of 2 dynamics "
        "fail."
    )
    intact = [{"train": n, "intact": True, "time_ps": 1.0} for n in THREE]
    assert last(intact).endswith("with all dynamics intact: md, metamd, nms.")
    assert last(intact[:2]).endswith("md, metamd, nms; no dynamics were run with nms.")


def test_nearest_is_told_from_the_criterion() -> None:
    rows = [row("md", 100, t, (0.1004,) * 3) for t in ("md", "nms")]
    text = comparison_verdict(of_rows(rows, {"md": "md"}), [], 0.1)["text"]
    assert "md comes nearest with 0.1004 eV/Å" in text


def test_equal_arms_have_no_worst() -> None:
    """None that is the worst at the same error, by less than chance, or by a few per cent."""
    for metamd, nms in (
        ((0.08, 0.08, 0.08), (0.08, 0.08, 0.08)),
        ((0.12, 0.06, 0.12), (0.07, 0.09, 0.08)),
        ((0.084, 0.085, 0.084), (0.080, 0.081, 0.080)),
    ):
        rows = [row("metamd", 100, t, metamd) for t in THREE]
        rows += [row("nms", 100, t, nms) for t in THREE]
        text = comparison_verdict(of_rows(rows, {"metamd": "metamd", "nms": "nms"}), [], 0.1)[
            "text"
        ]
        assert "is the worst" not in text
        assert "The difference between" in text


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_trends_of_no_effect_are_one_in_twenty(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    called = 0
    for _ in range(2000):
        first, last = (mean_and_spread(v) for v in rng.normal(size=(2, seeds)))
        points = [{"foreign_ev_per_ang": v, "own_ev_per_ang": v} for v in (first, last)]
        called += _trend(points)["trend"] != "unclear"
    assert called / 2000 == pytest.approx(0.05, abs=0.015)


def test_report_of_a_comparison(tmp_path: Path) -> None:
    page, text = shown(tmp_path, compared(), RUNS)
    for figure in ("generality", "learning-by-size", "cross-errors", "stability"):
        assert f'id="{figure}"' in page
    assert page.index('id="learning-by-size"') < page.index('id="stability"')
    assert "<h2>Most general: metamd</h2>" in page
    assert "<p>At 400 labelled frames an arm its force RMSE" in page
    assert "could not be made" not in page
    assert "on others' frames" in text
    assert "0.457 ± 0.012" in text


class Stages(_Comparison):
    """A comparison that is taken stage by stage."""


@pytest.fixture(scope="module")
def argon(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compare file of a Lennard-Jones cluster: milliseconds a step, real dynamics."""
    folder = tmp_path_factory.mktemp("argon")
    write(folder / "argon.xyz", Icosahedron("Ar", 2, latticeconstant=5.3))
    text = """
[system]
structure = "argon.xyz"
[reference]
calculator = "ase.calculators.lj:LennardJones"
arguments = { sigma = 3.4, epsilon = 0.0104, rc = 20.0, smooth = false }
[compare]
seeds = [1, 2]
sizes = [10, 30]
test_frames = 14
[[sample]]
name = "cold"
temperature_k = 10
steps = 300
stride = 5
allow_bond_breaking = true
[[sample]]
name = "hot"
temperature_k = 30
steps = 300
stride = 5
allow_bond_breaking = true
[[sample]]
name = "modes"
method = "nms"
temperature_k = 10
frames = 40
allow_bond_breaking = true
[[arm]]
name = "cold"
sample = "cold"
[[arm]]
name = "hot-more"
sample = "hot"
select = { method = "random" }
augment = { frames = 6, pairs = "all" }
[execution]
workers = 2
"""
    (folder / "compare.toml").write_text(text)
    return folder


def stages_of(folder: Path, config: CompareConfig, work: Workspace, executor: Executor) -> Stages:
    atoms = load_frames(folder / "argon.xyz").to_atoms(0)
    return Stages(config, work, executor, Console(file=sys.stderr), State(atoms))


def test_training_sets_of_a_comparison(argon: Path, tmp_path: Path) -> None:
    """Sizes as asked, seeds differ, test frames in no training set, augmentation beside it."""
    config = load_compare(argon / "compare.toml")
    with (
        Workspace(tmp_path / "work", config) as work,
        Executor(config.execution, tmp_path / "logs", Console(file=sys.stderr)) as executor,
    ):
        run = stages_of(argon, config, work, executor)
        for stage in (run.sample, run.select, run.label, run.dataset):
            stage()
        summary = run.account.write_summary(run._summary(), "running")
        # Springs are those of all that the sampler gave, not of the frames that were selected.
        given = next(arm for arm in config.arms if arm.name == "hot-more").augment
        everything = run.state.samples["hot.seed-2"].frames
        springs = fit_springs(everything, 30.0, given.components, given.profile)
        assert run.springs["hot-more", 2].as_dict() == springs.as_dict()
        positions = {}
        for arm in ("cold", "hot-more"):
            for seed in (1, 2):
                for size in (10, 30):
                    systems = run.state.systems[arm, seed, size]
                    frames = load_frames(systems[0])
                    assert len(frames) == size
                    assert [len(load_frames(s)) for s in systems[1:]] == (
                        [6] if arm == "hot-more" else []
                    )
                    positions[arm, seed, size] = frames.positions
        assert np.abs(positions["cold", 1, 30] - positions["cold", 2, 30]).max() > 1e-3
        for test, path in run.state.test_files.items():
            frames = load_frames(path)
            assert len(frames) == 14
            assert frames.labelled
            # Frames without dynamics come unlabelled; no arm is trained on them.
            arm = {"cold": "cold", "hot": "hot-more", "modes": "cold"}[test]
            for seed in (1, 2):
                gap = np.abs(frames.positions[:, None] - positions[arm, seed, 30][None])
                assert gap.max(axis=(2, 3)).min() > 1e-4
        # A second pass finds everything on disk and writes the same sets.
        again = stages_of(argon, config, work, executor)
        for stage in (again.sample, again.select, again.label, again.dataset):
            stage()
        assert again.state.systems == run.state.systems
        np.testing.assert_array_equal(
            load_frames(again.state.systems["hot-more", 1, 30][0]).positions,
            positions["hot-more", 1, 30],
        )
        compare = config.compare.model_copy(update={"sizes": (10, 500)})
        again.config = config.model_copy(update={"compare": compare})
        with pytest.raises(TaskError, match="asks for 500 frames, its sampler cold left"):
            again.select()
    _provenance_holds(tmp_path / "work")
    rows = {a["name"]: a for a in summary["compare"]["arms"]}
    assert rows["hot-more"]["select"] == "random"
    assert rows["hot-more"]["augment_frames"] == 6
    assert rows["cold"]["sampling_steps"] == 300
    assert {a["name"]: a["n_frames"] for a in summary["arms"]} == {
        "cold": 122,
        "hot": 122,
        "modes": 80,
    }
    # Also of frames that came unlabelled, from those that the reference labelled.
    highest = {a["name"]: a["energy_p95_ev"] for a in summary["arms"]}
    assert 0 < highest["cold"] < highest["hot"]
    assert highest["modes"] > 0
    assert "Nothing" not in write_report(tmp_path / "work").read_text()[:3000]


def _provenance_holds(work: Path) -> None:
    """A training frame is found again among those its walker made, as in a run."""
    data = "iteration-0/dataset/hot-more/n-10/seed-2/train"
    found = trace_frame(work, data, 3)
    assert found["walker_folder"] == "iteration-0/sample/hot.seed-2/walker-0"
    frame = load_frames(work / found["frames"])[[found["frame"]]]
    np.testing.assert_allclose(frame.positions[0], load_frames(work / data).positions[3], atol=1e-5)
    # Folders made before the iteration and the frame were kept.
    path = work / data / "provenance.npz"
    with np.load(path) as stored:
        np.savez(path, **{k: stored[k] for k in stored.files if k not in ("iteration", "frame")})
    assert trace_frame(work, data, 3)["walker_folder"] == found["walker_folder"]


class Untrained(_Comparison):
    """All but the stages that take minutes."""

    def train(self) -> None:
        pass

    def validate(self) -> None:
        pass


class Stopped(Untrained):
    """A person who presses Ctrl-C while the selection is looked through again."""

    def select(self) -> None:
        raise KeyboardInterrupt


def test_a_finished_comparison_keeps_its_summary(argon: Path, tmp_path: Path) -> None:
    """Gone through again, stopped or not: no verdict is lost, no second is added."""
    config = load_compare(argon / "compare.toml")
    atoms = load_frames(argon / "argon.xyz").to_atoms(0)
    work = tmp_path / "work"

    def again(kind: type[_Comparison]) -> dict[str, Any]:
        console = Console(file=sys.stderr)
        with Workspace(work, config) as space, Executor(config.execution, tmp_path) as executor:
            kind(config, space, executor, console, State(atoms)).go()
        summary: dict[str, Any] = json.loads((work / "summary.json").read_text())
        return summary

    assert again(Untrained)["status"] == "finished"
    seconds = (work / "seconds.json").read_text()
    # Frames of an earlier try, before a walker was redone.
    cold = work / "iteration-0" / "sample" / "cold.npz"
    sampled = load_frames(cold)
    save_npz(sampled[:5], cold)
    first = again(Untrained)
    assert (work / "seconds.json").read_text() == seconds
    np.testing.assert_array_equal(load_frames(cold).positions, sampled.positions)
    judged = {**first, "verdict": {"headline": "kept"}}
    (work / "summary.json").write_text(json.dumps(judged))
    with pytest.raises(KeyboardInterrupt):
        again(Stopped)
    assert json.loads((work / "summary.json").read_text()) == judged


@pytest.mark.slow
def test_the_command_from_start_to_report(tmp_path: Path) -> None:
    """Eight tiny trainings: a table with both sizes, a verdict, a page; again does nothing."""
    path = written(tmp_path, FILE + "[execution]\nworkers = 2\n")
    command = [sys.executable, "-m", "metamd.cli", "compare", str(path), "-w",
               str(tmp_path / "work"), "--json"]  # fmt: skip
    first = subprocess.run(command, capture_output=True, text=True, timeout=1700, check=False)
    assert first.returncode == 0, first.stderr[-2000:]
    summary = json.loads(first.stdout)
    assert summary["status"] == "finished"
    learning = summary["compare"]["learning"]
    assert {(r["arm"], r["size"], r["test"]) for r in learning} == {
        (a, n, t) for a in ("md", "metamd") for n in (10, 30) for t in ("md", "metamd")
    }
    assert all(len(r["force_rmse_ev_per_ang"]["values"]) == 2 for r in learning)
    assert len(summary["stability"]) == 4
    assert summary["verdict"]["headline"].startswith("Most general: ")
    page = (tmp_path / "work" / "report.html").read_text()
    assert 'id="learning-by-size"' in page
    done = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("manifest.json")}
    assert len(done) > 20
    again = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert json.loads(again.stdout)["compare"] == summary["compare"]
    assert done == {p: p.stat().st_mtime_ns for p in tmp_path.rglob("manifest.json")}
