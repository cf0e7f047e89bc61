"""Dynamic voxelisation: every point in range belongs to a voxel, however many share it (Zhou et al., 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.errors import InputError
from datasets.types import expect_shape

DENSE_CELLS = 32  # up to so many cells a point, a table of all cells is quicker than sorting the points


@dataclass(frozen=True)
class VoxelGrid:
    """A box of space cut into equal voxels; a pillar is a voxel as high as the box.

    Attributes:
        point_range: least x, y, z, then greatest x, y, z, in metres.
        voxel_size: along x, y, z, in metres.

    Raises:
        InputError: for an empty range, a size that is not positive, or a range that is no whole number of voxels.
    """

    point_range: tuple[float, float, float, float, float, float]
    voxel_size: tuple[float, float, float]

    def __post_init__(self) -> None:
        for axis, low, high, size in zip("xyz", self.low, self.high, self.voxel_size, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high and 0 < size < math.inf):
                raise InputError(f"along {axis} a range of {low}..{high} m cannot be cut into voxels of {size} m")
            count = (high - low) / size
            if abs(count - round(count)) > 1e-3 or round(count) < 1:
                raise InputError(
                    f"along {axis} the range {low}..{high} m holds {count:.3f} voxels of {size} m: "
                    f"make it a whole number, e.g. by ending at {low + max(round(count), 1) * size:g}"
                )

    @property
    def low(self) -> tuple[float, float, float]:
        """Least x, y, z."""
        return self.point_range[:3]

    @property
    def high(self) -> tuple[float, float, float]:
        """Greatest x, y, z."""
        return self.point_range[3:]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along z, y, x: the order of sparse tensors."""
        x, y, z = (
            round((high - low) / size) for low, high, size in zip(self.low, self.high, self.voxel_size, strict=True)
        )
        return z, y, x

    def centres(self, indices: Tensor) -> Tensor:
        """[N, 3] float32 x, y, z of the centres of voxels [N, 4] (batch, z, y, x)."""
        size = torch.tensor(self.voxel_size, device=indices.device)
        return (indices[:, [3, 2, 1]] + 0.5) * size + torch.tensor(self.low, device=indices.device)


@dataclass(frozen=True)
class Voxels:
    """Points of a batch and the voxels they lie in.

    Attributes:
        points: [P, C] the points within range, in the order given.
        voxel: [P] int64, the voxel of each point.
        indices: [N, 4] int32 voxels that hold points: number in the batch, z, y, x, sorted.
        batch_size: clouds in the batch; a cloud may have no voxel.
        grid: what the voxels are of.
    """

    points: Tensor
    voxel: Tensor
    indices: Tensor
    batch_size: int
    grid: VoxelGrid

    def __len__(self) -> int:
        return len(self.indices)


def voxelise(points: Tensor, batch_index: Tensor, batch_size: int, grid: VoxelGrid) -> Voxels:
    """Find the voxels of points.

    Points out of range are left out, and so are those with any channel that is not finite.

    Args:
        points: [P, C] float; the first three channels are x, y, z.
        batch_index: [P] int64, the cloud of each point, below ``batch_size``.

    Raises:
        ValueError: for shapes that disagree.
    """
    expect_shape("points", points, (None, None))
    expect_shape("batch_index", batch_index, (len(points),))
    depth, height, width = grid.shape
    low, size = (points.new_tensor(each) for each in (grid.low, grid.voxel_size))
    cells = ((points[:, :3] - low) / size).floor()
    # Compared as floating point numbers: what is not a number or too large for an integer is never within.
    inside = ((cells >= 0) & (cells < points.new_tensor((width, height, depth)))).all(dim=1)
    inside &= points.isfinite().all(dim=1)
    kept = inside.nonzero()[:, 0]
    x, y, z = cells[kept].long().unbind(dim=1)
    keys = ((batch_index[kept] * depth + z) * height + y) * width + x
    total = batch_size * depth * height * width
    if total <= DENSE_CELLS * len(kept):
        occupied = torch.zeros(total, dtype=torch.int64, device=points.device)
        occupied[keys] = 1
        found = occupied.nonzero()[:, 0]
        voxel = (occupied.cumsum(dim=0) - 1)[keys]
    else:
        found, voxel = keys.unique(return_inverse=True)
    line, plane = found // width, found // (width * height)
    indices = torch.stack([plane // depth, plane % depth, line % height, found % width], dim=1).int()
    return Voxels(points[kept], voxel, indices, batch_size, grid)
