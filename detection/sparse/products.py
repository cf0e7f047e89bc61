"""The products of a sparse convolution and their gradients: compiled on the CPU, plain torch otherwise."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from detection.sparse import kernels


def _padded(values: Tensor) -> Tensor:
    """``values`` with the last dimension filled up to whole vectors."""
    return F.pad(values, (0, -values.shape[-1] % kernels.LANES)).contiguous()


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.contiguous().numpy()


def _is_compiled(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.dtype == torch.float32


def gather_multiply(features: Tensor, weights: Tensor, ins: Tensor, outs: Tensor, counts: Tensor, rows: int) -> Tensor:
    """[rows, D]: the sum over k and pairs p < counts[k] of features[ins[k, p]] @ weights[k], at row outs[k, p].

    Args:
        features: [N, C].
        weights: [K, C, D].
        ins, outs, counts: see :class:`detection.sparse.rulebook.Rulebook`.
    """
    if not _is_compiled(features):
        result = features.new_zeros(rows, weights.shape[2])
        for k, count in enumerate(counts.tolist()):
            result.index_add_(0, outs[k, :count], features.index_select(0, ins[k, :count]) @ weights[k])
        return result
    book = (_array(ins), _array(outs), _array(counts))
    sums = kernels.gather_multiply(_array(features), _array(_padded(weights)), book, rows)
    return torch.from_numpy(sums)[:, : weights.shape[2]].contiguous()


def weight_gradient(features: Tensor, gradients: Tensor, ins: Tensor, outs: Tensor, counts: Tensor) -> Tensor:
    """[K, C, D]: the sum over pairs p < counts[k] of features[ins[k, p]].T @ gradients[outs[k, p]]."""
    if not _is_compiled(features):
        pairs = [(ins[k, :count], outs[k, :count]) for k, count in enumerate(counts.tolist())]
        return torch.stack([features.index_select(0, i).T @ gradients.index_select(0, o) for i, o in pairs])
    book = (_array(ins), _array(outs), _array(counts))
    sums = kernels.weight_gradient(_array(features), _array(_padded(gradients)), book)
    return torch.from_numpy(sums)[:, :, : gradients.shape[1]]


class SparseProduct(torch.autograd.Function):
    """:func:`gather_multiply` with gradients for the features [N, C] and the weights [K, C, D].

    Half precision is computed in single precision; the result has the dtype of the features.
    """

    @staticmethod
    def forward(ctx, features: Tensor, weights: Tensor, ins: Tensor, outs: Tensor, counts: Tensor, rows: int) -> Tensor:
        working = torch.float64 if features.dtype == torch.float64 else torch.float32
        ctx.save_for_backward(features, weights, ins, outs, counts)
        ctx.working = working
        with torch.autocast(features.device.type, enabled=False):
            product = gather_multiply(features.to(working), weights.to(working), ins, outs, counts, rows)
        return product.to(features.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        features, weights, ins, outs, counts = ctx.saved_tensors
        gradient = gradient.to(ctx.working)
        to_features = to_weights = None
        with torch.autocast(features.device.type, enabled=False):
            if ctx.needs_input_grad[0]:
                back = weights.to(ctx.working).transpose(1, 2)
                to_features = gather_multiply(gradient, back, outs, ins, counts, len(features)).to(features.dtype)
            if ctx.needs_input_grad[1]:
                to_weights = weight_gradient(features.to(ctx.working), gradient, ins, outs, counts).to(weights.dtype)
        return to_features, to_weights, None, None, None, None
