"""The sparse convolutional encoder of SECOND (Yan et al., 2018) as later detectors have it."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import nn

from detection.normalisation import BatchNorm1d
from detection.sparse import SparseConv3d, SparseTensor, SubMConv3d
from detection.sparse.rulebook import Triple


class SparseStep(nn.Module):
    """A sparse convolution, batch normalisation and ReLU."""

    def __init__(self, convolution: SubMConv3d | SparseConv3d) -> None:
        super().__init__()
        self.convolution = convolution
        self.norm = BatchNorm1d(convolution.out_channels)

    def forward(self, voxels: SparseTensor) -> SparseTensor:
        """The voxels and features of the convolution."""
        result = self.convolution(voxels)
        return result.with_features(F.relu(self.norm(result.features)))


class SparseResidual(nn.Module):
    """Two submanifold convolutions beside a shortcut."""

    def __init__(self, channels: int, indice_key: str, kernel_size: int | Triple = 3) -> None:
        super().__init__()
        self.first = SparseStep(SubMConv3d(channels, channels, kernel_size, indice_key=indice_key))
        self.second = SubMConv3d(channels, channels, kernel_size, indice_key=indice_key)
        self.norm = BatchNorm1d(channels)

    def forward(self, voxels: SparseTensor) -> SparseTensor:
        """The same voxels with features of the same number."""
        result = self.second(self.first(voxels))
        return result.with_features(F.relu(self.norm(result.features) + voxels.features))


class SparseEncoder(nn.Module):
    """Submanifold convolutions at scales that halve from stage to stage, then one that halves the height once more.

    Args:
        in_channels: features of a voxel.
        channels: features of each stage; the first keeps the scale.
        blocks: submanifold convolutions of each stage (residual blocks of two where ``residual``).
        out_channels: features of a voxel that come out.
        residual: residual blocks, as CenterPoint has them.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (16, 32, 64, 64),
        blocks: Sequence[int] = (1, 2, 2, 2),
        out_channels: int = 128,
        residual: bool = False,
    ) -> None:
        super().__init__()
        self.out_channels = out_channels
        steps: list[nn.Module] = [SparseStep(SubMConv3d(in_channels, channels[0], indice_key="stage0"))]
        for stage, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            key = f"stage{stage}"
            if stage > 0:
                # As published, the last of them does not pad the height, which gives KITTI's 41 levels 2 in the end.
                padding = (0, 1, 1) if stage == 3 else 1
                steps.append(SparseStep(SparseConv3d(channels[stage - 1], width, 3, 2, padding)))
            for _ in range(count):
                if residual:
                    steps.append(SparseResidual(width, key))
                else:
                    steps.append(SparseStep(SubMConv3d(width, width, indice_key=key)))
        steps.append(SparseStep(SparseConv3d(channels[-1], out_channels, (3, 1, 1), (2, 1, 1))))
        self.steps = nn.Sequential(*steps)

    def forward(self, voxels: SparseTensor) -> SparseTensor:
        """Features [M, out_channels] in a grid 8 times as coarse (for four stages), and 16 times along z."""
        return self.steps(voxels)


class InTurn(nn.Sequential):
    """Backbones one after another, e.g. sparse convolutions on fine voxels and a transformer on coarse ones.

    Args:
        backbones: each takes the sparse tensor that the one before gives.
    """

    def __init__(self, backbones: list[nn.Module]) -> None:
        super().__init__(*backbones)
