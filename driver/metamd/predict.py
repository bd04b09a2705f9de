"""Energies and forces that models predict for frames: from DeePMD models or stored files."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metamd.errors import DataError, InputError, TaskError
from metamd.frames import Array, Frames, load_frames

#: Stored predictions belong to a frame when no atom lies further off than this.
SAME_POSITION_ANG = 1e-3
FORCE_RMSE = "force-rmse.npy"


@dataclass(frozen=True)
class Predictions:
    """What one or more models say about the same frames.

    Attributes:
        energy: eV, [n_models, n_frames]; None where unknown.
        forces: eV/A, [n_models, n_frames, n_atoms, 3].
        atomic_energy: eV, [n_models, n_frames, n_atoms]; None where unknown.
        sources: a name for each model, for messages.
        virial: eV, [n_models, n_frames, 3, 3]; None for isolated frames and where unknown.
    """

    energy: Array | None
    forces: Array
    atomic_energy: Array | None
    sources: tuple[str, ...]
    virial: Array | None = None

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
        worst: Array = rms.max(axis=1)
        return worst

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


def predict(
    models: Sequence[str | Path],
    frames: Frames,
    *,
    atomic: bool = False,
    batch: int = 256,
    progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Evaluate DeePMD models; the back-end loads on the first call and stays quiet.

    Args:
        models: frozen (or compressed) model files.
        frames: isolated frames are evaluated without a box.
        atomic: also energies of atoms (costs more).
        batch: frames at a time.
        progress: called with frames done and frames in all, over all models.

    Raises:
        InputError: no model, a missing file, or elements that a model was not trained on.
        TaskError: DeePMD failed; the message has its last line.
    """
    if not models:
        raise InputError("No model to predict with.")
    columns: list[tuple[Array, ...]] = []
    total = len(models) * len(frames)
    for number, path in enumerate(models):
        model, types = _open(Path(path), frames)
        parts: list[tuple[Array, ...]] = []
        for start in range(0, len(frames), batch):
            part = slice(start, start + batch)
            cells = None if frames.cell is None else frames.cell[part].reshape(-1, 9)
            with _quiet(f"{path}: cannot predict {frames.source}"):
                result = model.eval(frames.positions[part], cells, types, atomic=atomic)
            own = (np.asarray(result[3])[..., 0],) if atomic else ()
            virial = np.reshape(result[2], (-1, 3, 3))
            parts.append((np.ravel(result[0]), result[1], virial, *own))
            if progress:
                progress(number * len(frames) + start + len(parts[-1][0]), total)
        columns.append(tuple(np.concatenate(column) for column in zip(*parts, strict=True)))
    energy, forces, virial, *rest = (
        np.array(column, dtype=np.float64) for column in zip(*columns, strict=True)
    )
    return Predictions(
        energy,
        forces,
        rest[0] if rest else None,
        tuple(str(m) for m in models),
        None if frames.cell is None else virial,
    )


def known_elements(path: Path) -> list[str]:
    """The type map of a model.

    Raises:
        InputError, TaskError: no such file, or no DeePMD model.
    """
    return list(_load(path).get_type_map())


def _load(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"{path}: no such model.")
    # One thread unless a person said otherwise: DeePMD reads these when it loads.
    for name in ("OMP_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS",
                 "DP_INTER_OP_PARALLELISM_THREADS"):  # fmt: skip
        os.environ.setdefault(name, "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _quiet(f"{path}: cannot be loaded as a DeePMD model"):
        from deepmd.infer import DeepPot

        return DeepPot(str(path))


def _open(path: Path, frames: Frames) -> tuple[Any, list[int]]:
    """A model and the types of the frames' atoms in it."""
    model = _load(path)
    known = list(model.get_type_map())
    missing = [s for s in frames.species if s not in known]
    if missing:
        raise InputError(
            f"{path}: knows the elements {', '.join(known)}; {frames.source} also has "
            f"{', '.join(missing)}."
        )
    return model, [known.index(s) for s in frames.symbols]


def silence_exit() -> None:
    """Keep what DeePMD's libraries print when the process ends off the terminal.

    For commands only: nothing reaches stderr once Python's exit handlers begin.
    """

    def close() -> None:
        sys.stderr.flush()
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)

    atexit.register(close)


@contextmanager
def _quiet(what: str) -> Iterator[None]:
    """Keep what native code prints off the terminal; on failure show its last useful line.

    File descriptors 1 and 2 are redirected, because TensorFlow's C++ writes there.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    kept = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield
        except Exception as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            reason = lines[0] if lines else type(error).__name__
            raise TaskError(f"{what} ({reason[:300]}).") from error
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for target, old in zip((1, 2), kept, strict=True):
                os.dup2(old, target)
                os.close(old)


def load_predictions(paths: Sequence[str | Path], frames: Frames) -> Predictions:
    """Stored predictions, one file a model: anything ``load_frames`` reads, with forces.

    Args:
        paths: files whose energies and forces are a model's.
        frames: what they must belong to, in this order.

    Raises:
        DataError: other atoms, another number of frames, other positions, or no forces.
    """
    if not paths:
        raise InputError("No stored predictions were given.")
    stored = [load_frames(path) for path in paths]
    for one in stored:
        _check_same(one, frames)
    energies = [one.energy for one in stored if one.energy is not None]
    atomic = [one.atomic_energy for one in stored if one.atomic_energy is not None]
    return Predictions(
        energy=np.array(energies) if len(energies) == len(stored) else None,
        forces=np.array([one.forces for one in stored]),
        atomic_energy=np.array(atomic) if len(atomic) == len(stored) else None,
        sources=tuple(one.source for one in stored),
    )


def _check_same(stored: Frames, frames: Frames) -> None:
    if stored.forces is None:
        raise DataError(f"{stored.source}: has no predicted forces.")
    if stored.symbols != frames.symbols or len(stored) != len(frames):
        raise DataError(
            f"{stored.source}: predicts {len(stored)} frames of {len(stored.symbols)} atoms, "
            f"{frames.source} has {len(frames)} of {len(frames.symbols)}"
            + (" (other elements or another order)." if stored.symbols != frames.symbols else ".")
        )
    off = np.abs(stored.positions - frames.positions).max(axis=(1, 2))
    bad = np.flatnonzero(off > SAME_POSITION_ANG)
    if bad.size:
        raise DataError(
            f"{stored.source}: frame {bad[0]} has other positions than in {frames.source} "
            f"({off[bad[0]]:.3g} A off, {bad.size} frames in all); predictions must be in the "
            "order of the data."
        )


def force_error_task(
    folder: Path, models: list[str], frames: str, indices: list[int]
) -> dict[str, Any]:
    """Task: force RMSE of each of some frames, eV/A, into ``force-rmse.npy``.

    Args:
        folder: of the task.
        models: DeePMD models; the RMSE is over all of them.
        frames: labelled frames, .npz.
        indices: which of them.
    """
    some = load_frames(frames)[np.asarray(indices, dtype=np.intp)]
    rmse = predict(models, some).force_rmse(some)
    np.save(folder / FORCE_RMSE, rmse)
    return {"frames": len(some), "rmse_ev_per_ang": float(np.sqrt(np.mean(rmse**2)))}
