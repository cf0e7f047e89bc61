"""``transforms.json``: Blender's synthetic scenes (NeRF), instant-ngp and nerfstudio. OpenGL camera axes.

Blender's form has ``transforms_train.json`` and ``transforms_test.json`` with one ``camera_angle_x``; the other two
have one ``transforms.json`` with fl_x, fl_y, cx, cy, w, h and lens coefficients, for all frames or per frame.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np

from datasets.errors import SceneError
from datasets.scenes.capture import Capture, Frame, reduced, with_image_suffix
from datasets.scenes.distortion import Distortion
from datasets.scenes.files import inside, matrix4, number, read_json
from datasets.scenes.images import read_pixels

OPENGL_TO_OPENCV = np.array([1.0, -1.0, -1.0, 1.0])  # signs of the columns: y up and z backward turn round
PERSPECTIVE = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")


def read_transforms(root: Path, downscale: int) -> Capture:
    """Frames of ``transforms.json`` sorted by file name, or Blender's train frames followed by its test frames.

    Where the JSON gives no image size, the first frame's photo is opened to learn it.

    Raises:
        SceneError: naming the file, what was found, and the mend.
    """
    single = root / "transforms.json"
    if single.is_file():
        frames = sorted(_frames(root, single, None), key=lambda frame: frame.path.as_posix())
        source = single
    else:
        source = root / "transforms_train.json"
        frames = _frames(root, source, "train")
        if (root / "transforms_test.json").is_file():
            frames += _frames(root, root / "transforms_test.json", "test", frames[0].size if frames else None)
    return Capture(root, source, tuple(reduced(root, frame, downscale) for frame in frames))


def _frames(
    root: Path,
    source: Path,
    declared: Literal["train", "test"] | None,
    size: tuple[int, int] | None = None,
) -> list[Frame]:
    document = read_json(source)
    records = document.get("frames")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise SceneError(source, "has no list of frames", 'Write {"frames": [{"file_path": ...}, ...]}')
    shared = {key: value for key, value in document.items() if key != "frames"}
    frames = []
    for record in records:
        values = {**shared, **record}
        path = with_image_suffix(inside(root, record.get("file_path"), source))
        path = inside(root, str(path.relative_to(root)), source)
        if "w" in values and "h" in values:
            own_size = (int(number(source, values, "w")), int(number(source, values, "h")))
        else:
            size = own_size = size or _measure(path)
        focal, centre = _intrinsics(source, values, own_size)
        frames.append(
            Frame(
                source=source,
                path=path,
                world_to_camera=_world_to_camera(source, record),
                focal=focal,
                centre=centre,
                size=own_size,
                distortion=_distortion(source, values),
                depth=_optional(root, source, record, "depth_file_path"),
                mask=_optional(root, source, record, "mask_path"),
                declared=declared,
            )
        )
    return frames


def _measure(path: Path) -> tuple[int, int]:
    height, width = read_pixels(path).shape[:2]
    return width, height


def _optional(root: Path, source: Path, record: dict[str, Any], key: str) -> Path | None:
    return None if record.get(key) is None else inside(root, record[key], source)


def _world_to_camera(source: Path, record: dict[str, Any]) -> np.ndarray:
    camera_to_world = matrix4(source, record, "transform_matrix") * OPENGL_TO_OPENCV
    try:
        return np.linalg.inv(camera_to_world)
    except np.linalg.LinAlgError as error:
        raise SceneError(
            source, f"the pose of {record.get('file_path')} is not rigid: it is singular", "Give a rotation and a place"
        ) from error


def _intrinsics(
    source: Path, values: dict[str, Any], size: tuple[int, int]
) -> tuple[tuple[float, float], tuple[float, float]]:
    if "fl_x" in values:
        fx = number(source, values, "fl_x")
    else:
        angle = number(source, values, "camera_angle_x")
        if not 0 < angle < math.pi:
            raise SceneError(source, f"camera_angle_x is {angle}", "Give the whole angle of view, in radians")
        fx = size[0] / 2 / math.tan(angle / 2)
    fy = number(source, values, "fl_y", fx)
    return (fx, fy), (number(source, values, "cx", size[0] / 2), number(source, values, "cy", size[1] / 2))


def _distortion(source: Path, values: dict[str, Any]) -> Distortion | None:
    model = values.get("camera_model", "OPENCV_FISHEYE" if values.get("is_fisheye") else "OPENCV")
    k1, k2, k3, k4, p1, p2 = (number(source, values, key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if model == "OPENCV_FISHEYE":
        return Distortion((k1, k2, k3, k4), fisheye=True)
    if model not in PERSPECTIVE or k4:
        raise SceneError(
            source,
            f"camera_model is {model!r}" + (f" with k4 = {k4}" if k4 else ""),
            f"Known are {', '.join(PERSPECTIVE)} (without k4) and OPENCV_FISHEYE: undistort the photos otherwise",
        )
    lens = Distortion((k1, k2, p1, p2, k3, 0.0, 0.0, 0.0))
    return None if lens.is_none else lens
