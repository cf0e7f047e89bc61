"""Points, pixels and poses: projecting into cameras, and back from depth; what is rigid, and which way is up."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from datasets.types import Cameras, expect_shape

RIGID_TOLERANCE = 1e-3  # text files round rotations


def project(points: Tensor, cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Where C cameras see P points.

    Args:
        points: [P, 3] world positions.
        cameras: C cameras.

    Returns:
        pixels [C, P, 2], with (0.5, 0.5) the top left pixel's centre, and z-depth [C, P]. Pixels of points that do not
        lie in front of a camera (depth <= 0) mean nothing.
    """
    expect_shape("points", points, (None, 3))
    in_camera = points @ cameras.world_to_camera[:, :3, :3].transpose(1, 2) + cameras.world_to_camera[:, None, :3, 3]
    on_screen = in_camera @ cameras.intrinsics.transpose(1, 2)
    return on_screen[..., :2] / on_screen[..., 2:], in_camera[..., 2]


def inside(pixels: Tensor, depth: Tensor, cameras: Cameras) -> Tensor:
    """[C, P] bool: what :func:`project` gave lies in front of the camera and within its image."""
    within = (pixels >= 0) & (pixels < cameras.sizes[:, None].to(pixels.dtype))
    return within.all(dim=2) & (depth > 0)


def unproject(depth: Tensor, camera: Cameras) -> Tensor:
    """World positions [H, W, 3] of the pixel centres of z-depth [H, W], seen by a batch of one camera."""
    width, height = camera.size
    expect_shape("depth", depth, (height, width))
    x = torch.arange(width, dtype=depth.dtype, device=depth.device) + 0.5
    y = torch.arange(height, dtype=depth.dtype, device=depth.device) + 0.5
    pixels = torch.stack([*torch.meshgrid(x, y, indexing="xy"), torch.ones_like(depth)], dim=-1)
    rays = pixels @ torch.linalg.inv(camera.intrinsics[0]).to(depth).T
    pose = camera.camera_to_world[0].to(depth)
    return (rays * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3]


def is_rigid(pose: np.ndarray) -> bool:
    """Whether [4, 4] is a rotation, within RIGID_TOLERANCE, and a translation; not where it holds NaN or infinity."""
    rotation = pose[:3, :3]
    return bool(
        np.isfinite(pose).all()
        and np.abs(rotation @ rotation.T - np.eye(3)).max() <= RIGID_TOLERANCE
        and np.linalg.det(rotation) > 0
        and np.abs(pose[3] - [0, 0, 0, 1]).max() <= 1e-6
    )


def up_direction(cameras: Cameras) -> np.ndarray:
    """[3] unit vector upwards, float64: square to the cameras' horizontal axes as far as those tell, and against their
    downward ones.

    Photos of something below the horizon are tilted, so that the mean of their upward axes alone would lean.
    """
    rotation = cameras.world_to_camera[:, :3, :3].detach().cpu().double().numpy()
    right, down = rotation[:, 0], rotation[:, 1]
    spread = right.T @ right / len(cameras) + 0.01 * (np.eye(3) - down.T @ down / len(cameras))
    up = np.linalg.eigh(spread)[1][:, 0]
    return up * (-1 if up @ down.sum(axis=0) > 0 else 1)
