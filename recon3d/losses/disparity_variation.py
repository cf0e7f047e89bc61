"""Smooth disparity where the photo is smooth."""

from __future__ import annotations

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.losses.surface import channel_mean, shows_surface, surface_depth
from recon3d.render import Render


class DisparityVariation(Loss):
    """Edge-aware total variation of the rendered disparity (1 / z-depth) over its mean (Godard et al., 2017).

    ``mean |difference of disparities| exp(-edge |difference of colours|)`` over neighbours sideways and upright, where
    the render shows a surface. Needs no prior.

    Args:
        order: 1 takes differences of neighbours, which likes surfaces that face the camera; 2 takes differences of
            differences, which likes any plane (a plane's disparity is linear in the image).
        edge: how fast the cost falls with the difference in colour (mean of channels, 0..1).
        weight: factor of this term.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(self, order: int = 1, edge: float = 10.0, weight: float = 0.01) -> None:
        super().__init__(weight)
        if order not in (1, 2):
            raise ValueError(f"DisparityVariation: order is {order}, expected 1 or 2")
        if not 0 <= edge < float("inf"):
            raise ValueError(f"DisparityVariation: edge is {edge}, expected a finite number >= 0")
        self.order, self.edge = order, edge

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        shown = shows_surface(render, target)
        disparity = surface_depth(render, shown, "inverse")
        mean = torch.where(shown, disparity.detach(), 0).sum() / shown.sum().clamp(min=1)
        total = disparity.new_zeros(())
        for axis in (0, 1):
            steps, counts, photo = (values.transpose(0, axis) for values in (disparity, shown, target.image))
            edges = channel_mean((photo[1:] - photo[:-1]).abs())
            for _ in range(self.order):
                steps, counts = steps[1:] - steps[:-1], counts[1:] & counts[:-1]
            if self.order == 2:
                edges = torch.maximum(edges[1:], edges[:-1])
            total = total + torch.where(counts, steps.abs() * torch.exp(-self.edge * edges), 0).sum()
        return total / mean.clamp(min=1e-12) / disparity.numel()
