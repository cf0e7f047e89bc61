"""report.html of a run: one file that shows what was fitted, how well, and how to do it again."""

from recon3d.report.write import report, write_report

__all__ = ["report", "write_report"]
