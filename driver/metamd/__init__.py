"""metamd: from one structure to a deep potential that holds far from equilibrium.

What the command line does, as functions:

- ``run(config, workdir)``: a whole study, from a run file or a dictionary;
- ``status(workdir)``, ``report(workdir)``, ``trace(workdir, ...)``: look at one;
- ``load_config(path)``: a run file, checked;
- ``load_frames(path)``: frames from a DeePMD system, extended XYZ, dump or npz;
- ``select(frames, config)``: choose among frames;
- ``predict(models, frames)``: energies and forces of DeePMD models.

Nothing is imported until it is asked for: LAMMPS loads this package to find its plugin, and must
not pay for TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_WHERE = {
    "run": "metamd.api",
    "status": "metamd.api",
    "report": "metamd.api",
    "trace": "metamd.api",
    "load_config": "metamd.config",
    "load_frames": "metamd.frames",
    "select": "metamd.select",
    "predict": "metamd.predict",
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(importlib.import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'metamd' has no attribute {name!r}")
