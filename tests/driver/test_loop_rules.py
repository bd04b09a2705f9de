"""Stop rules, budgets, carried hills and the repulsive prior: small pieces of the loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from metamd import deck
from metamd.config import Bias, Loop, RunConfig, parse_config
from metamd.errors import InputError
from metamd.frames import Frames
from metamd.label import LabelResult
from metamd.loop import rules
from metamd.loop.check import check_run, check_selection
from metamd.loop.iteration import Iteration, RunContext, within_budget, without_wild
from metamd.loop.pick import Picked, _bands, _with_mean
from metamd.plumed_input import HILLS, carry_hills, plumed_file
from metamd.predict import Predictions
from metamd.repulsion import write_zbl_table, zbl_energy_ev
from metamd.sample import SampleResult
from metamd.summary import IterationState
from metamd.validate.models import Validation
from metamd.workspace import Workspace

from .conftest import ETHANOL


def config(**loop: Any) -> RunConfig:
    table = {
        "system": {"structure": str(ETHANOL)},
        "reference": {"calculator": "tblite.ase:TBLite"},
        "sample": [
            {"name": "md", "steps": 100, "equilibration_steps": 10, "walkers": 2},
            {"name": "hot", "role": "test", "steps": 50},
        ],
        "loop": {"iterations": 3} | loop,
    }
    return parse_config(table, Path("run.toml"))


def frames(n: int) -> Frames:
    atoms = read(ETHANOL)
    positions = np.repeat(atoms.positions[None], n, axis=0)
    return Frames(tuple(atoms.get_chemical_symbols()), positions, info={"step": np.arange(n)})


def state(number: int, known: float, chosen: int = 5) -> IterationState:
    arm = config().sample[0]
    indices = np.arange(chosen)
    bands = {"known": known, "candidates": 1 - known, "lost": 0.0}
    out = IterationState(number)
    out.samples = [SampleResult(arm, frames(20), [], Path("frames.npz"))]
    out.picked = {"md": Picked(indices, [""] * chosen, "deviation", [], bands)}
    out.selected = {"md": frames(20)[indices]} if chosen else {}
    return out


def errors(number: int, **by_test: float) -> IterationState:
    out = IterationState(number)
    rows = [
        {"train": "all", "test": test, "force_rmse_ev_per_ang": {"mean": value}}
        for test, value in by_test.items()
    ]
    out.validation = Validation(rows, [], [])
    return out


def test_few_unknown_frames_end_the_loop() -> None:
    loop = Loop(iterations=3, stop_candidate_fraction=0.1)
    assert rules.before_training(loop, state(0, known=0.95)) is None
    assert rules.before_training(loop, state(1, known=0.85)) is None
    stop = rules.before_training(loop, state(1, known=0.95))
    assert stop is not None
    assert stop.rule == "loop.stop_candidate_fraction"
    assert "5.0%" in stop.reason
    empty = rules.before_training(loop, state(1, known=0.5, chosen=0))
    assert empty is not None
    assert empty.rule == "loop.select"
    assert "trust_upper" not in empty.reason
    # Given models that know all frames end it before anything is trained.
    given = loop.model_copy(update={"models": (Path("a.pb"), Path("b.pb"))})
    assert rules.before_training(given, state(0, known=0.95)) is not None
    assert rules.before_training(given, state(0, known=0.5)) is None


def test_models_that_know_nothing_are_said_to() -> None:
    """All frames above the upper level: the loop ends too, but not because all is well."""
    far = state(1, known=0.0, chosen=0)
    far.picked["md"].deviation.update(candidates=0.0, lost=1.0)
    stop = rules.before_training(Loop(iterations=3), far)
    assert stop is not None
    assert "100% of an arm's frames deviate by more than loop.select.trust_upper" in stop.reason


def test_frames_far_off_are_not_taken_for_known() -> None:
    """A model that knows nothing puts every frame above the upper level: no reason to stop."""
    bands = _bands(np.full(10, 9.0), config().loop.select)
    assert bands["lost"] == 1.0
    lost = state(1, known=bands["known"])
    assert lost.uncertain_fraction == 1.0


def test_error_on_the_test_arms_ends_the_loop_and_only_theirs() -> None:
    c = config(stop_force_error_ev_per_ang=0.1)
    stop = rules.after_training(c, errors(0, hot=0.05, md=0.5))
    assert stop is not None
    assert stop.rule == "loop.stop_force_error_ev_per_ang"
    assert rules.after_training(c, errors(0, hot=0.2, md=0.01)) is None
    last = rules.after_training(c, errors(2, hot=0.2))
    assert last is not None
    assert last.rule == "loop.iterations"


def test_budget_counts_walkers_and_labels_and_cuts_what_is_labelled() -> None:
    c = config(max_reference_calls=400)
    assert rules.reference_steps(c.sample) == 2 * 110 + 50
    spent = IterationState(0, reference_steps=rules.reference_steps(c.sample))
    assert rules.budget_left(c, [spent]) == 400 - 270
    assert rules.budget_left(config(), [spent]) is None
    roles = {"md": "train", "more": "train", "hot": "test"}
    selected = {"md": frames(90), "more": frames(30), "hot": frames(50)}
    free = {name: np.zeros(len(f), bool) for name, f in selected.items()}
    # All labels of a test arm come off first: 50 frames of a sampler that brings none.
    kept = within_budget(selected, roles, 50 + 40, free, 5)
    assert {name: len(f) for name, f in kept.items()} == {"md": 30, "more": 10, "hot": 50}
    assert set(within_budget(selected, roles, 50, free, 5)) == {"hot"}
    assert kept["md"].info["step"][[0, -1]].tolist() == [0, 89]
    assert set(within_budget(selected, roles, 0, free, 5)) == {"hot"}
    # Frames that bring their labels along cost their rechecks only, five in each such arm.
    free["md"][::2] = True
    kept = within_budget(selected, roles, 50 + 5 + 40, free, 5)
    assert {name: len(f) for name, f in kept.items()} == {"md": 45 + 24, "more": 16, "hot": 50}
    assert set(np.arange(0, 90, 2)) <= set(kept["md"].info["step"].tolist())
    kept = within_budget(selected, roles, 0, free, 5)
    assert {name: len(f) for name, f in kept.items()} == {"md": 45, "hot": 50}


def test_nothing_to_train_on_ends_the_loop_and_says_why() -> None:
    loop = config(max_reference_calls=400)
    cut = IterationState(0)
    cut.selected = {"md": frames(3), "hot": frames(2)}
    # Labels of test arms are nothing to train on.
    cut.labels = {"hot": LabelResult(frames(2), computed=2)}
    spent = rules.without_labels(loop, cut)
    assert spent is not None
    assert spent.rule == "loop.max_reference_calls"
    del cut.selected["md"]
    unwanted = rules.without_labels(loop, cut)
    assert unwanted is not None
    assert unwanted.rule == "loop.select"
    none = IterationState(1)
    failed = [{"frame": 3, "reason": "no SCF convergence"}]
    none.labels = {"md": LabelResult(frames(5)[:0], failures=failed)}
    stop = rules.without_labels(loop, none)
    assert stop is not None
    assert stop.reason == (
        "none of the 1 new frames got a usable label; the first: no SCF convergence"
    )
    none.labels["more"] = LabelResult(frames(2), computed=2)
    assert rules.without_labels(loop, none) is None


def test_a_budget_below_the_first_sampling_is_refused() -> None:
    with pytest.raises(InputError, match=r"max_reference_calls: 269 is less than the 270 steps"):
        check_run(config(max_reference_calls=269))
    check_run(config(max_reference_calls=270))


def test_a_budget_below_the_labels_of_the_test_arms_is_refused() -> None:
    """They are never cut: 60 of the 80 displaced frames, 3 of the dynamics without reuse."""
    table = config().model_dump(exclude_defaults=True, mode="json")
    table["sample"][1] = {"name": "far", "role": "test", "method": "rattle", "frames": 80}
    table["select"] = {"count": 60}
    table["loop"]["max_reference_calls"] = 220 + 59
    with pytest.raises(InputError, match=r"279 is less than the 280 .*60 labels of test arms"):
        check_run(parse_config(table, Path("run.toml")))
    table["loop"]["max_reference_calls"] = 220 + 60
    check_run(parse_config(table, Path("run.toml")))
    table["sample"].append({"name": "hot", "role": "test", "steps": 40})
    assert rules.test_labels(parse_config(table, Path("run.toml"))) == 60
    table["label"] = {"reuse": False}
    assert rules.test_labels(parse_config(table, Path("run.toml"))) == 63


def test_npt_without_a_stress_is_refused() -> None:
    """The cell would swell as if the atoms did not attract each other."""
    c = config()
    arm = c.sample[0].model_copy(update={"ensemble": "npt"})
    check_run(c.model_copy(update={"sample": (arm,)}))
    no_stress = c.reference.model_copy(
        update={"calculator": "ase.calculators.test:FreeElectrons", "arguments": {}}
    )
    with pytest.raises(InputError, match=r'sample\[1\]\.ensemble: "npt" needs the stress'):
        check_run(c.model_copy(update={"sample": (arm,), "reference": no_stress}))


def test_a_selection_by_models_needs_them() -> None:
    c = config()
    check_selection(c)
    deviation = c.select.model_copy(update={"method": "deviation"})
    with pytest.raises(InputError, match=r'select\.method: "deviation" needs select\.models'):
        check_selection(c.model_copy(update={"select": deviation}))
    stored = c.select.model_copy(update={"predictions": (Path("a.npz"),)})
    with pytest.raises(InputError, match=r"select\.predictions: stored predictions belong"):
        check_selection(c.model_copy(update={"select": stored}))


def test_every_walker_goes_on_with_its_own_hills(tmp_path: Path) -> None:
    """Also after one of them failed in an iteration, or from the start."""
    c = config(hills="carry")
    arm = c.sample[0].model_copy(update={"bias": Bias(), "method": "metamd", "walkers": 3})
    (tmp_path / "w").mkdir()
    with Workspace(tmp_path / "w", c) as work:
        for number, walkers in ((0, (0, 1)), (1, (0,))):
            for walker in walkers:
                own = work.path / f"iteration-{number}" / "sample" / "md" / f"walker-{walker}"
                own.mkdir(parents=True)
                (own / HILLS).write_text("")
        context = RunContext(c, work, None, None, read(ETHANOL))  # type: ignore[arg-type]
        third = Iteration(context, 2, [IterationState(0), IterationState(1)])
        names = ["/".join(p.parts[-5:-1]) for p in third._carried(arm).hills]
    assert names == [
        "iteration-1/sample/md/walker-0",
        "iteration-0/sample/md/walker-1",
        "iteration-1/sample/md/walker-0",
    ]


def test_a_model_s_numbers_only_guide_the_choice() -> None:
    pool = frames(4)
    rng = np.random.default_rng(1)
    said = Predictions(rng.normal(size=(2, 4)), rng.normal(size=(2, 4, 9, 3)),
                       rng.normal(size=(2, 4, 9)), ("a", "b"))  # fmt: skip
    guide = _with_mean(pool, said)
    assert guide.forces is not None
    np.testing.assert_allclose(guide.forces, said.forces.mean(axis=0))
    assert pool.forces is None


def test_carried_hills_are_all_there_and_deposited_on(tmp_path: Path) -> None:
    """Through lmp and MATRIX_METAD: old hills with step 0, bias from the first step, no warning."""
    atoms = read(ETHANOL)
    bias = Bias(height_ev=0.05, pace=5)
    first = run_biased(atoms, bias, tmp_path / "first")
    assert steps_of(first) == [5, 10, 15, 20]
    again = bias.model_copy(update={"hills": (first,)})
    second = run_biased(atoms, again, tmp_path / "second", carried=first)
    assert steps_of(second) == [0, 0, 0, 0, 5, 10, 15, 20]
    start = float((tmp_path / "second/COLVAR").read_text().splitlines()[1].split()[1])
    assert start > 0.05
    ramp = again.model_copy(update={"ramp_steps": 1000})
    run_biased(atoms, ramp, tmp_path / "third", carried=first)
    grown = [line.split()[1] for line in (tmp_path / "third/COLVAR").read_text().splitlines()[1:]]
    assert float(grown[0]) == 0.0
    assert 0 < float(grown[-1]) < 0.2 * start
    assert "newer" not in (tmp_path / "second/plumed.log").read_text()


def steps_of(path: Path) -> list[int]:
    import re

    return [int(s) for s in re.findall(r"\bstep=(\d+)", path.read_text())]


def run_biased(atoms: Atoms, bias: Bias, folder: Path, carried: Path | None = None) -> Path:
    from metamd.plugins import plumed_actions_library
    from metamd.programs import run_lmp

    plugin = plumed_actions_library()
    assert plugin is not None
    folder.mkdir()
    deck.write_data(atoms, sorted(set(atoms.symbols)), folder / deck.DATA, "atomic")
    (folder / deck.PLUMED_FILE).write_text(plumed_file(bias, atoms, 300.0, plugin, 1))
    (folder / deck.DECK).write_text(
        "units metal\natom_style atomic\natom_modify map array\nboundary s s s\n"
        f"read_data {deck.DATA}\npair_style zero 3.0\npair_coeff * *\nneighbor 2.0 nsq\n"
        "timestep 0.0001\nvelocity all create 10 1\nfix motion all nve\n"
        f"fix bias all plumed plumedfile {deck.PLUMED_FILE} outfile plumed.log\nrun 20\n"
    )
    if carried is not None:
        carry_hills(carried, folder / HILLS)
    run_lmp(folder, deck.DECK, "screen.log")
    return folder / HILLS


def test_zbl_is_lammps_s_zbl(tmp_path: Path) -> None:
    """Energies of pairs by ``pair_style zbl`` below its own switch, and the table's switch."""
    r = np.array([0.1, 0.25, 0.5, 0.8])
    lines = []
    for z1, z2, symbols in ((1, 1, "HH"), (1, 8, "HO"), (6, 8, "CO")):
        for distance in r:
            lines += [
                "clear", "units metal", "atom_style atomic", "atom_modify map array",
                "boundary s s s", "region box block -5 5 -5 5 -5 5", "create_box 2 box",
                "create_atoms 1 single 0 0 0", f"create_atoms 2 single {distance} 0 0",
                "mass * 1.0", "pair_style zbl 9.0 10.0", f"pair_coeff 1 1 {z1} {z1}",
                f"pair_coeff 2 2 {z2} {z2}", f"pair_coeff 1 2 {z1} {z2}", "neighbor 1.0 nsq",
                "thermo_style custom pe", "thermo_modify format float %.12g", "run 0",
                'variable e equal pe', f'print "E {symbols} {distance} $(v_e:%.12g)"',
            ]  # fmt: skip
    (tmp_path / "in.lammps").write_text("\n".join(lines) + "\n")
    from metamd.programs import run_lmp

    run_lmp(tmp_path, "in.lammps", "screen.log")
    rows = [
        line.split()[1:] for line in (tmp_path / "screen.log").read_text().splitlines()
        if line.startswith("E ")
    ]  # fmt: skip
    assert len(rows) == 12
    numbers = {"H": 1, "C": 6, "O": 8}
    for symbols, distance, energy in rows:
        ours = zbl_energy_ev(np.array([float(distance)]), *(numbers[s] for s in symbols))[0]
        assert ours == pytest.approx(float(energy), rel=1e-4)
    table = np.loadtxt(write_zbl_table(tmp_path / "zbl.txt", ["C", "H", "O"], 0.7, 6.0))
    assert table.shape == (1200, 7)
    assert np.allclose(np.diff(table[:, 0]), 0.005)
    inner = table[:, 0] <= 0.7
    np.testing.assert_allclose(table[inner, 2], zbl_energy_ev(table[inner, 0], 6, 1), rtol=1e-9)
    assert (table[table[:, 0] >= 1.4, 1:] == 0).all()


def test_frames_that_the_reference_calls_exploded_are_set_aside() -> None:
    pool = frames(4).with_info(frame=np.array([3, 5, 7, 9]))
    forces = np.ones((4, 9, 3))
    forces[2, 4, 1] = -250.0
    labelled = replace(pool, energy=np.zeros(4), forces=forces)
    kept = without_wild(LabelResult(labelled, computed=4), 100.0)
    assert kept.frames.info["frame"].tolist() == [3, 5, 9]
    assert kept.computed == 3
    assert kept.failures[0]["frame"] == 7
    assert "250 eV/A" in kept.failures[0]["reason"]
    none = without_wild(LabelResult(labelled), 0.5)
    assert len(none.frames) == 0
    assert [f["frame"] for f in none.failures] == [3, 5, 7, 9]
