"""The sparse pyramid of VoxelNeXt (Chen et al., CVPR 2023), which never makes a dense map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from detection.backbones.second import SparseResidual, SparseStep
from detection.sparse import SparseConv3d, SparseTensor, SubMConv3d


def flattened(scales: Sequence[SparseTensor]) -> SparseTensor:
    """Voxels of several scales, each half as fine as the one before, as one layer seen from above.

    A coarse voxel counts as the first of the fine ones that it covers. What meets in a cell is added up, over the
    scales and over the height.
    """
    first = scales[0]
    _, height, width = first.spatial_shape
    keys = []
    for level, scale in enumerate(scales):
        batch, _, y, x = scale.indices.long().unbind(dim=1)
        keys.append((batch * height + (y << level)) * width + (x << level))
    found, place = torch.cat(keys).unique(return_inverse=True)
    features = torch.cat([scale.features for scale in scales])
    summed = features.new_zeros(len(found), features.shape[1]).index_add(0, place, features)
    line = found // width
    indices = torch.stack([line // height, torch.zeros_like(found), line % height, found % width], dim=1).int()
    return SparseTensor(summed, indices, (1, height, width), first.batch_size)


class SparsePyramid(nn.Module):
    """Residual sparse convolutions at six scales; the coarser half is put together seen from above.

    Args:
        in_channels: features of a voxel.
        channels: features of the stages; the first keeps the scale, each further one halves it. From ``merged`` on
            they must agree.
        blocks: residual blocks of each stage.
        merged: number of the first stage that is put together with those after it; its scale is the output's.
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int] = (16, 32, 64, 128, 128, 128),
        blocks: Sequence[int] = (2, 2, 2, 2, 2, 2),
        merged: int = 3,
    ) -> None:
        super().__init__()
        if len(set(channels[merged:])) != 1:
            raise ValueError(
                f"stages {merged} to {len(channels) - 1} need equal channels, got {list(channels[merged:])}"
            )
        self.merged, self.out_channels = merged, channels[-1]
        self.stages = nn.ModuleList()
        for stage, (width, count) in enumerate(zip(channels, blocks, strict=True)):
            key = f"stage{stage}"
            convolution: SubMConv3d | SparseConv3d = SubMConv3d(in_channels, width, indice_key=key)
            if stage > 0:
                convolution = SparseConv3d(channels[stage - 1], width, 3, 2, 1)
            self.stages.append(
                nn.Sequential(SparseStep(convolution), *(SparseResidual(width, key) for _ in range(count)))
            )
        self.output = SparseStep(SubMConv3d(channels[-1], channels[-1], (1, 3, 3), indice_key="flat"))

    def forward(self, voxels: SparseTensor) -> SparseTensor:
        """Features [M, channels[-1]] in a grid one voxel high, 2**merged times as coarse along x and y."""
        scales = []
        for stage in self.stages:
            voxels = stage(voxels)
            scales.append(voxels)
        return self.output(flattened(scales[self.merged :]))
