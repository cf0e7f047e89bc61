"""Which points lie in which boxes, and which boxes meet: what readers, augmentation and checks ask of boxes [M, 7]."""

from __future__ import annotations

import torch
from torch import Tensor

from datasets.types import expect_shape


def in_box_axes(points: Tensor, boxes: Tensor) -> Tensor:
    """[M, N, 3]: points [N, 3 or more] as seen from each of boxes [M, 7]: along its length, width and height."""
    offset = points[None, :, :3] - boxes[:, None, :3]
    cos, sin = boxes[:, 6:].cos(), boxes[:, 6:].sin()
    along = offset[..., 0] * cos + offset[..., 1] * sin
    across = offset[..., 1] * cos - offset[..., 0] * sin
    return torch.stack([along, across, offset[..., 2]], dim=2)


def points_in_boxes(points: Tensor, boxes: Tensor, margin: float = 0.0) -> Tensor:
    """[M, N] bool: which of points [N, 3 or more] lie in each of boxes [M, 7], grown by ``margin`` metres a side."""
    expect_shape("boxes", boxes, (None, 7))
    inside = torch.zeros(len(boxes), len(points), dtype=torch.bool, device=points.device)
    for row, box in zip(inside, boxes, strict=True):
        reach = box[3:6].norm() / 2 + 2 * margin
        near = ((points[:, :2] - box[:2]).abs() <= reach).all(dim=1).nonzero()[:, 0]
        seen = in_box_axes(points[near], box[None])[0].abs()
        row[near] = (seen <= box[3:6] / 2 + margin).all(dim=1)
    return inside


def corners_bev(boxes: Tensor) -> Tensor:
    """[M, 4, 2] footprint of boxes [M, 7], counter-clockwise from the front left."""
    signs = torch.tensor([[1, 1], [-1, 1], [-1, -1], [1, -1]], dtype=boxes.dtype, device=boxes.device)
    x, y = (signs * (boxes[:, None, 3:5] / 2)).unbind(dim=-1)
    cos, sin = boxes[:, 6:].cos(), boxes[:, 6:].sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1) + boxes[:, None, :2]


def meet_bev(first: Tensor, second: Tensor) -> Tensor:
    """[A, B] bool: whether footprints share more than their edges, by the separating axes of two rectangles."""
    expect_shape("first", first, (None, 7))
    expect_shape("second", second, (None, 7))
    meets = torch.ones(len(first), len(second), dtype=torch.bool, device=first.device)
    if not meets.numel():
        return meets
    a, b = corners_bev(first)[:, None], corners_bev(second)[None]
    for yaw in (
        first[:, None, 6],
        first[:, None, 6] + torch.pi / 2,
        second[None, :, 6],
        second[None, :, 6] + torch.pi / 2,
    ):
        axis = torch.stack([yaw.cos(), yaw.sin()], dim=-1)[..., None]
        one, two = (a @ axis)[..., 0], (b @ axis)[..., 0]
        meets &= (one.amax(dim=2) > two.amin(dim=2)) & (two.amax(dim=2) > one.amin(dim=2))
    return meets
