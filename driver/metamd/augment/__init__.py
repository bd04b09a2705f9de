"""Augmentation: springs from the spread of distances, and labelled frames made with them."""

from __future__ import annotations

from metamd.augment.perturb import augment
from metamd.augment.springs import Spring, Springs, fit_springs, load_springs
from metamd.augment.stage import augment_system

__all__ = ["Spring", "Springs", "augment", "augment_system", "fit_springs", "load_springs"]
