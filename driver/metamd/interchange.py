"""Parsl's interchange, ended with the driver that started it.

``python -m metamd.interchange``: Parsl's own program lives on when its driver is killed.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from metamd.programs import die_with_parent


def main() -> None:
    """Start the interchange; its configuration comes on standard input, as Parsl sends it."""
    die_with_parent()
    runpy.run_path(str(Path(sys.prefix) / "bin" / "interchange.py"), run_name="__main__")


if __name__ == "__main__":
    main()
