"""The command ``recon3d``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from datasets.programs.program import Command, Program

COMMANDS = {
    "fit": Command("recon3d.fitting.command", "fit", "fit Gaussians to the photos of a scene", own_parser=True),
    "prior": Command(
        "recon3d.prior_command", "prior", "depth, confidence and points of a fit's prior", own_parser=True
    ),
    "test": Command("recon3d.evaluate", "evaluate_run", "compare renders of a fitted run with its test photos"),
    "render": Command("recon3d.novel_views", "render", "pictures, depth and video of a splat along a path"),
    "suggest": Command("recon3d.suggest", "suggest", "say which further photos would help most"),
    "report": Command("recon3d.report", "report", "write a run's report.html again"),
    "export": Command(
        "recon3d.splats.export", "export", "write a splat as PLY, SPZ, .splat or safetensors", own_parser=True
    ),
    "merge": Command(
        "recon3d.merge_command", "merge", "merge fits of one scene from several seeds into one", own_parser=True
    ),
    "benchmark": Command("recon3d.benchmark", "benchmark", "fit and test over several seeds: mean and spread"),
    "demo": Command("recon3d.demo", "demo", "all of it on the built-in scene, in a few minutes"),
}
PROGRAM = Program(
    "recon3d",
    "A few posed photos to 3D Gaussians to novel views.",
    COMMANDS,
    (
        "recon3d fit --config configs/recon3d/llff_3view.yaml --data.root SCENE --out RUN",
        "recon3d test RUN",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for input that cannot be used, 2 for a wrong command line."""
    return PROGRAM.main(argv)


if __name__ == "__main__":
    sys.exit(main())
