"""Large planes of a scene: walls, floors and tables, along which a view can be warped into another."""

from __future__ import annotations

import numpy as np

from datasets.types import Cameras
from recon3d.priors.epipolar import pixel_centres

SAMPLE = 2000  # points that vote for a plane
TRIES = 400
FEWEST = 30  # points on a plane that is believed


def find_planes(points: np.ndarray, tolerance: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Find planes one after the other, each through most of the points that earlier ones left (sequential RANSAC).

    Args:
        points: [P, 3] in world units.
        tolerance: [P] distance from a plane up to which each point lies on it.
        count: most planes.
        random: source of the samples.

    Returns:
        [Q, 4] planes (n, e) with |n| = 1 and n . x + e = 0.
    """
    if len(points) > SAMPLE:
        chosen = random.choice(len(points), SAMPLE, replace=False)
        points, tolerance = points[chosen], tolerance[chosen]
    planes = []
    for _ in range(count):
        if len(points) < FEWEST:
            break
        corners = points[random.integers(len(points), size=(TRIES, 3))]
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        lengths = np.linalg.norm(normals, axis=1)
        normals = normals[lengths > 0] / lengths[lengths > 0, None]
        offsets = -(normals * corners[lengths > 0, 0]).sum(1)
        if not len(normals):
            break
        votes = (np.abs(points @ normals.T + offsets) < tolerance[:, None]).sum(0)
        best = int(votes.argmax())
        on_plane = np.abs(points @ normals[best] + offsets[best]) < tolerance
        if votes[best] < FEWEST:
            break
        centre = points[on_plane].mean(0)
        normal = np.linalg.svd(points[on_plane] - centre, full_matrices=False)[2][2]
        planes.append(np.append(normal, -normal @ centre))
        near_plane = np.abs(points @ normal - normal @ centre) < 1.5 * tolerance
        points, tolerance = points[~(near_plane | on_plane)], tolerance[~(near_plane | on_plane)]
    return np.array(planes).reshape(-1, 4)


def plane_inverse_depth(plane: np.ndarray, cameras: Cameras, view: int) -> np.ndarray:
    """[H, W] 1 / z-depth of ``plane`` (4 numbers, world units) along the rays of a view; negative behind it."""
    pose = cameras.world_to_camera[view].double().numpy()
    width, height = cameras.sizes[view].tolist()
    normal = pose[:3, :3] @ plane[:3]
    offset = plane[3] - normal @ pose[:3, 3]
    across = normal @ np.linalg.inv(cameras.intrinsics[view].double().numpy())
    return -(pixel_centres(width, height) @ across[:2] + across[2]) / (offset if abs(offset) > 1e-12 else 1e-12)
