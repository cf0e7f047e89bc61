"""What a fit minimises. A configuration names losses by ``class_path``; a new one is a class here or anywhere else."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.render import Render
from recon3d.ssim import l1_ssim


@dataclass(frozen=True)
class Target:
    """The photo of one training step.

    Attributes:
        image: [H, W, 3] float32 in 0..1.
        mask: [H, W] bool, True where the photo counts, or None for everywhere.
        depth: [H, W] float32 measured z-depth in scene units, 0 where unknown, or None.
    """

    image: Tensor
    mask: Tensor | None = None
    depth: Tensor | None = None


class Loss(ABC):
    """One term of the sum that a fit minimises.

    Args:
        weight: factor of this term, not negative.
    """

    def __init__(self, weight: float = 1.0) -> None:
        if not (weight >= 0 and math.isfinite(weight)):
            raise ValueError(f"{type(self).__name__}: weight is {weight}, expected a finite number >= 0")
        self.weight = weight

    def __call__(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        """The weighted scalar for one camera (``render`` holds a batch of one)."""
        return self.weight * self.value(render, target, gaussians)

    @abstractmethod
    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        """The scalar before weighting."""


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
