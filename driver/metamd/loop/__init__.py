"""The one place that joins the stages: iterations from a structure to judged models."""

from metamd.loop.check import check_run, load_structure
from metamd.loop.run import STAGES, run

__all__ = ["STAGES", "check_run", "load_structure", "run"]
