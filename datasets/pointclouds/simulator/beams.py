"""Rotating LiDARs: where their beams point, how far they see, how exact they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from datasets.errors import InputError

BeamsName = Literal["hdl64", "hdl32", "vlp16"]


@dataclass(frozen=True)
class Beams:
    """A rotating LiDAR.

    Attributes:
        elevations: angles of the beams above the horizon, degrees.
        columns: shots of each beam in a turn.
        height: of the sensor above the road, metres.
        max_range, min_range: metres.
        range_noise: standard deviation in metres.
        angle_noise: standard deviation of a shot's direction, degrees.
        sensitivity: distance in metres at which a surface of reflectivity 0.1 at right incidence returns half of the
            shots.
        dropout: share of shots that are lost whatever they hit.
    """

    elevations: tuple[float, ...]
    columns: int
    height: float
    max_range: float
    min_range: float = 1.0
    range_noise: float = 0.015
    angle_noise: float = 0.01
    sensitivity: float = 70.0
    dropout: float = 0.04

    def directions(self, random: np.random.Generator) -> np.ndarray:
        """[beams * columns, 3] unit vectors of one turn; each beam starts at its own angle."""
        start = random.uniform(0, 2 * np.pi, (len(self.elevations), 1))
        azimuth = start + np.arange(self.columns) * 2 * np.pi / self.columns
        elevation = np.repeat(np.radians(self.elevations)[:, None], self.columns, axis=1)
        noise = np.radians(self.angle_noise) * random.normal(size=(2, *azimuth.shape))
        azimuth, elevation = azimuth + noise[0], elevation + noise[1]
        flat = np.cos(elevation)
        return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=2).reshape(-1, 3)


BEAMS: dict[str, Beams] = {
    # Velodyne HDL-64E, as KITTI's car carries it: two blocks of 32 beams, a third and half a degree apart.
    "hdl64": Beams((*np.linspace(2, -8.33, 32), *np.linspace(-8.83, -24.33, 32)), 2083, 1.73, 120),
    # Velodyne HDL-32E, as nuScenes' car carries it.
    "hdl32": Beams(tuple(np.linspace(10.67, -30.67, 32)), 1084, 1.84, 100, range_noise=0.02, sensitivity=50),
    # Velodyne VLP-16: low resolution.
    "vlp16": Beams(tuple(np.linspace(15, -15, 16)), 1800, 1.73, 100, range_noise=0.02, sensitivity=50),
}


def beams_named(name: str) -> Beams:
    """The model of a name; InputError lists the names."""
    if name not in BEAMS:
        raise InputError(f"unknown beams {name!r}: choose one of {', '.join(BEAMS)}, or give Beams")
    return BEAMS[name]
