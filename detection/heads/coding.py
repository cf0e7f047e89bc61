"""Boxes as numbers relative to a cell of the map seen from above, and back.

Points often do not tell the front of an object from its back. A network that learns the cosine and sine of the yaw then
learns their mean over both, which is no direction at all. So the code has twice the yaw, which both share, and apart
from it which of the two ends is the front (as SECOND, Yan et al., 2018, classifies the direction).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.pointclouds.types import wrap_angle
from detection.sparse import VoxelGrid

CODE = 9  # offset x, y from the cell's centre in cells; z; log length, width, height; half cos, sin of 2 yaw; front
FRONT = CODE - 1  # which of them is more than 0 where the yaw is within a quarter turn of DIVIDE, less elsewhere
DIVIDE = math.pi / 4  # streets and what crosses them lie along x and y: few objects are seen across this
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

        Each cell covers a whole number of voxels; the last ones may reach beyond the grid.
        """
        strides = (_stride(grid.shape[2], width), _stride(grid.shape[1], height))
        return BevGrid(grid.low[:2], (grid.voxel_size[0] * strides[0], grid.voxel_size[1] * strides[1]), height, width)

    def positions(self, xy: Tensor) -> Tensor:
        """[M, 2] x, y in cells, of [M, 2] x, y in metres; the centre of the first cell is at (0.5, 0.5)."""
        return (xy - xy.new_tensor(self.low)) / xy.new_tensor(self.cell)


def _stride(voxels: int, cells: int) -> int:
    """Voxels of a cell, where layers with strides made so many ``cells`` of them, each rounding up.

    Where several numbers would do, as with few large cells, it is the power of two among them: strides are.
    """
    first = -(-voxels // cells)
    last = (voxels - 1) // (cells - 1) if cells > 1 else first
    power = 1 << (first - 1).bit_length()
    return power if power <= last else first


def encode_boxes(boxes: Tensor, cells: Tensor, bev: BevGrid) -> Tensor:
    """[M, 9] code of boxes [M, 7] relative to cells [M, 2] (y, x); the front is 1 or -1."""
    offsets = bev.positions(boxes[:, :2]) - cells.flip(1) - 0.5
    yaw = boxes[:, 6:]
    axis = torch.cat([(2 * yaw).cos(), (2 * yaw).sin()], dim=1) / 2
    front = 2.0 * ((yaw - DIVIDE).cos() >= 0) - 1
    return torch.cat([offsets, boxes[:, 2:3], boxes[:, 3:6].log(), axis, front], dim=1)


def decode_boxes(code: Tensor, cells: Tensor, bev: BevGrid) -> Tensor:
    """[M, 7] boxes of a code [M, 9] relative to cells [M, 2] (y, x); yaw in [-pi, pi)."""
    xy = (code[:, :2] + cells.flip(1) + 0.5) * code.new_tensor(bev.cell) + code.new_tensor(bev.low)
    sizes = code[:, 3:6].clamp(max=LARGEST_LOG_SIZE).exp()
    cosine, sine = code[:, 6:7], code[:, 7:8]
    ahead = torch.atan2(-cosine, sine) / 2 + DIVIDE  # the end within a quarter turn of it
    yaw = wrap_angle(torch.where(code[:, FRONT:] < 0, ahead + torch.pi, ahead))
    return torch.cat([xy, code[:, 2:3], sizes, yaw], dim=1)
