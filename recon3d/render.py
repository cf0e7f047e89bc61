"""Rendering Gaussians: one stateless function over two backends that share gsplat's semantics."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from datasets.types import Cameras, expect_shape
from recon3d.gaussians import Gaussians

Backend = Literal["cpu", "gsplat"]
NEAR = 0.01  # of the scene's units: nothing nearer to a camera is drawn


@dataclass(frozen=True)
class Render:
    """What C cameras see.

    Attributes:
        colour: [C, H, W, 3], background included.
        alpha: [C, H, W] opacity in 0..1.
        depth_sum: [C, H, W] z-depth weighted by contribution, not yet divided by alpha.
        features: [C, H, W, E] further channels composited on zero, or None.
        means2d: [C, N, 2] zeros of the graph whose ``.grad`` after backward is the gradient with respect to each
            Gaussian's position on the screen, in pixels; with ``absolute_gradients`` its ``.absgrad`` is the sum of
            absolute values over pixels (gsplat's convention, as its densification strategies use it).
        radii: [C, N, 2] int32 half extents on the screen in pixels, 0 where a Gaussian is not drawn.
    """

    colour: Tensor
    alpha: Tensor
    depth_sum: Tensor
    features: Tensor | None
    means2d: Tensor
    radii: Tensor

    @property
    def depth(self) -> Tensor:
        """[C, H, W] expected z-depth: depth_sum / alpha, 0 where nothing was hit."""
        return self.depth_sum / self.alpha.clamp(min=1e-10)


def render(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    sh_degree: int | None = None,
    background: Tensor | None = None,
    features: Tensor | None = None,
    opacity_factor: Tensor | None = None,
    mask: Tensor | None = None,
    antialiased: bool = False,
    absolute_gradients: bool = False,
    near: float = NEAR,
    far: float = 1e10,
    backend: Backend | None = None,
) -> Render:
    """Render ``gaussians`` from ``cameras`` (which share one image size), with gradients for every tensor given.

    Args:
        gaussians: N Gaussians, raw parameters (log scales, logit opacities).
        cameras: C cameras; ``world_to_camera`` may require gradients (poses).
        sh_degree: highest spherical harmonic used, at most what is stored; None uses all.
        background: [3] or [C, 3] colour behind the Gaussians; None is black.
        features: [N, E] further channels (normals, uncertainty ...) to composite like colour, on zero.
        opacity_factor: [N] multiplier of the opacity after the sigmoid (dropout, decay); None is one.
        mask: [C, H, W] bool, False where a pixel need not be drawn: it shows the background and gives no gradient.
        antialiased: lower the opacity of Gaussians smaller than a pixel by the area that the 0.3 px blur added
            (Yu et al., Mip-Splatting, 2024).
        absolute_gradients: also gather ``means2d.absgrad`` (Ye et al., AbsGS, 2024).
        near, far: z-depth in scene units outside which Gaussians are not drawn.
        backend: "cpu" or "gsplat"; None chooses by the tensors' device. An explicit choice never falls back.

    Raises:
        ValueError: for shapes or devices that disagree, an unknown backend, or tensors the backend cannot take.
        ImportError: where the backend's package is not installed, naming the extra that brings it.
    """
    chosen = _chosen_backend(backend, gaussians.means)
    background = _check(gaussians, cameras, background, features, opacity_factor, mask)
    if sh_degree is None:
        sh_degree = gaussians.sh_degree
    elif not 0 <= sh_degree <= gaussians.sh_degree:
        raise ValueError(f"sh_degree is {sh_degree}, but the Gaussians store degree {gaussians.sh_degree}")
    options: dict[str, Any] = {
        "sh_degree": sh_degree,
        "background": background,
        "features": features,
        "opacity_factor": opacity_factor,
        "mask": mask,
        "antialiased": antialiased,
        "absolute_gradients": absolute_gradients,
        "near": near,
        "far": far,
    }
    if chosen == "cpu":
        from recon3d.rasteriser.cpu import render_cpu

        return Render(*render_cpu(gaussians, cameras, **options))
    from recon3d.rasteriser.gsplat_backend import render_gsplat

    return Render(*render_gsplat(gaussians, cameras, **options))


def _chosen_backend(backend: str | None, means: Tensor) -> str:
    if backend is None:
        return "cpu" if means.device.type == "cpu" else "gsplat"
    if backend not in get_args(Backend):
        raise ValueError(f"backend is {backend!r}, expected one of {', '.join(get_args(Backend))}, or None")
    wanted = "cpu" if backend == "cpu" else "cuda"
    if means.device.type != wanted:
        raise ValueError(f"backend {backend!r} works on {wanted} tensors, but the Gaussians are on {means.device}")
    return backend


def _check(
    gaussians: Gaussians,
    cameras: Cameras,
    background: Tensor | None,
    features: Tensor | None,
    opacity_factor: Tensor | None,
    mask: Tensor | None,
) -> Tensor:
    """Raise ValueError for what no backend can take; returns the background as [C, 3]."""
    count, views, device = len(gaussians), len(cameras), gaussians.means.device
    width, height = cameras.size
    tensors = {**gaussians.parameters(), "world_to_camera": cameras.world_to_camera, "intrinsics": cameras.intrinsics}
    if background is None:
        background = torch.zeros(3, device=device)
    if background.ndim == 1:
        expect_shape("background", background, (3,))
        background = background.expand(views, 3)
    expect_shape("background", background, (views, 3))
    tensors["background"] = background
    if features is not None:
        expect_shape("features", features, (count, None))
        tensors["features"] = features
    if opacity_factor is not None:
        expect_shape("opacity_factor", opacity_factor, (count,))
        tensors["opacity_factor"] = opacity_factor
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or tensor.device != device:
            raise ValueError(f"{name} is {tensor.dtype} on {tensor.device}, expected torch.float32 on {device}")
    if mask is not None:
        expect_shape("mask", mask, (views, height, width))
        if mask.dtype != torch.bool or mask.device != device:
            raise ValueError(f"mask is {mask.dtype} on {mask.device}, expected torch.bool on {device}")
    if not math.isfinite(float(cameras.world_to_camera.detach().sum() + cameras.intrinsics.detach().sum())):
        raise ValueError("a camera's pose or intrinsics hold NaN or infinity")
    return background
