"""Penalties on the Gaussians themselves, whatever they show."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.render import Render


class OpacityPenalty(Loss):
    """Mean opacity: lets Gaussians that the photos do not need fade (Kheradmand et al., 3DGS as MCMC, 2024)."""

    def __init__(self, weight: float = 0.01) -> None:
        super().__init__(weight)

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        return torch.sigmoid(gaussians.opacities).mean()


class ScalePenalty(Loss):
    """Mean standard deviation over Gaussians and axes, world units (Kheradmand et al., 3DGS as MCMC, 2024)."""

    def __init__(self, weight: float = 0.01) -> None:
        super().__init__(weight)

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        return torch.exp(gaussians.scales).mean()


class NeedlePenalty(Loss):
    """How far the longest axis exceeds ``ratio`` times the shortest, as a mean of logarithms (after Xie et al.,
    PhysGaussian, 2024).

    Args:
        ratio: longest over shortest axis that costs nothing, at least 1.
        weight: factor of this term.
    """

    def __init__(self, ratio: float = 10.0, weight: float = 0.1) -> None:
        super().__init__(weight)
        if not ratio >= 1:
            raise ValueError(f"NeedlePenalty: ratio is {ratio}, expected at least 1")
        self.ratio = ratio

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        excess = gaussians.scales.amax(1) - gaussians.scales.amin(1) - math.log(self.ratio)
        return excess.clamp(min=0).mean()
