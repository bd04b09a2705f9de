"""Training: an ensemble of DeePMD models that differ in their seeds."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metamd.config import Train
from metamd.errors import DataError, InputError, TaskError
from metamd.execution import Executor, Task, last_useful_line, report_progress, run_program
from metamd.frames import Array, Frames, content_hash, load_frames
from metamd.repulsion import write_zbl_table
from metamd.workspace import read_manifest, write_json

TRAIN_TASK = "metamd.train:train_member"
MODEL = "model.pb"
ZBL_TABLE = "zbl.txt"
#: Room in the neighbour list for denser frames than those looked at.
NEIGHBOUR_MARGIN = 1.3
#: Frames of the smallest cells, and as many others, whose neighbours are counted.
COUNTED_FRAMES = 10


@dataclass(frozen=True)
class Model:
    """A trained model: ensemble (what it was trained on), seed, frozen file, learning curve,
    and the folder of the training whose weights it began with."""

    train: str
    seed: int
    path: Path
    lcurve: Path
    seconds: float
    started_from: str | None = None


@dataclass(frozen=True)
class Augmented:
    """Augmented systems, and the share of training batches that is drawn from them."""

    systems: tuple[Path, ...]
    weight: float

    def auto_prob(self, n_real: int) -> str:
        """DeePMD's ``auto_prob`` for ``n_real`` real systems followed by the augmented ones.

        DeePMD knows no weight per frame: inside both groups systems count by their size.
        """
        last = n_real + len(self.systems)
        return f"prob_sys_size; 0:{n_real}:{1 - self.weight:g}; {n_real}:{last}:{self.weight:g}"


def neighbour_selection(frames: Frames, cutoff_ang: float) -> dict[str, int]:
    """DeePMD's ``sel``: most neighbours of each element within the cutoff.

    A molecule has no more neighbours than atoms; in a cell some frames are counted.
    """
    species = frames.species
    if frames.cell is None:
        return {s: max(1, frames.symbols.count(s)) for s in species}
    from ase.neighborlist import neighbor_list

    symbols = np.array(frames.symbols)
    most = dict.fromkeys(species, 1)
    for k in _frames_to_count(frames.cell):
        i, j = neighbor_list("ij", frames.to_atoms(int(k)), cutoff_ang)
        for s in species:
            counts = np.bincount(i[symbols[j] == s], minlength=frames.n_atoms)
            most[s] = max(most[s], int(np.ceil(counts.max() * NEIGHBOUR_MARGIN)))
    return most


def _frames_to_count(cell: Array) -> NDArray[np.intp]:
    """Frames whose neighbours are counted: the smallest cells, and others spread over all.

    Joined pools and barostats hold dense frames that an even spread passes over.
    """
    n = len(cell)
    smallest = np.argsort(np.abs(np.linalg.det(cell)), kind="stable")[:COUNTED_FRAMES]
    spread = np.linspace(0, n - 1, min(COUNTED_FRAMES, n)).astype(np.intp)
    return np.union1d(smallest, spread)


def deepmd_input(
    config: Train,
    systems: Sequence[Path],
    heldout: Sequence[Path],
    species: list[str],
    sel: dict[str, int],
    seed: int,
    augmented: Augmented | None = None,
) -> dict[str, Any]:
    """DeePMD's input; a person's own file goes through and only its gaps are filled.

    Raises:
        InputError: that file is no JSON, or names its own systems although frames are augmented.
    """
    steps = config.steps
    ours: dict[str, Any] = {
        "model": {
            "type_map": species,
            "descriptor": {
                "type": "se_e2_a",
                "rcut": config.cutoff_ang,
                "rcut_smth": 0.5,
                "sel": [sel[s] for s in species],
                "neuron": [16, 32, 64],
                "axis_neuron": 8,
                "type_one_side": True,
                "precision": "float32",
                "seed": seed,
            },
            "fitting_net": {"neuron": [100, 100, 100], "precision": "float32", "seed": seed},
        },
        "learning_rate": {
            "type": "exp",
            "start_lr": config.start_learning_rate,
            "stop_lr": config.stop_learning_rate,
            "decay_steps": max(1, steps // 100),
        },
        "loss": {
            "type": "ener",
            "start_pref_e": 1.0 if config.energy_only else 0.02,
            "limit_pref_e": 1.0,
            "start_pref_f": 0.0 if config.energy_only else 1000.0,
            # Forces still count at the end: the verdict is about them, and energies gain too.
            "limit_pref_f": 0.0 if config.energy_only else 100.0,
            "start_pref_v": 0.0,
            "limit_pref_v": 0.0,
        },
        "training": {
            "training_data": {
                "systems": [str(p) for p in systems],
                "batch_size": config.batch_size,
            },
            "validation_data": {
                "systems": [str(p) for p in heldout],
                "batch_size": 32,
            },
            "numb_steps": steps,
            "seed": seed,
            "disp_freq": max(100, steps // 200),
            "save_freq": max(100, steps // 20),
            "save_ckpt": "model.ckpt",
            "disp_file": "lcurve.out",
        },
    }
    if augmented is not None:
        data = ours["training"]["training_data"]
        data["auto_prob"] = augmented.auto_prob(len(systems))
        data["systems"] += [str(path) for path in augmented.systems]
    if config.repulsion == "zbl":
        ours["model"] |= {
            "use_srtab": ZBL_TABLE,
            "smin_alpha": 0.1,
            "sw_rmin": config.repulsion_inner_ang,
            "sw_rmax": config.repulsion_outer_ang,
        }
    if config.deepmd is None:
        return ours
    try:
        own = json.loads(config.deepmd.read_text())
    except ValueError as error:
        raise InputError(f"{config.deepmd}: is not valid JSON ({error}).") from error
    if augmented is not None and own.get("training", {}).get("training_data", {}).get("systems"):
        raise InputError(
            f"{config.deepmd}: training.training_data.systems are given there; augmented frames "
            "can only join the systems that the run file makes."
        )
    filled = _filled(own, ours)
    for part in ("descriptor", "fitting_net"):
        # Taken whole, but members of an ensemble must differ.
        filled["model"][part].setdefault("seed", seed)
    return filled


def _filled(own: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """``own`` with the keys it leaves out; a descriptor or net is taken whole."""
    result = dict(own)
    for key, value in ours.items():
        if key not in result:
            result[key] = value
        elif (
            isinstance(value, dict) and isinstance(result[key], dict) and "type" not in result[key]
        ):
            result[key] = _filled(result[key], value)
    return result


def check_labels(frames: Frames, config: Train) -> None:
    """DeePMD trains on what there is, without a word about what is missing.

    Raises:
        DataError: no energies, or no forces although the loss needs them.
    """
    if frames.energy is None:
        raise DataError(f"{frames.source}: has no energies to train on.")
    if frames.forces is None and not config.energy_only:
        raise DataError(
            f"{frames.source}: has no forces; give them, or set train.energy_only = true."
        )


def train_ensemble(
    name: str,
    systems: Sequence[Path | None],
    heldout: Sequence[Path],
    config: Train,
    folder: Path,
    start_from: Sequence[Path] = (),
    augmented: Augmented | None = None,
) -> list[Task]:
    """The training tasks of one ensemble; members are independent of each other.

    Args:
        name: of the ensemble; member k works in ``folder/name/seed-k``.
        systems: DeePMD systems to train on (None is passed over).
        heldout: systems for the learning curve; the training systems where there are none.
        config: ``[train]``.
        folder: of all ensembles.
        start_from: folders of trainings, one a member, whose weights are the start; their
            descriptor is kept, its ``sel`` too.
        augmented: augmented systems to train on as well, with their weight.

    Raises:
        DataError: a system without energies, or without the forces that the loss needs.
    """
    paths = [path for path in systems if path is not None]
    extra = augmented.systems if augmented is not None else ()
    frames = [load_frames(path) for path in (*paths, *extra)]
    for part in frames:
        check_labels(part, config)
    species = sorted({s for part in frames for s in part.species})
    sel: dict[str, int] = {}
    for part in frames:
        for s, count in neighbour_selection(part, config.cutoff_ang).items():
            sel[s] = max(sel.get(s, 1), count)
    tasks = []
    for member in range(config.models):
        seed = config.seed + member
        arguments: dict[str, Any] = {
            "deepmd": deepmd_input(config, paths, heldout or paths, species, sel, seed, augmented),
            "backend": config.backend,
            "compress": config.compress,
            "data": [content_hash(part) for part in frames],
        }
        if member < len(start_from):
            arguments["start_from"] = str(start_from[member])
            if (earlier := read_manifest(start_from[member])) is not None:
                # Other weights to begin with, in a folder of the same name.
                arguments["data"] = [*arguments["data"], earlier["fingerprint"]]
        if config.repulsion == "zbl":
            arguments["zbl_outer_ang"] = config.repulsion_outer_ang
        where = folder / name / f"seed-{seed}"
        tasks.append(Task(TRAIN_TASK, where, arguments, f"training {name}, seed {seed}"))
    return tasks


def train_all(tasks_by_name: dict[str, list[Task]], executor: Executor) -> list[Model]:
    """Train every ensemble side by side.

    Raises:
        TaskError: a training failed; the last useful line of its log is in the message.
    """
    tasks = [task for group in tasks_by_name.values() for task in group]
    results = executor.run_all("train", tasks)
    names = [name for name, group in tasks_by_name.items() for _ in group]
    return [
        Model(
            train=name,
            seed=task.arguments["deepmd"]["training"]["seed"],
            path=task.folder / result["model"],
            lcurve=task.folder / "lcurve.out",
            seconds=result["seconds"],
            started_from=task.arguments.get("start_from"),
        )
        for name, task, result in zip(names, tasks, results, strict=True)
    ]


def train_member(
    folder: Path,
    deepmd: dict[str, Any],
    backend: str,
    compress: bool,
    data: list[str],
    start_from: str | None = None,
    zbl_outer_ang: float | None = None,
) -> dict[str, Any]:
    """Task: ``dp train`` (from its last checkpoint, if there is one), freeze, compress.

    ``data`` (hashes of the systems, and the training it starts from) makes a training with other
    frames another task.
    """
    import time

    start = time.perf_counter()
    flag = {"tensorflow": "--tf", "pytorch": "--pt"}[backend]
    # The neighbour statistics of the training data go into the model; compression needs them.
    command = ["dp", flag, "train", "input.json"]
    checkpoint = _last_checkpoint(folder, deepmd["training"].get("save_ckpt", "model.ckpt"))
    if start_from is not None:
        deepmd = _same_descriptor(deepmd, Path(start_from))
    if checkpoint is not None:
        command += ["--restart", checkpoint]
    elif start_from is not None:
        command += ["--init-model", str(_weights(Path(start_from)))]
    if zbl_outer_ang is not None:
        model = deepmd["model"]
        write_zbl_table(
            folder / ZBL_TABLE, model["type_map"], zbl_outer_ang, model["descriptor"]["rcut"]
        )
    write_json(folder / "input.json", deepmd)
    with _LearningCurve(folder, deepmd["training"]["numb_steps"]):
        run_program(command, folder, "train.log")
    return _freeze(folder, flag, compress) | {"seconds": round(time.perf_counter() - start, 2)}


def _weights(folder: Path) -> Path:
    """The checkpoint of a finished training.

    Raises:
        TaskError: it is not there any more.
    """
    deepmd = json.loads((folder / "input.json").read_text())
    name = _last_checkpoint(folder, deepmd["training"].get("save_ckpt", "model.ckpt"))
    if name is None:
        raise TaskError(f"{folder}: has no checkpoint to start warm from")
    return folder / name


def _same_descriptor(deepmd: dict[str, Any], start_from: Path) -> dict[str, Any]:
    """The input with the earlier model's descriptor and nets: weights fit nothing else."""
    earlier = json.loads((start_from / "input.json").read_text())["model"]
    model = dict(deepmd["model"])
    for key in ("type_map", "descriptor", "fitting_net"):
        if key in earlier:
            model[key] = earlier[key]
    return {**deepmd, "model": model}


def _freeze(folder: Path, flag: str, compress: bool) -> dict[str, Any]:
    frozen = MODEL if flag == "--tf" else "model.pth"
    run_program(["dp", flag, "freeze", "-o", frozen], folder, "train.log")
    if not (folder / frozen).exists():
        raise TaskError(f"dp freeze wrote no model: {last_useful_line(folder / 'train.log')}")
    if not compress or flag != "--tf":
        return {"model": frozen}
    run_program(["dp", flag, "compress", "-i", frozen, "-o", "compressed.pb"], folder, "train.log")
    return {"model": "compressed.pb", "uncompressed": frozen}


def _last_checkpoint(folder: Path, name: str) -> str | None:
    """The newest whole checkpoint in a folder, as ``dp train --restart`` wants it.

    A training that was killed while it wrote one leaves some of its three files.
    """
    found = []
    for index in folder.glob(f"{name}-*.index"):
        stem = index.name.removesuffix(".index")
        number = stem.rpartition("-")[2]
        whole = (folder / f"{stem}.meta").exists() and any(folder.glob(f"{stem}.data-*"))
        if number.isdigit() and whole:
            found.append((int(number), stem))
    return max(found)[1] if found else None


class _LearningCurve:
    """Follows ``lcurve.out`` and reports progress while ``dp train`` runs."""

    def __init__(self, folder: Path, steps: int) -> None:
        self.folder, self.steps = folder, steps
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *exc: object) -> None:
        self._end.set()
        self._thread.join()

    def _follow(self) -> None:
        while not self._end.wait(1.0):
            path = self.folder / "lcurve.out"
            if not path.exists():
                continue
            lines = path.read_text().splitlines()
            if lines and (words := lines[-1].split()) and words[0].isdigit():
                report_progress(self.folder, int(words[0]) / self.steps)
