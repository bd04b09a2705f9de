"""Energies and forces that models predict for frames: from DeePMD models or stored files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metamd.errors import DataError
from metamd.frames import Array, Frames


@dataclass(frozen=True)
class Predictions:
    """What one or more models say about the same frames.

    Attributes:
        energy: eV, [n_models, n_frames]; None where unknown.
        forces: eV/A, [n_models, n_frames, n_atoms, 3].
        atomic_energy: eV, [n_models, n_frames, n_atoms]; None where unknown.
        sources: a name for each model, for messages.
    """

    energy: Array | None
    forces: Array
    atomic_energy: Array | None
    sources: tuple[str, ...]

    def __len__(self) -> int:
        return int(self.forces.shape[1])

    @property
    def n_models(self) -> int:
        return int(self.forces.shape[0])

    def max_force_deviation(self) -> Array:
        """Largest force deviation of each frame, eV/A, [n_frames].

        max_i sqrt(<|F_i - <F_i>|^2>) over models, as in DP-GEN (Zhang 2020) and ``pair_style
        deepmd``.

        Raises:
            DataError: fewer than two models.
        """
        if self.n_models < 2:
            raise DataError(f"{self.sources[0]}: a deviation needs two models or more.")
        spread = self.forces - self.forces.mean(axis=0)
        rms: Array = np.sqrt(np.einsum("mfax,mfax->fa", spread, spread) / self.n_models)
        return rms.max(axis=1)

    def force_rmse(self, frames: Frames) -> Array:
        """Force RMSE of each frame, eV/A, over components and models, [n_frames].

        Raises:
            DataError: the frames have no forces, or are not as many.
        """
        if frames.forces is None:
            raise DataError(f"{frames.source}: has no forces to compare predictions with.")
        if len(frames) != len(self):
            raise DataError(
                f"{self.sources[0]}: predicts {len(self)} frames, {frames.source} has "
                f"{len(frames)}."
            )
        rmse: Array = np.sqrt(np.mean((self.forces - frames.forces) ** 2, axis=(0, 2, 3)))
        return rmse
