"""Springs: known mixtures come back within their standard errors; files and refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from metamd.augment import fit_springs, load_springs
from metamd.augment.springs import fit_mixture, parse_components
from metamd.errors import DataError, InputError
from metamd.frames import Frames

KT = 0.0019872043 * 500
#: Weight, mean (A) and k (kcal/mol/A^2), some overlapping.
KNOWN = [(0.4, 1.10, 530.0), (0.35, 2.15, 64.0), (0.25, 2.60, 30.0)]


def sample(n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    which = rng.choice(3, n, p=[w for w, _, _ in KNOWN])
    mean, k = np.array([m for _, m, _ in KNOWN]), np.array([k for _, _, k in KNOWN])
    return mean[which] + np.sqrt(KT / k[which]) * rng.normal(size=n)


def dimers(distances: np.ndarray) -> Frames:
    positions = np.zeros((len(distances), 2, 3))
    positions[:, 1, 2] = distances
    return Frames(("H", "C"), positions, source="dimers")


def test_known_constants_come_back_within_their_standard_errors() -> None:
    """Over many mixtures: (found - known) / standard error is a standard normal number."""
    z = []
    for seed in range(6):
        springs = fit_springs(dimers(sample(4000, seed)), 500.0, {"C-H": 3})
        assert springs.kt_kcal_mol == pytest.approx(KT, rel=1e-6)
        assert sum(s.weight for s in springs.springs) == pytest.approx(1.0)
        for spring, (_, mean, k) in zip(springs.springs, KNOWN, strict=True):
            assert spring.pair == "C-H"
            z.append((spring.distance_ang - mean) / spring.distance_se_ang)
            z.append((spring.k_kcal_mol_ang2 - k) / spring.k_se_kcal_mol_ang2)
    assert len(z) == 36
    assert np.abs(z).max() < 4.0
    assert 0.65 < np.std(z) < 1.45


def test_bic_finds_the_number_of_components() -> None:
    apart = np.random.default_rng(0).normal([1.1, 2.2], [0.05, 0.1], size=(3000, 2)).ravel()
    assert len(fit_springs(dimers(apart), 500.0).springs) == 2


def test_many_distances_are_begun_on_a_part_of_them() -> None:
    """Components and start come of 10 000 distances, the fit and its errors of all."""
    x = sample(30_000, 5)
    seen: list[int] = []
    fitted = GaussianMixture.fit

    def fit(self: GaussianMixture, column: np.ndarray) -> GaussianMixture:
        seen.append(len(column))
        return fitted(self, column)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GaussianMixture, "fit", fit)
        told: list[tuple[int, int]] = []
        progress = lambda done, total: told.append((done, total))  # noqa: E731
        springs = fit_springs(dimers(x), 500.0, progress=progress)
    assert seen[-1] == len(x)
    assert set(seen[:-1]) == {10_000}
    assert told == [(1, 1)]
    assert len(springs.springs) == 3
    for spring, (_, mean, k) in zip(springs.springs, KNOWN, strict=True):
        assert abs(spring.distance_ang - mean) < 4 * spring.distance_se_ang
        assert abs(spring.k_kcal_mol_ang2 - k) < 4 * spring.k_se_kcal_mol_ang2
    ten = GaussianMixture(3, random_state=0, n_init=10, tol=1e-7, max_iter=5000, reg_covar=1e-9)
    best = ten.fit(x[:, None]).score(x[:, None]) * len(x)
    assert springs.log_likelihood["C-H"] == pytest.approx(best, abs=0.05)


def test_paper_profile_is_sklearn_with_defaults() -> None:
    x = sample(4000, 1)
    theirs = GaussianMixture(3, random_state=0).fit(x[:, None])
    ours = fit_mixture(x, 3, "paper", 0)
    np.testing.assert_allclose(ours.means, np.sort(theirs.means_[:, 0]))
    best = fit_mixture(x, 3, "best", 0)
    assert best.log_likelihood >= ours.log_likelihood
    total = np.trapezoid(best.density(np.linspace(0.5, 4.0, 4000)).sum(axis=1), dx=3.5 / 3999)
    assert total == pytest.approx(1.0, abs=1e-3)


def test_pairs_in_either_order() -> None:
    assert parse_components("H-C=3, H-H=4") == {"C-H": 3, "H-H": 4}
    for wrong in ("C-H", "C-H=0", "C=3", "C-H=x", "C-H=2,H-C=3"):
        with pytest.raises(InputError, match="--components"):
            parse_components(wrong)
    with pytest.raises(InputError, match="dimers: has no pair O-O"):
        fit_springs(dimers(sample(50, 0)), 500.0, {"O-O": 1})
    with pytest.raises(InputError, match="dimers: components C-H=51: there are only 50 distances"):
        fit_springs(dimers(sample(50, 0)), 500.0, {"C-H": 51})


def test_frames_that_have_no_springs_are_refused() -> None:
    rigid = dimers(np.full(50, 1.0))
    with pytest.raises(DataError, match="dimers: C-H distances are 1 A in every frame"):
        fit_springs(rigid, 300.0)
    biased = dimers(sample(50, 0)).with_info(bias_ev=np.r_[np.zeros(7), np.ones(43)])
    with pytest.raises(DataError, match="dimers: frame 7 is of a biased run"):
        fit_springs(biased, 300.0)
    made = ["rattle", "nms", "augment-taylor"]
    for method in made:
        mixed = dimers(sample(50, 0)).with_info(
            bias_ev=0.0, method=np.r_[["md"] * 3, [method] * 47]
        )
        with pytest.raises(DataError, match=f"dimers: frame 3 was made by {method} .47 frames"):
            fit_springs(mixed, 300.0)
    # An own deck under a calculator leaves frames that do not know their bias.
    for method in ("metamd", "wte"):
        own = dimers(sample(50, 0)).with_info(method=method)
        with pytest.raises(DataError, match=f"dimers: frame 0 was made by {method}"):
            fit_springs(own, 300.0)
        assert len(fit_springs(own.with_info(bias_ev=0.0), 300.0).springs) > 0
    with pytest.raises(DataError, match="5 frames do not make"):
        fit_springs(replace(rigid, positions=rigid.positions[:5]), 300.0)


def test_nearest_spring_ignores_weights_and_survives_a_file(tmp_path) -> None:  # type: ignore[no-untyped-def]
    springs = fit_springs(dimers(sample(4000, 2)), 500.0, {"C-H": 3})
    path = tmp_path / "springs.json"
    path.write_text(json.dumps(springs.as_dict()))
    again = load_springs(path)
    assert again == springs
    means = np.array([s.distance_ang for s in springs.springs])
    found, _ = again.nearest("C-H", means[[2, 0]] + 0.01)
    np.testing.assert_allclose(found, means[[2, 0]])
    path.write_text("{}")
    with pytest.raises(InputError, match="not a table of springs"):
        load_springs(path)
