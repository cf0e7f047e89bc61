"""Small random grids for tests of sparse convolutions."""

from __future__ import annotations

import torch

from detection.sparse import SparseTensor

SHAPE, BATCH = (5, 9, 8), 2


def random_voxels(
    channels: int, share: float = 0.3, seed: int = 0, dtype: torch.dtype = torch.float32, batch: int = BATCH
) -> SparseTensor:
    """Normally distributed features at a ``share`` of the voxels of SHAPE."""
    generator = torch.Generator().manual_seed(seed)
    indices = (torch.rand(batch, *SHAPE, generator=generator) < share).nonzero().int()
    return SparseTensor(torch.randn(len(indices), channels, generator=generator).to(dtype), indices, SHAPE, batch)
