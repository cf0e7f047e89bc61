"""From the points of a voxel to its features."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.normalisation import BatchNorm1d
from detection.sparse import SparseTensor, Voxels
from detection.sparse.scatter import scatter_max, scatter_mean


class MeanEncoder(nn.Module):
    """The mean of a voxel's points, channel by channel: for voxels so small that they hold a point or two (SECOND).

    Args:
        point_channels: channels of a point, of which the first three are x, y, z.
    """

    def __init__(self, point_channels: int) -> None:
        super().__init__()
        self.point_channels = self.out_channels = point_channels

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
        self.point_channels, self.out_channels = point_channels, channels[-1]
        inputs = point_channels + 6
        self.linears, self.norms = nn.ModuleList(), nn.ModuleList()
        for i, width in enumerate(channels):
            # All but the last layer put half of their features beside the maximum of the voxel.
            outputs = width if i == len(channels) - 1 else width // 2
            self.linears.append(nn.Linear(inputs, outputs, bias=False))
            self.norms.append(BatchNorm1d(outputs))
            inputs = 2 * outputs

    @staticmethod
    def _projected(weight: Tensor, features: Tensor, greatest: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """A linear layer of [features, greatest of the voxel]: the part by point and the part by voxel."""
        if greatest is None:
            return F.linear(features, weight), None
        own = features.shape[1]
        return F.linear(features, weight[:, :own]), F.linear(greatest, weight[:, own:])

    def forward(self, voxels: Voxels) -> SparseTensor:
        """Features [N, channels[-1]]."""
        points, voxel, count = voxels.points, voxels.voxel, len(voxels)
        means = scatter_mean(points[:, :3], voxel, count)
        around = torch.cat([means, voxels.grid.centres(voxels.indices)], dim=1)[voxel]
        features = torch.cat([points, points[:, :3].repeat(1, 2) - around], dim=1)
        greatest: Tensor | None = None
        for i, (linear, norm) in enumerate(zip(self.linears, self.norms, strict=True)):
            own, shared = self._projected(linear.get_parameter("weight"), features, greatest)
            last = i == len(self.linears) - 1
            if last and not self.training:
                # Per channel the rest is monotonic, so the maximum is taken first and the rest done once a voxel.
                sign = norm.get_parameter("weight").sign()
                own = scatter_max(own * sign, voxel, count) * sign
                greatest = F.relu(norm(own if shared is None else own + shared))
            else:
                features = F.relu(norm(own if shared is None else own + shared[voxel]))
                greatest = scatter_max(features, voxel, count)
        assert greatest is not None
        return SparseTensor(greatest, voxels.indices, voxels.grid.shape, voxels.batch_size)
