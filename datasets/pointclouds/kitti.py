"""The KITTI object layout: velodyne/*.bin, label_2/*.txt, calib/*.txt, optionally image_2, and ImageSets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from datasets.errors import SceneError
from datasets.pointclouds.clouds import Policy, check_bin_size, finite_points, read_bin, usable
from datasets.pointclouds.kitti_calibration import KittiCalibration, read_calibration, to_boxes
from datasets.pointclouds.kitti_labels import CLASSES, KittiObjects, read_objects
from datasets.pointclouds.types import PointCloudSample
from datasets.scenes.files import read_bytes, read_head
from datasets.scenes.images import plain_photo, read_pixels

LIDAR_CHANNELS = ("x", "y", "z", "intensity")


@dataclass(frozen=True)
class KittiFrame:
    """What is known of a frame before its cloud is opened: ``objects`` is None where the frame has no label file."""

    name: str
    cloud: Path
    calibration: KittiCalibration
    objects: KittiObjects | None
    photo: Path | None


class KittiDataset:
    """Frames of a folder in KITTI's layout, in the order of the split.

    Labels and calibration are read and checked when the data set is made, clouds when a sample is asked for.

    Args:
        root: the folder with velodyne, calib and label_2, or the one above it where these are in ``training``.
        class_names: classes to detect; labels count in this order.
        split: name of a list in ImageSets, or None for every cloud in the order of the names.
        channels: what a point of the .bin files holds, float32 each.
        labelled: whether a frame must have a label file; without, frames may lack them.
        other_classes: classes that labels may hold besides, which give no boxes.
        image_size: (width, height) of the photos; None reads them, or where there are none takes the principal point
            for the middle.
        on_bad_frame: "error" for a frame that cannot be used (no cloud, no label, damaged label), "skip" leaves it out;
            ``skipped`` then says which and why.
        invalid_points: the same for NaN and infinite points of a cloud; one that holds nothing else becomes empty.

    Raises:
        SceneError, InputError: naming the file, what was found, and the mend.
    """

    def __init__(
        self,
        root: Path | str,
        class_names: Sequence[str] = ("Car", "Pedestrian", "Cyclist"),
        *,
        split: str | None = None,
        channels: Sequence[str] = LIDAR_CHANNELS,
        labelled: bool = True,
        other_classes: Sequence[str] = CLASSES,
        image_size: tuple[int, int] | None = None,
        on_bad_frame: Policy = "error",
        invalid_points: Policy = "error",
    ) -> None:
        self.root = Path(root)
        self.class_names = tuple(class_names)
        self.channels = tuple(channels)
        self.image_size = image_size
        self.invalid_points: Policy = invalid_points
        folder = _data_folder(self.root)
        names = _all_names(folder, labelled) if split is None else _split_names(self.root, split)
        known = {*class_names, *other_classes}
        load = partial(_load_frame, folder=folder, channels=self.channels, labelled=labelled, known=known)
        self.frames, self.skipped = usable(names, load, on_bad_frame)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> PointCloudSample:
        frame = self.frames[index]
        points = finite_points(frame.cloud, read_bin(frame.cloud, self.channels), self.invalid_points)
        objects, photo = frame.objects, frame.photo
        camera = frame.calibration.camera(self.size(index))
        return PointCloudSample(
            frame.name,
            torch.from_numpy(points),
            self.channels,
            self.class_names,
            None if objects is None else to_boxes(objects, frame.calibration, self.class_names),
            camera,
            (plain_photo(photo),) if camera is not None and photo is not None else (),
        )

    def class_counts(self) -> Counter[str]:
        """How often each class stands in the labels, chosen or not."""
        return Counter(
            name for frame in self.frames if frame.objects is not None for name in frame.objects.names.tolist()
        )

    def size(self, index: int) -> tuple[int, int]:
        """(width, height) of the frame's image, as the argument ``image_size`` says; (0, 0) without P2."""
        frame = self.frames[index]
        if self.image_size is not None:
            return self.image_size
        if frame.photo is not None:
            return photo_size(frame.photo)
        return (0, 0) if frame.calibration.projection is None else frame.calibration.image_size()


def _data_folder(root: Path) -> Path:
    for folder in (root, root / "training"):
        if (folder / "velodyne").is_dir():
            return folder
    mend = "Give the folder that holds velodyne, label_2 and calib, or the one above where these are in training"
    raise SceneError(root, "has neither velodyne nor training/velodyne", mend)


def _all_names(folder: Path, labelled: bool) -> list[str]:
    """Names of all clouds and, where labels are asked for, of these, so that a label without a cloud is noticed."""
    names = {path.stem for path in (folder / "velodyne").glob("*.bin")}
    if not names:
        raise SceneError(folder / "velodyne", "holds no .bin files", "Put the clouds there")
    if labelled:
        names.update(path.stem for path in (folder / "label_2").glob("*.txt"))
    return sorted(names)


def _split_names(root: Path, split: str) -> list[str]:
    path = root / "ImageSets" / f"{split}.txt"
    if not path.is_file():
        found = sorted(file.stem for file in path.parent.glob("*.txt"))
        raise SceneError(path, "there is no such split", f"Choose one of {', '.join(found)}" if found else "Write it")
    names = read_bytes(path).decode("utf-8-sig", "replace").split()
    if not names:
        raise SceneError(path, "names no frames", "Write one name a line")
    if wrong := [name for name in names if Path(name).name != name]:
        raise SceneError(path, f"{wrong[0]!r} is no name of a frame", "Write one name a line, without folders")
    return names


def _load_frame(name: str, folder: Path, channels: tuple[str, ...], labelled: bool, known: set[str]) -> KittiFrame:
    cloud = folder / "velodyne" / f"{name}.bin"
    if not cloud.is_file():
        raise SceneError(
            cloud, "there is no such cloud", "Restore it, or take its label away, or the frame out of the split"
        )
    check_bin_size(cloud, cloud.stat().st_size, channels)
    label = folder / "label_2" / f"{name}.txt"
    objects = read_objects(label) if labelled or label.is_file() else None
    if objects is not None and (unknown := sorted(set(objects.names.tolist()) - known)):
        mend = f"Correct it, or name it in class_names or other_classes (known: {', '.join(sorted(known))})"
        raise SceneError(label, f"unknown class {unknown[0]!r}", mend)
    return KittiFrame(
        name, cloud, read_calibration(folder / "calib" / f"{name}.txt"), objects, find_photo(folder, name)
    )


def find_photo(folder: Path, name: str) -> Path | None:
    """The photo of a frame in ``folder``, which holds image_2; None where there is none."""
    photos = (folder / "image_2" / f"{name}{suffix}" for suffix in (".png", ".jpg", ".jpeg"))
    return next((path for path in photos if path.is_file()), None)


def photo_size(path: Path) -> tuple[int, int]:
    """(width, height) of a photo; of a PNG, which KITTI's are, from its first bytes alone.

    Raises:
        SceneError: where it cannot be read.
    """
    head, _ = read_head(path, 24)
    if head.startswith(b"\x89PNG") and len(head) == 24:
        return int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:], "big")
    height, width = read_pixels(path).shape[:2]
    return width, height
