"""Sparse voxel tensors and the rulebooks that convolutions over them share."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from datasets.types import expect_shape


@dataclass(frozen=True)
class SparseTensor:
    """Features at some voxels of a batch of grids.

    Attributes:
        features: [N, C].
        indices: [N, 4] int32: number in the batch, z, y, x. Sorted in this order, without repeats, and within
            ``spatial_shape``: what voxelisation gives; see :meth:`sorted` for others.
        spatial_shape: voxels along z, y, x.
        batch_size: grids in the batch; a grid may be empty.
        rulebooks: what convolutions worked out about ``indices``, by indice_key, for others to use again.

    Raises:
        ValueError: for shapes or types that disagree.
    """

    features: Tensor
    indices: Tensor
    spatial_shape: tuple[int, int, int]
    batch_size: int
    rulebooks: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        expect_shape("indices", self.indices, (None, 4))
        expect_shape("features", self.features, (len(self.indices), None))
        if self.indices.dtype != torch.int32:
            raise ValueError(f"indices has type {self.indices.dtype}, expected torch.int32")

    def __len__(self) -> int:
        return len(self.indices)

    def with_features(self, features: Tensor) -> SparseTensor:
        """Other features [N, D] at the same voxels."""
        return replace(self, features=features)

    def sorted(self) -> SparseTensor:
        """The same with its voxels in order, which loses the rulebooks."""
        order = self.keys().argsort()
        return SparseTensor(self.features[order], self.indices[order], self.spatial_shape, self.batch_size)

    def keys(self) -> Tensor:
        """[N] int64 numbers of the voxels within the whole batch, in the order of ``indices``."""
        batch, z, y, x = self.indices.long().unbind(dim=1)
        depth, height, width = self.spatial_shape
        return ((batch * depth + z) * height + y) * width + x

    def dense(self) -> Tensor:
        """[B, C, Z, Y, X] with zeros where there is no voxel."""
        cells = self.batch_size * self.spatial_shape[0] * self.spatial_shape[1] * self.spatial_shape[2]
        flat = self.features.new_zeros(cells, self.features.shape[1]).index_copy(0, self.keys(), self.features)
        return flat.view(self.batch_size, *self.spatial_shape, -1).permute(0, 4, 1, 2, 3)

    def bev(self) -> Tensor:
        """[B, Z * C, Y, X] with zeros where there is no voxel; features of a voxel, then those of the one above it.

        In memory the channels are last, which is what convolutions are fastest on, and nothing is moved twice.
        """
        batch, z, y, x = self.indices.long().unbind(dim=1)
        depth, height, width = self.spatial_shape
        keys = ((batch * height + y) * width + x) * depth + z
        cells = self.batch_size * height * width * depth
        flat = self.features.new_zeros(cells, self.features.shape[1]).index_copy(0, keys, self.features)
        return flat.view(self.batch_size, height, width, -1).permute(0, 3, 1, 2)
