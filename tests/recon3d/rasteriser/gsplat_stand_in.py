"""Stand-ins for the gsplat functions that the CUDA backend calls, in plain torch on the CPU.

They have gsplat 1.5's signatures and shapes and, as its kernels do, leave what is culled or masked uninitialised (NaN
here). What they cannot show is that gsplat's kernels compute the same; that is for machines with a GPU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.recon3d.rasteriser.oracle import ALPHA_MAX, ALPHA_MIN, BLUR, evaluate_sh, pixel_centres, project, safe_sqrt


def fully_fused_projection(
    means: Tensor,
    covars: None,
    quats: Tensor,
    scales: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    eps2d: float = BLUR,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    radius_clip: float = 0.0,
    packed: bool = False,
    sparse_grad: bool = False,
    calc_compensations: bool = False,
    camera_model: str = "pinhole",
    opacities: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """radii [C, N, 2] int32, means2d [C, N, 2], depths [C, N], conics [C, N, 3], compensations [C, N]."""
    assert covars is None
    assert not packed
    assert len(means) > 0, "gsplat would divide by zero"
    found = []
    for pose, intrinsics in zip(viewmats, Ks, strict=True):
        depth = means.detach() @ pose[2, :3].detach() + pose[2, 3].detach()
        visible = (depth >= near_plane) & (depth <= far_plane)
        placed = torch.where(visible[:, None], means, (pose[2, :3] - pose[:3, 3] @ pose[:3, :3]).detach())
        xy, covariance, depth = project(placed, scales.log(), quats, pose, intrinsics, width, height)
        blurred = covariance + eps2d * torch.eye(2)
        ratio = safe_sqrt(covariance.det() / blurred.det())
        opacity = (opacities * ratio if calc_compensations else opacities).detach()
        reach = torch.sqrt(2 * torch.log(opacity * 255).clamp(min=0)).clamp(max=3.33)
        half = torch.ceil(reach[:, None] * blurred.detach().diagonal(dim1=1, dim2=2).sqrt())
        inside = (xy + half > 0) & (xy - half < torch.tensor([width, height]))
        visible = (visible & inside.all(1) & (opacity >= ALPHA_MIN))[:, None]
        inverse = blurred.inverse()
        conic = torch.stack([inverse[:, 0, 0], inverse[:, 0, 1], inverse[:, 1, 1]], 1)
        radii = torch.where(visible, half, 0).clamp(max=1e9).int()
        kept = [torch.where(visible, each, torch.nan) for each in (xy, depth[:, None], conic)]
        found.append((radii, kept[0], kept[1][:, 0], kept[2], torch.where(visible[:, 0], ratio, 0)))
    radii, means2d, depths, conics, compensations = (torch.stack(each) for each in zip(*found, strict=True))
    return radii, means2d, depths, conics, compensations if calc_compensations else None


def spherical_harmonics(degrees_to_use: int, dirs: Tensor, coeffs: Tensor, masks: None = None) -> Tensor:
    """Colours [C, N, 3] without the half that is added."""
    assert coeffs.shape == (*dirs.shape[:-1], (degrees_to_use + 1) ** 2, 3)
    length = dirs.norm(dim=-1, keepdim=True)  # NaN where it is 0, as gsplat's
    towards, harmonics = (dirs / length).reshape(-1, 3), coeffs.reshape(-1, *coeffs.shape[-2:])
    above = torch.cat([harmonics[:, :1] + 1e3, harmonics[:, 1:]], 1)  # out of reach of the clamp at 0
    offset = 0.28209479177387814 * 1e3 + 0.5
    return (evaluate_sh(degrees_to_use, towards.double(), above.double()) - offset).float().reshape(dirs.shape)


@torch.no_grad()
def isect_tiles(
    means2d: Tensor,
    radii: Tensor,
    depths: Tensor,
    tile_size: int,
    tile_width: int,
    tile_height: int,
    sort: bool = True,
    segmented: bool = False,
    packed: bool = False,
    n_images: int | None = None,
    image_ids: None = None,
    gaussian_ids: None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Tiles per Gaussian [C, N], sorted (image, tile, depth) keys and the flat indices that go with them."""
    assert n_images == len(means2d)
    keys, flat = [], []
    for camera in range(len(means2d)):
        for n in (radii[camera] > 0).all(1).nonzero()[:, 0].tolist():
            low = ((means2d[camera, n] - radii[camera, n]) / tile_size).floor().clamp(min=0).int()
            high = ((means2d[camera, n] + radii[camera, n]) / tile_size).ceil().int()
            for y in range(low[1], min(int(high[1]), tile_height)):
                for x in range(low[0], min(int(high[0]), tile_width)):
                    keys.append((camera, y * tile_width + x, depths[camera, n].item(), len(keys)))
                    flat.append(camera * means2d.shape[1] + n)
    order = sorted(range(len(keys)), key=keys.__getitem__)
    ids = torch.tensor([keys[i][0] * tile_width * tile_height + keys[i][1] for i in order], dtype=torch.int64)
    return torch.empty(0), ids, torch.tensor([flat[i] for i in order], dtype=torch.int32)


@torch.no_grad()
def isect_offset_encode(isect_ids: Tensor, n_images: int, tile_width: int, tile_height: int) -> Tensor:
    """[C, tile_height, tile_width], where each tile's list begins."""
    tiles = torch.arange(n_images * tile_height * tile_width)
    return torch.searchsorted(isect_ids, tiles).int().reshape(n_images, tile_height, tile_width)


def rasterize_to_pixels(
    means2d: Tensor,
    conics: Tensor,
    colors: Tensor,
    opacities: Tensor,
    image_width: int,
    image_height: int,
    tile_size: int,
    isect_offsets: Tensor,
    flatten_ids: Tensor,
    backgrounds: None = None,
    masks: Tensor | None = None,
    packed: bool = False,
    absgrad: bool = False,
) -> tuple[Tensor, Tensor]:
    """Images [C, H, W, channels] and alphas [C, H, W, 1]."""
    views, count = means2d.shape[:2]
    assert conics.shape == (views, count, 3)
    assert opacities.shape == (views, count)
    assert colors.shape[:2] == (views, count)
    assert 0 < colors.shape[2] <= 513
    assert masks is None or masks.shape == isect_offsets.shape
    down, across = isect_offsets.shape[1:]
    ends = torch.cat([isect_offsets.flatten()[1:], torch.tensor([len(flatten_ids)], dtype=torch.int32)])
    if absgrad:
        means2d.absgrad = torch.zeros_like(means2d)
    images = colors.new_zeros(views, image_height, image_width, colors.shape[2])
    alphas = colors.new_full((views, image_height, image_width, 1), torch.nan)
    for tile, (start, end) in enumerate(zip(isect_offsets.flatten().tolist(), ends.tolist(), strict=True)):
        camera, y, x = tile // (down * across), tile // across % down * tile_size, tile % across * tile_size
        if masks is not None and not masks.flatten()[tile]:
            continue
        ids = flatten_ids[start:end].long()
        width, height = min(tile_size, image_width - x), min(tile_size, image_height - y)
        pixels = pixel_centres(width, height).float() + torch.tensor([x, y])
        centres = means2d.flatten(0, 1)[ids][:, None].expand(-1, len(pixels), -1)
        if absgrad and centres.requires_grad:

            def gather(gradient: Tensor, ids: Tensor = ids) -> None:
                means2d.absgrad.view(-1, 2).index_add_(0, ids, gradient.abs().sum(1))

            centres.register_hook(gather)
        delta, conic = centres - pixels, conics.flatten(0, 1)[ids]
        a, b, c = conic[:, None].unbind(-1)
        dx, dy = delta.unbind(-1)
        exponent = -0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy
        alpha = (opacities.flatten()[ids][:, None] * exponent.exp()).clamp(max=ALPHA_MAX)
        alpha = torch.where(alpha >= ALPHA_MIN, alpha, 0)
        alpha = torch.where((1 - alpha).cumprod(0) > 1e-4, alpha, 0)
        after = F.pad((1 - alpha).cumprod(0), (0, 0, 1, 0), value=1.0)
        image = (alpha * after[:-1]).T @ colors.flatten(0, 1)[ids]
        images[camera, y : y + height, x : x + width] = image.reshape(height, width, -1)
        alphas[camera, y : y + height, x : x + width, 0] = 1 - after[-1].reshape(height, width)
    return images, alphas
