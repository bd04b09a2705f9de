"""The C++ tests of the core, as ``ctest`` runs them on a cluster without Python."""

from __future__ import annotations

import subprocess

from plumed_host import core_tests


def test_ctest() -> None:
    done = subprocess.run(
        ["ctest", "--test-dir", core_tests(), "--output-on-failure"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    for name in ("test_cases", "test_core", "fuzz_hills"):
        assert name in done.stdout
    assert "100% tests passed" in done.stdout
