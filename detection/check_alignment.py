"""Whether boxes lie on their points, and if not, which usual mistake would explain it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from datasets.pointclouds.boxes import in_box_axes
from datasets.pointclouds.types import PointCloudSample

SHELL = 0.4  # metres around a box that should hold few points, since an object ends with its box
GROUND = 0.2  # metres above the lowest points nearby that count as ground
REACH = 2.0  # metres around a box in which its ground is looked for
CLEARLY = 0.06  # by how much a mistake must explain the points better than none
ERRORS = 3.0  # and by how many standard errors


@dataclass(frozen=True)
class Mistake:
    """A way in which boxes [M, 7] or points [N, 3] may have been written, undone by ``mend``.

    ``mend`` is a function of boxes and points.
    """

    found: str
    advice: str
    mend: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _boxes(change: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return lambda boxes, points: (change(boxes.clone()), points)


def _raised(boxes: Tensor, share: float) -> Tensor:
    boxes[:, 2] += share * boxes[:, 5]
    return boxes


def _yaw(boxes: Tensor, sign: float, offset: float) -> Tensor:
    boxes[:, 6] = sign * boxes[:, 6] + offset
    return boxes


def _turned(boxes: Tensor, quarters: int) -> Tensor:
    for _ in range(quarters):
        boxes[:, :2] = torch.stack([-boxes[:, 1], boxes[:, 0]], dim=1)
        boxes[:, 6] += torch.pi / 2
    return boxes


def _mirrored(boxes: Tensor, axis: int) -> Tensor:
    boxes[:, axis] *= -1
    boxes[:, 6] = -boxes[:, 6] if axis == 1 else torch.pi - boxes[:, 6]
    return boxes


def _scaled(boxes: Tensor, scale: float) -> Tensor:
    boxes[:, :6] *= scale
    return boxes


def _camera_points(boxes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    return boxes, torch.stack([points[:, 2], -points[:, 0], -points[:, 1]], dim=1)


AXES = "Axes must be x forward, y left, z up, the same for points and boxes"
CENTRE = "z must be that of the box's middle"
MISTAKES = (
    Mistake(
        "the boxes' z is that of their bottom", f"{CENTRE}: add half the height", _boxes(lambda b: _raised(b, 0.5))
    ),
    Mistake(
        "the boxes' z is that of their top", f"{CENTRE}: take off half the height", _boxes(lambda b: _raised(b, -0.5))
    ),
    Mistake(
        "yaw turns clockwise",
        "Yaw must be counter-clockwise seen from above: negate it",
        _boxes(lambda b: _yaw(b, -1, 0)),
    ),
    Mistake(
        "length and width are exchanged, or yaw is off by 90°",
        "Length must lie along the heading, and yaw 0 must mean +x",
        _boxes(lambda b: _yaw(b, 1, torch.pi / 2)),
    ),
    Mistake(
        "yaw turns clockwise and starts at another axis",
        "Yaw must be counter-clockwise from +x: KITTI's rotation_y becomes -rotation_y - 90°",
        _boxes(lambda b: _yaw(b, -1, -torch.pi / 2)),
    ),
    Mistake("left and right are exchanged between boxes and points", AXES, _boxes(lambda b: _mirrored(b, 1))),
    Mistake("front and back are exchanged between boxes and points", AXES, _boxes(lambda b: _mirrored(b, 0))),
    *(
        Mistake(f"boxes and points are turned by {90 * n}° to one another", AXES, _boxes(partial(_turned, quarters=n)))
        for n in (1, 2, 3)
    ),
    Mistake("the points have camera axes (x right, y down, z forward)", AXES, _camera_points),
    Mistake(
        "the boxes are in centimetres", "Lengths must be in metres: divide by 100", _boxes(lambda b: _scaled(b, 0.01))
    ),
    Mistake(
        "the boxes are in millimetres", "Lengths must be in metres: divide by 1000", _boxes(lambda b: _scaled(b, 0.001))
    ),
)


def fit(points: Tensor, boxes: Tensor) -> Tensor:
    """[M] how well each of boxes [M, 7] holds an object of points [N, 3].

    The share of the points in and closely around the box, without the ground, that are inside; 0 where there are none.
    """
    values = torch.zeros(len(boxes))
    ordered = points[points[:, 0].argsort()]
    x = ordered[:, 0].contiguous()
    for i, box in enumerate(boxes):
        radius = box[3:5].norm() / 2 + REACH
        first, last = torch.searchsorted(x, torch.stack([box[0] - radius, box[0] + radius])).tolist()
        near = ordered[first:last]
        near = near[(near[:, 1] - box[1]).abs() <= radius]
        if not len(near):
            continue
        ground = near[:, 2].kthvalue(1 + len(near) // 50).values
        near = near[near[:, 2] > ground + GROUND]
        seen = in_box_axes(near, box[None])[0].abs()
        inside = (seen <= box[3:6] / 2).all(dim=1).sum()
        around = (seen <= box[3:6] / 2 + SHELL).all(dim=1).sum()
        values[i] = inside / around.clamp(min=1)
    return values


def explain(samples: Sequence[PointCloudSample]) -> tuple[float, Mistake | None]:
    """Mean fit of the boxes as they are, and the mistake that explains the points clearly better, if any."""
    annotated = [sample for sample in samples if sample.boxes is not None and len(sample.boxes)]
    if not annotated:
        return float("nan"), None
    plain = torch.cat([fit(sample.points[:, :3], sample.boxes.boxes) for sample in annotated if sample.boxes])
    best, gain = None, CLEARLY
    for mistake in MISTAKES:
        mended = []
        for sample in annotated:
            if sample.boxes is not None:
                boxes, points = mistake.mend(sample.boxes.boxes, sample.points[:, :3])
                mended.append(fit(points, boxes))
        better = torch.cat(mended) - plain
        error = better.std() / len(better) ** 0.5 if len(better) > 1 else torch.tensor(torch.inf)
        if better.mean() > gain and better.mean() > ERRORS * error:
            best, gain = mistake, float(better.mean())
    return float(plain.mean()), best
