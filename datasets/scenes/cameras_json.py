"""``cameras.json``: this project's plain format of posed photos, optionally with depth and masks.

``{"frames": [{"file", "width", "height", "fx", "fy", "cx", "cy", "w2c", "depth"?, "mask"?}, ...]}`` with paths
relative to the folder, intrinsics in pixels (the top left pixel's centre is (0.5, 0.5)), and w2c the 4x4
world-to-camera matrix, OpenCV axes, no distortion. Depth is ``.npy`` floats in scene units or a 16-bit PNG in
millimetres, 0 where unknown; a mask is an image that is not 0 where the photo counts. A frame may state its
``split``, "train" or "test".
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from datasets.errors import SceneError
from datasets.scenes.capture import Capture, Frame, Pinhole, reduced
from datasets.scenes.files import inside, matrix4, number, read_json


def read_cameras_json(root: Path, downscale: int) -> Capture:
    """Frames of ``cameras.json``, sorted by file name.

    Raises:
        SceneError: naming the file, what was found, and the mend.
    """
    source = root / "cameras.json"
    records = read_json(source).get("frames")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise SceneError(source, "has no list of frames", 'Write {"frames": [{"file": ...}, ...]}')
    frames = [reduced(root, _frame(root, source, record), downscale) for record in records]
    return Capture(root, source, tuple(sorted(frames, key=lambda frame: frame.path.as_posix())))


def read_pinhole(source: Path, record: dict[str, Any]) -> tuple[np.ndarray, Pinhole]:
    """The [4, 4] ``w2c`` and the camera of a record, unchecked but for their form.

    Raises:
        SceneError: naming ``source``, for a number or matrix that is missing or of another form.
    """
    focal = (number(source, record, "fx"), number(source, record, "fy"))
    centre = (number(source, record, "cx"), number(source, record, "cy"))
    size = (int(number(source, record, "width")), int(number(source, record, "height")))
    return matrix4(source, record, "w2c"), (focal, centre, size)


def _frame(root: Path, source: Path, record: dict[str, Any]) -> Frame:
    declared = record.get("split")
    if declared not in (None, "train", "test"):
        raise SceneError(source, f"a frame's split is {declared!r}", 'It must be "train" or "test", or be left out')
    path = inside(root, record.get("file"), source)
    pose, (focal, centre, size) = read_pinhole(source, record)
    return Frame(
        source=source,
        path=path,
        world_to_camera=pose,
        focal=focal,
        centre=centre,
        size=size,
        depth=None if record.get("depth") is None else inside(root, record["depth"], source),
        mask=None if record.get("mask") is None else inside(root, record["mask"], source),
        declared=declared,
    )
