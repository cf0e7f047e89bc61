"""Losses: values by hand, masks, and where gradients go."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses import Loss, MeasuredDepth, NeedlePenalty, OpacityPenalty, Photometric, ScalePenalty, Target
from recon3d.render import Render

HEIGHT, WIDTH = 14, 17


def picture(seed: int) -> Tensor:
    return torch.rand(HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(seed))


def rendered(colour: Tensor, alpha: float = 1.0, depth: float = 2.0) -> Render:
    full = torch.full((1, HEIGHT, WIDTH), alpha)
    none = torch.zeros(1, 0, 2)
    return Render(colour[None], full, full * depth, None, none, none.int())


def gaussians() -> Gaussians:
    return Gaussians(
        means=torch.zeros(2, 3),
        scales=torch.tensor([[0.0, 0.0, math.log(50.0)], [0.0, 0.0, 0.0]]),
        quats=torch.ones(2, 4),
        opacities=torch.tensor([0.0, math.log(3.0)]),
        sh0=torch.zeros(2, 1, 3),
        shN=torch.zeros(2, 0, 3),
    )


def test_photometric_without_ssim_is_the_mean_difference() -> None:
    loss = Photometric(ssim=0.0, weight=3.0)(rendered(picture(0)), Target(picture(1)), gaussians())
    assert float(loss) == pytest.approx(3 * float((picture(0) - picture(1)).abs().mean()), rel=1e-5)


def test_photometric_of_the_photo_itself_is_zero() -> None:
    assert float(Photometric()(rendered(picture(0)), Target(picture(0)), gaussians())) == pytest.approx(0, abs=1e-5)


def test_pixels_outside_the_mask_do_not_count() -> None:
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, :8] = True
    results = []
    for outside in (0.0, 1.0):
        photo = torch.where(mask[..., None], picture(1), outside)
        colour = picture(0).requires_grad_()
        loss = Photometric(ssim=0.2)(rendered(colour), Target(photo, mask), gaussians())
        loss.backward()
        results.append((loss.item(), colour.grad))
    assert results[0][0] == results[1][0] > 0
    assert torch.equal(results[0][1], results[1][1])
    assert results[0][1][:, :8].any()


def test_penalties() -> None:
    look, photo = rendered(picture(0)), Target(picture(1))
    assert float(OpacityPenalty(weight=2.0)(look, photo, gaussians())) == pytest.approx(2 * (0.5 + 0.75) / 2)
    assert float(ScalePenalty(weight=1.0)(look, photo, gaussians())) == pytest.approx((5 + 50) / 6, rel=1e-5)
    assert float(NeedlePenalty(ratio=10.0, weight=1.0)(look, photo, gaussians())) == pytest.approx(math.log(5) / 2)


def test_measured_depth() -> None:
    depth = torch.zeros(HEIGHT, WIDTH)
    depth[:7] = 4.0
    loss = MeasuredDepth(weight=1.0)
    assert float(loss(rendered(picture(0), depth=3.0), Target(picture(0), None, depth), gaussians())) == pytest.approx(
        0.25 / 2
    )
    mask = torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)
    mask[:, 0] = True
    assert float(loss(rendered(picture(0), depth=3.0), Target(picture(0), mask, depth), gaussians())) == pytest.approx(
        0.25 / 2 / WIDTH
    )
    assert float(loss(rendered(picture(0), alpha=0.3), Target(picture(0), None, depth), gaussians())) == 0
    assert float(loss(rendered(picture(0)), Target(picture(0)), gaussians())) == 0


def test_measured_depth_gradient_is_finite_where_nothing_was_drawn() -> None:
    alpha = torch.zeros(1, HEIGHT, WIDTH, requires_grad=True)
    depth_sum = torch.zeros(1, HEIGHT, WIDTH, requires_grad=True)
    none = torch.zeros(1, 0, 2)
    look = Render(picture(0)[None], alpha, depth_sum, None, none, none.int())
    MeasuredDepth()(look, Target(picture(0), None, torch.ones(HEIGHT, WIDTH)), gaussians()).backward()
    assert bool(torch.isfinite(alpha.grad).all() & torch.isfinite(depth_sum.grad).all())


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("kind", [Photometric, OpacityPenalty, ScalePenalty, NeedlePenalty, MeasuredDepth])
def test_weights_are_checked(kind: type[Loss], weight: float) -> None:
    with pytest.raises(ValueError, match=f"{kind.__name__}: weight"):
        kind(weight=weight)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"ssim is 1\.5"):
        Photometric(ssim=1.5)
    with pytest.raises(ValueError, match=r"ratio is 0\.5"):
        NeedlePenalty(ratio=0.5)
