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

    Rows that share the maximum share its gradient; of a maximum of 0, as after a ReLU, on the CPU one row takes it.
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
        greatest = values.new_zeros(size, values.shape[1])
        winner = torch.full((size, values.shape[1]), -1, dtype=torch.int32)
        tied = _take_greatest(
            values.detach().contiguous().numpy(), index.contiguous().numpy(), greatest.numpy(), winner.numpy()
        )
        # Rows that share a maximum are rare but for the zeros of a ReLU, whose gradient ends there anyhow.
        ctx.save_for_backward(winner, *((values, index, greatest) if tied else ()))
        ctx.rows = len(values)
        return greatest

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        winner, *shared = ctx.saved_tensors
        gradient = gradient.contiguous()
        back = gradient.new_zeros(ctx.rows, gradient.shape[1])
        if shared:
            values, index, greatest = (one.contiguous().numpy() for one in shared)
            _share(values, index, greatest, gradient.numpy(), back.numpy())
        else:
            _give(winner.numpy(), gradient.numpy(), back.numpy())
        return back, None, None


@njit(nogil=True, error_model="numpy", cache=True)
def _take_greatest(values, index, greatest, winner):
    """Write the greatest of the rows [P, C] by index [P], and which they are, to rows that hold zeros and -1.

    Returns whether two rows share a maximum other than 0.
    """
    tied = np.zeros(greatest.shape, np.bool_)
    for p in range(len(values)):
        row = index[p]
        for c in range(values.shape[1]):
            if winner[row, c] < 0 or values[p, c] > greatest[row, c]:
                greatest[row, c] = values[p, c]
                winner[row, c] = p
                tied[row, c] = False
            elif values[p, c] == greatest[row, c]:
                tied[row, c] = values[p, c] != 0
    return tied.any()


@njit(nogil=True, error_model="numpy", cache=True)
def _give(winner, gradient, back):
    """Give the gradient [size, C] of the greatest to the rows that they were taken from."""
    for row in range(len(winner)):
        for c in range(winner.shape[1]):
            if winner[row, c] >= 0:
                back[winner[row, c], c] = gradient[row, c]


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
