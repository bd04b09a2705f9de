"""metamd: from one structure to a deep potential that holds far from equilibrium.

What the command line does, as functions:

- ``run(config, workdir)``: a whole study, from a run file or a dictionary;
- ``read_status(workdir)``, ``write_report(workdir)``, ``trace(workdir, ...)``: look at one;
- ``load_config(path)``: a run file, checked;
- ``load_frames(path)``: frames from a DeePMD system, extended XYZ, dump or npz;
- ``select_frames(frames, config)``: choose among frames;
- ``predict_frames(models, frames)``: energies and forces of DeePMD models;
- ``label_file(run_file, data, folder)``, ``train_files(run_file, systems, folder)``,
  ``validate_files(run_file, models, data, folder)``: single stages on files;
- ``compare_arms(config, workdir)``: several ways to make a training set;
- ``fit_springs(frames, temperature_k)``, ``augment_frames(frames, springs, config)``: augmentation;
- ``improve_training(pool, select, train, folder, executor)``: the improved training of flatten.

Nothing is imported until it is asked for: LAMMPS loads this package to find its plugin, and must
not pay for TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

# No name here is a module's as well: importing the module would put it in the function's place.
_WHERE = {
    "run": ("metamd.api", "run"),
    "read_status": ("metamd.api", "status"),
    "write_report": ("metamd.api", "report"),
    "trace": ("metamd.api", "trace"),
    "load_config": ("metamd.config", "load_config"),
    "load_frames": ("metamd.frames", "load_frames"),
    "select_frames": ("metamd.select", "select"),
    "predict_frames": ("metamd.predict", "predict"),
    "label_file": ("metamd.single", "label_file"),
    "train_files": ("metamd.single", "train_files"),
    "validate_files": ("metamd.single", "validate_files"),
    "compare_arms": ("metamd.api", "compare"),
    "fit_springs": ("metamd.augment", "fit_springs"),
    "augment_frames": ("metamd.augment", "augment"),
    "improve_training": ("metamd.improve", "improved_training"),
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        module, attribute = _WHERE[name]
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'metamd' has no attribute {name!r}")
