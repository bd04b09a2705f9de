"""Frames: what every stage passes on, read from and written to files of several kinds.

Reads DeePMD npy systems, extended XYZ (and whatever ASE reads), LAMMPS dumps and npz files in
sGDML's layout; writes DeePMD systems, extended XYZ and npz.
"""

from metamd.frames.core import (
    MIN_DISTANCE_ANG,
    MIN_VOLUME_ANG3,
    Array,
    Frames,
    cell_of,
    check_distances,
    concatenate,
    content_hash,
    minimum_image,
    pair_distances,
)
from metamd.frames.deepmd import save_deepmd
from metamd.frames.images import append_extxyz, from_atoms, save_extxyz
from metamd.frames.npz import load_npz, save_npz
from metamd.frames.read import load_frames, open_text, takes_type_map

__all__ = [
    "MIN_DISTANCE_ANG",
    "MIN_VOLUME_ANG3",
    "Array",
    "Frames",
    "append_extxyz",
    "cell_of",
    "check_distances",
    "concatenate",
    "content_hash",
    "from_atoms",
    "load_frames",
    "load_npz",
    "minimum_image",
    "open_text",
    "pair_distances",
    "save_deepmd",
    "save_extxyz",
    "save_npz",
    "takes_type_map",
]
