"""Augmented frames of a training set, as a DeePMD system of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from metamd.augment.figure import plot_springs
from metamd.augment.perturb import augment, counted_pairs, describe_pairs
from metamd.augment.springs import Springs, fit_springs, load_springs
from metamd.config import Augment
from metamd.errors import InputError
from metamd.frames import Frames, content_hash, load_frames, save_deepmd
from metamd.identity import fingerprint, table_identity
from metamd.workspace import MANIFEST, read_manifest, set_aside, write_json

SYSTEM, SPRINGS = "system", "springs.json"


def find_springs(frames: Frames | None, temperature_k: float | None, config: Augment) -> Springs:
    """The table of ``augment.springs``, or one fitted to the frames.

    Args:
        frames: unbiased dynamics at one temperature.
        temperature_k: theirs, K; ``augment.temperature_k`` goes before it.
        config: ``[augment]``.

    Raises:
        InputError: neither a table, nor frames with a temperature.
    """
    if config.springs is not None:
        return load_springs(config.springs)
    temperature_k = config.temperature_k or temperature_k
    if frames is None or temperature_k is None:
        raise InputError(
            'augment: without springs = "file.json" frames of one temperature are needed.'
        )
    return fit_springs(frames, temperature_k, config.components, config.profile)


def augment_system(
    train: Path,
    thermal: Frames | None,
    temperature_k: float | None,
    config: Augment,
    folder: Path,
) -> dict[str, Any]:
    """Write augmented frames of a training set under ``folder``; what is there is kept.

    Args:
        train: DeePMD system whose frames are perturbed.
        thermal: unbiased dynamics at one temperature that springs are fitted to: all frames
            sampled, since a selection has another distribution; not needed with
            ``augment.springs``.
        temperature_k: their temperature, K.
        config: ``[augment]``.
        folder: gets ``system`` (DeePMD), ``springs.json`` and a figure of the mixtures.

    Returns:
        For the summary: ``system`` (path), ``frames``, ``scheme``, ``pairs`` (a sentence),
        ``smallest_ev`` and ``largest_ev`` (energy changes).

    Raises:
        DataError: too few frames, or springs that cannot be fitted.
    """
    frames = load_frames(train)
    hashes = [content_hash(some) for some in (frames, thermal) if some is not None]
    asked = fingerprint([*hashes, temperature_k, table_identity(config, exclude=set())])
    manifest = read_manifest(folder)
    if manifest is not None and manifest["fingerprint"] == asked:
        result: dict[str, Any] = manifest["result"]
        return result
    if folder.exists():
        set_aside(folder, "old" if manifest else "interrupted")
    springs = find_springs(thermal, temperature_k, config)
    new = augment(frames, springs, config)
    folder.mkdir(parents=True)
    save_deepmd(new, folder / SYSTEM)
    write_json(folder / SPRINGS, springs.as_dict())
    if thermal is not None and config.springs is None:
        plot_springs(thermal, springs, folder / "springs.png")
    change = new.info["spring_ev"]
    result = {
        "system": str(folder / SYSTEM),
        "frames": len(new),
        "scheme": config.scheme,
        "pairs": describe_pairs(frames, config.pairs, [*counted_pairs(frames, config.pairs)]),
        "smallest_ev": float(change.min()),
        "largest_ev": float(change.max()),
    }
    write_json(folder / MANIFEST, {"fingerprint": asked, "result": result})
    return result
