"""Gaussians that are many, none, huge, thin, opaque, out of sight or not numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from datasets.types import Cameras
from recon3d.gaussians import Gaussians
from recon3d.render import Render, render
from tests.recon3d.rasteriser.oracle import render_oracle
from tests.recon3d.rasteriser.scenes import (
    Result,
    assert_close,
    assert_matches_oracle,
    forward,
    random_cameras,
    random_gaussians,
)

BACKGROUND = torch.tensor([0.2, 0.5, 0.9])
PARAMETERS = ["means", "scales", "quats", "opacities", "sh0", "shN"]


def assert_empty(result: Result) -> None:
    """Only background, and no gradients but the background's."""
    shown = result.render
    assert (shown.colour == BACKGROUND).all()
    assert (shown.alpha == 0).all()
    assert (shown.depth_sum == 0).all()
    assert (shown.depth == 0).all()
    assert (shown.radii == 0).all()
    for name, gradient in result.backward().gradients.items():
        assert (gradient == 0).all() or name == "background", name


def test_no_gaussian() -> None:
    result = forward(
        render, random_gaussians(0, 2), random_cameras(2), background=BACKGROUND, features=torch.zeros(0, 3)
    )
    assert result.render.features.shape == (2, 28, 40, 3)
    assert result.render.radii.shape == result.render.means2d.shape == (2, 0, 2)
    assert_empty(result)


@pytest.mark.parametrize("where", ["behind", "near", "far", "left", "above", "transparent"])
def test_all_gaussians_out_of_sight(where: str) -> None:
    gaussians, options = random_gaussians(20, 1, size=(0.02, 0.05)), {}
    if where == "near":
        options["near"] = 4.5
    elif where == "far":
        options["far"] = 0.5
    elif where == "transparent":
        gaussians.opacities.fill_(math.log(0.9 / 254))
    else:
        gaussians.means.add_(torch.tensor({"behind": [0.0, 0, -6], "left": [-9.0, 0, 0], "above": [0, -9.0, 0]}[where]))
    assert_empty(forward(render, gaussians, random_cameras(2), background=BACKGROUND, **options))


def test_some_gaussians_behind_and_beside() -> None:
    gaussians = random_gaussians(150, 1, 40, size=(0.02, 0.3))
    gaussians.means.mul_(3)
    got, _ = assert_matches_oracle(gaussians, random_cameras(2, seed=40), background=BACKGROUND)
    drawn = (got.render.radii > 0).all(-1)
    assert drawn.any(1).all()
    assert not drawn.all(1).any()


def test_near_and_far_planes_belong_to_what_is_drawn() -> None:
    """As in gsplat: culled where depth < near or depth > far."""
    gaussians = random_gaussians(4, 0, size=(0.1, 0.2), logit=2.0)
    gaussians.means.copy_(torch.tensor([[0, 0, 0.5], [0, 0, 2.0], [0, 0, 0.49999], [0, 0, 2.00001]]))
    cameras = random_cameras(1)
    cameras.world_to_camera.copy_(torch.eye(4)[None])
    got, _ = assert_matches_oracle(gaussians, cameras, near=0.5, far=2.0)
    assert (got.render.radii[0] > 0).all(-1).tolist() == [True, True, False, False]


def test_just_in_front_of_the_near_plane() -> None:
    """Where the Jacobian is steepest; Gaussians here are larger than the image."""
    gaussians = random_gaussians(12, 1, 5, size=(0.001, 0.01))
    generator = torch.Generator().manual_seed(5)
    gaussians.means.copy_(torch.randn(12, 3, generator=generator) * 0.01)
    gaussians.means[:, 2] = 0.0101 + torch.rand(12, generator=generator) * 0.02
    cameras = random_cameras(1)
    cameras.world_to_camera.copy_(torch.eye(4)[None])
    assert_matches_oracle(gaussians, cameras, gradients=2e-3, images=1e-4)


def test_opaque() -> None:
    """Opacity 1 is drawn as 0.999 and gives its own opacity no gradient; pixels fill up and stop."""
    gaussians = random_gaussians(200, 1, 50, size=(0.05, 0.3), logit=6.0)
    gaussians.opacities[::3] = 40.0
    got, _ = assert_matches_oracle(gaussians, random_cameras(1, seed=50), background=BACKGROUND)
    assert (got.render.alpha > 0.9995).any()
    assert (got.render.alpha < 1).all()


def test_nothing_is_drawn_behind_a_full_pixel() -> None:
    """Transmittance after 1, 2, 3 opaque layers is 1e-3, then it would fall to 1e-6: the second is left out."""
    gaussians = random_gaussians(3, 0)
    gaussians.means.copy_(torch.tensor([[0, 0, 0.3], [0, 0, 0.1], [0, 0, 0.2]]))
    gaussians.scales.fill_(8.0)
    gaussians.opacities.fill_(30.0)
    shown = render(gaussians, random_cameras(1))
    torch.testing.assert_close(shown.alpha, torch.full_like(shown.alpha, 0.999))
    assert shown.depth.min() > 2.3
    colour = 0.999 * (0.5 + 0.28209479177387814 * gaussians.sh0[1, 0]).clamp(min=0)
    torch.testing.assert_close(shown.colour, colour.expand_as(shown.colour), atol=1e-5, rtol=1e-5)


def test_gaussians_of_one_depth_are_drawn_in_their_order() -> None:
    gaussians = random_gaussians(30, 0, 3, size=(0.2, 0.4), logit=1.0)
    gaussians.means[:, 2] = 0.0
    cameras = random_cameras(1)
    cameras.world_to_camera[0, :3, :3] = torch.eye(3)
    for chosen in (gaussians, gaussians[torch.arange(29, -1, -1)]):
        torch.testing.assert_close(
            render(chosen, cameras).colour.double(), render_oracle(chosen, cameras).colour, atol=2e-5, rtol=0
        )


@pytest.mark.parametrize("size", [5.0, 200.0, 1e4])
def test_huge(size: float) -> None:
    """Standard deviations far beyond the image, among ordinary Gaussians."""
    gaussians = random_gaussians(40, 1, 60)
    gaussians.scales[::8] = math.log(size)
    assert_matches_oracle(gaussians, random_cameras(2, 70, 40, seed=60), gradients=2e-3, images=1e-4)


def test_tiny() -> None:
    """Standard deviations far below a pixel: the blur is all there is, or nothing where anti-aliased."""
    gaussians = random_gaussians(60, 1, 61, size=(1e-7, 1e-4), logit=2.0)
    assert_matches_oracle(gaussians, random_cameras(1, seed=61))
    assert (render(gaussians, random_cameras(1, seed=61), antialiased=True).alpha == 0).all()


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("ratio", [100.0, 1e3, 1e4])
def test_needles(ratio: float, antialiased: bool) -> None:
    """As long as the image and as thin as the blur, in every direction: no part is cut away or doubled."""
    gaussians = random_gaussians(40, 1, 62, size=(0.5, 0.9), logit=1.0)
    gaussians.scales[:, 1:] -= math.log(ratio)
    cameras = random_cameras(1, 90, 70, seed=62)
    assert_matches_oracle(gaussians, cameras, antialiased=antialiased, decided=1e-3, gradients=3e-3, images=3e-4)


def test_discs_seen_edge_on() -> None:
    gaussians = random_gaussians(30, 0, 63, size=(0.3, 0.5), logit=1.0)
    gaussians.scales[:, 2] = -12.0
    gaussians.quats.copy_(torch.tensor([math.sqrt(0.5), 0, math.sqrt(0.5), 0]))
    assert_matches_oracle(gaussians, random_cameras(1, seed=63), decided=1e-3, gradients=3e-3, images=3e-4)


def test_gaussian_at_the_camera() -> None:
    """The direction in which colour is seen is undefined there; whatever is near must stay untouched."""
    gaussians = random_gaussians(30, 3, 64)
    cameras = random_cameras(1, seed=64)
    gaussians.means[4] = cameras.centres[0]
    assert_matches_oracle(gaussians, cameras)


@pytest.mark.parametrize("length", [1e-6, 1e6])
def test_quaternions_of_any_length(length: float) -> None:
    gaussians, cameras = random_gaussians(30, 1, 65), random_cameras(1, seed=65)
    scaled = replace(gaussians, quats=gaussians.quats * length)
    torch.testing.assert_close(render(scaled, cameras).colour, render(gaussians, cameras).colour, atol=1e-5, rtol=0)
    got, want = (forward(render, each, cameras).backward().gradients["quats"] for each in (scaled, gaussians))
    assert_close("quats", got * length, want, 1e-3, rows=1)


def without(gaussians: Gaussians, broken: int, cameras: Cameras) -> tuple[Render, dict[str, torch.Tensor]]:
    """Render and gradients of the scene in which Gaussian ``broken`` is too transparent to be drawn."""
    gaussians = gaussians.detach()
    hidden = replace(gaussians, opacities=gaussians.opacities.clone())
    hidden.opacities[broken] = -20.0
    result = forward(render, hidden, cameras, background=BACKGROUND, absolute_gradients=True).backward()
    return result.render, result.gradients


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", PARAMETERS)
def test_gaussians_that_are_not_numbers_are_not_drawn(name: str, value: float) -> None:
    """They get gradient zero, and the others render as if they were not there."""
    gaussians, cameras = random_gaussians(25, 2, 70, logit=1.0), random_cameras(2, seed=70)
    expected, gradients = without(gaussians, 7, cameras)
    broken = getattr(gaussians, name)
    broken[7].view(-1)[-1] = value
    result = forward(render, gaussians, cameras, background=BACKGROUND, absolute_gradients=True).backward()
    assert torch.equal(result.render.colour, expected.colour)
    assert torch.equal(result.render.alpha, expected.alpha)
    assert torch.equal(result.render.depth_sum, expected.depth_sum)
    assert (result.render.radii[:, 7] == 0).all()
    for each, gradient in result.gradients.items():
        assert torch.isfinite(gradient).all(), each
        assert torch.equal(gradient, gradients[each]), each
    for each in PARAMETERS:
        assert (result.gradients[each][7] == 0).all(), each


def test_opacity_factors_that_are_not_numbers() -> None:
    gaussians, cameras = random_gaussians(25, 1, 71, logit=1.0), random_cameras(1, seed=71)
    factor = torch.ones(25)
    factor[7] = math.nan
    assert_matches_oracle(gaussians, cameras, opacity_factor=factor)


def test_features_that_are_not_numbers_stay_among_the_features() -> None:
    gaussians, cameras = random_gaussians(25, 1, 71, logit=1.0), random_cameras(1, seed=71)
    expected = forward(render, gaussians, cameras).backward()
    features = torch.ones(25, 3)
    features[7] = math.nan
    result = forward(render, gaussians, cameras, features=features).backward(without=("features",))
    for name, image in expected.images().items():
        assert torch.equal(result.images()[name], image), name
    for name, gradient in expected.gradients.items():
        assert torch.equal(result.gradients[name], gradient), name
    assert (result.gradients["features"] == 0).all()


def test_zero_quaternion() -> None:
    gaussians, cameras = random_gaussians(25, 1, 72), random_cameras(1, seed=72)
    expected, _ = without(gaussians, 7, cameras)
    gaussians.quats[7] = 0.0
    result = forward(render, gaussians, cameras, background=BACKGROUND).backward()
    assert torch.equal(result.render.colour, expected.colour)
    for name in PARAMETERS:
        assert torch.isfinite(result.gradients[name]).all()
        assert (result.gradients[name][7] == 0).all()


@pytest.mark.parametrize("scale", [30.0, 60.0, 100.0])
@pytest.mark.parametrize("antialiased", [False, True])
def test_scales_that_overflow_leave_the_rest_intact(scale: float, antialiased: bool) -> None:
    """Squares of such scales are beyond single precision: drawn or not, nothing may become NaN."""
    gaussians, cameras = random_gaussians(25, 1, 73), random_cameras(1, seed=73)
    gaussians.scales[7, 1] = scale
    result = forward(render, gaussians, cameras, antialiased=antialiased, absolute_gradients=True).backward()
    for name, each in {**result.images(), **result.gradients}.items():
        assert torch.isfinite(each).all(), name


def test_colours_are_clamped_at_zero_without_gradient() -> None:
    gaussians, cameras = random_gaussians(30, 1, 74), random_cameras(1, seed=74)
    gaussians.sh0[::2] = -4.0
    got, _ = assert_matches_oracle(gaussians, cameras)
    assert (got.gradients["sh0"][::2] == 0).all()
    assert (got.render.colour >= 0).all()


def test_many_gaussians_on_one_pixel() -> None:
    """Thousands of faint layers: transmittance is a long product."""
    count = 3000
    gaussians = random_gaussians(count, 0, 75, size=(0.3, 0.5))
    gaussians.means[:, :2].mul_(0.01)
    gaussians.means[:, 2] = torch.linspace(-1, 1, count)
    gaussians.opacities.fill_(math.log(1.5 / 254))
    cameras = random_cameras(1, 6, 5, seed=76)
    cameras.world_to_camera[0, :3, :3] = torch.eye(3)
    assert_matches_oracle(gaussians, cameras, gradients=2e-3, decided=1e-5)


def test_a_deep_opaque_stack_beside_the_image() -> None:
    """Pixels just outside the image never fill up; undoing 300 layers there must not overflow."""
    count = 300
    gaussians = random_gaussians(count, 0, 77)
    cameras = random_cameras(1, 6, 5, seed=78)
    cameras.world_to_camera[0] = torch.eye(4)
    (fx, _, cx), (_, fy, cy), _ = cameras.intrinsics[0].tolist()
    depth = torch.linspace(2, 3, count)
    gaussians.means.copy_(torch.stack([(7.5 - cx) / fx * depth, (2.5 - cy) / fy * depth, depth], dim=1))
    gaussians.scales.copy_((0.4 * depth / fx).log()[:, None] + torch.tensor([0.0, 0.3, -0.3]))
    gaussians.opacities.fill_(3.0)
    got, _ = assert_matches_oracle(gaussians, cameras, gradients=2e-3, decided=1e-5)
    assert (got.render.alpha < 1).all()
    assert all(gradient.isfinite().all() for gradient in got.gradients.values())


def test_radii_bound_what_a_gaussian_covers() -> None:
    gaussians = random_gaussians(1, 0, 76, size=(0.05, 0.3), logit=2.0)
    cameras = random_cameras(1, 200, 150)
    gaussians.means.zero_()
    shown = render(gaussians, cameras)
    rows, columns = shown.alpha[0].nonzero().unbind(1)
    span = torch.tensor([columns.max() - columns.min() + 1, rows.max() - rows.min() + 1])
    assert ((shown.radii[0, 0] * 2 - span) >= 0).all()
    assert ((shown.radii[0, 0] * 2 - span) <= 3).all()
