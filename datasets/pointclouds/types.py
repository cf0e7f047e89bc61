"""Boxes, clouds and batches: the types that readers produce and that detection and the viewer consume.

Conventions, stated once: axes are x forward, y left, z up, in metres; a box is x, y, z of its centre, length (along its
heading), width, height, and yaw, counter-clockwise from +x in [-pi, pi).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datasets.pointclouds.boxes import corners_bev
from datasets.types import Cameras, Photo, expect_shape

OPTIONAL = ("scores", "velocities", "attributes", "point_counts")


def wrap_angle(angle: Tensor) -> Tensor:
    """``angle`` in radians brought into [-pi, pi)."""
    wrapped = torch.remainder(angle + torch.pi, 2 * torch.pi) - torch.pi
    return torch.where(wrapped >= torch.pi, -torch.pi, wrapped)


@dataclass(frozen=True)
class Boxes3D:
    """M oriented boxes, annotated or detected.

    Attributes:
        boxes: [M, 7] float32: centre x, y, z, length, width, height, yaw counter-clockwise from +x in [-pi, pi).
        labels: [M] int64, indices into the class names of the sample.
        scores: [M] float32 confidence, or None.
        velocities: [M, 2] float32 in m/s along x and y, NaN where unknown, or None.
        attributes: [M] int64 indices into the attribute names of the source (nuScenes), -1 for none, or None.
        point_counts: [M] int64 points inside as the source states them, or None.

    Raises:
        ValueError: for shapes or types that disagree.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor | None = None
    velocities: Tensor | None = None
    attributes: Tensor | None = None
    point_counts: Tensor | None = None

    def __post_init__(self) -> None:
        expect_shape("boxes", self.boxes, (None, 7))
        count = len(self.boxes)
        expect_shape("labels", self.labels, (count,))
        for name in OPTIONAL:
            value = getattr(self, name)
            if value is not None:
                expect_shape(name, value, (count, 2) if name == "velocities" else (count,))
        for name in ("labels", "attributes", "point_counts"):
            value = getattr(self, name)
            if value is not None and value.dtype != torch.int64:
                raise ValueError(f"{name} has type {value.dtype}, expected torch.int64")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Boxes3D:
        """Boxes at ``index`` (a mask, a slice, or numbers); a single number gives one box."""
        chosen: slice | Sequence[int] | Tensor = [index] if isinstance(index, int) else index
        optional = (getattr(self, name) for name in OPTIONAL)
        return Boxes3D(
            self.boxes[chosen], self.labels[chosen], *(None if value is None else value[chosen] for value in optional)
        )

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Boxes3D:
        """Move to ``device`` and convert the real-valued tensors to ``dtype``."""

        def moved(value: Tensor | None) -> Any:
            return None if value is None else value.to(device, dtype if value.is_floating_point() else None)

        return Boxes3D(moved(self.boxes), moved(self.labels), *(moved(getattr(self, name)) for name in OPTIONAL))

    def corners(self) -> Tensor:
        """[M, 8, 3]: the four lower corners counter-clockwise from the front left, then the four above them."""
        flat = corners_bev(self.boxes)
        heights = (self.boxes[:, 2:3] + side * self.boxes[:, 5:6] / 2 for side in (-1, 1))
        return torch.cat([torch.cat([flat, z[:, None].expand(-1, 4, 1)], dim=2) for z in heights], dim=1)

    @staticmethod
    def empty(device: torch.device | str | None = None) -> Boxes3D:
        """No boxes."""
        return Boxes3D(torch.zeros(0, 7, device=device), torch.zeros(0, dtype=torch.int64, device=device))

    @staticmethod
    def concatenate(batches: Sequence[Boxes3D]) -> Boxes3D:
        """All boxes in order; an optional tensor stays where every batch has it, batches without boxes aside."""
        batches = [batch for batch in batches if len(batch)] or list(batches[:1])
        if not batches:
            return Boxes3D.empty()
        optional = ([getattr(batch, name) for batch in batches] for name in OPTIONAL)
        return Boxes3D(
            torch.cat([batch.boxes for batch in batches]),
            torch.cat([batch.labels for batch in batches]),
            *(None if any(value is None for value in values) else torch.cat(values) for values in optional),
        )


@dataclass(frozen=True)
class PointCloudSample:
    """One cloud, as a sensor (or several sweeps of it) saw the world at one moment.

    Attributes:
        frame: name of the frame, for messages and results.
        points: [N, C] float32 of which the first three channels are x, y, z.
        channels: names of the C channels, beginning with x, y, z.
        class_names: what the labels of ``boxes`` mean.
        boxes: annotated boxes, or None where the frame has no annotation (which is not the same as no boxes).
        cameras: cameras whose ``world_to_camera`` starts from the axes of the points, or None.
        photos: what ``cameras`` took, in their order, or nothing.
    """

    frame: str
    points: Tensor
    channels: tuple[str, ...]
    class_names: tuple[str, ...]
    boxes: Boxes3D | None = None
    cameras: Cameras | None = None
    photos: tuple[Photo, ...] = ()

    def __post_init__(self) -> None:
        _check_channels(self.points, self.channels)
        _check_labels(self.frame, self.boxes, self.class_names)
        if self.photos and len(self.photos) != (0 if self.cameras is None else len(self.cameras)):
            raise ValueError(f"{len(self.photos)} photos but {len(self.cameras or ())} cameras")

    def __len__(self) -> int:
        return len(self.points)

    def to(self, device: torch.device | str | None = None) -> PointCloudSample:
        """The same on ``device``."""
        return PointCloudSample(
            self.frame,
            self.points.to(device),
            self.channels,
            self.class_names,
            None if self.boxes is None else self.boxes.to(device),
            None if self.cameras is None else self.cameras.to(device),
            self.photos,
        )


@dataclass(frozen=True)
class PointCloudBatch:
    """B clouds in one tensor.

    Attributes:
        frames: B names.
        points: [N, C] float32 points of all clouds, in order.
        batch_index: [N] int64, the cloud of each point; a cloud may have none.
        channels, class_names: as in :class:`PointCloudSample`.
        boxes: B sets of boxes, or None where any frame has no annotation.
    """

    frames: tuple[str, ...]
    points: Tensor
    batch_index: Tensor
    channels: tuple[str, ...]
    class_names: tuple[str, ...]
    boxes: tuple[Boxes3D, ...] | None = None

    def __post_init__(self) -> None:
        _check_channels(self.points, self.channels)
        expect_shape("batch_index", self.batch_index, (len(self.points),))
        if self.batch_index.dtype != torch.int64:
            raise ValueError(f"batch_index has type {self.batch_index.dtype}, expected torch.int64")
        if self.boxes is not None and len(self.boxes) != len(self.frames):
            raise ValueError(f"{len(self.frames)} clouds but {len(self.boxes)} sets of boxes")

    def __len__(self) -> int:
        return len(self.frames)

    def to(self, device: torch.device | str | None = None) -> PointCloudBatch:
        """The same on ``device``."""
        return PointCloudBatch(
            self.frames,
            self.points.to(device),
            self.batch_index.to(device),
            self.channels,
            self.class_names,
            None if self.boxes is None else tuple(boxes.to(device) for boxes in self.boxes),
        )

    @staticmethod
    def collate(samples: Sequence[PointCloudSample]) -> PointCloudBatch:
        """The clouds of ``samples`` in one batch; ValueError where their channels or classes differ."""
        if not samples:
            raise ValueError("a batch needs at least one sample")
        for name in ("channels", "class_names"):
            found = {getattr(sample, name) for sample in samples}
            if len(found) != 1:
                raise ValueError(f"the samples of a batch differ in {name}: {sorted(found)}")
        boxes = [sample.boxes for sample in samples if sample.boxes is not None]
        sizes = torch.tensor([len(sample) for sample in samples])
        return PointCloudBatch(
            tuple(sample.frame for sample in samples),
            torch.cat([sample.points for sample in samples]),
            torch.arange(len(samples)).repeat_interleave(sizes).to(samples[0].points.device),
            samples[0].channels,
            samples[0].class_names,
            tuple(boxes) if len(boxes) == len(samples) else None,
        )


def _check_channels(points: Tensor, channels: tuple[str, ...]) -> None:
    if channels[:3] != ("x", "y", "z"):
        raise ValueError(f"the channels {channels} do not begin with x, y, z")
    expect_shape(f"points with channels {', '.join(channels)}", points, (None, len(channels)))
    if points.dtype != torch.float32:
        raise ValueError(f"points has type {points.dtype}, expected torch.float32")


def _check_labels(frame: str, boxes: Boxes3D | None, class_names: tuple[str, ...]) -> None:
    if (
        boxes is not None
        and len(boxes)
        and not 0 <= int(boxes.labels.min()) <= int(boxes.labels.max()) < len(class_names)
    ):
        raise ValueError(f"{frame}: labels {boxes.labels.unique().tolist()} do not fit {len(class_names)} classes")
