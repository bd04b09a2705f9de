"""The report: one self-contained HTML page, and the same verdict for the terminal.

``write_report(workdir)`` reads ``summary.json`` and the files it points to and works for a run
that is still going, has failed or is finished.
"""

from __future__ import annotations

from metamd.report.html import write_report
from metamd.report.terminal import print_summary

__all__ = ["print_summary", "write_report"]
