"""The fused kernel against the plain version in double precision."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recon3d.rasteriser import threads
from recon3d.ssim import l1_ssim
from recon3d.ssim_cpu import l1_ssim_cpu

SIZES = [(1, 1), (5, 7), (11, 20), (37, 53), (70, 130), (129, 128), (131, 300)]


def pair(height: int, width: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    image = torch.rand(height, width, 3, generator=generator)
    target = (image + 0.1 * torch.randn(height, width, 3, generator=generator)).clamp(0, 1)
    return image, target


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
def test_value_and_gradient(height: int, width: int, weight: float) -> None:
    image, target = pair(height, width)
    exact, fast = image.double().requires_grad_(), image.clone().requires_grad_()
    want, got = l1_ssim(exact, target.double(), weight), l1_ssim_cpu(fast, target, weight)
    (5 * want).backward()
    (5 * got).backward()
    assert exact.grad is not None
    assert fast.grad is not None
    assert float(got) == pytest.approx(float(want), abs=1e-6)
    assert float((fast.grad - exact.grad).norm() / exact.grad.norm()) < 2e-6


def test_equal_images_give_no_gradient_of_l1() -> None:
    image, _ = pair(20, 30)
    fast = image.clone().requires_grad_()
    loss = l1_ssim_cpu(fast, image, 0.0)
    loss.backward()
    assert float(loss) == 0
    assert fast.grad is not None
    assert not fast.grad.any()


def test_the_same_bits_on_any_number_of_threads() -> None:
    image, target = pair(300, 280)
    results = []
    for count in (1, 2, 3, 4, 2):
        fast = image.clone().requires_grad_()
        with threads(count):
            loss = l1_ssim_cpu(fast, target, 0.2)
            loss.backward()
        assert fast.grad is not None
        results.append((loss.item(), fast.grad))
    for loss, gradient in results[1:]:
        assert loss == results[0][0]
        assert torch.equal(gradient, results[0][1])


def test_a_view_of_a_larger_tensor_is_read_right() -> None:
    image, target = pair(64, 96)
    part = image[3:50, 7:80]
    assert not part.is_contiguous()
    assert float(l1_ssim_cpu(part, target[3:50, 7:80], 0.2)) == pytest.approx(
        float(l1_ssim_cpu(part.contiguous(), target[3:50, 7:80].contiguous(), 0.2))
    )
