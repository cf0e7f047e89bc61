"""PSNR, SSIM and AVGE against literal versions and against torchmetrics."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from recon3d.metrics import avge, composite, psnr, ssim, ssim_map


def pair(height: int, width: int, seed: int = 0, noise: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(height, width, 3, generator=generator)
    image = (target + noise * torch.randn(height, width, 3, generator=generator)).clamp(0, 1)
    return image, target


def literal_ssim(image: np.ndarray, target: np.ndarray) -> float:
    """Window by window, as Wang et al. define it, with zeros outside the image."""
    offset = np.arange(11) - 5
    window = np.exp(-(offset[:, None] ** 2 + offset[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for x, y in zip(np.moveaxis(image, 2, 0), np.moveaxis(target, 2, 0), strict=True):
        x, y = np.pad(x, 5), np.pad(y, 5)
        for i in range(x.shape[0] - 10):
            for j in range(x.shape[1] - 10):
                a, b = x[i : i + 11, j : j + 11], y[i : i + 11, j : j + 11]
                mean_a, mean_b = (window * a).sum(), (window * b).sum()
                variance_a, variance_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
                covariance = (window * (a - mean_a) * (b - mean_b)).sum()
                values.append(
                    (2 * mean_a * mean_b + 0.01**2)
                    * (2 * covariance + 0.03**2)
                    / ((mean_a**2 + mean_b**2 + 0.01**2) * (variance_a + variance_b + 0.03**2))
                )
    return float(np.mean(values))


@pytest.mark.parametrize("size", [(1, 1), (3, 17), (13, 11), (20, 24)])
def test_ssim_is_what_the_definition_says(size: tuple[int, int]) -> None:
    image, target = pair(*size)
    assert ssim(image, target) == pytest.approx(
        literal_ssim(image.double().numpy(), target.double().numpy()), abs=1e-12
    )


def test_ssim_agrees_with_torchmetrics_which_reflects_at_the_border() -> None:
    image, target = (x.double().permute(2, 0, 1)[None] for x in pair(61, 47))
    theirs = structural_similarity_index_measure(image, target, sigma=1.5, data_range=1.0)
    reflected = (F.pad(x, (5, 5, 5, 5), mode="reflect")[0].permute(1, 2, 0) for x in (image, target))
    assert float(ssim_map(*reflected)[5:-5, 5:-5].mean()) == pytest.approx(float(theirs), abs=1e-9)


def test_psnr_agrees_with_torchmetrics() -> None:
    image, target = pair(31, 45)
    assert psnr(image, target) == pytest.approx(float(peak_signal_noise_ratio(image, target, data_range=1.0)), abs=1e-4)


@given(error=st.floats(0.001, 0.9), size=st.integers(1, 12))
def test_psnr_of_a_constant_error_is_known(error: float, size: int) -> None:
    target = torch.zeros(size, size, 3, dtype=torch.float64)
    assert psnr(target + error, target) == pytest.approx(-20 * math.log10(error))


def test_equal_images_are_at_the_finite_top() -> None:
    image, _ = pair(16, 16)
    assert psnr(image, image) == 100
    assert ssim(image, image) == pytest.approx(1, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), more=st.floats(1.2, 3.0))
def test_more_noise_is_worse_and_order_does_not_matter(seed: int, more: float) -> None:
    (little, target), (much, _) = pair(24, 30, seed, 0.05), pair(24, 30, seed, 0.05 * more)
    assert psnr(much, target) < psnr(little, target)
    assert ssim(much, target) < ssim(little, target)
    assert ssim(little, target) == pytest.approx(ssim(target, little), abs=1e-12)


def test_masked_psnr_counts_the_masks_pixels_only() -> None:
    image, target = pair(20, 20)
    mask = torch.zeros(20, 20, dtype=torch.bool)
    mask[3:9, 4:15] = True
    outside = torch.where(mask[..., None], image, 1 - image)
    assert psnr(outside, target, mask) == psnr(image, target, mask)
    assert psnr(image, target, mask) == pytest.approx(psnr(image[3:9, 4:15], target[3:9, 4:15]))
    assert torch.equal(composite(image, mask)[3:9, 4:15], image[3:9, 4:15])
    assert bool((composite(image, mask)[~mask] == 1).all())


def test_avge_is_the_geometric_mean() -> None:
    assert avge(20, 0.75, 0.08) == pytest.approx((0.01 * 0.5 * 0.08) ** (1 / 3))
    assert avge(20, 1.0, 0.08) == 0


@pytest.mark.parametrize(
    ("image", "target", "message"),
    [
        (torch.zeros(4, 4, 3), torch.zeros(4, 5, 3), r"image has shape \(4, 4, 3\), expected \(4, 5, 3\)"),
        (torch.zeros(3, 4, 4), torch.zeros(3, 4, 4), r"target has shape"),
        (torch.zeros(0, 4, 3), torch.zeros(0, 4, 3), "no metrics"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), torch.zeros(4, 4, 3), "image is torch.uint8"),
        (torch.full((4, 4, 3), math.nan), torch.zeros(4, 4, 3), "not finite"),
        (torch.zeros(4, 4, 3), torch.full((4, 4, 3), 255.0), r"target has values in 255..255, expected 0..1"),
        (torch.full((4, 4, 3), -0.1), torch.zeros(4, 4, 3), "expected 0..1"),
    ],
)
def test_images_that_cannot_be_compared(image: torch.Tensor, target: torch.Tensor, message: str) -> None:
    for measure in (psnr, ssim):
        with pytest.raises(ValueError, match=message):
            measure(image, target)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(4, 4, dtype=torch.bool), "empty"),
        (torch.ones(4, 5, dtype=torch.bool), "mask has shape"),
        (torch.ones(4, 4), "expected bool"),
    ],
)
def test_masks_that_cannot_be_used(mask: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        psnr(torch.zeros(4, 4, 3), torch.zeros(4, 4, 3), mask)
