"""From the points of a voxel to its features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from detection.sparse import SparseTensor, Voxels
from detection.sparse.scatter import scatter_max, scatter_mean


class MeanEncoder(nn.Module):
    """The mean of a voxel's points, channel by channel: for voxels so small that they hold a point or two (SECOND).

    Args:
        point_channels: channels of a point, of which the first three are x, y, z.
    """

    def __init__(self, point_channels: int) -> None:
        super().__init__()
        self.out_channels = point_channels

    def forward(self, voxels: Voxels) -> SparseTensor:
        """Features [N, point_channels]."""
        features = scatter_mean(voxels.points, voxels.voxel, len(voxels))
        return SparseTensor(features, voxels.indices, voxels.grid.shape, voxels.batch_size)


class PointNetEncoder(nn.Module):
    """Linear layers over points, each followed by the maximum over a voxel (PointPillars, Lang et al., 2019).

    A point is described by its channels, its offset from the mean of its voxel's points, and its offset from the
    voxel's centre. Any number of points may share a voxel.

    Args:
        point_channels: channels of a point, of which the first three are x, y, z.
        channels: features after each layer; all but the last are even.
    """

    def __init__(self, point_channels: int, channels: Sequence[int] = (64, 64)) -> None:
        super().__init__()
        self.out_channels = channels[-1]
        inputs = point_channels + 6
        self.linears, self.norms = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(channels):
            # All but the last layer put half of their features beside the maximum of the voxel.
            outputs = width if i == len(channels) - 1 else width // 2
            self.linears.append(nn.Linear(inputs, outputs, bias=False))
            self.norms.append(nn.BatchNorm1d(outputs, eps=1e-3, momentum=0.01))
            inputs = 2 * outputs

    def forward(self, voxels: Voxels) -> SparseTensor:
        """Features [N, channels[-1]]."""
        points, voxel, count = voxels.points, voxels.voxel, len(voxels)
        means = scatter_mean(points[:, :3], voxel, count)
        around = torch.cat([means, voxels.grid.centres(voxels.indices)], dim=1)[voxel]
        features = torch.cat([points, points[:, :3].repeat(1, 2) - around], dim=1)
        greatest = features[:0]
        for i, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            if i > 0:
                features = torch.cat([features, greatest[voxel]], dim=1)
            features = F.relu(norm(linear(features)))
            greatest = scatter_max(features, voxel, count)
        return SparseTensor(greatest, voxels.indices, voxels.grid.shape, voxels.batch_size)
