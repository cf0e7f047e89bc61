"""What makes several training processes one: batch normalisation over the joint batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes; so is its gradient, as every process's loss depends on the sum."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


class JointBatchNorm(nn.Module):
    """Batch normalisation over the samples of all processes, on any device (torch's own is for CUDA only).

    Takes over the parameters and statistics of ``norm``, and their names.
    """

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
        super().__init__()
        self.eps, self.momentum = norm.eps, norm.momentum
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))

    def forward(self, features: Tensor) -> Tensor:
        """[N, C, ...] normalised along all but C."""
        shape = (1, -1, *(1 for _ in features.shape[2:]))
        running_mean, running_var = self.get_buffer("running_mean"), self.get_buffer("running_var")
        if self.training:
            across = [axis for axis in range(features.ndim) if axis != 1]
            here = features.new_tensor([features.numel() / features.shape[1]], dtype=torch.float32)
            wide = features.float()
            total = _SumOverProcesses.apply(torch.cat([wide.sum(across), here]))
            count, enough = total[-1].clamp(min=2), total[-1] > 1  # else the running statistics, as in one process
            mean = torch.where(enough, total[:-1] / count, running_mean)
            spread = _SumOverProcesses.apply((wide - mean.view(shape)).square().sum(across))
            variance = torch.where(enough, spread / count, running_var)
            with torch.no_grad():
                momentum = enough * (0.1 if self.momentum is None else self.momentum)
                running_mean.lerp_(mean.to(running_mean.dtype), momentum.to(running_mean.dtype))
                unbiased = torch.where(enough, spread / (count - 1), running_var)
                running_var.lerp_(unbiased.to(running_var.dtype), momentum.to(running_var.dtype))
                self.get_buffer("num_batches_tracked").add_(enough)
        else:
            mean, variance = running_mean, running_var
        scale = self.weight * (variance + self.eps).rsqrt()
        shifted = (features - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)
        return shifted.to(features.dtype)


def join_batch_norms(module: nn.Module) -> None:
    """Replace every batch normalisation within ``module`` by :class:`JointBatchNorm`."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            setattr(module, name, JointBatchNorm(child))
        else:
            join_batch_norms(child)
