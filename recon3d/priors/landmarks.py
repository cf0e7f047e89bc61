"""Sparse points seen by two views, matched along epipolar lines of known poses: what guides the dense flow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.spatial import cKDTree

from datasets.types import Cameras
from recon3d.priors.epipolar import TINY, Pair

EPIPOLAR_TOLERANCE = 1.5  # pixels
SIMILARITY = 0.7  # cosine of two RootSIFT descriptors below which they are no match
RATIO = 0.85  # Lowe's ratio of the nearest to the second nearest descriptor's distance
SAME_PLACE = 4.0  # pixels within which a second match is the same one
ANGLES = (0.5, 60.0)  # degrees between the rays of a landmark; SIFT matches nothing further apart
FEWEST = 15  # a pair with fewer matches has them by chance
AROUND = 6  # nearest landmarks in the image that a landmark is compared with
SUPPORT = 2  # of them, at least, lie at about the same depth
SAME_DEPTH = 0.1  # as the logarithm's difference


@dataclass(frozen=True)
class Landmarks:
    """Triangulated matches: xyz [P, 3] in world units, views [P, 2] the two views that see each."""

    xyz: np.ndarray
    views: np.ndarray

    def __len__(self) -> int:
        return len(self.xyz)

    def seen_by(self, view: int) -> np.ndarray:
        """[Q, 3] the landmarks of one view."""
        return self.xyz[(self.views == view).any(axis=1)]

    def supported(self, cameras: Cameras) -> Landmarks:
        """Those that others of the same pair, near by in the image, confirm: chance matches lie at any depth."""
        keep = np.zeros(len(self), bool)
        poses, intrinsics = cameras.world_to_camera.double().numpy(), cameras.intrinsics.double().numpy()
        for view, other in np.unique(self.views, axis=0):
            chosen = np.flatnonzero((self.views == (view, other)).all(axis=1))
            if len(chosen) <= AROUND:
                continue
            seen = self.xyz[chosen] @ poses[view, :3, :3].T + poses[view, :3, 3]
            pixels = seen @ intrinsics[view].T
            _, near = cKDTree(pixels[:, :2] / pixels[:, 2:]).query(pixels[:, :2] / pixels[:, 2:], k=AROUND + 1)
            depth = np.log(np.maximum(seen[:, 2], TINY))
            keep[chosen] = (np.abs(depth[near[:, 1:]] - depth[:, None]) < SAME_DEPTH).sum(axis=1) >= SUPPORT
        return Landmarks(self.xyz[keep], self.views[keep])


@dataclass(frozen=True)
class Features:
    """points [M, 2] in pixels, descriptors [M, 128] of unit length (RootSIFT; Arandjelović and Zisserman, 2012)."""

    points: np.ndarray
    descriptors: np.ndarray


def detect(grey: np.ndarray, count: int) -> Features:
    """The ``count`` strongest features of an 8-bit image [H, W]."""
    sift = cv2.SIFT.create(nfeatures=count, contrastThreshold=0.01, edgeThreshold=15)
    keypoints, descriptors = sift.detectAndCompute(grey, None)
    if descriptors is None:
        return Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    points = np.array([keypoint.pt for keypoint in keypoints]) + 0.5
    descriptors = np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6))
    return Features(points, descriptors.astype(np.float32))


def match(pair: Pair, source: Features, target: Features) -> np.ndarray:
    """[M, 2] indices of features that are one another's best along the epipolar line, and clearly the best."""
    nothing = np.zeros((0, 2), np.int64)
    if not len(source.points) or not len(target.points):
        return nothing
    lines = np.cross(pair.epipole, pair.far_points(source.points))
    lines /= np.maximum(np.hypot(lines[:, 0], lines[:, 1]), TINY)[:, None]
    distance = lines[:, :2].astype(np.float32) @ target.points.T.astype(np.float32) + lines[:, 2:].astype(np.float32)
    similarity = np.where(np.abs(distance) < EPIPOLAR_TOLERANCE, source.descriptors @ target.descriptors.T, -1)
    best = similarity.argmax(axis=1)
    mutual = similarity.argmax(axis=0)[best] == np.arange(len(best))
    chosen = np.nonzero(mutual & (similarity.max(axis=1) > SIMILARITY))[0]
    if not len(chosen):
        return nothing
    apart = np.linalg.norm(target.points[best[chosen], None] - target.points[None], axis=2) > SAME_PLACE
    first = similarity[chosen, best[chosen]]
    second = np.where(apart, similarity[chosen], -1).max(axis=1)
    clear = np.sqrt(np.maximum(2 - 2 * first, 0)) < RATIO * np.sqrt(2 - 2 * second)
    return np.stack([chosen, best[chosen]], axis=1)[clear]


def find_landmarks(
    greys: Sequence[np.ndarray], cameras: Cameras, pairs: Iterable[tuple[int, int]], features: int = 3000
) -> Landmarks:
    """Match and triangulate each of ``pairs``.

    Args:
        greys: 8-bit images [H, W] of all views.
        cameras: their cameras.
        pairs: unordered pairs of views to try.
        features: most features per photo.
    """
    found = [detect(grey, features) for grey in greys]
    to_world = cameras.camera_to_world.double().numpy()
    inverse_intrinsics = np.linalg.inv(cameras.intrinsics.double().numpy())
    points, views = [np.zeros((0, 3))], [np.zeros((0, 2), np.int64)]
    for i, j in pairs:
        pair = Pair.of(cameras, i, j)
        chosen = match(pair, found[i], found[j])
        source, target = found[i].points[chosen[:, 0]], found[j].points[chosen[:, 1]]
        far = pair.far_points(source)
        inverse_depth = pair.inverse_depth(far, pair.epipolar_foot(far, target)[0])
        _, ratio = pair.project(far, inverse_depth)
        front = np.isfinite(inverse_depth) & (inverse_depth > 1e-9) & (ratio > 0)
        rays = np.column_stack([source, np.ones(len(source))])[front] @ inverse_intrinsics[i].T
        xyz = (rays / inverse_depth[front, None]) @ to_world[i, :3, :3].T + to_world[i, :3, 3]
        angle = angle_between(xyz - to_world[i, :3, 3], xyz - to_world[j, :3, 3])
        xyz = xyz[(angle > ANGLES[0]) & (angle < ANGLES[1])]
        if len(xyz) >= FEWEST:
            points.append(xyz)
            views.append(np.tile([i, j], (len(xyz), 1)))
    return Landmarks(np.concatenate(points), np.concatenate(views))


def angle_between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[...] angle in degrees between vectors [..., 3]."""
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return np.degrees(np.arccos(np.clip((first * second).sum(-1) / np.maximum(lengths, 1e-300), -1, 1)))
