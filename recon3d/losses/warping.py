"""From the pixels of one view to another by depth, and sampling there, with gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from datasets.types import Cameras


def warp(depth: Tensor, camera: Cameras, other: Cameras) -> tuple[Tensor, Tensor]:
    """Where ``other`` sees the pixels of ``camera`` (batches of one).

    Args:
        depth: [H, W] z-depth in ``camera``, positive.
        camera, other: the two.

    Returns:
        pixels [H, W, 2] in ``other``, with (0.5, 0.5) the top left pixel's centre, and z-depth [H, W] there. Where that
        is not positive, the pixels mean nothing (but are finite). Gradients flow to ``depth``.
    """
    forth = other.world_to_camera[0].double() @ camera.camera_to_world[0].double()
    intrinsics = other.intrinsics[0].double()
    turn = (intrinsics @ forth[:3, :3] @ torch.linalg.inv(camera.intrinsics[0].double())).to(depth)
    shift = (intrinsics @ forth[:3, 3]).to(depth)
    x = torch.arange(depth.shape[1], dtype=depth.dtype, device=depth.device) + 0.5
    y = torch.arange(depth.shape[0], dtype=depth.dtype, device=depth.device)[:, None] + 0.5
    u, v, z = (depth * (turn[k, 0] * x + turn[k, 1] * y + turn[k, 2]) + shift[k] for k in range(3))
    ahead = torch.where(z > 0, z, 1)
    return torch.stack([u / ahead, v / ahead], dim=-1), z


def sample(image: Tensor, pixels: Tensor) -> Tensor:
    """[H', W', E] values of ``image`` [H, W, E] at ``pixels`` [H', W', 2], bilinear; the border's value outside."""
    size = pixels.new_tensor([image.shape[1], image.shape[0]])
    grid = 2 * pixels / size - 1
    planes = image.permute(2, 0, 1)[None]
    return grid_sample(planes, grid[None], padding_mode="border", align_corners=False)[0].permute(1, 2, 0)


def within(pixels: Tensor, camera: Cameras) -> Tensor:
    """[H, W] bool: ``pixels`` lie in the image of ``camera``."""
    width, height = camera.size
    x, y = pixels.detach().unbind(-1)
    return (x >= 0) & (x < width) & (y >= 0) & (y < height)
