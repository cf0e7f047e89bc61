"""The command ``detect3d``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from datasets.programs.program import Command, Program

COMMANDS = {
    "fit": Command("detection.training.command", "fit", "train a detector on clouds with boxes", own_parser=True),
    "test": Command("detection.evaluate", "evaluate_run", "score a trained detector on its test data"),
    "predict": Command("detection.predict", "predict", "find boxes in clouds", own_parser=True),
    "export": Command("detection.exporting.command", "export", "write a trained detector as an ONNX file"),
    "check": Command("detection.check_command", "check_config", "say what is wrong with a data set"),
    "benchmark": Command("detection.benchmark", "benchmark", "fit and test over several seeds: mean and spread"),
    "demo": Command("detection.demo", "demo", "all of it on simulated streets, in a few minutes"),
}
PROGRAM = Program(
    "detect3d",
    "Point clouds to oriented 3D boxes.",
    COMMANDS,
    (
        "detect3d check configs/detection/radar_dsvt.yaml --root DATA",
        "detect3d fit --config configs/detection/radar_dsvt.yaml --root DATA --out RUN",
        "detect3d test RUN",
        "detect3d predict RUN CLOUD.bin --out FOUND",
    ),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for input that cannot be used, 2 for a wrong command line."""
    return PROGRAM.main(argv)


if __name__ == "__main__":
    sys.exit(main())
