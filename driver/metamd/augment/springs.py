"""Spring constants from the spread of pair distances (physics-based augmentation, 2.2, 3.1).

A Gaussian mixture is fitted to the pooled distances of each pair of elements; a component of
variance s^2 at temperature T stands for a spring k = kB T / s^2 about its mean.  These are
*marginal* springs: the spread of one distance holds the give of everything coupled to it, and
all pairs together are more than the modes of a molecule (36 springs, 21 modes in ethanol).
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from metamd.descriptor import pair_columns, pair_name
from metamd.errors import DataError, InputError
from metamd.frames import Array, Frames
from metamd.units import EV_KCAL_MOL, KB_EV_PER_K, KCAL_MOL_EV

Profile = Literal["best", "paper"]

#: Most components that BIC may choose.
MAX_COMPONENTS = 8
#: Distances of a pair of elements that are fitted; more are drawn from at random.
MAX_DISTANCES = 200_000
#: Of these, so many choose the number of components and the best start; all take part in the fit.
START_DISTANCES = 10_000
#: Samplers that displace a structure: their frames have a temperature_k, but no thermal spread.
MADE_METHODS = ("nms", "rattle")
#: Biased samplers, whose frames without a bias are plain dynamics.
BIASED_METHODS = ("metamd", "wte")
#: Profile ``best``: ten starts, without the 1e-6 A^2 that scikit-learn adds to each variance ...
_STARTS: dict[str, Any] = {"n_init": 10, "tol": 1e-5, "max_iter": 1000, "reg_covar": 1e-9}
#: ... and the best of them converged.
_CONVERGED: dict[str, Any] = {"tol": 1e-7, "max_iter": 5000, "reg_covar": 1e-9}


@dataclass(frozen=True)
class Spring:
    """One component of a mixture.

    Attributes:
        pair: its elements, as ``C-H``.
        distance_ang: mean distance, A.
        k_kcal_mol_ang2: kB T / variance, kcal/mol/A^2.
        weight: its share of the pair's distances; they add up to 1 for each pair.
        distance_se_ang: standard error of the mean, A.
        k_se_kcal_mol_ang2: standard error of k, kcal/mol/A^2.  Both from the observed
            information of the fit, for independent distances.
    """

    pair: str
    distance_ang: float
    k_kcal_mol_ang2: float
    weight: float
    distance_se_ang: float
    k_se_kcal_mol_ang2: float


@dataclass(frozen=True)
class Springs:
    """Springs of all pairs of elements of a system.

    Attributes:
        springs: by pair, then distance.
        temperature_k: of the frames, K.
        kt_kcal_mol: kB T, kcal/mol.
        profile: how the mixtures were fitted.
        log_likelihood: of each pair's mixture.
        source: file of the frames.
        n_frames: how many.
        n_pairs: pairs of atoms that were pooled, all i < j.
        n_modes: internal modes of the molecule, 3N - 6 (3N - 3 in a cell).
    """

    springs: tuple[Spring, ...]
    temperature_k: float
    kt_kcal_mol: float
    profile: str
    log_likelihood: dict[str, float]
    source: str
    n_frames: int
    n_pairs: int
    n_modes: int

    def of(self, pair: str) -> list[Spring]:
        """The springs of a pair of elements, nearest first."""
        return [spring for spring in self.springs if spring.pair == pair]

    def nearest(self, pair: str, distance_ang: Array) -> tuple[Array, Array]:
        """Spring whose mean is nearest, without regard to weights (paper, section 3.1).

        Args:
            pair: elements as ``C-H``.
            distance_ang: A, any shape.

        Returns:
            Mean, A, and k, eV/A^2, in the shape of ``distance_ang``.

        Raises:
            InputError: no spring for this pair.
        """
        known = self.of(pair)
        if not known:
            raise InputError(f"{self.source}: there is no spring for {pair}.")
        mean = np.array([spring.distance_ang for spring in known])
        k = np.array([spring.k_kcal_mol_ang2 for spring in known]) * KCAL_MOL_EV
        index = np.abs(distance_ang[..., None] - mean).argmin(axis=-1)
        return mean[index], k[index]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"springs": [asdict(spring) for spring in self.springs]}


def load_springs(path: str | Path) -> Springs:
    """Read the JSON of ``Springs.as_dict``, as ``metamd springs --json`` writes it.

    Raises:
        InputError: no such file, or not a table of springs.
    """
    path = Path(path)
    try:
        data = json.loads(path.read_text())
        data["springs"] = tuple(Spring(**spring) for spring in data["springs"])
        return Springs(**data)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file of springs.") from None
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: is not a table of springs of metamd springs --json ({error})."
        ) from error


def parse_components(text: str) -> dict[str, int]:
    """``"H-H=4,C-H=3"`` as a mapping; elements in either order.

    Raises:
        InputError: not of this form, or a pair twice.
    """
    out: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, sep, number = item.partition("=")
        elements = name.split("-")
        if not sep or len(elements) != 2 or not number.strip().isdigit() or int(number) < 1:
            raise InputError(f"--components: {item!r} is not of the form C-H=3.")
        pair = pair_name(elements[0].strip(), elements[1].strip())
        if pair in out:
            raise InputError(f"--components: {pair} is given twice.")
        out[pair] = int(number)
    return out


def fit_springs(
    frames: Frames,
    temperature_k: float,
    components: Mapping[str, int] | None = None,
    profile: Profile = "best",
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Springs:
    """Gaussian mixture of the distances of every pair of elements.

    Args:
        frames: unbiased dynamics at one temperature; every pair i < j counts once.
        temperature_k: their temperature, K.
        components: number of components of a pair of elements (either order); the Bayesian
            information criterion chooses where it is not given (profile ``best``: on
            START_DISTANCES of the distances).
        profile: ``best``: several starts, the best likelihood kept; ``paper``: scikit-learn's
            defaults.
        seed: of the starts.
        progress: is told pairs of elements done, and how many there are.

    Raises:
        DataError: frames of a biased run or of no dynamics at all, too few frames, or distances
            that do not vary.
        InputError: components for elements that are not there, or more than distances.
    """
    refuse_not_thermal(frames)
    if frames.n_atoms < 2:
        raise DataError(f"{frames.source}: has one atom; springs are between two.")
    if len(frames) < 10:
        raise DataError(f"{frames.source}: {len(frames)} frames do not make a distribution.")
    given = {pair_name(*pair.split("-")): n for pair, n in (components or {}).items()}
    columns = pair_columns(frames.symbols)
    if unknown := sorted(set(given) - set(columns)):
        raise InputError(
            f"{frames.source}: has no pair {unknown[0]}; its pairs are {', '.join(columns)}."
        )
    kt = KB_EV_PER_K * temperature_k * EV_KCAL_MOL
    springs: list[Spring] = []
    likelihood: dict[str, float] = {}
    for done, (pair, index) in enumerate(columns.items(), 1):
        pooled = _thinned(frames.distances_ang[:, index].ravel(), MAX_DISTANCES, seed)
        if pooled.std() < 1e-6:
            raise DataError(
                f"{frames.source}: {pair} distances are {pooled[0]:.6g} A in every frame; rigid "
                "pairs have no spring."
            )
        if given.get(pair, 1) > min(len(pooled), START_DISTANCES):
            raise InputError(
                f"{frames.source}: components {pair}={given[pair]}: there are only {len(pooled)} "
                "distances to fit them to."
            )
        mixture = fit_mixture(pooled, given.get(pair), profile, seed)
        likelihood[pair] = mixture.log_likelihood
        springs += mixture.springs(pair, kt)
        if progress is not None:
            progress(done, len(columns))
    n = frames.n_atoms
    return Springs(
        springs=tuple(springs),
        temperature_k=temperature_k,
        kt_kcal_mol=kt,
        profile=profile,
        log_likelihood=likelihood,
        source=frames.source,
        n_frames=len(frames),
        n_pairs=n * (n - 1) // 2,
        n_modes=max(3 * n - (6 if frames.cell is None else 3), 1),
    )


@dataclass(frozen=True)
class Mixture:
    """A one-dimensional Gaussian mixture; arrays are [n_components], by rising mean."""

    weights: Array
    means: Array
    variances: Array
    information: Array
    log_likelihood: float

    def density(self, x: Array) -> Array:
        """Probability density at x [n], each component apart: [n, n_components]."""
        z = (x[:, None] - self.means) ** 2 / self.variances
        density: Array = self.weights * np.exp(-0.5 * z) / np.sqrt(2 * np.pi * self.variances)
        return density

    def springs(self, pair: str, kt_kcal_mol: float) -> list[Spring]:
        """k = kT / variance of each component, with standard errors."""
        n = len(self.means)
        # Where the information is singular (empty components) the pseudo-inverse stands in.
        spread = np.sqrt(np.clip(np.diag(np.linalg.pinv(self.information)), 0.0, None))
        k = kt_kcal_mol / self.variances
        return [
            Spring(
                pair=pair,
                distance_ang=float(self.means[c]),
                k_kcal_mol_ang2=float(k[c]),
                weight=float(self.weights[c]),
                distance_se_ang=float(spread[c]),
                k_se_kcal_mol_ang2=float(k[c] / self.variances[c] * spread[n + c]),
            )
            for c in range(n)
        ]


def fit_mixture(x: Array, n_components: int | None, profile: Profile, seed: int) -> Mixture:
    """Gaussian mixture of x [n]; BIC chooses the number of components where it is None."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    column = x[:, None]
    # In one column there is nothing for threads to share; they cost ten times what they save.
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        if profile == "paper":
            n = n_components or _components_by_bic(column, seed)
            # scikit-learn's defaults: one start, stopped at a gain of 1e-3 in the mean
            # log-likelihood.
            fit = GaussianMixture(n, random_state=seed).fit(column)
        else:
            some = _thinned(x, START_DISTANCES, seed)[:, None]
            n = n_components or _components_by_bic(some, seed)
            start = GaussianMixture(n, random_state=seed, **_STARTS).fit(some)
            fit = GaussianMixture(
                n,
                weights_init=start.weights_,
                means_init=start.means_,
                precisions_init=start.precisions_,
                **_CONVERGED,
            ).fit(column)
    order = np.argsort(fit.means_[:, 0])
    weights, means = fit.weights_[order], fit.means_[order, 0]
    variances = fit.covariances_[order, 0, 0]
    return Mixture(
        weights,
        means,
        variances,
        _information(x, weights, means, variances),
        float(fit.score(column)) * len(x),
    )


def _components_by_bic(column: Array, seed: int) -> int:
    """Components of least Bayesian information criterion; stops after two that are worse."""
    from sklearn.mixture import GaussianMixture

    scores: list[float] = []
    for n in range(1, MAX_COMPONENTS + 1):
        fit = GaussianMixture(n, random_state=seed, n_init=3, tol=1e-4, max_iter=500).fit(column)
        scores.append(float(fit.bic(column)))
        if len(scores) - int(np.argmin(scores)) > 2:
            break
    return int(np.argmin(scores)) + 1


def _information(x: Array, weights: Array, means: Array, variances: Array) -> Array:
    """Observed information, sum of outer products of scores; means, variances, free weights."""
    bare = Mixture(weights, means, variances, np.empty((0, 0)), 0.0)
    density = bare.density(x)
    share = density / density.sum(axis=1, keepdims=True)
    off = x[:, None] - means
    scores = [share * off / variances, 0.5 * share * (off**2 / variances - 1.0) / variances]
    if len(weights) > 1:
        ratio = share / weights
        scores.append(ratio[:, :-1] - ratio[:, -1:])
    score = np.concatenate(scores, axis=1)
    information: Array = score.T @ score
    return information


def _thinned(x: Array, most: int, seed: int) -> Array:
    if len(x) <= most:
        return x
    return np.random.default_rng(seed).choice(x, most, replace=False)


def refuse_not_thermal(frames: Frames) -> None:
    """Springs are of a temperature: frames of plain dynamics, as far as they tell.

    Raises:
        DataError: frames of a biased run, or displaced by a method.
    """
    method = frames.info.get("method")
    if method is not None and method.dtype.kind == "U":
        made = np.isin(method, MADE_METHODS) | np.char.startswith(method, "augment-")
        if "bias_ev" not in frames.info:  # as an own deck under a calculator leaves them
            made |= np.isin(method, BIASED_METHODS)
        if made.any():
            k = int(np.argmax(made))
            raise DataError(
                f"{frames.source}: frame {k} was made by {method[k]} ({made.sum()} frames are of "
                "such kinds); springs need plain dynamics at one temperature."
            )
    # Biased frames carry no thermodynamic weight: their spread is no temperature's.
    bias: NDArray[Any] | None = frames.info.get("bias_ev")
    if bias is not None and np.issubdtype(bias.dtype, np.number):
        biased = np.flatnonzero(np.abs(np.nan_to_num(bias)) > 1e-9)
        if biased.size:
            raise DataError(
                f"{frames.source}: frame {biased[0]} is of a biased run ({biased.size} frames "
                "are); springs need plain dynamics at one temperature."
            )
