"""What the points of a voxel have in common: their mean and their greatest values."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
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
    if values.device.type == "cpu" and values.dtype == torch.float32:
        greatest: Tensor = _Greatest.apply(values, index, size)
        return greatest
    start = values.new_zeros(size, values.shape[1])
    return start.scatter_reduce(0, index[:, None].expand_as(values), values, "amax", include_self=False)


class _Greatest(torch.autograd.Function):
    """The same on the CPU, where torch's own takes ten times as long to go back."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, index: Tensor, size: int) -> Tensor:
        values, index = values.contiguous(), index.contiguous()
        greatest = values.new_zeros(size, values.shape[1])
        _take_greatest(values.detach().numpy(), index.numpy(), greatest.numpy())
        ctx.save_for_backward(values, index, greatest)
        return greatest

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        values, index, greatest = ctx.saved_tensors
        shared = torch.empty_like(values)
        _share(values.numpy(), index.numpy(), greatest.numpy(), gradient.contiguous().numpy(), shared.numpy())
        return shared, None, None


@njit(nogil=True, error_model="numpy", cache=True)
def _take_greatest(values, index, greatest):
    """Write the greatest of the rows [P, C] by index [P] to rows that hold zeros."""
    begun = np.zeros(len(greatest), np.bool_)
    for p in range(len(values)):
        row = index[p]
        if begun[row]:
            for c in range(values.shape[1]):
                if values[p, c] > greatest[row, c]:
                    greatest[row, c] = values[p, c]
        else:
            begun[row] = True
            for c in range(values.shape[1]):
                greatest[row, c] = values[p, c]


@njit(nogil=True, error_model="numpy", cache=True)
def _share(values, index, greatest, gradient, shared):
    """Share the gradient [size, C] of the greatest out among the values [P, C] that equal it."""
    count = np.zeros_like(greatest)
    for p in range(len(values)):
        row = index[p]
        for c in range(values.shape[1]):
            count[row, c] += np.float32(values[p, c] == greatest[row, c])
    for p in range(len(values)):
        row = index[p]
        for c in range(values.shape[1]):
            if values[p, c] == greatest[row, c]:
                shared[p, c] = gradient[row, c] / count[row, c]
            else:
                shared[p, c] = np.float32(0)
