"""How far a view sees, and which other views see the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets.types import Cameras
from recon3d.priors.epipolar import pixel_centres
from recon3d.priors.landmarks import Landmarks, angle_between, find_landmarks

NEAREST = 6  # other views that each photo is sparsely matched with
ENOUGH_LANDMARKS = 20
WIDEST_ANGLE = 80.0  # degrees between optical axes beyond which two views share nothing that can be matched
LEAST_OVERLAP = 0.005
BEST_ANGLE = 8.0  # degrees between two rays to a point from which on depth is well determined
FADE_ANGLES = (25.0, 100.0)  # degrees between two rays over which a surface stops looking alike


def candidate_pairs(cameras: Cameras, nearest: int = NEAREST) -> list[tuple[int, int]]:
    """Unordered pairs of views that look roughly the same way: for each the ``nearest`` others by angle, then place."""
    axes, centres = cameras.world_to_camera[:, 2, :3].double().numpy(), cameras.centres.double().numpy()
    pairs = set()
    for i in range(len(cameras)):
        angle = angle_between(axes, axes[i])
        away = np.linalg.norm(centres - centres[i], axis=1)
        order = np.lexsort([np.arange(len(axes)), angle / WIDEST_ANGLE + away / max(away.max(), 1e-300)])
        near = [int(j) for j in order if j != i and angle[j] < WIDEST_ANGLE and away[j] > 0]
        pairs |= {(min(i, j), max(i, j)) for j in near[:nearest]}
    return sorted(pairs)


def shared_landmarks(cameras: Cameras, greys: Sequence[np.ndarray], features: int = 3000) -> Landmarks:
    """What is matched between the views that look roughly the same way, and confirmed by other matches.

    Args:
        cameras: of all views.
        greys: their 8-bit images [H, W].
        features: most features per photo.
    """
    return find_landmarks(greys, cameras, candidate_pairs(cameras), features).supported(cameras)


def depth_ranges(cameras: Cameras, bounds: np.ndarray | None, landmarks: Landmarks) -> np.ndarray:
    """[V, 2] nearest and farthest z-depth that each view may hold.

    From the source's bounds where it states them, else from the landmarks that the view sees, else from all landmarks
    in front of it, else from where the cameras stand and look.
    """
    poses = cameras.world_to_camera.double().numpy()
    ranges = np.zeros((len(cameras), 2))
    for i, pose in enumerate(poses):
        if bounds is not None and np.isfinite(bounds[i]).all() and 0 < bounds[i, 0] < bounds[i, 1]:
            ranges[i] = bounds[i, 0] * 0.7, bounds[i, 1] * 2
            continue
        depths = np.zeros(0)
        for points in (landmarks.seen_by(i), landmarks.xyz):
            depths = points @ pose[2, :3] + pose[2, 3]
            depths = depths[depths > 0]
            if len(depths) >= ENOUGH_LANDMARKS:
                break
        if len(depths) >= ENOUGH_LANDMARKS:
            near, far = np.percentile(depths, [2, 98])
            ranges[i] = near * 0.5, far * 4
        else:
            distance = _distance_of_focus(cameras, i)
            ranges[i] = distance * 0.25, distance * 10
    return ranges


def _distance_of_focus(cameras: Cameras, view: int) -> float:
    """How far away the place is that all optical axes pass by, or ten baselines where they do not meet in front."""
    axes, centres = cameras.world_to_camera[:, 2, :3].double().numpy(), cameras.centres.double().numpy()
    across = np.eye(3) - axes[:, :, None] * axes[:, None, :]
    focus = np.linalg.lstsq(across.sum(0), (across @ centres[:, :, None]).sum(0)[:, 0], rcond=1e-3)[0]
    baseline = np.linalg.norm(centres - centres[view], axis=1).max()
    in_front = ((focus - centres) * axes).sum(1)
    if (in_front > 0.25 * baseline).all() and in_front[view] < 100 * baseline:
        return float(in_front[view])
    return max(10 * float(baseline), 1e-6)


def choose_targets(cameras: Cameras, ranges: np.ndarray, count: int) -> list[list[int]]:
    """For each view the up to ``count`` others that see most of what it sees from a useful angle, best first.

    Useful is an angle wide enough to tell depth and narrow enough for surfaces to look alike. Views at one place never
    choose one another.
    """
    poses, intrinsics = cameras.world_to_camera.double().numpy(), cameras.intrinsics.double().numpy()
    centres, sizes = cameras.centres.double().numpy(), cameras.sizes.numpy()
    targets: list[list[int]] = []
    for i in range(len(cameras)):
        width, height = sizes[i]
        grid = (pixel_centres(8, 8) * [width / 8, height / 8]).reshape(-1, 2)
        rays = np.column_stack([grid, np.ones(len(grid))]) @ np.linalg.inv(intrinsics[i]).T
        near, far = ranges[i]
        inverse_depths = 1 / far + (1 / near - 1 / far) * np.array([0.05, 0.15, 0.3, 0.5])
        points = (rays[None] / inverse_depths[:, None, None]).reshape(-1, 3)
        points = (points - poses[i, :3, 3]) @ poses[i, :3, :3]
        scores = np.zeros(len(cameras))
        for j in range(len(cameras)):
            if j == i or np.linalg.norm(centres[j] - centres[i]) < 1e-9 * far:
                continue
            seen = points @ poses[j, :3, :3].T + poses[j, :3, 3]
            pixel = seen @ intrinsics[j].T
            pixel = pixel[:, :2] / np.where(pixel[:, 2:] > 0, pixel[:, 2:], np.nan)
            inside = (seen[:, 2] > 0) & ((pixel > 0) & (pixel < sizes[j])).all(axis=1)
            angle = angle_between(points - centres[i], points - centres[j])
            fade = np.interp(angle, FADE_ANGLES, (1.0, 0.0))
            scores[j] = (inside * np.minimum(angle / BEST_ANGLE, 1) * fade).mean()
        order = np.lexsort([np.arange(len(scores)), -scores])
        targets.append([int(j) for j in order[:count] if scores[j] > LEAST_OVERLAP])
    return targets
