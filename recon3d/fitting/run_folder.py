"""The folder that a fit writes: what lies where."""

from __future__ import annotations

from datasets.programs.run_folder import CHECKPOINTS, CONFIG, HISTORY, LOGS, PREVIEWS, RunFolders, write_text

__all__ = ["CHECKPOINTS", "CONFIG", "FIT", "HISTORY", "LOGS", "PREVIEWS", "RUNS", "SPLAT", "write_text"]

SPLAT, FIT = "splat.safetensors", "fit.json"
RUNS = RunFolders(
    SPLAT,
    ("splat.*", "fit.json", "metrics.json", "renders", "suggestions", "video.mp4", "report.html"),
    ("seed", "model.", "data.", "trainer.max_steps", "steps_per_view", "budget"),
)
