"""Labelling: true energies and forces for chosen frames; failures are set aside, never lost."""

from metamd.label.stage import LabelResult, label_frames, reusable_labels

__all__ = ["LabelResult", "label_frames", "reusable_labels"]
