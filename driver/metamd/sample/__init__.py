"""Sampling: from a starting structure to frames with provenance, arm by arm."""

from metamd.sample.arm import SampleResult, sample_arms

__all__ = ["SampleResult", "sample_arms"]
