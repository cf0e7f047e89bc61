"""PSNR, SSIM and AVGE as pure functions of two images [H, W, 3] in 0..1.

These are for judging, in double precision and without gradients; what fitting minimises is ``recon3d.ssim``.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.types import expect_shape

SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
SSIM_C1, SSIM_C2 = 0.01**2, 0.03**2
LEAST_SQUARED_ERROR = 1e-10  # equal images get 100 dB instead of infinity, which JSON cannot hold


def check_images(image: Tensor, target: Tensor, mask: Tensor | None = None) -> None:
    """Raise ValueError unless both are finite floating point [H, W, 3] in 0..1 of one size and ``mask`` is bool [H, W].

    A mask must hold at least one pixel.
    """
    expect_shape("target", target, (None, None, 3))
    expect_shape("image", image, tuple(target.shape))
    if target.numel() == 0:
        raise ValueError(f"an image of {target.shape[1]}x{target.shape[0]} pixels has no metrics")
    for name, value in (("image", image), ("target", target)):
        if not value.is_floating_point():
            raise ValueError(f"{name} is {value.dtype}, expected floating point in 0..1")
        low, high = (float(extreme) for extreme in value.aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"{name} holds values that are not finite")
        if low < -1e-5 or high > 1 + 1e-5:
            raise ValueError(f"{name} has values in {low:.4g}..{high:.4g}, expected 0..1")
    if mask is not None:
        expect_shape("mask", mask, tuple(target.shape[:2]))
        if mask.dtype != torch.bool:
            raise ValueError(f"mask is {mask.dtype}, expected bool")
        if not bool(mask.any()):
            raise ValueError("the mask is empty: no pixel is left to measure")


def psnr(image: Tensor, target: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal to noise ratio in dB, at most 100; over the pixels of ``mask`` where one is given.

    Args:
        image, target: [H, W, 3] in 0..1.
        mask: [H, W] bool, or None for every pixel.

    Raises:
        ValueError: for images that cannot be compared (see :func:`check_images`).
    """
    check_images(image, target, mask)
    squared = (image.double() - target.double()) ** 2
    if mask is not None:
        squared = squared[mask]
    return -10 * math.log10(max(float(squared.mean()), LEAST_SQUARED_ERROR))


def ssim_map(image: Tensor, target: Tensor) -> Tensor:
    """Structural similarity per pixel and channel, [H, W, 3] double (Wang et al., 2004).

    Gaussian window of 11 pixels, sigma 1.5, data range 1, zero padding at the border as in 3D Gaussian Splatting's
    code, which nearly all published splatting figures use.

    Raises:
        ValueError: for images that cannot be compared (see :func:`check_images`).
    """
    check_images(image, target)
    offset = torch.arange(SSIM_WINDOW, dtype=torch.float64, device=image.device) - SSIM_WINDOW // 2
    window = torch.exp(-(offset**2) / (2 * SSIM_SIGMA**2))
    window /= window.sum()
    x, y = image.double().permute(2, 0, 1), target.double().permute(2, 0, 1)
    stacked = torch.cat([x, y, x * x, y * y, x * y])[:, None]
    rows = F.conv2d(stacked, window[None, None, :, None], padding=(SSIM_WINDOW // 2, 0))
    blurred = F.conv2d(rows, window[None, None, None, :], padding=(0, SSIM_WINDOW // 2))[:, 0]
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = blurred.split(3)
    variances = mean_xx - mean_x**2 + mean_yy - mean_y**2
    covariance = mean_xy - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
    return (luminance * (2 * covariance + SSIM_C2) / (variances + SSIM_C2)).permute(1, 2, 0)


def ssim(image: Tensor, target: Tensor) -> float:
    """Mean of :func:`ssim_map` over pixels and channels; 1 for equal images."""
    return float(ssim_map(image, target).mean())


def composite(image: Tensor, mask: Tensor, background: float = 1.0) -> Tensor:
    """``image`` [H, W, 3] inside ``mask`` [H, W] bool, ``background`` outside.

    White is DTU's convention for masked SSIM and LPIPS (Niemeyer et al., RegNeRF, 2022, and those who follow).
    """
    return torch.where(mask[..., None], image, background)


def avge(psnr: float, ssim: float, lpips: float) -> float:
    """Geometric mean of 10^(-PSNR/10), sqrt(1 - SSIM) and LPIPS (Niemeyer et al., RegNeRF, 2022); lower is better."""
    return float((10 ** (-psnr / 10) * math.sqrt(max(1 - ssim, 0.0)) * max(lpips, 0.0)) ** (1 / 3))
