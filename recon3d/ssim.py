"""Structural similarity (Wang et al., Image Quality Assessment, 2004) and the photometric loss built on it.

The window is 11x11, Gaussian with sigma 1.5; borders are padded with zeros; the data range is 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
C1, C2 = 0.01**2, 0.03**2


def _band(size: int, like: Tensor) -> Tensor:
    """[size, size] matrix that blurs a vector, zero padded: on a CPU much faster than a convolution of one channel."""
    places = torch.arange(size, dtype=like.dtype, device=like.device)
    apart = places[:, None] - places
    weights = torch.exp(-0.5 * (apart / SIGMA) ** 2) * (apart.abs() <= WINDOW // 2)
    one = torch.arange(-(WINDOW // 2), WINDOW // 2 + 1, dtype=like.dtype, device=like.device)
    return weights / torch.exp(-0.5 * (one / SIGMA) ** 2).sum()


def _blur(planes: Tensor) -> Tensor:
    """Gaussian window over [B, H, W], zero padded."""
    height, width = planes.shape[1:]
    return _band(height, planes) @ (planes @ _band(width, planes))


def ssim(image: Tensor, target: Tensor) -> Tensor:
    """Mean structural similarity of two [H, W, 3] images in 0..1, with gradients; a scalar.

    Raises:
        ValueError: where the shapes disagree.
    """
    if image.shape != target.shape or image.ndim != 3:
        raise ValueError(f"image {tuple(image.shape)} and target {tuple(target.shape)} must both be [H, W, 3]")
    x, y = (planes.permute(2, 0, 1) for planes in (image, target))
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = _blur(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    variances = (mean_xx - mean_x * mean_x) + (mean_yy - mean_y * mean_y)
    covariance = mean_xy - mean_x * mean_y
    structure = (2 * covariance + C2) / (variances + C2)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x * mean_x + mean_y * mean_y + C1)
    return (luminance * structure).mean()


def l1_ssim(image: Tensor, target: Tensor, ssim_weight: float) -> Tensor:
    """``(1 - w) * mean |image - target| + w * (1 - ssim)`` of [H, W, 3] images, a scalar with gradients.

    Raises:
        ValueError: where the shapes disagree.
    """
    if image.shape != target.shape or image.ndim != 3:
        raise ValueError(f"image {tuple(image.shape)} and target {tuple(target.shape)} must both be [H, W, 3]")
    if image.device.type == "cpu" and image.dtype == target.dtype == torch.float32 and not target.requires_grad:
        from recon3d.ssim_cpu import l1_ssim_cpu

        return l1_ssim_cpu(image, target, ssim_weight)
    loss = (1 - ssim_weight) * (image - target).abs().mean()
    if ssim_weight == 0:
        return loss
    return loss + ssim_weight * (1 - ssim(image, target))
