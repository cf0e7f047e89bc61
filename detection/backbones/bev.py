"""Convolutions over the map seen from above, at several scales (SECOND, PointPillars, CenterPoint)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detection.sparse import SparseTensor


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
    return [nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), norm]


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(inputs, outputs, stride), nn.ReLU(), *_convolution(outputs, outputs))
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm)

    def forward(self, features: Tensor) -> Tensor:
        """[B, outputs, H / stride, W / stride]."""
        return F.relu(self.body(features) + self.shortcut(features))


class BEVNet(nn.Module):
    """Stages of convolutions, each half as fine as the one before, brought back to the first one's scale and stacked.

    Args:
        in_channels: features of a cell of the map: those of a voxel times the voxels above each other.
        layers: blocks of each stage.
        strides: of the first block of each stage. The map that comes out is as fine as after the first stage.
        filters: features within each stage.
        upsampled: features that each stage adds to the output.
        residual: blocks of two convolutions with a shortcut (DSVT) instead of single convolutions (PointPillars).
    """

    def __init__(
        self,
        in_channels: int,
        layers: Sequence[int] = (1, 2, 2),
        strides: Sequence[int] = (1, 2, 2),
        filters: Sequence[int] = (128, 128, 256),
        upsampled: Sequence[int] = (128, 128, 128),
        residual: bool = True,
    ) -> None:
        super().__init__()
        if not len(layers) == len(strides) == len(filters) == len(upsampled):
            raise ValueError("layers, strides, filters and upsampled need one number for each stage")
        self.in_channels, self.out_channels = in_channels, sum(upsampled)
        self.stages, self.ups = nn.ModuleList(), nn.ModuleList()
        factor, inputs = 1, in_channels
        for stage, (count, stride, width, up) in enumerate(zip(layers, strides, filters, upsampled, strict=True)):
            blocks: list[nn.Module] = []
            for i in range(count):
                step = stride if i == 0 else 1
                blocks += (
                    [Residual(inputs, width, step)] if residual else [*_convolution(inputs, width, step), nn.ReLU()]
                )
                inputs = width
            self.stages.append(nn.Sequential(*blocks))
            factor *= stride if stage > 0 else 1
            norm = nn.BatchNorm2d(up, eps=1e-3, momentum=0.01)
            self.ups.append(nn.Sequential(nn.ConvTranspose2d(width, up, factor, factor, bias=False), norm, nn.ReLU()))

    def forward(self, voxels: SparseTensor) -> Tensor:
        """[B, out_channels, H, W] map; H runs along y and W along x.

        Raises:
            ValueError: for voxels that do not stack up to ``in_channels`` features.
        """
        depth, channels = voxels.spatial_shape[0], voxels.features.shape[1]
        if channels * depth != self.in_channels:
            raise ValueError(
                f"{depth} voxels of {channels} features above each other are {depth * channels}, "
                f"but this network expects {self.in_channels}"
            )
        features = voxels.bev()
        scales: list[Tensor] = []
        for stage, up in zip(self.stages, self.ups, strict=True):
            features = stage(features)
            scaled = up(features)
            if scales:  # a map of odd size is rounded up where it is halved
                scaled = scaled[:, :, : scales[0].shape[2], : scales[0].shape[3]]
            scales.append(scaled)
        return torch.cat(scales, dim=1)
