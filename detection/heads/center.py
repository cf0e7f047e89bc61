"""The centre head over a dense map (CenterPoint, Yin et al., CVPR 2021; IoU branch as in AFDetV2 and DSVT)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.pointclouds.types import Boxes3D
from detection.heads.coding import BevGrid
from detection.heads.head import PRIOR_HEAT, Head, LossWeights, Predictions, Selection
from detection.heads.targets import Targets, heat_around, joined
from detection.sparse import VoxelGrid

REACH = 2  # cells around a place on which its code depends: two 3x3 convolutions


def _branch(channels: int, outputs: int) -> nn.Sequential:
    """Two 3x3 convolutions."""
    norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
    first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
    return nn.Sequential(first, norm, nn.ReLU(), nn.Conv2d(channels, outputs, 3, padding=1))


class CenterHead(Head):
    """Heat, box, IoU and perhaps velocity at every cell of a map.

    While it is evaluated the box, IoU and velocity are computed only where the heat has a peak.

    Args:
        in_channels: features of the map.
        channels: features that all branches share.
        classes, velocity, weights, selection: see :class:`detection.heads.Head`.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        channels: int = 64,
        velocity: bool = False,
        weights: LossWeights | None = None,
        selection: Selection | None = None,
    ) -> None:
        super().__init__(classes, velocity, weights, selection)
        norm = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)
        self.shared = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), norm, nn.ReLU())
        self.heat = _branch(channels, classes)
        nn.init.constant_(self.heat.get_parameter("3.bias"), PRIOR_HEAT)
        # Offset, height, size, direction, IoU and velocity share a hidden layer, which costs far less than one each.
        self.box = _branch(channels, self.code_size)

    def forward(self, features: Tensor, grid: VoxelGrid) -> Predictions:
        """Predictions at all B * H * W cells of [B, in_channels, H, W]."""
        shared = self.shared(features)
        heat = self.heat(shared)
        batch_size, _, height, width = heat.shape
        sizes = [torch.arange(n, device=heat.device) for n in (batch_size, height, width)]
        cells = torch.cartesian_prod(*sizes).view(-1, 3)
        code = None
        if self.training:
            code = _rows(self.box(shared))
        return Predictions(_rows(heat), cells, code, shared, BevGrid.of(grid, height, width), batch_size)

    def targets(self, predictions: Predictions, boxes: Sequence[Boxes3D]) -> Targets:
        """A box belongs to the cell that holds its centre."""
        bev = predictions.bev
        whole, labels, velocities, batch = joined(boxes)
        x, y = bev.positions(whole[:, :2]).floor().long().unbind(dim=1)
        inside = (x >= 0) & (x < bev.width) & (y >= 0) & (y < bev.height)
        cells = torch.stack([batch, y, x], dim=1)[inside]
        whole, labels, velocities = whole[inside], labels[inside], velocities[inside]
        heat = heat_around(cells, labels, whole, bev, predictions.batch_size, self.classes, None)
        rows = (cells[:, 0] * bev.height + cells[:, 1]) * bev.width + cells[:, 2]
        return Targets(heat, rows, whole, labels, velocities)

    def peaks(self, predictions: Predictions) -> Tensor:
        """Cells that none of the eight around them exceeds."""
        bev = predictions.bev
        heat = predictions.heat.view(predictions.batch_size, bev.height, bev.width, self.classes).permute(0, 3, 1, 2)
        return _rows(F.max_pool2d(heat, 3, stride=1, padding=1) == heat)

    def code(self, predictions: Predictions, rows: Tensor) -> Tensor:
        """Of all cells where it is known, else of the patches around these."""
        if predictions.code is not None:
            return predictions.code[rows]
        shared, bev = predictions.features, predictions.bev
        if not isinstance(shared, Tensor):
            raise TypeError("these predictions are another head's")
        batch, y, x = predictions.cells[rows].unbind(dim=1)
        steps = torch.arange(2 * REACH + 1, device=rows.device)
        padded = F.pad(shared, (REACH,) * 4)
        batch_at, y_at, x_at = batch[:, None, None], (y[:, None] + steps)[:, :, None], (x[:, None] + steps)[:, None]
        patches = padded.permute(0, 2, 3, 1)[batch_at, y_at, x_at].permute(0, 3, 1, 2)
        # Between the two convolutions a whole map is padded with zeros, which patches at its border must have too.
        inner = steps[1:-1] - REACH
        rows_in = ((y[:, None] + inner >= 0) & (y[:, None] + inner < bev.height))[:, None, :, None]
        columns_in = ((x[:, None] + inner >= 0) & (x[:, None] + inner < bev.width))[:, None, None, :]
        first, norm, _, last = self.box.children()
        hidden = F.relu(norm(F.conv2d(patches, first.get_parameter("weight")))) * (rows_in & columns_in)
        return F.conv2d(hidden, last.get_parameter("weight"), last.get_parameter("bias")).flatten(1)


def _rows(maps: Tensor) -> Tensor:
    """[B * H * W, C] of [B, C, H, W]."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)
