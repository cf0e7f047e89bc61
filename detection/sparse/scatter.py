"""What the points of a voxel have in common: their mean and their greatest values."""

from __future__ import annotations

import torch
from torch import Tensor


def scatter_mean(values: Tensor, index: Tensor, size: int) -> Tensor:
    """[size, C] mean of the rows of ``values`` [P, C] by ``index`` [P]; 0 where there is none."""
    sums = values.new_zeros(size, values.shape[1]).index_add(0, index, values)
    counts = torch.zeros(size, dtype=values.dtype, device=values.device).index_add(
        0, index, torch.ones_like(values[:, 0])
    )
    return sums / counts.clamp(min=1)[:, None]


def scatter_max(values: Tensor, index: Tensor, size: int) -> Tensor:
    """[size, C] greatest of the rows of ``values`` [P, C] by ``index`` [P]; 0 where there is none.

    Rows that share the maximum share its gradient.
    """
    start = values.new_zeros(size, values.shape[1])
    return start.scatter_reduce(0, index[:, None].expand_as(values), values, "amax", include_self=False)
