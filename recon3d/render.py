"""Rendering Gaussians: one stateless function over two backends that share gsplat's semantics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from datasets.types import Cameras
from recon3d.gaussians import Gaussians

Backend = Literal["cpu", "gsplat"]


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
    near: float = 0.01,
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
    from recon3d.rasteriser._interim import render_interim

    return render_interim(
        gaussians,
        cameras,
        sh_degree=sh_degree,
        background=background,
        opacity_factor=opacity_factor,
        antialiased=antialiased,
    )
