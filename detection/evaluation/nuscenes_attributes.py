"""What nuScenes calls an object by how fast it is: for detectors that find velocities, but no attributes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from datasets.pointclouds.nuscenes import ATTRIBUTES
from datasets.pointclouds.types import Boxes3D

SPEED = 0.2  # m/s from which an object moves

_VEHICLE = ("vehicle.moving", "vehicle.parked")
_CYCLE = ("cycle.with_rider", "cycle.without_rider")
MOVING_AND_STILL = {
    **dict.fromkeys(("car", "truck", "construction_vehicle", "trailer"), _VEHICLE),
    "bus": ("vehicle.moving", "vehicle.stopped"),
    **dict.fromkeys(("motorcycle", "bicycle"), _CYCLE),
    "pedestrian": ("pedestrian.moving", "pedestrian.standing"),
}
"""By class, what most objects are that move, and that stand still; other classes have no attributes."""


def likely_attributes(boxes: Boxes3D, class_names: Sequence[str]) -> Tensor:
    """[M] int64 indices into ATTRIBUTES, -1 where a class has none or the velocity is unknown, as participants of the
    benchmark fill them in (after Yin et al., CenterPoint, CVPR 2021)."""
    if boxes.velocities is None:
        return torch.full_like(boxes.labels, -1)
    speed = np.hypot(*boxes.velocities.detach().cpu().numpy().T)
    attributes = []
    for label, value in zip(boxes.labels.tolist(), speed.tolist(), strict=True):
        moving_and_still = MOVING_AND_STILL.get(class_names[label])
        if moving_and_still is None or value != value:
            attributes.append(-1)
        else:
            attributes.append(ATTRIBUTES.index(moving_and_still[0 if value > SPEED else 1]))
    return boxes.labels.new_tensor(attributes)
