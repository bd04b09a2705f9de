"""metamd: from one structure to a deep potential that holds far from equilibrium.

``metamd.run(config, workdir)`` does what ``metamd run`` does.  Nothing is imported until it
is asked for: LAMMPS loads this package to find its plugin, and must not pay for TensorFlow.
"""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_config", "load_frames", "run"]


def __getattr__(name: str) -> Any:
    if name == "run":
        from metamd.loop import run

        return run
    if name == "load_config":
        from metamd.config import load_config

        return load_config
    if name == "load_frames":
        from metamd.frames import load_frames

        return load_frames
    raise AttributeError(f"module 'metamd' has no attribute {name!r}")
