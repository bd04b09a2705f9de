"""Training and held-out sets: contiguous blocks of each trajectory, with gaps between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from metamd.config import Dataset
from metamd.errors import DataError
from metamd.frames import Frames, content_hash, save_deepmd, save_npz
from metamd.identity import fingerprint
from metamd.workspace import MANIFEST, read_manifest, set_aside, write_json


@dataclass(frozen=True)
class DatasetResult:
    """One arm's data on disk.

    Attributes:
        name: the arm.
        folder: where they lie.
        train: DeePMD system to train on; None for a test arm.
        heldout: DeePMD system no model is trained on; None where all frames are trained on.
        n_train, n_heldout: numbers of frames.
        heldout_frames: the same held-out frames with their provenance; None as ``heldout``.
        sha256: of positions, energies and forces; names the content.
    """

    name: str
    folder: Path
    train: Path | None
    heldout: Path | None
    n_train: int
    n_heldout: int
    heldout_frames: Path | None
    sha256: str


def split_blocks(
    walker: NDArray[np.int_], step: NDArray[np.int_], config: Dataset
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices of training and held-out frames.

    Every walker's trajectory is cut into ``blocks`` contiguous blocks; the last part of each is
    held out and ``gap`` frames on each border belong to neither set, so that neighbouring frames
    never fall on both sides.  The split depends on nothing but the frames: it is fixed.

    Args:
        walker: walker of each frame, [n_frames].
        step: time step of each frame, [n_frames].

    Raises:
        DataError: too few frames for a split.
    """
    train: list[int] = []
    heldout: list[int] = []
    for w in np.unique(walker):
        order = np.flatnonzero(walker == w)
        order = order[np.argsort(step[order], kind="stable")]
        blocks = np.array_split(order, min(config.blocks, max(1, len(order) // 10)))
        for number, block in enumerate(blocks):
            n_out = max(1, round(config.heldout_fraction * len(block)))
            border = len(block) - n_out
            first = config.gap if number > 0 else 0
            train += block[first : max(first, border - config.gap)].tolist()
            heldout += block[border:].tolist()
    if not train or not heldout:
        raise DataError(
            f"{len(walker)} frames are too few to split with dataset.blocks = {config.blocks} "
            f"and dataset.gap = {config.gap}."
        )
    return np.sort(np.array(train)), np.sort(np.array(heldout))


def make_dataset(
    name: str,
    frames: Frames,
    config: Dataset,
    folder: Path,
    use: Literal["split", "test", "train"] = "split",
) -> DatasetResult:
    """Write one arm's DeePMD systems under ``folder``.

    What stands there already is taken when it holds these very frames, and kept aside if not.

    Args:
        use: ``split``: train and held-out blocks; ``test``: all held out; ``train``: none.
    """
    n = len(frames)
    none, every = np.array([], dtype=np.intp), np.arange(n, dtype=np.intp)
    if use == "split":
        walker = frames.info.get("walker", np.zeros(n, int))
        step = frames.info.get("step", np.arange(n))
        train, heldout = split_blocks(np.asarray(walker), np.asarray(step), config)
    else:
        train, heldout = (none, every) if use == "test" else (every, none)
    digest = content_hash(frames)
    print_ = fingerprint([digest, train, heldout])
    stored = read_manifest(folder)
    if folder.exists() and (stored is None or stored.get("fingerprint") != print_):
        set_aside(folder, "interrupted" if stored is None else "old")
    if not folder.exists():
        folder.mkdir(parents=True)
        if len(train):
            save_deepmd(frames[train], folder / "train")
        if len(heldout):
            save_deepmd(frames[heldout], folder / "heldout")
            save_npz(frames[heldout], folder / "heldout.npz")
        write_json(folder / MANIFEST, {"fingerprint": print_, "sha256": digest})
    return DatasetResult(
        name=name,
        folder=folder,
        train=folder / "train" if len(train) else None,
        heldout=folder / "heldout" if len(heldout) else None,
        n_train=len(train),
        n_heldout=len(heldout),
        heldout_frames=folder / "heldout.npz" if len(heldout) else None,
        sha256=digest,
    )
