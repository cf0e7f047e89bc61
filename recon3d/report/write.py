"""Writing the report, and the command ``recon3d report``."""

from __future__ import annotations

from pathlib import Path

from recon3d.fitting.run_folder import write_text
from recon3d.report.content import gather
from recon3d.report.page import page
from recon3d.runs import REPORT


def write_report(run: Path, root: Path | None = None) -> Path:
    """Write RUN/report.html from what the run folder holds by now; returns its path.

    Args:
        run: the folder of a run; config.yaml is needed, all else is shown where it is there.
        root: where the scene's folder is now, if it was moved since the fit.

    Raises:
        SceneError: where ``run`` is not the folder of a run, or one of its files cannot be read.
    """
    path = run / REPORT
    write_text(path, page(gather(run, root)))
    return path


def report(run: Path, *, root: Path | None = None) -> None:
    """Write a run's report.html again: photos, novel views beside the truth, curves, measures, in one file.

    Args:
        run: Folder of the run.
        root: Where the scene's folder is now, if it was moved since the fit.
    """
    print(f"report: {write_report(run, root)}")
