"""Training samples varied at random: flips, rotation, scaling, translation, and when they fade.

A step is called as ``step(sample, random)`` and returns another sample. Steps change points, boxes and cameras
together. Channels called range, azimuth and elevation (degrees, either sign) are kept true to the moved points; other
channels stay, as they do not depend on where the sensor's axes lie. A radar's Doppler does where a sample is shifted or
tilted: it is true to the place where it was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from datasets.pointclouds.boxes import points_in_boxes
from datasets.pointclouds.types import Boxes3D, PointCloudSample, wrap_angle
from datasets.types import Cameras


class Step(Protocol):
    """One way to vary a sample."""

    def __call__(self, sample: PointCloudSample, random: np.random.Generator) -> PointCloudSample:
        """Another sample; the given one is not changed."""
        ...


class Samples(Protocol):
    """Samples by number."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> PointCloudSample: ...


@dataclass(frozen=True)
class Flip:
    """Mirror left and right, and where ``lengthwise`` front and back too, each with ``probability``.

    A mirrored sample has no cameras: no photo shows it.
    """

    probability: float = 0.5
    lengthwise: bool = False

    def __call__(self, sample: PointCloudSample, random: np.random.Generator) -> PointCloudSample:
        for axis in (1, 0) if self.lengthwise else (1,):
            if random.random() < self.probability:
                sample = flipped(sample, axis)
        return sample


@dataclass(frozen=True)
class Rotate:
    """Turn everything about the sensor by an angle drawn from [-limit, limit], in degrees."""

    limit: float = 45.0

    def __call__(self, sample: PointCloudSample, random: np.random.Generator) -> PointCloudSample:
        return moved(sample, angle=np.radians(random.uniform(-self.limit, self.limit)))


@dataclass(frozen=True)
class Scale:
    """Make everything larger or smaller by a factor drawn from [low, high]."""

    low: float = 0.95
    high: float = 1.05

    def __call__(self, sample: PointCloudSample, random: np.random.Generator) -> PointCloudSample:
        return moved(sample, scale=random.uniform(self.low, self.high))


@dataclass(frozen=True)
class Translate:
    """Shift everything by normal offsets of these standard deviations in metres."""

    x: float = 0.5
    y: float = 0.5
    z: float = 0.5

    def __call__(self, sample: PointCloudSample, random: np.random.Generator) -> PointCloudSample:
        return moved(sample, offset=random.normal(size=3) * (self.x, self.y, self.z))


@dataclass(frozen=True)
class Tilt:
    """Tilt the sensor, as its car does on its springs and where a street begins to climb: turn everything about x and
    about y by normal angles of ``spread`` degrees. Boxes stay upright and keep their yaw.
    """

    spread: float = 1.0

    def __call__(self, sample: PointCloudSample, random: np.random.Generator) -> PointCloudSample:
        roll, pitch = np.radians(random.normal(0, self.spread, 2))
        about_x = [[1, 0, 0], [0, np.cos(roll), -np.sin(roll)], [0, np.sin(roll), np.cos(roll)]]
        about_y = [[np.cos(pitch), 0, np.sin(pitch)], [0, 1, 0], [-np.sin(pitch), 0, np.cos(pitch)]]
        turn = torch.tensor(about_y, dtype=torch.float64) @ torch.tensor(about_x, dtype=torch.float64)
        return _placed(sample, turn, torch.zeros(3, dtype=torch.float64))


@dataclass(frozen=True)
class Ahead:
    """Keep only what lies within ``angle`` degrees about the x axis, for data that are annotated in a camera's view.

    Applied after turns and flips, each look at a cloud of all directions shows another part of it, and nothing is
    spent on what is never scored. A box stays where at least ``least`` of the points that are left lie in it.
    """

    angle: float = 90.0
    least: int = 5

    def __call__(self, sample: PointCloudSample, random: np.random.Generator) -> PointCloudSample:
        x, y = sample.points[:, :2].unbind(dim=1)
        points = sample.points[torch.atan2(y, x).abs() <= np.radians(self.angle / 2)]
        boxes = sample.boxes
        if boxes is not None:
            counts = points_in_boxes(points, boxes.boxes).sum(dim=1)
            boxes = boxes[counts >= self.least]
            if boxes.point_counts is not None:
                boxes = replace(boxes, point_counts=counts[counts >= self.least])
        return replace(sample, points=points, boxes=boxes)


class Augmented:
    """Samples varied by steps: the same for the same seed, epoch and number, whichever process asks.

    Args:
        samples: what is varied.
        steps: applied in order.
        fading: steps applied besides, before ``steps``, with a probability that falls.
        epochs: how long training lasts.
        fade: shares of the training between which the probability of ``fading`` falls from 1 to 0: the last epochs
            should show what the world looks like.
        seed: of all randomness.

    Raises:
        ValueError: for a fade that does not go forward within 0..1.
    """

    def __init__(
        self,
        samples: Samples,
        steps: Sequence[Step],
        *,
        fading: Sequence[Step] = (),
        epochs: int = 1,
        fade: tuple[float, float] = (0.8, 0.95),
        seed: int = 0,
    ) -> None:
        if not 0 <= fade[0] <= fade[1] <= 1 or epochs < 1:
            raise ValueError(f"fade is {fade} of {epochs} epochs: give two rising shares of the training in 0..1")
        self.samples, self.steps, self.fading = samples, tuple(steps), tuple(fading)
        self.epochs, self.fade, self.seed = epochs, fade, seed
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by loading processes that live on

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins, counted from 0."""
        self._epoch.fill_(epoch)

    def strength(self, epoch: int) -> float:
        """Probability of the fading steps in an epoch."""
        start, end = self.fade
        share = (epoch + 1) / self.epochs
        return float(share <= start) if start == end else min(max((end - share) / (end - start), 0.0), 1.0)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> PointCloudSample:
        sample, epoch = self.samples[index], int(self._epoch)
        random = np.random.default_rng((self.seed, epoch, index))
        for step in self.fading:
            if random.random() < self.strength(epoch):
                sample = step(sample, random)
        for step in self.steps:
            sample = step(sample, random)
        return sample


def flipped(sample: PointCloudSample, axis: int) -> PointCloudSample:
    """Mirrored along ``axis``: 1 swaps left and right, 0 front and back."""
    points = sample.points.clone()
    points[:, axis] *= -1
    boxes = sample.boxes
    if boxes is not None:
        values = boxes.boxes.clone()
        values[:, axis] *= -1
        values[:, 6] = wrap_angle(-values[:, 6] if axis == 1 else torch.pi - values[:, 6])
        velocities = None if boxes.velocities is None else boxes.velocities.clone()
        if velocities is not None:
            velocities[:, axis] *= -1
        boxes = replace(boxes, boxes=values, velocities=velocities)
    points = _polar(points, sample)
    return replace(sample, points=points, boxes=boxes, cameras=None, photos=())


def moved(
    sample: PointCloudSample, angle: float = 0.0, scale: float = 1.0, offset: Sequence[float] | np.ndarray = (0, 0, 0)
) -> PointCloudSample:
    """Turned by ``angle`` about z, then scaled, then shifted: points p become scale * R p + offset."""
    cos, sin = np.cos(angle), np.sin(angle)
    turn = torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], dtype=torch.float64)
    return _placed(sample, turn, torch.as_tensor(np.asarray(offset), dtype=torch.float64), angle, scale)


def _placed(
    sample: PointCloudSample, turn: Tensor, shift: Tensor, angle: float = 0.0, scale: float = 1.0
) -> PointCloudSample:
    """Points p become scale * turn p + shift; boxes are turned by ``angle`` about z, whatever ``turn`` does."""

    def place(xyz: Tensor) -> Tensor:
        return (scale * xyz.double() @ turn.T + shift).to(xyz.dtype)

    points = sample.points.clone()
    points[:, :3] = place(points[:, :3])
    boxes, cameras = sample.boxes, sample.cameras
    if boxes is not None:
        boxes = _moved_boxes(boxes, place(boxes.boxes[:, :3]), angle, scale, turn)
    if cameras is not None:
        cameras = _moved_cameras(cameras, turn, scale, shift)
    return replace(sample, points=_polar(points, sample), boxes=boxes, cameras=cameras)


def _moved_boxes(boxes: Boxes3D, centres: Tensor, angle: float, scale: float, turn: Tensor) -> Boxes3D:
    yaw = wrap_angle(boxes.boxes[:, 6:] + angle)
    velocities = boxes.velocities
    if velocities is not None:
        velocities = (scale * velocities.double() @ turn[:2, :2].T).to(velocities.dtype)
    return replace(boxes, boxes=torch.cat([centres, boxes.boxes[:, 3:6] * scale, yaw], dim=1), velocities=velocities)


def _moved_cameras(cameras: Cameras, turn: Tensor, scale: float, shift: Tensor) -> Cameras:
    """Cameras of a scaled world see the same pixels from scaled distances, so that they stay rigid."""
    pose = cameras.world_to_camera.double().clone()
    rotation = pose[:, :3, :3] @ turn.T
    pose[:, :3, 3] = scale * pose[:, :3, 3] - rotation @ shift
    pose[:, :3, :3] = rotation
    return replace(cameras, world_to_camera=pose.to(cameras.world_to_camera.dtype))


def _polar(points: Tensor, before: PointCloudSample) -> Tensor:
    """``points`` with range, azimuth and elevation channels recomputed, with the signs that they had ``before``."""
    for column, name in enumerate(before.channels):
        if name in ("range", "azimuth", "elevation"):
            old = before.points[:, column]
            sign = -1 if name != "range" and (old * _spherical(before.points, name)).sum() < 0 else 1
            points[:, column] = sign * _spherical(points, name)
    return points


def _spherical(points: Tensor, name: str) -> Tensor:
    x, y, z = points[:, :3].unbind(dim=1)
    if name == "range":
        return points[:, :3].norm(dim=1)
    return torch.rad2deg(torch.atan2(y, x) if name == "azimuth" else torch.atan2(z, torch.hypot(x, y)))
