"""Boxes: our JSON, nuScenes-like samples in it, and KITTI's text files.

Our JSON: ``{"class_names": [...], "frames": [{"frame"?: name, "boxes": [[x, y, z, l, w, h, yaw], ...],
"labels": [...], "scores"?: [...]}, ...]}``, in the axes of the points; a file of one frame may leave ``frames`` out.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from datasets.errors import SceneError
from datasets.pointclouds.kitti_calibration import AXES_ONLY, read_calibration, to_boxes
from datasets.pointclouds.kitti_labels import read_objects
from datasets.pointclouds.types import Boxes3D, wrap_angle
from datasets.scenes.files import read_bytes, read_json
from viewer.reading.world import World

_MEND = 'Write {"class_names": [...], "boxes": [[x, y, z, l, w, h, yaw], ...], "labels": [...], "scores": [...]}'
_MOST = 1_000_000  # boxes of a file


@dataclass(frozen=True)
class BoxFile:
    """Boxes of each frame, the frames' names ("" where the file has none), and what labels mean."""

    boxes: tuple[Boxes3D, ...]
    frames: tuple[str, ...]
    class_names: tuple[str, ...]


def is_box_json(document: dict[str, Any]) -> bool:
    """Whether a JSON object looks like boxes (and not like cameras or something else)."""
    frames = document.get("frames")
    return "boxes" in document or (
        isinstance(frames, list) and bool(frames) and isinstance(frames[0], dict) and "boxes" in frames[0]
    )


def read_json_boxes(path: Path, world: World | None = None) -> BoxFile:
    """Boxes of our JSON, placed in ``world``.

    Raises:
        SceneError: naming the file, what was found, and the mend.
    """
    document = read_json(path)
    names = document.get("class_names", [])
    frames = document.get("frames", [document])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SceneError(path, "its class_names are no list of words", _MEND)
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise SceneError(path, "its frames are no list of objects", _MEND)
    boxes = tuple(_frame(path, i, frame, world or World()) for i, frame in enumerate(frames))
    if sum(map(len, boxes)) > _MOST:
        raise SceneError(path, f"holds {sum(map(len, boxes))} boxes", f"At most {_MOST} can be shown")
    return BoxFile(boxes, tuple(str(frame.get("frame", "")) for frame in frames), tuple(names))


def _frame(path: Path, index: int, frame: dict[str, Any], world: World) -> Boxes3D:
    def numbers(key: str, shape: tuple[int, ...]) -> np.ndarray:
        try:
            value = np.array(frame[key], np.float64).reshape(shape)
        except (ValueError, TypeError, OverflowError, KeyError) as error:
            raise SceneError(path, f"frame {index}: {key} are no such numbers ({error})", _MEND) from error
        if not np.isfinite(value).all() or np.abs(value).max(initial=0) > 1e9:
            raise SceneError(path, f"frame {index}: {key} hold NaN, infinity or an absurd number", _MEND)
        return value

    boxes = numbers("boxes", (-1, 7))
    if (boxes[:, 3:6] <= 0).any():
        raise SceneError(path, f"frame {index}: a box has a length, width or height that is not positive", _MEND)
    boxes[:, :3] -= world.of(boxes[:, :3])
    count = len(boxes)
    labels = numbers("labels", (count,)) if "labels" in frame else np.zeros(count)
    scores = numbers("scores", (count,)) if frame.get("scores") is not None else None
    tensor = torch.from_numpy(boxes).float()
    tensor[:, 6] = wrap_angle(tensor[:, 6])
    return Boxes3D(
        tensor,
        torch.from_numpy(labels).long(),
        None if scores is None else torch.from_numpy(scores).float(),
    )


def read_kitti_boxes(paths: list[Path]) -> BoxFile:
    """Boxes of KITTI label or result files, one a frame, in the sensor's axes by the calibration beside each file.

    Without calib/NAME.txt in the folder above, the sensor is taken to stand where the camera does.

    Raises:
        SceneError: naming the file, what was found, and the mend.
    """
    objects = [read_objects(path, _has_scores(path)) for path in paths]
    names = tuple(sorted({str(name) for one in objects for name in one.names} - {"DontCare"}))
    boxes = []
    for path, one in zip(paths, objects, strict=True):
        calibration = path.parent.parent / "calib" / path.name
        found = read_calibration(calibration) if calibration.is_file() else AXES_ONLY
        boxes.append(to_boxes(one, found, names))
    return BoxFile(tuple(boxes), tuple(path.stem for path in paths), names)


def _has_scores(path: Path) -> bool:
    lines = read_bytes(path).splitlines()
    first = next((line for line in lines if line.strip()), b"")
    return len(first.split()) == 16
