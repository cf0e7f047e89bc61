"""Images and gradients of the CPU backend against the oracle."""

from __future__ import annotations

import pytest
import torch

from recon3d.render import render
from tests.recon3d.rasteriser.oracle import render_oracle
from tests.recon3d.rasteriser.scenes import (
    assert_close,
    assert_matches_oracle,
    forward,
    random_cameras,
    random_gaussians,
    tangent,
)


def uniform(*shape: int, seed: int = 5) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_random_scenes(seed: int, antialiased: bool) -> None:
    size = [(0.02, 0.2), (0.005, 0.05), (0.1, 0.6)][seed % 3]
    gaussians = random_gaussians(120, seed % 4, seed, size=size, logit=[0.0, 2.0][seed % 2])
    cameras = random_cameras(1 + seed % 2, 53, 37, seed)
    assert_matches_oracle(gaussians, cameras, antialiased=antialiased, background=uniform(3))


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_harmonics_of_each_degree(degree: int) -> None:
    assert_matches_oracle(random_gaussians(60, degree, 10 + degree), random_cameras(1, seed=degree))


@pytest.mark.parametrize(("stored", "used"), [(3, 0), (3, 1), (3, 2), (2, 1), (1, 0)])
def test_fewer_harmonics_used_than_stored(stored: int, used: int) -> None:
    gaussians, cameras = random_gaussians(40, stored, 3), random_cameras(1, seed=3)
    got, _ = assert_matches_oracle(gaussians, cameras, sh_degree=used)
    assert (got.gradients["shN"][:, (used + 1) ** 2 - 1 :] == 0).all()


@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 70), (70, 1), (2, 3), (15, 17), (16, 16), (31, 33), (32, 64), (65, 47), (100, 36)]
)
def test_sizes_that_tiles_do_not_divide(width: int, height: int) -> None:
    gaussians = random_gaussians(50, 1, width + height, size=(0.05, 0.3))
    assert_matches_oracle(gaussians, random_cameras(1, width, height, seed=width), background=uniform(3))


@pytest.mark.parametrize("channels", range(1, 10))
def test_features(channels: int) -> None:
    features = torch.randn(40, channels, generator=torch.Generator().manual_seed(channels))
    assert_matches_oracle(random_gaussians(40, 1, channels), random_cameras(2, seed=channels), features=features)


def test_no_feature_channels() -> None:
    shown = render(random_gaussians(9), random_cameras(2), features=torch.zeros(9, 0))
    assert shown.features is not None
    assert shown.features.shape == (2, 28, 40, 0)


def test_background_of_each_camera() -> None:
    gaussians, cameras = random_gaussians(60, 1), random_cameras(3)
    got, _ = assert_matches_oracle(gaussians, cameras, background=uniform(3, 3))
    assert got.gradients["background"].shape == (3, 3)
    assert len(got.gradients["background"].unique(dim=0)) == 3


def test_opacity_factor() -> None:
    """Above and below one, and zero: dropout and decay."""
    factor = uniform(80) * 2
    factor[::5] = 0
    got, _ = assert_matches_oracle(random_gaussians(80, 1, 4), random_cameras(2, seed=4), opacity_factor=factor)
    assert (got.render.radii[:, ::5] == 0).all()


def test_mask() -> None:
    mask = uniform(2, 45, 70) > 0.6
    mask[0, :33, :33] = False  # at least one tile of either size without any pixel
    mask[1] = False
    gaussians, cameras = random_gaussians(60, 1, 6), random_cameras(2, 70, 45, seed=6)
    background = uniform(3)
    features = uniform(60, 2)
    got, _ = assert_matches_oracle(gaussians, cameras, mask=mask, background=background, features=features)
    assert (got.render.colour[~mask] == background).all()
    assert (got.render.alpha[~mask] == 0).all()
    assert (got.render.depth_sum[~mask] == 0).all()
    assert (got.render.features[~mask] == 0).all()


def test_masked_pixels_give_no_gradient() -> None:
    mask = uniform(1, 28, 40) > 0.5
    options = {"mask": mask, "background": uniform(3), "features": uniform(30, 2), "absolute_gradients": True}
    result = forward(render, random_gaussians(30), random_cameras(1), **options).backward(~mask)
    for name, gradient in result.gradients.items():
        assert (gradient == 0).all(), name


@pytest.mark.parametrize("antialiased", [False, True])
def test_absolute_screen_gradients(antialiased: bool) -> None:
    gaussians, cameras = random_gaussians(70, 1, 8), random_cameras(2, seed=8)
    got, _ = assert_matches_oracle(gaussians, cameras, absolute_gradients=True, antialiased=antialiased)
    assert got.gradients["absgrad"].shape == (2, 70, 2)


def test_absolute_screen_gradients_are_those_of_colour_and_depth() -> None:
    """Features have no part in them, whatever is done with the features."""
    gaussians, cameras, features = random_gaussians(70, 1, 8), random_cameras(2, seed=8), uniform(70, 5)
    options = {"absolute_gradients": True, "features": features}
    assert_matches_oracle(gaussians, cameras, without=("features",), **options)
    every, some = forward(render, gaussians, cameras, **options), forward(render, gaussians, cameras, **options)
    absolute = some.backward(without=("features",)).gradients["absgrad"]
    assert torch.equal(every.backward().gradients["absgrad"], absolute)


@pytest.mark.parametrize("count", [1, 2, 7, 15, 16, 17, 31, 33])
def test_fewer_gaussians_than_a_vector_has_lanes(count: int) -> None:
    gaussians = random_gaussians(count, 2, 80 + count, size=(0.1, 0.3), logit=1.0)
    options = {"features": uniform(count, 5), "opacity_factor": uniform(count)}
    assert_matches_oracle(gaussians, random_cameras(2, seed=count), **options)
    assert_matches_oracle(gaussians, random_cameras(2, seed=count), absolute_gradients=True)


def test_screen_gradients_need_no_absolute_ones() -> None:
    shown = render(random_gaussians(10), random_cameras(1))
    assert not hasattr(shown.means2d, "absgrad")
    assert shown.means2d.shape == (1, 10, 2)
    assert (shown.means2d == 0).all()


@pytest.mark.parametrize("degree", [0, 3])
@pytest.mark.parametrize("antialiased", [False, True])
def test_pose_gradients(degree: int, antialiased: bool) -> None:
    """All twelve numbers are compared above; here the six that keep the pose rigid, and without any others."""
    gaussians, cameras = random_gaussians(80, degree, 20 + degree), random_cameras(2, 40, 36, seed=20 + degree)
    got, want = assert_matches_oracle(gaussians, cameras, antialiased=antialiased)
    poses = cameras.world_to_camera
    expected = tangent(poses, want.gradients["world_to_camera"])
    assert_close("tangent", tangent(poses, got.gradients["world_to_camera"]), expected, 1e-4, rows=1)
    assert (got.gradients["world_to_camera"][:, 3] == 0).all()


def test_only_the_pose_requires_gradients() -> None:
    gaussians, cameras = random_gaussians(60, 2, 1), random_cameras(2, seed=1)
    every = forward(render, gaussians, cameras).backward()
    cameras.world_to_camera.requires_grad_()
    shown = render(gaussians, cameras)
    weights = torch.Generator().manual_seed(7)
    loss = sum(
        (image * torch.randn(image.shape, generator=weights)).sum()
        for image in (shown.colour, shown.alpha, shown.depth_sum)
    )
    loss.backward()
    torch.testing.assert_close(cameras.world_to_camera.grad, every.gradients["world_to_camera"])


@pytest.mark.parametrize("output", ["colour", "alpha", "depth_sum", "features", "depth"])
def test_gradient_of_one_output_alone(output: str) -> None:
    features = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    found = []
    for renderer, dtype in ((render, torch.float32), (render_oracle, torch.float64)):
        gaussians = random_gaussians(50, 1, 30).to(dtype=dtype)
        gaussians.means.requires_grad_()
        shown = renderer(gaussians, random_cameras(1, seed=30).to(dtype=dtype), features=features.to(dtype))
        getattr(shown, output).square().sum().backward()
        found.append(gaussians.means.grad)
    assert_close(output, found[0], found[1], 3e-3, rows=1)


def test_gradients_of_a_batch_add_up_over_cameras() -> None:
    """And its images are, to the bit, those of the cameras alone."""
    gaussians, cameras = random_gaussians(60, 2, 2), random_cameras(3, 40, 35, seed=2)
    options = {"background": uniform(3, 3), "features": uniform(60, 2), "mask": uniform(3, 35, 40) > 0.2}
    batch = render(gaussians, cameras, antialiased=True, absolute_gradients=True, **options)
    for index in range(3):
        one = {**options, "background": options["background"][index], "mask": options["mask"][index : index + 1]}
        single = render(gaussians, cameras[index], antialiased=True, absolute_gradients=True, **one)
        for name in ("colour", "alpha", "depth_sum", "features", "radii"):
            assert torch.equal(getattr(batch, name)[index : index + 1], getattr(single, name)), name
    assert_matches_oracle(gaussians, cameras, antialiased=True, **options)


def test_expected_depth_is_zero_where_nothing_is_hit() -> None:
    shown = render(random_gaussians(3, size=(0.02, 0.05)), random_cameras(1))
    assert (shown.alpha == 0).any()
    assert (shown.depth[shown.alpha == 0] == 0).all()
    hit = shown.alpha > 0.1
    assert ((shown.depth[hit] > 1) & (shown.depth[hit] < 4)).all()
