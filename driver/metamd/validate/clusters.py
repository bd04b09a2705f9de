"""Force errors cluster by cluster: where a small overall error hides a large one (Fonseca 2021)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from metamd.errors import DataError
from metamd.frames import Array, Frames
from metamd.validate.check import Check

#: Cluster of each frame, [n_frames], for frames with energies.
Clusterer = Callable[[Frames], NDArray[np.intp]]


def cluster_errors(labels: NDArray[np.intp], frame_rmse: Array) -> tuple[Array, NDArray[np.intp]]:
    """Force RMSE of every cluster that has frames, eV/A, and their populations, ascending in RMSE.

    Args:
        labels: cluster of each frame, [n_frames].
        frame_rmse: force RMSE of each frame, eV/A, [n_frames].
    """
    population = np.bincount(labels)
    square = np.bincount(labels, weights=frame_rmse**2)
    there = population > 0
    rmse = np.sqrt(square[there] / population[there])
    order = np.argsort(rmse, kind="stable")
    return rmse[order], population[there][order]


def cluster_check(labels: NDArray[np.intp], frame_rmse: Mapping[str, Array]) -> Check:
    """Errors by cluster of several models on the same frames, each by its own rising error.

    Raises:
        DataError: no models or no frames.
    """
    if not frame_rmse or not len(labels):
        raise DataError("Errors by cluster need frames and a model's predictions.")
    curves: dict[str, tuple[Array, Array]] = {}
    numbers: dict[str, float | None] = {}
    for name, errors in frame_rmse.items():
        rmse, population = cluster_errors(labels, errors)
        curves[name] = np.arange(1.0, len(rmse) + 1), rmse
        overall = float(np.sqrt(np.mean(errors**2)))
        numbers[f"{name}: overall force RMSE / eV/Å"] = overall
        numbers[f"{name}: worst cluster's force RMSE / eV/Å"] = float(rmse[-1])
        numbers[f"{name}: worst cluster's frames"] = int(population[-1])
        numbers[f"{name}: worst cluster over overall"] = float(rmse[-1] / overall)
    return Check(
        key="clusters",
        title="Force error by cluster",
        caption="All held-out frames, clustered by pair distances and energy (Fonseca 2021, figure "
        "2); each model's clusters by rising error. A steep end is a region that the model has "
        "not learned.",
        x_label="cluster, by rising error",
        y_label="force RMSE / (eV/Å)",
        curves=curves,
        numbers=numbers,
        has_reference=False,
    )
