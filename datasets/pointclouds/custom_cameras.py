"""Cameras of a cloud in a folder of one's own: ``cameras/NAME.json``.

``{"cameras": [{"image"?, "width", "height", "fx", "fy", "cx", "cy", "w2c"}, ...]}``, as frames of ``cameras.json`` are
(:mod:`datasets.scenes.cameras_json`), the world of w2c being the axes of the cloud.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from datasets.errors import SceneError
from datasets.scenes.cameras_json import read_pinhole
from datasets.scenes.capture import check_pinhole, pinhole_cameras, rigid_pose
from datasets.scenes.files import inside, read_json
from datasets.scenes.images import expect_size, read_image
from datasets.types import Cameras, Photo, View


def read_cameras(path: Path, root: Path) -> tuple[Cameras, tuple[Photo, ...]]:
    """Cameras of a file, in its order, and their photos, which may be missing; none where it names none.

    Args:
        path: the file.
        root: the folder that images are relative to.

    Raises:
        SceneError: naming the file, for another form, and for a camera that is none.
    """
    records = read_json(path).get("cameras")
    if not isinstance(records, list) or not records or not all(isinstance(record, dict) for record in records):
        raise SceneError(path, "has no list of cameras", 'Write {"cameras": [{"width": ...}, ...]}, or remove the file')
    poses, pinholes, photos = [], [], []
    for number, record in enumerate(records, 1):
        pose, pinhole = read_pinhole(path, record)
        check_pinhole(path, f"camera {number}", pinhole)
        poses.append(rigid_pose(path, f"camera {number}", pose))
        pinholes.append(pinhole)
        if record.get("image") is not None:
            image = inside(root, record["image"], path)
            photos.append(Photo(image, partial(_view, image, pinhole[2])))
    if photos and len(photos) < len(records):
        mend = "Name an image for each or for none; the file itself may be missing"
        raise SceneError(path, f"names an image for {len(photos)} of {len(records)} cameras", mend)
    return pinhole_cameras(np.stack(poses), pinholes), tuple(photos)


def _view(path: Path, size: tuple[int, int]) -> View:
    image = read_image(path)
    expect_size(path, image, size)
    return View(image)
