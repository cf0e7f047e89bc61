"""Made-up streets seen by a made-up LiDAR: annotated clouds without any download."""

from datasets.pointclouds.simulator.beams import BEAMS, Beams
from datasets.pointclouds.simulator.stored import StoredStreets
from datasets.pointclouds.simulator.streets import SimulatedStreets

__all__ = ["BEAMS", "Beams", "SimulatedStreets", "StoredStreets"]
