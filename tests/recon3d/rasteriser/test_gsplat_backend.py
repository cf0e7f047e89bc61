"""The CUDA backend: its wiring everywhere, with stand-ins for gsplat's kernels; itself where there is a GPU."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recon3d.rasteriser import gsplat_backend
from recon3d.render import Render, render
from tests.recon3d.rasteriser import gsplat_stand_in
from tests.recon3d.rasteriser.scenes import Renderer, assert_matches_oracle, forward, random_cameras, random_gaussians

BACKGROUND = torch.tensor([[0.2, 0.5, 0.9], [0.7, 0.1, 0.4]])


def uniform(*shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(5))


def stand_in(gaussians: Any, cameras: Any, **options: Any) -> Render:
    """render() with the CUDA backend on CPU tensors."""
    defaults = {"features": None, "opacity_factor": None, "mask": None, "background": torch.zeros(3)}
    defaults |= {"antialiased": False, "absolute_gradients": False, "near": 0.01, "far": 1e10}
    options = {"sh_degree": gaussians.sh_degree, **defaults, **options}
    options["background"] = options["background"].expand(len(cameras), 3)
    return Render(*gsplat_backend.render_gsplat(gaussians, cameras, **options))


def on_cuda(gaussians: Any, cameras: Any, **options: Any) -> Render:
    return render(gaussians, cameras, backend="gsplat", **options)


@pytest.fixture(params=["stand-in", "cuda"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Arguments of assert_matches_oracle; gsplat's exponentials are approximate, which wants wider tolerances."""
    if request.param == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
        yield {"renderer": on_cuda, "device": "cuda", "images": 1e-4, "gradients": 3e-3, "decided": 1e-3}
        return
    monkeypatch.setattr(gsplat_backend, "load_gsplat", lambda: gsplat_stand_in)
    yield {"renderer": stand_in, "images": 2e-5, "gradients": 1e-3}


@pytest.mark.parametrize("degree", [0, 1, 3])
@pytest.mark.parametrize("antialiased", [False, True])
def test_random_scenes(backend: dict[str, Any], degree: int, antialiased: bool) -> None:
    gaussians, cameras = random_gaussians(60, degree, degree, logit=1.0), random_cameras(2, 45, 37, degree)
    options = {"absolute_gradients": True, "background": BACKGROUND, "antialiased": antialiased}
    assert_matches_oracle(gaussians, cameras, **backend, **options)


def test_everything_at_once(backend: dict[str, Any]) -> None:
    """Fewer harmonics than stored, features, factors, planes, and a mask that leaves whole tiles out."""
    gaussians, cameras = random_gaussians(50, 3, 9), random_cameras(2, 45, 37, 9)
    mask = uniform(2, 37, 45) > 0.4
    mask[:, :17, :20] = False
    options = {"mask": mask, "background": BACKGROUND, "features": uniform(50, 3), "opacity_factor": uniform(50)}
    options |= {"sh_degree": 2, "antialiased": True, "near": 2.0, "far": 3.0}
    got, _ = assert_matches_oracle(gaussians, cameras, **backend, **options)
    assert torch.equal(got.render.colour.cpu()[0][~mask[0]], BACKGROUND[0].expand(int((~mask[0]).sum()), 3))
    assert (got.render.alpha.cpu()[~mask] == 0).all()


@pytest.mark.parametrize("channels", [1, 3, 33])
def test_features_stay_out_of_absolute_gradients(backend: dict[str, Any], channels: int) -> None:
    gaussians, cameras = random_gaussians(30, 1, 8), random_cameras(1, seed=8)
    options = {"features": uniform(30, channels), "absolute_gradients": True}
    assert_matches_oracle(gaussians, cameras, without=("features",), **backend, **options)
    assert_matches_oracle(gaussians, cameras, **backend, features=uniform(30, channels))
    renderer, device = backend["renderer"], backend.get("device", "cpu")
    every, some = (forward(renderer, gaussians, cameras, device=device, **options) for _ in range(2))
    absolute = some.backward(without=("features",)).gradients["absgrad"]
    torch.testing.assert_close(every.backward().gradients["absgrad"], absolute)


def test_what_is_not_finite_is_left_out(backend: dict[str, Any]) -> None:
    gaussians, cameras = random_gaussians(30, 2, 7, logit=1.0), random_cameras(2, seed=7)
    for row, name in enumerate(("means", "scales", "quats", "opacities", "sh0", "shN")):
        getattr(gaussians, name)[3 * row].view(-1)[0] = math.nan
        getattr(gaussians, name)[3 * row + 1].view(-1)[-1] = math.inf
    gaussians.quats[20] = 0.0
    gaussians.means[22] = cameras.centres[0]
    assert_matches_oracle(gaussians, cameras, **backend)


def test_scales_that_overflow_leave_the_rest_intact(backend: dict[str, Any]) -> None:
    gaussians, cameras = random_gaussians(25, 1, 73), random_cameras(1, seed=73)
    gaussians.scales[7, 1] = 60.0
    result = forward(backend["renderer"], gaussians, cameras, device=backend.get("device", "cpu")).backward()
    for name, each in {**result.images(), **result.gradients}.items():
        if name != "means2d":
            assert torch.isfinite(each).all(), name


@pytest.mark.parametrize("count", [0, 12])
def test_nothing_to_draw(backend: dict[str, Any], count: int) -> None:
    gaussians, cameras = random_gaussians(count, 1), random_cameras(2)
    gaussians.means[:, 2] -= 9.0
    device, renderer = backend.get("device", "cpu"), backend["renderer"]
    options = {"background": BACKGROUND, "features": torch.ones(count, 2), "mask": uniform(2, 28, 40) > 0.5}
    result = forward(renderer, gaussians, cameras, device=device, **options)
    assert (result.render.colour.cpu() == BACKGROUND[:, None, None]).all()
    assert (result.render.alpha == 0).all()
    assert (result.render.depth_sum == 0).all()
    assert result.render.features is not None
    assert result.render.features.shape == (2, 28, 40, 2)
    assert (result.render.radii == 0).all()
    for name, gradient in result.backward().gradients.items():
        assert (gradient == 0).all() or name == "background", name


def test_without_gradients(backend: dict[str, Any]) -> None:
    gaussians, cameras, device = random_gaussians(20), random_cameras(1), backend.get("device", "cpu")
    renderer: Renderer = backend["renderer"]
    with torch.no_grad():
        shown = renderer(gaussians.to(device), cameras.to(device))
    assert not shown.colour.requires_grad
    assert shown.colour.is_contiguous()
    assert shown.depth_sum.is_contiguous()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_both_backends_agree() -> None:
    gaussians, cameras = random_gaussians(2000, 3, 1, size=(0.01, 0.1)), random_cameras(2, 320, 240, 1)
    options = {"background": BACKGROUND, "antialiased": True, "absolute_gradients": True}
    ours = forward(render, gaussians, cameras, **options).backward()
    theirs = forward(on_cuda, gaussians, cameras, device="cuda", **options).backward()
    for name, image in ours.images().items():
        error = (theirs.images()[name].cpu() - image).abs()
        assert error.quantile(0.999) < 1e-3, name  # a pixel at a threshold may fall to either side
    for name, gradient in ours.gradients.items():
        relative = (theirs.gradients[name].cpu() - gradient).norm() / gradient.norm()
        assert relative < 1e-2, f"gradient of {name}: {relative:.1e}"


def test_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(ImportError, match=r"pip install 'sparse-vision-3d\[cuda\]'"):
        gsplat_backend.load_gsplat()


def test_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "gsplat.cuda._backend", SimpleNamespace(_C=None))
    with pytest.raises(ImportError, match="CUDA toolkit"):
        gsplat_backend.load_gsplat()


def test_a_backend_for_other_tensors_is_refused() -> None:
    with pytest.raises(ValueError, match="gsplat"):
        render(random_gaussians(3), random_cameras(1), backend="gsplat")
