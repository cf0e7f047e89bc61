"""The oracle itself: against finite differences, closed forms and invariances."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from datasets.types import Cameras
from recon3d.gaussians import Gaussians
from tests.recon3d.rasteriser.oracle import render_oracle as render
from tests.recon3d.rasteriser.oracle import render_with_margins, rotation_matrices
from tests.recon3d.rasteriser.scenes import forward, random_cameras, random_gaussians, tangent


def one_gaussian(mean: tuple[float, float, float], logit: float = 0.0, scale: float = 0.1) -> Gaussians:
    return Gaussians(
        means=torch.tensor([mean]),
        scales=torch.full((1, 3), math.log(scale)),
        quats=torch.tensor([[1.0, 0, 0, 0]]),
        opacities=torch.tensor([logit]),
        sh0=torch.full((1, 1, 3), 0.5),
        shN=torch.zeros(1, 0, 3),
    )


def straight_camera(width: int = 9, height: int = 7, focal: float = 10.0) -> Cameras:
    intrinsics = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
    return Cameras(torch.eye(4)[None], intrinsics, torch.tensor([[width, height]]))


def test_one_gaussian_in_closed_form() -> None:
    """On the axis at depth 2 the screen variance is (10 * 0.1 / 2)² + 0.3 in both directions."""
    shown = render(one_gaussian((0, 0, 2)), straight_camera(), background=torch.tensor([0.0, 1.0, 0.0]))
    alpha = 0.5 * math.exp(-0.5 * (1.0 + 4.0) / 0.55)  # one pixel to the right of the centre, two below
    assert shown.alpha[0, 3, 4].item() == pytest.approx(0.5, abs=1e-12)
    assert shown.alpha[0, 5, 5].item() == pytest.approx(alpha, abs=1e-8)
    colour = 0.5 + 0.5 * 0.28209479177387814
    assert shown.colour[0, 5, 5].tolist() == pytest.approx([alpha * colour, alpha * colour + 1 - alpha, alpha * colour])
    assert shown.depth_sum[0, 5, 5].item() == pytest.approx(2 * alpha)
    assert shown.depth[0, 5, 5].item() == pytest.approx(2)
    reach = math.sqrt(2 * math.log(0.5 * 255) * 0.55)
    assert shown.radii.tolist() == [[[math.ceil(reach)] * 2]]
    assert shown.alpha[0, 0, 0] == 0


def test_antialiasing_keeps_the_sum_of_alpha() -> None:
    """A Gaussian much smaller than a pixel covers its own area, not that of the blur."""
    small = one_gaussian((0, 0, 2), logit=9.0, scale=0.05)
    area = 2 * math.pi * (10 * 0.05 / 2) ** 2
    assert render(small, straight_camera(), antialiased=True).alpha.sum().item() == pytest.approx(area, rel=0.05)
    assert render(small, straight_camera()).alpha.sum().item() > 4 * area


@pytest.mark.parametrize("antialiased", [False, True])
def test_gradients_are_those_of_finite_differences(antialiased: bool) -> None:
    gaussians = random_gaussians(5, 3, seed=3, size=(0.1, 0.4))
    cameras = random_cameras(2, 5, 4, seed=3)
    generator = torch.Generator().manual_seed(0)
    extra = [torch.rand(2, 3, generator=generator), torch.randn(5, 2, generator=generator)]
    extra += [0.5 + torch.rand(5, generator=generator)]
    poses = cameras.world_to_camera[:, :3]

    def images(*values: Tensor) -> tuple[Tensor, ...]:
        *parameters, top, background, features, factor = values
        pose = torch.cat([top, cameras.world_to_camera[:, 3:].double()], 1)
        shown, margins = render_with_margins(
            Gaussians(*parameters),
            Cameras(pose, cameras.intrinsics, cameras.sizes),
            background=background,
            features=features,
            opacity_factor=factor,
            antialiased=antialiased,
        )
        assert margins.decided(1e-4, 1e-4).all()
        return shown.colour, shown.alpha, shown.depth_sum, shown.features

    inputs = [*gaussians.parameters().values(), poses, *extra]
    torch.autograd.gradcheck(
        images, [value.double().requires_grad_() for value in inputs], eps=1e-6, atol=1e-6, fast_mode=True
    )


def test_gradients_where_the_jacobian_is_clamped() -> None:
    """Wide Gaussians beside the image, whose slope is beyond the margin."""
    gaussians = random_gaussians(6, 0, seed=1, size=(0.4, 0.8), logit=1.0)
    gaussians.means[:, 0] = torch.tensor([2.4, -2.6, 0.1, 0.2, 2.5, -2.2])
    gaussians.means[:, 1] = torch.tensor([0.1, 0.2, 2.4, -2.4, -2.3, 2.2])
    cameras = random_cameras(1, 5, 4, seed=1)

    def images(means: Tensor, scales: Tensor, pose: Tensor) -> tuple[Tensor, ...]:
        moved = Gaussians(means, scales, *list(gaussians.parameters().values())[2:])
        full = torch.cat([pose, cameras.world_to_camera[:, 3:].double()], 1)
        shown = render(moved, Cameras(full, cameras.intrinsics, cameras.sizes))
        return shown.colour, shown.depth_sum

    assert (render(gaussians, cameras).radii > 0).all()
    inputs = [gaussians.means, gaussians.scales, cameras.world_to_camera[:, :3]]
    torch.autograd.gradcheck(
        images, [value.double().requires_grad_() for value in inputs], eps=1e-6, atol=1e-6, fast_mode=True
    )


def test_turning_world_and_camera_together_changes_nothing() -> None:
    """So the pose's gradient is minus the sum of the Gaussians' moves."""
    gaussians, cameras = random_gaussians(20, 0), random_cameras(1)
    turn = torch.tensor([0.9, 0.1, -0.3, 0.2])
    rotation = rotation_matrices(turn[None])[0]
    w, x, y, z = torch.nn.functional.normalize(turn, dim=0)
    product = torch.tensor([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])  # turn * q, wxyz
    moved = Gaussians(
        **{**gaussians.parameters(), "means": gaussians.means @ rotation.T, "quats": gaussians.quats @ product.T}
    )
    pose = cameras.world_to_camera.clone()
    pose[:, :3, :3] = pose[:, :3, :3] @ rotation.T
    turned = render(moved, Cameras(pose, cameras.intrinsics, cameras.sizes))
    torch.testing.assert_close(turned.colour, render(gaussians, cameras).colour, atol=1e-5, rtol=0)

    result = forward(render, gaussians, cameras, dtype=torch.float64).backward()
    rotation = cameras.world_to_camera[0, :3, :3].double()
    shift = tangent(cameras.world_to_camera, result.gradients["world_to_camera"])[0, 3:]
    torch.testing.assert_close(shift, rotation @ result.gradients["means"].sum(0), atol=1e-6, rtol=1e-5)


def test_screen_space_gradients() -> None:
    """A shift of the principal point moves every Gaussian on the screen, and absolute sums are never smaller."""
    gaussians, cameras = random_gaussians(15, 1, seed=2), random_cameras(2, seed=2)
    result = forward(render, gaussians, cameras, dtype=torch.float64, absolute_gradients=True).backward()
    signed, absolute = result.gradients["means2d"], result.gradients["absgrad"]
    assert signed.shape == absolute.shape == (2, 15, 2)
    assert (absolute >= signed.abs() - 1e-12).all()
    assert (absolute > signed.abs() * 1.01).any()

    def loss(x: float) -> float:
        shifted = cameras.intrinsics.double().clone()
        shifted[:, 0, 2] += x
        moved = Cameras(cameras.world_to_camera, shifted, cameras.sizes)
        return render(gaussians, moved).alpha.square().sum().item()

    alpha = render(gaussians, cameras)
    alpha.alpha.square().sum().backward()
    numeric = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert alpha.means2d.grad[..., 0].sum().item() == pytest.approx(numeric, rel=1e-4)


def test_masked_pixels_show_the_background_and_give_no_gradient() -> None:
    gaussians, cameras = random_gaussians(20), random_cameras(1)
    mask = torch.rand(1, 28, 40, generator=torch.Generator().manual_seed(0)) > 0.5
    background = torch.tensor([0.1, 0.2, 0.3])
    whole, masked = (
        render(gaussians, cameras, background=background),
        render(gaussians, cameras, background=background, mask=mask),
    )
    assert torch.equal(masked.colour[mask], whole.colour[mask])
    assert (masked.colour[~mask] == background.double()).all()
    assert (masked.alpha[~mask] == 0).all()
    result = forward(render, gaussians, cameras, dtype=torch.float64, background=background, mask=mask).backward(~mask)
    assert all((gradient == 0).all() for gradient in result.gradients.values())
