"""The CUDA backend of render(): gsplat's kernels (Ye et al., 2024), called one by one.

Its ``rasterization`` cannot be used whole: it has no masks by pixel, takes either harmonics or further channels, and
lets further channels into the absolute screen gradients.
"""

from __future__ import annotations

import importlib
import math
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.types import Cameras
from recon3d.gaussians import Gaussians

TILE = 16
CHANNELS_AT_ONCE = 32  # gsplat's kernels are slow, and compiled for few widths, beyond this
LOG_SCALE_MAX = 20.0  # squares of larger ones overflow on the screen


def render_gsplat(
    gaussians: Gaussians,
    cameras: Cameras,
    *,
    sh_degree: int,
    background: Tensor,
    features: Tensor | None,
    opacity_factor: Tensor | None,
    mask: Tensor | None,
    antialiased: bool,
    absolute_gradients: bool,
    near: float,
    far: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """The CUDA half of :func:`recon3d.render.render`, whose checked arguments it takes: background is [C, 3].

    Where the opacity factor lifts an opacity above one, gsplat ends the Gaussian at 3.33 standard deviations, the CPU
    backend where it falls below 1/255.

    Returns:
        colour, alpha, depth_sum, features, means2d, radii as in Render; means2d are positions here, not zeros.

    Raises:
        ImportError: where gsplat, or the CUDA toolkit that it is compiled with, is not installed.
    """
    gsplat = load_gsplat()
    count, views = len(gaussians), len(cameras)
    width, height = cameras.size
    if count == 0:  # gsplat divides by it
        nothing = background.new_zeros(views, height, width)
        empty = None if features is None else background.new_zeros(views, height, width, features.shape[1])
        colour = _over_background(torch.zeros_like(nothing)[..., None].expand(-1, -1, -1, 3), nothing, background, mask)
        radii = torch.zeros(views, 0, 2, dtype=torch.int32, device=background.device)
        return colour, nothing, nothing.clone(), empty, background.new_zeros(views, 0, 2), radii

    factor = torch.ones_like(gaussians.opacities) if opacity_factor is None else opacity_factor
    gaussians, factor = _without_unusable(gaussians, factor)
    opacities = gaussians.opacities.sigmoid() * factor
    poses = cameras.world_to_camera
    radii, means2d, depths, conics, compensations = gsplat.fully_fused_projection(
        gaussians.means,
        None,
        gaussians.quats,
        gaussians.scales.exp(),
        poses,
        cameras.intrinsics.detach(),
        width,
        height,
        near_plane=near,
        far_plane=far,
        packed=False,
        calc_compensations=antialiased,
        opacities=opacities,
    )
    if means2d.requires_grad:
        means2d.retain_grad()
    opacities = opacities.expand(views, count)
    if antialiased:
        opacities = opacities * compensations

    across, down = math.ceil(width / TILE), math.ceil(height / TILE)
    _, tiles_and_depths, order = gsplat.isect_tiles(
        means2d, radii, depths, TILE, across, down, packed=False, n_images=views
    )
    starts = gsplat.isect_offset_encode(tiles_and_depths, views, across, down).reshape(views, down, across)
    tiles = None if mask is None else F.max_pool2d(mask[:, None].float(), TILE, ceil_mode=True)[:, 0] > 0

    def composite(channels: Tensor, absolute: bool) -> tuple[Tensor, Tensor]:
        """Images [C, H, W, ...] of per-Gaussian channels [C, N, ...], and alpha; 0 outside the mask."""
        images, alphas = gsplat.rasterize_to_pixels(
            means2d,
            conics,
            channels,
            opacities,
            width,
            height,
            TILE,
            starts,
            order,
            masks=tiles,
            packed=False,
            absgrad=absolute,
        )
        if mask is not None:  # alpha is not even written in tiles that the mask leaves out
            images, alphas = (torch.where(mask[..., None], each, 0) for each in (images, alphas))
        return images, alphas[..., 0]

    towards = gaussians.means - cameras.centres[:, None]  # [C, N, 3]
    # A Gaussian at the camera is culled, but its direction would be NaN and spread into the pose's gradient.
    towards = torch.where((towards == 0).all(-1, keepdim=True), 1.0, towards)
    harmonics = torch.cat([gaussians.sh0, gaussians.shN[:, : (sh_degree + 1) ** 2 - 1]], 1)
    colours = gsplat.spherical_harmonics(sh_degree, towards, harmonics.expand(views, -1, -1, -1))
    painted, alpha = composite(torch.cat([(colours + 0.5).clamp(min=0), depths[..., None]], -1), absolute_gradients)
    further: Tensor | None = None
    if features is not None:
        groups = [group.expand(views, -1, -1) for group in features.split(CHANNELS_AT_ONCE, dim=1) if group.numel()]
        parts = [composite(group, False)[0] for group in groups]
        further = torch.cat(parts, -1) if parts else painted.new_zeros(views, height, width, 0)
    colour = _over_background(painted[..., :3], alpha, background, mask)
    return colour, alpha, painted[..., 3].contiguous(), further, means2d, radii


def load_gsplat() -> ModuleType:
    """The gsplat package with its kernels; ImportError says how to install what is missing."""
    mend = "install it with: pip install 'sparse-vision-3d[cuda]'"
    try:
        gsplat = importlib.import_module("gsplat")
        kernels = importlib.import_module("gsplat.cuda._backend")
    except ModuleNotFoundError as error:
        raise ImportError(f"backend 'gsplat' needs the package {error.name}; {mend}") from error
    if kernels._C is None:
        raise ImportError(
            "gsplat is installed without compiled kernels, and there is no CUDA toolkit (nvcc) to compile them with: "
            "install the toolkit, or the gsplat wheel made for your versions of torch and CUDA (https://docs.gsplat.studio)"
        )
    return gsplat


def _without_unusable(gaussians: Gaussians, factor: Tensor) -> tuple[Gaussians, Tensor]:
    """Put transparent Gaussians, without gradients, where one is not finite, has no rotation or overflows."""
    tensors = [*gaussians.parameters().values(), factor]
    usable = torch.stack(
        [torch.isfinite(value.detach()).reshape(len(value), -1).all(1) for value in tensors if value.numel()]
    )
    usable = usable.all(0) & (gaussians.quats.detach().square().sum(1) > 0)
    usable &= (gaussians.scales.detach() < LOG_SCALE_MAX).all(1)

    def kept(value: Tensor, otherwise: Tensor | float) -> Tensor:
        return torch.where(usable.reshape(-1, *[1] * (value.ndim - 1)), value, otherwise)

    identity = gaussians.quats.new_tensor([1.0, 0, 0, 0])
    replaced = {
        name: kept(value, identity if name == "quats" else 0.0) for name, value in gaussians.parameters().items()
    }
    return Gaussians(**replaced), kept(factor, 0.0)


def _over_background(image: Tensor, alpha: Tensor, background: Tensor, mask: Tensor | None) -> Tensor:
    """Composite [C, H, W, 3] on [C, 3]; outside the mask the background shows and gets no gradient."""
    behind = background[:, None, None]
    colour = image + (1 - alpha[..., None]) * behind
    return colour if mask is None else torch.where(mask[..., None], colour, behind.detach())
