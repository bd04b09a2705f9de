"""Forces, virial and dynamics as LAMMPS's own fix plumed gives them on the same decks."""

from __future__ import annotations

import json

import fix_plumed_reference as reference
import numpy as np
import pytest

EXPECTED = json.loads(reference.REFERENCE.read_text())


def test_the_reference_has_every_case():
    assert list(EXPECTED) == reference.CASES
    assert len(EXPECTED) >= 9


@pytest.mark.parametrize("case", reference.CASES)
def test_as_lammps_own_fix(tmp_path, case):
    found = reference.measure(case, tmp_path)
    assert found.keys() == EXPECTED[case].keys()
    assert np.abs(found.get("bias", found.get("m.bias"))).max() > 0.1
    for name, values in EXPECTED[case].items():
        want = np.array(values)
        np.testing.assert_allclose(
            found[name], want, rtol=1e-9, atol=1e-10 * np.abs(want).max(), err_msg=name
        )
