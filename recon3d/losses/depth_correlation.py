"""The shape of the prior's depth, whatever its scale and shift: correlation."""

from __future__ import annotations

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.losses.surface import Comparison, Space, check_space, weighted_mean
from recon3d.render import Render

FLAT = 1e-3  # of the mean: deviations that are noise


class DepthCorrelation(Loss):
    """One minus Pearson's correlation of the rendered z-depth with the prior's, weighted by the prior's confidence.

    Over the whole view (Zhu et al., FSGS, 2024) or the mean over patches (Xiong et al., SparseGS, 2023), which here
    lie on a grid that moves from step to step. What is flat to a thousandth has no shape to correlate.

    Args:
        patch: side of the patches in pixels, at least 2; None takes the whole view.
        space: whether depth or inverse depth is compared.
        weight: factor of this term.

    Raises:
        ValueError: for arguments out of range; when asked, for a target without a prior.
    """

    uses_prior = True

    def __init__(self, patch: int | None = None, space: Space = "inverse", weight: float = 0.05) -> None:
        super().__init__(weight)
        if patch is not None and patch < 2:
            raise ValueError(f"DepthCorrelation: patch is {patch}, expected at least 2 pixels, or null")
        check_space("DepthCorrelation", space)
        self.patch, self.space = patch, space

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        both = Comparison.of(render, target, self.space)
        both = both.in_one_patch() if self.patch is None else both.in_patches(self.patch)
        total = both.belief.sum(1)
        return (total * (1 - _correlation(both))).sum() / total.sum().clamp(min=1e-12)


def _correlation(both: Comparison) -> Tensor:
    """[P] weighted correlation within each patch."""

    def deviation(values: Tensor) -> tuple[Tensor, Tensor]:
        mean = weighted_mean(values, both.belief)
        away = values - mean
        variance = weighted_mean(away * away, both.belief) + (FLAT * mean.detach()) ** 2
        return away, variance.clamp(min=1e-30).sqrt()

    rendered, spread = deviation(both.rendered)
    prior, prior_spread = deviation(both.prior)
    return torch.squeeze(weighted_mean(rendered * prior, both.belief) / (spread * prior_spread), 1)
