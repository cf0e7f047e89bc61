"""Places where nobody took a photo."""

from __future__ import annotations

import torch

from datasets.errors import InputError
from datasets.types import Cameras
from recon3d import paths
from recon3d.losses.base import Step

PLACES = 15  # between two cameras, of which one is drawn


def camera_between(step: Step, depth: float) -> Cameras:
    """A camera, a batch of one, on the way from that of ``step`` to another one around what lies at ``depth``, drawn at
    random.

    Raises:
        InputError: where there is no other camera.
    """
    device = step.cameras.intrinsics.device
    count = len(step.cameras)
    if count < 2:
        raise InputError("a view between train cameras needs at least two of them: take this loss out, or add photos")
    other = (step.index + 1 + int(torch.randint(count - 1, (), device=device))) % count
    pose = step.camera.camera_to_world[0].double().cpu()
    focus = (pose[:3, 3] + depth * pose[:3, 2]).numpy()
    way = paths.between(step.cameras[[step.index, other]], focus, PLACES + 2)
    return way[1 + int(torch.randint(PLACES, (), device=device))].to(device)
