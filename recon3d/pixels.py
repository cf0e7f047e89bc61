"""Pixels brought back into the world, on their way to become Gaussians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recon3d.views import TrainingViews


@dataclass(frozen=True)
class Surfels:
    """N coloured points with a size.

    Attributes:
        xyz: [N, 3] world.
        rgb: [N, 3] in 0..1.
        size: [N] world units that the pixel (or group of pixels) covers at its depth.
        opacity: [N] in 0..1.
    """

    xyz: np.ndarray
    rgb: np.ndarray
    size: np.ndarray
    opacity: np.ndarray

    def __len__(self) -> int:
        return len(self.xyz)

    def __getitem__(self, index: np.ndarray) -> Surfels:
        return Surfels(self.xyz[index], self.rgb[index], self.size[index], self.opacity[index])

    @staticmethod
    def joined(parts: Sequence[Surfels]) -> Surfels:
        """All of them, in order."""
        return Surfels(
            np.concatenate([part.xyz for part in parts]),
            np.concatenate([part.rgb for part in parts]),
            np.concatenate([part.size for part in parts]),
            np.concatenate([part.opacity for part in parts]),
        )


def unproject(
    views: TrainingViews,
    view: int,
    x: np.ndarray,
    y: np.ndarray,
    inverse_depth: np.ndarray,
    spacing: float,
    opacity: np.ndarray,
    rgb: np.ndarray | None = None,
) -> Surfels:
    """Points of one view, in pixels (the top left pixel's centre is (0.5, 0.5)), at an inverse z-depth each.

    Args:
        spacing: pixels between neighbours, for the size.
        rgb: [N, 3] colours; None takes those of the photo, in which the points must lie.
    """
    camera = views.cameras[view]
    intrinsics = camera.intrinsics[0].double().numpy()
    pose = camera.camera_to_world[0].double().numpy()
    z = 1 / inverse_depth
    local = np.stack(
        [(x - intrinsics[0, 2]) / intrinsics[0, 0] * z, (y - intrinsics[1, 2]) / intrinsics[1, 1] * z, z], axis=1
    )
    if rgb is None:
        rgb = views.views[view].image[np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)]
    return Surfels(local @ pose[:3, :3].T + pose[:3, 3], rgb, z * spacing / intrinsics[0, 0], opacity)


def in_front_of(views: TrainingViews, view: int, xyz: np.ndarray, inverse_depth: np.ndarray) -> np.ndarray:
    """[N] bool, which points a view would see before its own surface ``inverse_depth`` [H, W]."""
    camera = views.cameras[view]
    pose, intrinsics = camera.world_to_camera[0].double().numpy(), camera.intrinsics[0].double().numpy()
    local = xyz @ pose[:3, :3].T + pose[:3, 3]
    z = np.maximum(local[:, 2], 1e-9)
    x = local[:, 0] / z * intrinsics[0, 0] + intrinsics[0, 2]
    y = local[:, 1] / z * intrinsics[1, 1] + intrinsics[1, 2]
    height, width = inverse_depth.shape
    seen = (local[:, 2] > 0) & (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = (np.clip(v, 0, size - 1).astype(np.int64) for v, size in ((x, width), (y, height)))
    return seen & (1 / z > inverse_depth[row, column])
