"""What a head should say about annotated boxes: which rows are theirs, and Gaussians of heat around those."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.pointclouds.types import Boxes3D
from detection.heads.coding import BevGrid

LEAST_OVERLAP, LEAST_RADIUS = 0.1, 2


@dataclass(frozen=True)
class Targets:
    """Targets of a batch with M boxes that have a place, for R rows and K classes.

    Attributes:
        heat: [R, K] in 0..1; 1 at the row of a box of the class.
        rows: [M] int64 row of each box.
        boxes: [M, 7].
        labels: [M] int64.
        velocities: [M, 2], NaN where unknown.
    """

    heat: Tensor
    rows: Tensor
    boxes: Tensor
    labels: Tensor
    velocities: Tensor


def gaussian_radius(length: Tensor, width: Tensor, overlap: float = LEAST_OVERLAP) -> Tensor:
    """How far a box's corners may move until its overlap with the true one falls to ``overlap`` (CornerNet).

    The least of three cases, as CenterPoint computes it (its second and third differ from the exact roots).
    """
    total, area = length + width, length * width
    first = (total + (total**2 - 4 * area * (1 - overlap) / (1 + overlap)).clamp(min=0).sqrt()) / 2
    second = (2 * total + (4 * total**2 - 16 * area * (1 - overlap)).clamp(min=0).sqrt()) / 2
    shrunk = -2 * overlap * total
    third = (shrunk + (shrunk**2 - 16 * overlap * (overlap - 1) * area).clamp(min=0).sqrt()) / 2
    return torch.minimum(torch.minimum(first, second), third)


def joined(boxes: Sequence[Boxes3D]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes [M, 7], labels [M], velocities [M, 2] (NaN where unknown) and number in the batch [M] of all clouds.

    Boxes without a size are left out: they have no place among targets.
    """
    batch = torch.cat([torch.full_like(each.labels, number) for number, each in enumerate(boxes)])
    velocities = [
        each.boxes.new_full((len(each), 2), float("nan")) if each.velocities is None else each.velocities
        for each in boxes
    ]
    whole, labels = torch.cat([each.boxes for each in boxes]), torch.cat([each.labels for each in boxes])
    sized = (whole[:, 3:6] > 0).all(dim=1)
    return whole[sized], labels[sized], torch.cat(velocities)[sized], batch[sized]


def heat_around(
    cells: Tensor, labels: Tensor, boxes: Tensor, bev: BevGrid, batch_size: int, classes: int, rows: Tensor | None
) -> Tensor:
    """[R, K] the greatest of the Gaussians around the cells of boxes, whose width grows with the box.

    Args:
        cells: [M, 3] int64 (batch, y, x) of the boxes.
        labels, boxes: [M] and [M, 7].
        rows: [batch_size * height * width] int64 row of each cell, -1 where it has none; None for one row each, in
            order.
    """
    count = batch_size * bev.height * bev.width if rows is None else int(rows.max()) + 1 if len(rows) else 0
    heat = boxes.new_zeros(count * classes)
    if len(boxes) == 0:
        return heat.view(count, classes)
    radius = gaussian_radius(boxes[:, 3] / bev.cell[0], boxes[:, 4] / bev.cell[1]).floor().clamp(min=LEAST_RADIUS)
    reach = int(radius.max())
    steps = torch.arange(-reach, reach + 1, device=boxes.device)
    dy, dx = (each.flatten() for each in torch.meshgrid(steps, steps, indexing="ij"))
    y, x = cells[:, 1:2] + dy, cells[:, 2:3] + dx
    wanted = (torch.maximum(dy.abs(), dx.abs()) <= radius[:, None]) & (y >= 0) & (y < bev.height)
    wanted &= (x >= 0) & (x < bev.width)
    sigma = (2 * radius[:, None] + 1) / 6
    values = torch.exp(-(dx**2 + dy**2) / (2 * sigma**2))[wanted]
    places = ((cells[:, :1] * bev.height + y) * bev.width + x)[wanted]
    if rows is not None:
        places = rows[places]
    classes_of = labels[:, None].expand(wanted.shape)[wanted]
    there = places >= 0
    index = places[there] * classes + classes_of[there]
    return heat.scatter_reduce(0, index, values[there], "amax").view(count, classes)
