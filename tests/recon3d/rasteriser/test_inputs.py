"""What render() takes, and what it refuses with which words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from datasets.types import Cameras
from recon3d.gaussians import Gaussians
from recon3d.render import render
from tests.recon3d.rasteriser.scenes import forward, random_cameras, random_gaussians


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"background": torch.zeros(4)}, "background"),
        ({"background": torch.zeros(3, 3)}, "background"),
        ({"features": torch.zeros(9, 2)}, "features"),
        ({"features": torch.zeros(10)}, "features"),
        ({"opacity_factor": torch.ones(9)}, "opacity_factor"),
        ({"opacity_factor": torch.ones(10, 1)}, "opacity_factor"),
        ({"mask": torch.ones(2, 28, 41, dtype=torch.bool)}, "mask"),
        ({"mask": torch.ones(1, 28, 40, dtype=torch.bool)}, "mask"),
        ({"mask": torch.ones(28, 40, dtype=torch.bool)}, "mask"),
        ({"mask": torch.ones(2, 28, 40)}, "mask"),
        ({"sh_degree": 2}, "degree"),
        ({"sh_degree": -1}, "degree"),
        ({"backend": "cuda"}, "backend"),
        ({"background": torch.zeros(3, dtype=torch.float64)}, "background"),
        ({"opacity_factor": torch.ones(10, dtype=torch.float16)}, "opacity_factor"),
        ({"background": torch.zeros(3, dtype=torch.int64)}, "background"),
        ({"features": torch.zeros(10, 2, dtype=torch.int64)}, "features"),
        ({"background": torch.zeros(3, device="meta")}, "background"),
        ({"features": torch.zeros(10, 2, device="meta")}, "features"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        render(random_gaussians(10), random_cameras(2), **options)


@pytest.mark.parametrize("name", ["means", "scales", "quats", "opacities", "sh0", "shN"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.float16])
def test_gaussians_of_another_type(name: str, dtype: torch.dtype) -> None:
    gaussians = random_gaussians(10)
    with pytest.raises(ValueError, match=f"{name} is {dtype}"):
        render(replace(gaussians, **{name: getattr(gaussians, name).to(dtype)}), random_cameras(1))


@pytest.mark.parametrize("name", ["scales", "quats", "opacities", "sh0", "shN"])
def test_gaussians_of_two_devices(name: str) -> None:
    gaussians = random_gaussians(10)
    with pytest.raises(ValueError, match=f"{name} is torch.float32 on meta"):
        render(replace(gaussians, **{name: getattr(gaussians, name).to("meta")}), random_cameras(1))


def test_cameras_elsewhere_or_of_two_sizes() -> None:
    cameras = random_cameras(2)
    with pytest.raises(ValueError, match="camera"):
        render(random_gaussians(5), Cameras(cameras.world_to_camera.to("meta"), cameras.intrinsics, cameras.sizes))
    sizes = torch.tensor([[40, 28], [28, 40]])
    with pytest.raises(ValueError, match="size"):
        render(random_gaussians(5), Cameras(cameras.world_to_camera, cameras.intrinsics, sizes))


def test_no_camera() -> None:
    with pytest.raises(ValueError, match="camera"):
        render(random_gaussians(5), random_cameras(2)[:0])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_cameras_that_are_not_numbers(value: float) -> None:
    for name in ("world_to_camera", "intrinsics"):
        cameras = random_cameras(2)
        getattr(cameras, name)[1, 0, 0] = value
        with pytest.raises(ValueError, match="camera"):
            render(random_gaussians(5), cameras)


def test_planes_that_leave_nothing_or_reach_the_camera() -> None:
    gaussians, cameras = random_gaussians(30), random_cameras(1)
    gaussians.means[:5] = cameras.centres[0]
    assert (render(gaussians, cameras, near=2.0, far=1.0).alpha == 0).all()
    result = forward(render, gaussians, cameras, near=0.0).backward()
    for name, each in {**result.images(), **result.gradients}.items():
        assert torch.isfinite(each).all(), name


def test_tensors_that_are_not_contiguous() -> None:
    def strided(value: torch.Tensor) -> torch.Tensor:
        return value.repeat_interleave(2, -1)[..., ::2] if value.numel() else value

    gaussians, cameras = random_gaussians(30, 2), random_cameras(2)
    odd = Gaussians(**{name: strided(value) for name, value in gaussians.parameters().items()})
    turned = Cameras(cameras.world_to_camera.mT.contiguous().mT, cameras.intrinsics.mT.contiguous().mT, cameras.sizes)
    mask = torch.rand(2, 28, 40, generator=torch.Generator().manual_seed(0)) > 0.3
    features = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
    expected = render(gaussians, cameras, mask=mask, features=features)
    got = render(odd, turned, mask=strided(mask), features=strided(features))
    for name in ("colour", "alpha", "depth_sum", "features", "radii"):
        assert torch.equal(getattr(got, name), getattr(expected, name)), name


def test_cotangents_that_are_not_contiguous_or_broadcast() -> None:
    found = []
    for reduce in (
        lambda image: image.sum(),
        lambda image: image.transpose(1, 2).contiguous().sum(),
        lambda image: (image * torch.ones(())).mT.sum(),
    ):
        gaussians = random_gaussians(30, 1)
        gaussians.means.requires_grad_()
        reduce(render(gaussians, random_cameras(1)).colour).backward()
        found.append(gaussians.means.grad)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_render_leaves_its_inputs_alone() -> None:
    gaussians, cameras = random_gaussians(30, 2), random_cameras(2)
    kept = {name: value.clone() for name, value in gaussians.parameters().items()}
    pose = cameras.world_to_camera.clone()
    forward(render, gaussians, cameras).backward()
    assert all(torch.equal(getattr(gaussians, name), value) for name, value in kept.items())
    assert torch.equal(cameras.world_to_camera, pose)


def test_shapes_and_types_of_what_comes_back() -> None:
    shown = render(random_gaussians(30, 2), random_cameras(2), features=torch.ones(30, 5))
    shapes = {
        "colour": (2, 28, 40, 3),
        "alpha": (2, 28, 40),
        "depth_sum": (2, 28, 40),
        "depth": (2, 28, 40),
        "features": (2, 28, 40, 5),
        "means2d": (2, 30, 2),
        "radii": (2, 30, 2),
    }
    for name, shape in shapes.items():
        value = getattr(shown, name)
        assert tuple(value.shape) == shape, name
        assert value.dtype == (torch.int32 if name == "radii" else torch.float32), name
        assert value.is_contiguous(), name
    assert render(random_gaussians(3), random_cameras(1)).features is None
    assert 0 <= shown.alpha.min() <= shown.alpha.max() <= 1
