"""Boxes as numbers relative to a cell of the map seen from above, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.pointclouds.types import wrap_angle
from detection.sparse import VoxelGrid

CODE = 8  # offset x, y from the cell's centre in cells; z; log length, width, height; cos, sin of yaw
LARGEST_LOG_SIZE = 6.0  # 400 m: an untrained network must not overflow


@dataclass(frozen=True)
class BevGrid:
    """The map's cells: least x and y and size of a cell in metres, and the cells along y and x."""

    low: tuple[float, float]
    cell: tuple[float, float]
    height: int
    width: int

    @staticmethod
    def of(grid: VoxelGrid, height: int, width: int) -> BevGrid:
        """The map of ``height`` x ``width`` cells that networks make of ``grid``.

        Each cell covers a whole number of voxels; the last ones may reach beyond the grid where that has an odd size.
        """
        strides = (round(grid.shape[2] / width), round(grid.shape[1] / height))
        return BevGrid(grid.low[:2], (grid.voxel_size[0] * strides[0], grid.voxel_size[1] * strides[1]), height, width)

    def positions(self, xy: Tensor) -> Tensor:
        """[M, 2] x, y in cells, of [M, 2] x, y in metres; the centre of the first cell is at (0.5, 0.5)."""
        return (xy - xy.new_tensor(self.low)) / xy.new_tensor(self.cell)


def encode_boxes(boxes: Tensor, cells: Tensor, bev: BevGrid) -> Tensor:
    """[M, 8] code of boxes [M, 7] relative to cells [M, 2] (y, x)."""
    offsets = bev.positions(boxes[:, :2]) - cells.flip(1) - 0.5
    yaw = boxes[:, 6:]
    return torch.cat([offsets, boxes[:, 2:3], boxes[:, 3:6].log(), yaw.cos(), yaw.sin()], dim=1)


def decode_boxes(code: Tensor, cells: Tensor, bev: BevGrid) -> Tensor:
    """[M, 7] boxes of a code [M, 8] relative to cells [M, 2] (y, x); yaw in [-pi, pi)."""
    xy = (code[:, :2] + cells.flip(1) + 0.5) * code.new_tensor(bev.cell) + code.new_tensor(bev.low)
    sizes = code[:, 3:6].clamp(max=LARGEST_LOG_SIZE).exp()
    yaw = wrap_angle(torch.atan2(code[:, 7:8], code[:, 6:7]))
    return torch.cat([xy, code[:, 2:3], sizes, yaw], dim=1)
