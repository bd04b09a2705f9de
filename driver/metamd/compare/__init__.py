"""``metamd compare``: which way of making a training set gives the more general model?"""

from metamd.compare.run import run_compare

__all__ = ["run_compare"]
