"""metamd: from one structure to a deep potential that holds far from equilibrium.

What the command line does, as functions:

- ``run(config, workdir)``: a whole study, from a run file or a dictionary;
- ``read_status(workdir)``, ``write_report(workdir)``, ``trace(workdir, ...)``: look at one;
- ``load_config(path)``: a run file, checked;
- ``load_frames(path)``: frames from a DeePMD system, extended XYZ, dump or npz;
- ``select_frames(frames, config)``: choose among frames;
- ``predict_frames(models, frames)``: energies and forces of DeePMD models.

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
}
__all__ = ["__version__", *_WHERE]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        module, attribute = _WHERE[name]
        return getattr(importlib.import_module(module), attribute)
    raise AttributeError(f"module 'metamd' has no attribute {name!r}")
