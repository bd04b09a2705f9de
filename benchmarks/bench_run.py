"""What the driver costs: ``metamd run`` against a shell script of the same commands.

    uv run python benchmarks/bench_run.py RUN.toml [NEW-FOLDER]

The run file is run once with metamd, in this process, and its tasks are written down as they are
handed out.  The script then does the same work without the driver, as a person would: walkers with
the walker's program or ``lmp``, trainings with ``dp train``, ``freeze`` and ``compress``, and for
labels, predictions and checks one Python process a core with a plain loop, stage after stage, as
many commands side by side as there are cores.  Report and figures are left out of both.  What
both made is kept where a folder is named.
"""

from __future__ import annotations

import importlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metamd import plumed_input
from metamd.config import load_config
from metamd.execution import Executor, Task
from metamd.loop import run
from metamd.programs import program_environment

LOOP = """
import importlib, json, sys
from pathlib import Path
for folder, function, arguments in json.loads(Path(sys.argv[1]).read_text()):
    module, _, name = function.partition(":")
    Path(folder).mkdir(parents=True, exist_ok=True)
    getattr(importlib.import_module(module), name)(Path(folder), **arguments)
"""
INPUTS = ("in.lammps", "*.data", "*.dat", "*.json", "start.xyz", "*.pb", "zbl.txt", "reference.xyz")


class Recorder(Executor):
    """The executor, with a list of what it was given to do."""

    batches: list[list[Task]]

    def run(self, title: str, tasks: Sequence[Task]) -> list[Any]:
        new = [task for task in tasks if task.finished() is None]
        if new:
            self.batches.append(new)
        return super().run(title, tasks)


def measure(run_file: Path, work: Path) -> tuple[float, list[list[Task]]]:
    """Seconds of ``metamd run`` up to its last check, and the batches of tasks it ran."""
    # The package's own name ``run`` is the function, not this module.
    module = importlib.import_module("metamd.loop.run")
    batches: list[list[Task]] = []
    Recorder.batches = batches
    module.Executor = Recorder  # type: ignore[attr-defined,misc]
    config = load_config(run_file)
    begun = time.perf_counter()
    summary = run(config, work)
    seconds = time.perf_counter() - begun
    return seconds - summary["seconds"].get("report", 0.0), batches


def command_of(task: Task, folder: Path) -> str | None:
    """The shell command for a task that is a program of its own; None for the others."""
    where, python = shlex.quote(str(folder)), sys.executable
    if task.kind == "sample" and (task.folder / "in.lammps").exists():
        fresh(task.folder, folder)
        if carried := (task.arguments["arm"].get("bias") or {}).get("hills"):
            source = Path(carried[task.arguments["walker"] % len(carried)])
            plumed_input.carry_hills(source, folder / plumed_input.HILLS)
        if (task.folder / "walker.json").exists():
            return f"cd {where} && {python} -m metamd.sample.walker {where} > log 2>&1"
        # A walker that stopped early with metamd, as an exploding one does, stops here too.
        outcome = task.finished()
        may_stop = " || true" if outcome and outcome["stopped"] else ""
        return f"cd {where} && lmp -in in.lammps > log 2>&1{may_stop}"
    if task.kind == "train":
        fresh(task.folder, folder)
        start = ""
        if (earlier := task.arguments.get("start_from")) is not None:
            steps = json.loads((Path(earlier) / "input.json").read_text())["training"]["numb_steps"]
            start = f" --init-model {earlier}/model.ckpt-{steps}"
        steps = [f"dp --tf train input.json{start}", "dp --tf freeze -o model.pb"]
        if task.arguments["compress"]:
            steps.append("dp --tf compress -i model.pb -o compressed.pb")
        return f"cd {where} && ({' && '.join(steps)}) > log 2>&1"
    return None


def fresh(folder: Path, target: Path) -> None:
    """A copy of a task's inputs alone."""
    target.mkdir(parents=True)
    for pattern in INPUTS:
        for path in folder.glob(pattern):
            if path.name not in ("manifest.json", "outcome.json", "model.pb", "compressed.pb") or (
                path.name == "model.pb" and (folder / "in.lammps").exists()
            ):
                shutil.copy2(path, target / path.name)


def script(batches: list[list[Task]], copy: Path, workers: int) -> float:
    """Seconds of the same work without the driver."""
    stages: list[list[str]] = []
    for number, batch in enumerate(batches):
        commands, rest = [], []
        for k, task in enumerate(batch):
            folder = copy / f"{number:03d}-{k:05d}"
            command = command_of(task, folder)
            if command is None:
                rest.append((str(folder), task.function, task.arguments))
            else:
                commands.append(command)
        for share in range(min(workers, len(rest))):
            table = copy / f"{number:03d}-share-{share}.json"
            table.write_text(json.dumps(rest[share::workers], default=str))
            commands.append(f"{sys.executable} -c {shlex.quote(LOOP)} {table} > {table}.log 2>&1")
        stages.append(commands)
    begun = time.perf_counter()
    for commands in stages:
        subprocess.run(
            ["xargs", "-0", "-P", str(workers), "-I", "{}", "bash", "-c", "{}"],
            input="\0".join(commands),
            text=True,
            env=program_environment(),
            check=True,
        )
    return time.perf_counter() - begun


def main() -> None:
    workers = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as temporary:
        name = sys.argv[2] if len(sys.argv) > 2 else temporary
        copy = Path(name).resolve() / "script"
        copy.mkdir(parents=True)
        ours, batches = measure(Path(sys.argv[1]), copy.parent / "work")
        plain = script(batches, copy, workers)
    tasks = sum(len(batch) for batch in batches)
    print(f"{tasks} tasks: metamd run {ours:.1f} s, script {plain:.1f} s, ratio {ours / plain:.3f}")


if __name__ == "__main__":
    main()
