"""How well a detector does on simulated sweeps that it was not trained on, of which there are as many as one likes.

    python benchmarks/simulated_streets.py RUN [--count 25] [--seed 77] [--beams hdl64] [--angle 90] [--json FILE]

RUN is the folder of a fit. A few real sweeps hold a handful of cars; these hold hundreds, and every object that the
detector could find counts: those within ANGLE degrees ahead and within its range, with five points or more. The scores
are those of RUN's protocol.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from datasets.pointclouds.augmentation import Ahead, Samples
from datasets.pointclouds.simulator import SimulatedStreets
from datasets.pointclouds.types import PointCloudSample
from datasets.programs.run_folder import write_text
from detection.evaluate import evaluate
from detection.protocols import KittiProtocol
from detection.run import open_protocol, read_config
from detection.trained import load_model


class Within:
    """Samples of which only that is left which lies ahead, and of their boxes those whose centres are in range.

    Args:
        samples: of all directions.
        angle: what is ahead, in degrees about the x axis.
        point_range: least x, y, z, then greatest, in metres.
    """

    def __init__(self, samples: Samples, angle: float, point_range: tuple[float, ...]) -> None:
        self.samples, self.ahead = samples, Ahead(angle)
        self.low, self.high = point_range[:2], point_range[3:5]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> PointCloudSample:
        sample = self.ahead(self.samples[index], np.random.default_rng(0))  # which draws nothing
        assert sample.boxes is not None
        centres = sample.boxes.boxes[:, :2]
        inside = (centres >= centres.new_tensor(self.low)) & (centres < centres.new_tensor(self.high))
        return replace(sample, boxes=sample.boxes[inside.all(dim=1)])


def main() -> None:
    """Print the table, and write the values."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a fit")
    parser.add_argument("--count", type=int, default=25, help="sweeps")
    parser.add_argument("--seed", type=int, default=77, help="of the streets; not that of the training's")
    parser.add_argument("--beams", default="hdl64", help="model of the LiDAR")
    parser.add_argument("--angle", type=float, default=90.0, help="of what is ahead, in degrees")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    trained = load_model(options.run)
    protocol = open_protocol(read_config(options.run), str(options.run))
    if isinstance(protocol, KittiProtocol):
        protocol.difficulties = "all"  # the others need KITTI's labels
    streets = SimulatedStreets(options.count, trained.class_names, beams=options.beams, seed=options.seed)
    samples = Within(streets, options.angle, trained.detector.grid.point_range)
    score = evaluate(trained.detector, samples, trained.features, protocol)
    print(score.table)
    if options.json:
        write_text(options.json, json.dumps({"count": options.count, "values": score.values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
