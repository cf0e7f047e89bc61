"""A photometric loss that learns where it cannot be met."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.losses.surface import channel_mean
from recon3d.render import Render

LEAST = 0.02  # colour 0..1: errors that no surface gets below
# Adam learns the uncertainties as fast from any share; a small one leaves the rest of the Gaussians alone.
LIKELIHOOD = 1e-3
UNKNOWN = math.log(2)  # what every Gaussian starts with


class UncertainColour(Loss):
    """L1 between render and photo, weighted by an uncertainty that each Gaussian learns, rendered as colour is.

    The uncertainty is the scale of a Laplace distribution of the colour's error, found by maximum likelihood; the L1 of
    a pixel counts by its inverse, over the mean of the view. After UNG-GS, which has no public code and does so with a
    Gaussian distribution of the normals' error. What the photos disagree on (reflections, what moved) thus pulls less.

    Replaces the L1 part of Photometric: give that one ``ssim: 1`` and the weight of the structural part.

    Args:
        weight: factor of this term.

    Raises:
        ValueError: for a weight out of range; when asked, for a render without the uncertainty.
    """

    uses_uncertainty = True

    def __init__(self, weight: float = 0.8) -> None:
        super().__init__(weight)

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        if render.features is None:
            raise ValueError("UncertainColour needs the uncertainty as the render's feature, but there is none")
        empty = 1 - render.alpha[0].detach()
        scale = LEAST + render.features[0, ..., 0] + UNKNOWN * empty
        error = channel_mean((render.colour[0] - target.image).abs())
        counts = torch.ones_like(error, dtype=torch.bool) if target.mask is None else target.mask
        trust = torch.where(counts, 1 / scale.detach(), 0)
        trust = trust * counts.sum() / trust.sum().clamp(min=1e-12)
        likelihood = torch.where(counts, error.detach() / scale + scale.log(), 0)
        return (trust * error).mean() + LIKELIHOOD * likelihood.mean()
