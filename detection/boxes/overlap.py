"""How much oriented boxes overlap: from above (BEV) and in space, aligned [M] or pairwise [N, M].

The area two rectangles share is taken in the frame of the second one, where it is |x| <= a, |y| <= b. There the
overlap of the first rectangle's boundary is the integral of clamp(y, -b, b) over x in [-a, a], edge by edge: what the
upper edges give less what the lower ones do. No vertices are sorted and none are compared, so touching, identical and
thin boxes need no special case, the area changes continuously with the boxes, and autograd gives its gradient.
Everything is computed in double precision and returned in the dtype of the first argument.
"""

from __future__ import annotations

import torch
from torch import Tensor

from datasets.types import expect_shape

CORNERS = ((1, 1), (-1, 1), (-1, -1), (1, -1))  # counter-clockwise from the front left


def corners_bev(boxes: Tensor) -> Tensor:
    """[M, 4, 2] corners of boxes [M, 7] seen from above, counter-clockwise from the front left."""
    expect_shape("boxes", boxes, (None, 7))
    signs = torch.tensor(CORNERS, dtype=boxes.dtype, device=boxes.device)
    x, y = (signs * (boxes[:, None, 3:5] / 2)).unbind(dim=-1)
    cos, sin = boxes[:, 6:].cos(), boxes[:, 6:].sin()
    return torch.stack([cos * x - sin * y, sin * x + cos * y], dim=-1) + boxes[:, None, :2]


def _mean_clamped(start: Tensor, end: Tensor, limit: Tensor) -> Tensor:
    """Mean of clamp(y, -limit, limit) for y uniform between ``start`` and ``end``."""
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    a, b = torch.clamp(low, -limit, limit), torch.clamp(high, -limit, limit)
    below = (torch.minimum(high, -limit) - low).clamp(min=0)
    above = (high - torch.maximum(low, limit)).clamp(min=0)
    length = high - low
    flat = length <= 0
    integral = limit * (above - below) + (a + b) / 2 * (b - a)
    return torch.where(flat, a, integral / torch.where(flat, torch.ones_like(length), length))


def _intersection_bev(first: Tensor, second: Tensor) -> Tensor:
    """[M] area that double precision boxes [M, 7] share, row by row."""
    relative = torch.cat([first[:, :2] - second[:, :2], torch.zeros_like(first[:, :1]), first[:, 3:]], dim=1)
    corners = corners_bev(relative)
    cos, sin = second[:, 6:].cos(), second[:, 6:].sin()
    x = cos * corners[..., 0] + sin * corners[..., 1]
    y = cos * corners[..., 1] - sin * corners[..., 0]
    half_x, half_y = second[:, 3:4] / 2, second[:, 4:5] / 2
    next_x, next_y = x.roll(-1, dims=1), y.roll(-1, dims=1)
    dx = next_x - x
    upright = dx == 0
    inverse = torch.where(upright, 0.0, 1 / torch.where(upright, torch.ones_like(dx), dx))
    enter, leave = torch.clamp(x, -half_x, half_x), torch.clamp(next_x, -half_x, half_x)
    dy = next_y - y
    y_enter, y_leave = y + (enter - x) * inverse * dy, y + (leave - x) * inverse * dy
    area = ((enter - leave) * _mean_clamped(y_enter, y_leave, half_y)).sum(dim=1)
    return torch.minimum(area.clamp(min=0), torch.minimum(_area(first), _area(second)))


def _area(boxes: Tensor) -> Tensor:
    return boxes[:, 3] * boxes[:, 4]


def _ratio(shared: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union; 0 where the union is nothing."""
    union = first + second - shared
    empty = union <= 0
    return torch.where(empty, 0.0, shared / torch.where(empty, torch.ones_like(union), union))


def _prepare(boxes: Tensor) -> Tensor:
    boxes = boxes.double()
    return torch.cat([boxes[:, :3], boxes[:, 3:6].clamp(min=0), boxes[:, 6:]], dim=1)


def iou_bev_aligned(first: Tensor, second: Tensor) -> Tensor:
    """Rotated intersection over union from above, row by row; differentiable in both.

    Args:
        first, second: [M, 7] boxes; sizes below zero count as zero.

    Returns:
        [M] in 0..1; 0 where both boxes have no area.

    Raises:
        ValueError: for other shapes.
    """
    expect_shape("first", first, (None, 7))
    expect_shape("second", second, tuple(first.shape))
    a, b = _prepare(first), _prepare(second)
    return _ratio(_intersection_bev(a, b), _area(a), _area(b)).to(first.dtype)


def iou_3d_aligned(first: Tensor, second: Tensor) -> Tensor:
    """Rotated intersection over union of volumes, row by row; arguments and result as :func:`iou_bev_aligned`."""
    expect_shape("first", first, (None, 7))
    expect_shape("second", second, tuple(first.shape))
    a, b = _prepare(first), _prepare(second)
    offset = a[:, 2] - b[:, 2]
    top = torch.minimum(offset + a[:, 5] / 2, b[:, 5] / 2)
    bottom = torch.maximum(offset - a[:, 5] / 2, -b[:, 5] / 2)
    shared = _intersection_bev(a, b) * (top - bottom).clamp(min=0)
    return _ratio(shared, _area(a) * a[:, 5], _area(b) * b[:, 5]).to(first.dtype)


def close_pairs(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the pairs whose circumscribed circles meet: no other boxes of [N, 7] and [M, 7] can overlap."""
    expect_shape("first", first, (None, 7))
    expect_shape("second", second, (None, 7))
    a, b = first.detach().double(), second.detach().double()
    reach = (torch.hypot(a[:, 3], a[:, 4])[:, None] + torch.hypot(b[:, 3], b[:, 4])) / 2
    distance = torch.hypot(a[:, None, 0] - b[:, 0], a[:, None, 1] - b[:, 1])
    rows, columns = (distance <= reach).nonzero(as_tuple=True)
    return rows, columns


def iou_bev(first: Tensor, second: Tensor) -> Tensor:
    """[N, M] rotated intersection over union from above, of each box of [N, 7] with each of [M, 7]; differentiable.

    A box with a coordinate that is not a number overlaps nothing.

    Raises:
        ValueError: for other shapes.
    """
    rows, columns = close_pairs(first, second)
    values = iou_bev_aligned(first[rows], second[columns])
    return values.new_zeros(len(first), len(second)).index_put((rows, columns), values)


def iou_3d(first: Tensor, second: Tensor) -> Tensor:
    """[N, M] rotated intersection over union of volumes, as :func:`iou_bev`."""
    rows, columns = close_pairs(first, second)
    values = iou_3d_aligned(first[rows], second[columns])
    return values.new_zeros(len(first), len(second)).index_put((rows, columns), values)
