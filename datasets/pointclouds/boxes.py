"""Which points lie in which boxes, and which boxes meet: what readers, augmentation and checks ask of boxes [M, 7].

Few boxes and few points are the rule, for which numpy takes a fraction of torch's time.
"""

from __future__ import annotations

import numpy as np
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
    inside = np.zeros((len(boxes), len(points)), np.bool_)
    xyz, values = points[:, :3].detach().cpu().numpy(), boxes.detach().cpu().numpy()
    cos, sin = np.cos(values[:, 6]), np.sin(values[:, 6])
    reach = np.sqrt((values[:, 3:6] ** 2).sum(axis=1)) / 2 + 2 * margin
    for i, box in enumerate(values):
        near = np.flatnonzero((np.abs(xyz[:, 0] - box[0]) <= reach[i]) & (np.abs(xyz[:, 1] - box[1]) <= reach[i]))
        x, y, z = (xyz[near] - box[:3]).T
        length, width, height = box[3:6] / 2 + margin
        within = (np.abs(x * cos[i] + y * sin[i]) <= length) & (np.abs(y * cos[i] - x * sin[i]) <= width)
        inside[i, near] = within & (np.abs(z) <= height)
    return torch.from_numpy(inside).to(points.device)


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
    if not len(first) or not len(second):
        return torch.zeros(len(first), len(second), dtype=torch.bool, device=first.device)
    one, two = first.detach().cpu().double().numpy(), second.detach().cpu().double().numpy()
    turned = _overlap_along(two, one).T
    return torch.from_numpy(_overlap_along(one, two) & turned).to(first.device)


def _overlap_along(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[A, B] whether footprints of [A, 7] and [B, 7] overlap as seen along both sides of the first one."""
    turn = second[None, :, 6] - first[:, None, 6]
    cos, sin = np.abs(np.cos(turn)), np.abs(np.sin(turn))
    offset = second[None, :, :2] - first[:, None, :2]
    ahead, aside = np.cos(first[:, 6])[:, None], np.sin(first[:, 6])[:, None]
    along = np.abs(offset[..., 0] * ahead + offset[..., 1] * aside)
    across = np.abs(offset[..., 1] * ahead - offset[..., 0] * aside)
    length, width = second[None, :, 3], second[None, :, 4]
    return (2 * along < first[:, None, 3] + length * cos + width * sin) & (
        2 * across < first[:, None, 4] + length * sin + width * cos
    )
