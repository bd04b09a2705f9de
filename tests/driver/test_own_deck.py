"""A person's own deck: walkers and iterations that differ, decks that cannot be followed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import write

from metamd.config import Execution, Loop, Reference, RunConfig, Sample, System
from metamd.config.train import Train
from metamd.errors import InputError
from metamd.execution import Executor
from metamd.loop import check_run
from metamd.sample import sample_arms

LJ = Reference(
    calculator="ase.calculators.lj:LennardJones",
    arguments={"sigma": 3.4, "epsilon": 0.0104, "rc": 12.0},
)
ARGON = Atoms("Ar3", [[0, 0, 0], [3.8, 0, 0], [1.9, 3.3, 0]])
HEAD = """
units metal
atom_style atomic
atom_modify map array
boundary s s s
read_data system.data
neighbor 2.0 nsq
timestep 0.002
velocity all create 30 {seed} mom yes rot yes dist gaussian
fix motion all nve
"""
CALLBACK = (
    HEAD.replace("neighbor", "pair_style zero 3.0\npair_coeff * *\nneighbor")
    + "fix reference all external pf/callback 1 1\n"
)
LMP = (
    HEAD.replace("neighbor", "pair_style lj/cut 12.0\npair_coeff * * 0.0104 3.4\nneighbor")
    + "dump frames all custom 10 frames.dump id element x y z\n"
    + "dump_modify frames sort id format float %.17g element Ar\n"
)
RUN = "run 40\n"


def own(folder: Path, text: str, **keys: Any) -> Sample:
    (folder / "own.lammps").write_text(text)
    return Sample.model_validate(
        {"name": "own", "deck": folder / "own.lammps", "steps": 40, "stride": 10, **keys}
    )


def run_config(folder: Path, arm: Sample, **tables: Any) -> RunConfig:
    write(folder / "argon.xyz", ARGON)
    system = System(structure=folder / "argon.xyz")
    return RunConfig(system=system, reference=LJ, sample=(arm,), **tables)


@pytest.mark.parametrize("engine", ["reference", "lammps"])
def test_walkers_of_a_deck_differ_and_a_line_for_runs_by_hand_does_not_hinder(
    engine: str, tmp_path: Path
) -> None:
    text = "variable seed index 7\n" + (CALLBACK if engine == "reference" else LMP) + RUN
    commands = ("pair_style lj/cut 12.0",) if engine == "lammps" else ()
    keys = {"walkers": 2, "engine": engine, "commands": commands}
    first = own(tmp_path, text.format(seed="${seed}"), **keys)
    config = run_config(tmp_path, first)
    check_run(config)
    later = first.model_copy(update={"name": "later", "seed": 100_004})
    with Executor(Execution(workers=2), tmp_path / "logs") as executor:
        results = sample_arms((first, later), config.system, LJ, ARGON, tmp_path / "s", executor)
    last = []
    for result in results:
        assert not result.stopped
        walker = result.frames.info["walker"]
        assert result.frames.info["step"].tolist() == [0, 10, 20, 30, 40] * 2
        last += [result.frames.distances_ang[walker == k][-1] for k in (0, 1)]
    for k in range(4):
        for m in range(k):
            assert np.abs(last[k] - last[m]).max() > 1e-3
    deck = (tmp_path / "s" / "own" / "walker-1" / "in.lammps").read_text()
    assert deck.startswith("variable seed index 1001\nvariable seed index 7\n")


def test_the_number_of_the_walker_reaches_an_included_file(tmp_path: Path) -> None:
    """And a variable of that name which is the deck's own business stays so."""
    (tmp_path / "seeds.inc").write_text("variable seed equal 11+${walker}\n")
    text = "include seeds.inc\n" + LMP.format(seed="${seed}") + RUN
    keys = {"walkers": 2, "engine": "lammps", "commands": ("pair_style lj/cut 12.0",)}
    arm = own(tmp_path, text, files=(tmp_path / "seeds.inc",), **keys)
    config = run_config(tmp_path, arm)
    check_run(config)
    with Executor(Execution(workers=2), tmp_path / "logs") as executor:
        (result,) = sample_arms((arm,), config.system, LJ, ARGON, tmp_path / "s", executor)
    assert not result.stopped
    ends = result.frames.distances_ang[result.frames.info["step"] == 40]
    assert np.abs(ends[0] - ends[1]).max() > 1e-3
    deck = (tmp_path / "s" / "own" / "walker-1" / "in.lammps").read_text()
    assert deck.startswith("variable walker index 1\ninclude")


def test_decks_that_would_repeat_a_trajectory_are_refused(tmp_path: Path) -> None:
    fixed = CALLBACK.format(seed=7) + RUN
    by_walker = CALLBACK.format(seed="${walker}").replace("create 30 $", "create 30 1$") + RUN
    twice = {"loop": Loop(iterations=2), "train": Train(models=2)}
    check_run(run_config(tmp_path, own(tmp_path, fixed)))
    with pytest.raises(InputError, match=r"sample\[1\]\.deck: .*own\.lammps: .* every walker"):
        check_run(run_config(tmp_path, own(tmp_path, fixed, walkers=2)))
    # In a comment or in a word of its own it is no use of the variable.
    commented = fixed.replace("7", "7 # ${seed}") + "variable v_seeding equal 1\n"
    with pytest.raises(InputError, match="every walker"):
        check_run(run_config(tmp_path, own(tmp_path, commented, walkers=2)))
    check_run(run_config(tmp_path, own(tmp_path, by_walker, walkers=2)))
    with pytest.raises(InputError, match="every iteration"):
        check_run(run_config(tmp_path, own(tmp_path, by_walker, walkers=2), **twice))
    with pytest.raises(InputError, match="every iteration"):
        check_run(run_config(tmp_path, own(tmp_path, fixed), **twice))
    seeded = CALLBACK.format(seed="${seed}") + RUN
    check_run(run_config(tmp_path, own(tmp_path, seeded, walkers=2), **twice))
    # Walkers that start from structures of their own differ whatever the seeds.
    stretched = ARGON.copy()
    stretched.positions *= 1.02
    write(tmp_path / "two.xyz", [ARGON, stretched])
    started = {"walkers": 2, "starts": tmp_path / "two.xyz"}
    check_run(run_config(tmp_path, own(tmp_path, fixed, **started)))
    with pytest.raises(InputError, match="every walker"):
        check_run(run_config(tmp_path, own(tmp_path, fixed, **started | {"walkers": 3})))


LOOP = "variable i loop 3\nlabel again\nrun 20\nnext i\njump SELF again\n"
BRANCH = 'run 20\nif "${i} < 3" then "jump SELF again"\n'


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (LOOP, "'label': .* cannot loop"),
        (BRANCH, "'if': .* cannot loop"),
        ("include production.inc\n", "includes production.inc, which has a `run`"),
        ("# run 40\n", "has no `run`"),
    ],
)
def test_decks_that_cannot_be_followed_are_refused(end: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "production.inc").write_text("# production\nrun 20\n")
    files = {"files": (tmp_path / "production.inc",)}
    with pytest.raises(InputError, match=words):
        check_run(run_config(tmp_path, own(tmp_path, CALLBACK.format(seed=7) + end, **files)))
    # lmp reads its deck itself: there all of it goes.
    keys = {"engine": "lammps", "commands": ("pair_style lj/cut 12.0",)}
    check_run(run_config(tmp_path, own(tmp_path, LMP.format(seed=7) + end, **files, **keys)))
