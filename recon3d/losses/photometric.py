"""The difference between render and photo."""

from __future__ import annotations

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.render import Render
from recon3d.ssim import l1_ssim


class Photometric(Loss):
    """``(1 - ssim) * L1 + ssim * (1 - SSIM)`` between render and photo (Kerbl et al., 3D Gaussian Splatting, 2023).

    Outside the photo's mask the render is compared with itself: no gradient, no error.

    Args:
        ssim: share of the structural term, 0 to 1.
        weight: factor of this term.
    """

    def __init__(self, ssim: float = 0.2, weight: float = 1.0) -> None:
        super().__init__(weight)
        if not 0 <= ssim <= 1:
            raise ValueError(f"Photometric: ssim is {ssim}, expected 0 to 1")
        self.ssim = ssim

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        colour = render.colour[0]
        image = target.image
        if target.mask is not None:
            image = torch.where(target.mask[:, :, None], image, colour.detach())
        return l1_ssim(colour, image, self.ssim)
