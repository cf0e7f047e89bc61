"""Depth that a sensor measured."""

from __future__ import annotations

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.render import Render


class MeasuredDepth(Loss):
    """Mean relative error of the rendered z-depth where a sensor measured it; zero for photos without depth.

    Alpha below one half does not count: there the expected depth says little.
    """

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__(weight)

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        if target.depth is None:
            return render.alpha.new_zeros(())
        known = (target.depth > 0) & (render.alpha[0].detach() > 0.5)
        if target.mask is not None:
            known &= target.mask
        error = (render.depth[0] - target.depth).abs() / target.depth.clamp(min=1e-6)
        return torch.where(known, error, 0).sum() / known.numel()
