"""Structural similarity against its definition, one window at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from recon3d.ssim import l1_ssim, ssim


def picture(seed: int, height: int, width: int) -> Tensor:
    return torch.rand(height, width, 3, generator=torch.Generator().manual_seed(seed))


def literal(image: np.ndarray, target: np.ndarray) -> float:
    """Mean over pixels and channels of the definition, windows padded with zeros."""
    offsets = np.arange(-5, 6)
    one = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(one, one) / one.sum() ** 2
    total = 0.0
    x, y = (np.pad(a.astype(float), ((5, 5), (5, 5), (0, 0))) for a in (image, target))
    height, width, _ = image.shape
    for row in range(height):
        for column in range(width):
            for channel in range(3):
                a, b = (p[row : row + 11, column : column + 11, channel] for p in (x, y))
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                var_a, var_b = (window * a * a).sum() - mean_a**2, (window * b * b).sum() - mean_b**2
                covariance = (window * a * b).sum() - mean_a * mean_b
                total += ((2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)) / (
                    (mean_a**2 + mean_b**2 + 1e-4) * (var_a + var_b + 9e-4)
                )
    return total / (height * width * 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 23), (17, 9)])
def test_ssim_is_its_definition(height: int, width: int) -> None:
    image, target = picture(0, height, width), picture(1, height, width)
    assert float(ssim(image, target)) == pytest.approx(literal(image.numpy(), target.numpy()), abs=2e-6)


def test_ssim_of_an_image_with_itself_is_one() -> None:
    assert float(ssim(picture(0, 20, 30), picture(0, 20, 30))) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
def test_l1_ssim_mixes_both(weight: float) -> None:
    image, target = picture(0, 13, 21), picture(1, 13, 21)
    want = (1 - weight) * float((image - target).abs().mean()) + weight * (1 - float(ssim(image, target)))
    assert float(l1_ssim(image, target, weight)) == pytest.approx(want, abs=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
def test_gradient_is_the_slope(weight: float) -> None:
    image, target = picture(0, 12, 15).requires_grad_(), picture(1, 12, 15)
    (3 * l1_ssim(image, target, weight)).backward()
    assert image.grad is not None
    direction = torch.randn(image.shape, generator=torch.Generator().manual_seed(2)) * 1e-3
    # Symmetric difference; the absolute value has no kink within reach where |image - target| is large enough.
    direction[(image - target).abs() < 5e-3] = 0
    with torch.no_grad():
        up, down = (float(l1_ssim(image + sign * direction, target, weight)) for sign in (1, -1))
    slope = float((image.grad * direction).sum())
    assert math.isclose(slope, 3 * (up - down) / 2, rel_tol=0.02, abs_tol=1e-6)


def test_sizes_that_disagree_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 5, 3\)"):
        ssim(picture(0, 4, 5), picture(0, 5, 4))
