"""A folder of one's own: clouds/*.{bin,npy,pcd,ply,las}, labels/*.json, and optionally cameras/*.json and splits/*.txt.

A label file is ``{"boxes": [{"class": "Car", "centre": [x, y, z], "size": [length, width, height], "yaw": radians}]}``,
each box optionally with ``velocity`` [x, y] in m/s. Axes are x forward, y left, z up; the centre is the middle of the
box, not its bottom; yaw is counter-clockwise from +x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from datasets.errors import SceneError
from datasets.pointclouds.clouds import Policy, finite_points, usable
from datasets.pointclouds.custom_cameras import read_cameras
from datasets.pointclouds.formats import SUFFIXES, check_cloud, read_cloud
from datasets.pointclouds.types import Boxes3D, PointCloudSample, wrap_angle
from datasets.scenes.files import read_bytes, read_json
from datasets.types import Cameras, Photo

BOX = '{"class": ..., "centre": [x, y, z], "size": [length, width, height], "yaw": radians}'


@dataclass(frozen=True)
class CustomFrame:
    """What is known of a frame before its cloud is opened."""

    name: str
    cloud: Path
    boxes: Boxes3D | None
    cameras: Cameras | None
    photos: tuple[Photo, ...]


class CustomDataset:
    """Frames of a folder of one's own, in the order of the split.

    Labels, cameras, and headers and sizes of clouds are checked when the data set is made. Points are read when a
    sample is asked for, which raises SceneError for damage that only they show (text that ends early).

    Args:
        root: the folder that holds ``clouds``.
        class_names: classes to detect; labels count in this order.
        split: name of a list of frames in ``splits``, one name a line, or None for every cloud in the order of names.
        channels: what a point holds, x, y, z first.
        labelled: whether a frame must have a label file; without, frames may lack them.
        other_classes: classes that labels may hold besides, which give no boxes.
        on_bad_frame: "error" for a frame that cannot be used, "skip" leaves it out; ``skipped`` says which and why.
        invalid_points: the same for NaN and infinite points of a cloud; one that holds nothing else becomes empty.

    Raises:
        SceneError, InputError: naming the file, what was found, and the mend.
    """

    def __init__(
        self,
        root: Path | str,
        class_names: Sequence[str],
        *,
        split: str | None = None,
        channels: Sequence[str] = ("x", "y", "z", "intensity"),
        labelled: bool = True,
        other_classes: Sequence[str] = (),
        on_bad_frame: Policy = "error",
        invalid_points: Policy = "error",
    ) -> None:
        self.root, self.class_names, self.channels = Path(root), tuple(class_names), tuple(channels)
        self.invalid_points: Policy = invalid_points
        clouds = {
            path.stem: path for path in sorted((self.root / "clouds").glob("*")) if path.suffix.lower() in SUFFIXES
        }
        if not clouds:
            mend = f"Put the clouds there, as {', '.join(SUFFIXES)}"
            raise SceneError(self.root / "clouds", "holds no clouds", mend)
        load = partial(
            _load_frame,
            root=self.root,
            clouds=clouds,
            channels=self.channels,
            labelled=labelled,
            class_names=self.class_names,
            other_classes=tuple(other_classes),
        )
        names = _all_names(self.root, clouds) if split is None else _split_names(self.root, split)
        self.frames, self.skipped = usable(names, load, on_bad_frame)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> PointCloudSample:
        frame = self.frames[index]
        points = finite_points(frame.cloud, read_cloud(frame.cloud, self.channels), self.invalid_points)
        return PointCloudSample(
            frame.name,
            torch.from_numpy(points),
            self.channels,
            self.class_names,
            frame.boxes,
            frame.cameras,
            frame.photos,
        )


def _all_names(root: Path, clouds: dict[str, Path]) -> list[str]:
    """Names of all clouds and of all labels, so that a label without a cloud is noticed."""
    return sorted({*clouds, *(path.stem for path in (root / "labels").glob("*.json"))})


def _split_names(root: Path, split: str) -> list[str]:
    path = root / "splits" / f"{split}.txt"
    if not path.is_file():
        found = sorted(file.stem for file in path.parent.glob("*.txt"))
        raise SceneError(path, "there is no such split", f"Choose one of {', '.join(found)}" if found else "Write it")
    names = read_bytes(path).decode("utf-8-sig", "replace").split()
    if not names:
        raise SceneError(path, "names no frames", "Write one name a line")
    return names


def _load_frame(
    name: str,
    root: Path,
    clouds: dict[str, Path],
    channels: tuple[str, ...],
    labelled: bool,
    class_names: tuple[str, ...],
    other_classes: tuple[str, ...],
) -> CustomFrame:
    if name not in clouds:
        mend = "Restore the cloud, or remove the label or the name from the split"
        raise SceneError(root / "clouds" / name, "there is no such cloud", mend)
    cloud, label, camera = clouds[name], root / "labels" / f"{name}.json", root / "cameras" / f"{name}.json"
    check_cloud(cloud, channels)
    boxes = read_boxes(label, class_names, other_classes) if labelled or label.is_file() else None
    cameras, photos = read_cameras(camera, root) if camera.is_file() else (None, ())
    return CustomFrame(name, cloud, boxes, cameras, photos)


def read_boxes(path: Path, class_names: Sequence[str], other_classes: Sequence[str] = ()) -> Boxes3D:
    """The boxes of a label file, in its order; those of ``other_classes`` are left out.

    Raises:
        SceneError: naming file and box, for another form, an unknown class, values that are not finite, sizes that are
            not positive.
    """
    records = read_json(path).get("boxes")
    if not isinstance(records, list):
        raise SceneError(path, "has no list of boxes", f'Write {{"boxes": [{BOX}, ...]}}')
    rows, labels, velocities = [], [], []
    for number, record in enumerate(records, 1):
        if not isinstance(record, dict):
            raise SceneError(path, f"box {number} is {record!r}", f"Write {BOX}")
        name = str(record.get("class"))
        row = [*_numbers(path, number, record, "centre", 3), *_numbers(path, number, record, "size", 3)]
        if min(row[3:]) <= 0:
            raise SceneError(path, f"box {number} has size {row[3:]}", "Sizes must be positive")
        yaw = _numbers(path, number, {"yaw": [record.get("yaw")]}, "yaw", 1)
        speed = _numbers(path, number, record, "velocity", 2) if "velocity" in record else [math.nan, math.nan]
        if name in class_names:
            rows.append(row + yaw)
            labels.append(list(class_names).index(name))
            velocities.append(speed)
        elif name not in other_classes:
            known = ", ".join([*class_names, *other_classes])
            mend = f"Correct it, or name it in class_names or other_classes (known: {known})"
            raise SceneError(path, f"box {number} has the unknown class {name!r}", mend)
    values = torch.tensor(rows, dtype=torch.float64).reshape(-1, 7)
    values[:, 6] = wrap_angle(values[:, 6])
    speeds = torch.tensor(velocities).reshape(-1, 2)
    known_speeds = bool(speeds.isfinite().any())
    return Boxes3D(values.float(), torch.tensor(labels, dtype=torch.int64), velocities=speeds if known_speeds else None)


def _numbers(path: Path, number: int, record: dict[str, Any], key: str, count: int) -> list[float]:
    values = record.get(key)
    if (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        and all(abs(value) < 1e9 for value in values)
    ):
        return [float(value) for value in values]
    raise SceneError(path, f"box {number} has {key} {values!r}", f"Give {key} as {count} finite number(s), as in {BOX}")
