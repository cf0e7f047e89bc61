"""How much the photos and the views' agreement speak for a depth, whoever it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from datasets.types import Cameras
from recon3d.priors.agreement import round_trip_error
from recon3d.priors.stereo.level import Level, Neighbours, inverse_depth_per_pixel
from recon3d.priors.stereo.patch_match import Planes, patch_pattern, similarity
from recon3d.priors.types import inverse_of

REACH = 4  # half side of the compared patches, pixels
AGREES = 1.0  # pixels of round trip
SURROUNDINGS = 0.06  # side of the window around a pixel, of the photo's width
ASIDE = 2.0  # pixels by which a depth is moved to see whether the photos like it less
OFFSET, WEIGHTS = -3.55, (1.6, 2.0, 4.4)  # of the regression for similarity, agreement and preference


@dataclass(frozen=True)
class Evidence:
    """What speaks for one view's depth, all [H, W] float32.

    Attributes:
        similarity: bilaterally weighted NCC with the target that looks most alike, 0..1; near 0 without texture.
        error: pixels by which the pixel misses itself by way of the target that agrees best, infinite where none does.
        agreement: share of the pixels around it (known or not) that some target agrees with. Right matches come in
            regions; chance ones stand among pixels that found none.
        preference: share of the known pixels around it that look more alike than they would a little nearer or
            farther. A third by chance.
    """

    similarity: np.ndarray
    error: np.ndarray
    agreement: np.ndarray
    preference: np.ndarray

    def score(self) -> np.ndarray:
        """[H, W] float32 logarithm of the odds that a depth is right within 3 %.

        A logistic regression on depth from flow and from stereo, and on deliberately wrong depth (scaled, flat, wavy),
        where it is known.
        """
        features = np.stack([self.similarity, self.agreement, self.preference])
        return OFFSET + np.tensordot(np.array(WEIGHTS, np.float32), features, axes=1)

    def confidence(self) -> np.ndarray:
        """[H, W] float32 in 0..1, about the probability that a depth is right within 3 %."""
        return probability(self.score())


def probability(score: np.ndarray) -> np.ndarray:
    """[H, W] float32 in 0..1 from the logarithm of odds."""
    return (1 / (1 + np.exp(-score))).astype(np.float32)


def gather(level: Level, near: Neighbours, depths: Sequence[np.ndarray]) -> Evidence:
    """The evidence for the depth of view ``near.view``; meaningful where that is known.

    Args:
        level: the photos at the size of the depths.
        near: the view and its targets.
        depths: [H, W] z-depth of each view, 0 where unknown.
    """
    view, depth = near.view, depths[near.view]
    known, counts = depth > 0, level.map_of(level.counts, near.view) > 0
    error = least_error(level.cameras, near, depths)
    agrees = (error < AGREES) & counts
    agreement = share_around(agrees, counts)
    if not known.any() or not len(near.targets):
        nothing = np.zeros(depth.shape, np.float32)
        return Evidence(nothing, np.full_like(nothing, np.inf), nothing, nothing)
    inverse = inverse_of(depth).astype(np.float32)
    planes = Planes.through(inverse)
    aside = ASIDE * inverse_depth_per_pixel(level.cameras, view, near.targets.tolist(), inverse)
    alike, *others = (
        similarity(level, near, Planes(w, planes.right, planes.down, planes.cost), patch_pattern(REACH)).max(axis=0)
        for w in (inverse, inverse - aside, inverse + aside)
    )
    likes = (alike > np.maximum(*others)) & known
    return Evidence(np.clip(alike, 0, 1), error.astype(np.float32), agreement, share_around(likes, known))


def least_error(cameras: Cameras, near: Neighbours, depths: Sequence[np.ndarray]) -> np.ndarray:
    """[H, W] pixels of round trip by the target that agrees best, infinite where none knows anything."""
    error = np.full(depths[near.view].shape, np.inf)
    for target in near.targets.tolist():
        error = np.minimum(error, round_trip_error(cameras, depths, near.view, target))
    return error


def share_around(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """[H, W] float32 share of the pixels ``among`` those around each one that ``values`` holds for; both bool."""
    window = max(5, int(SURROUNDINGS * values.shape[1])) | 1
    count = cv2.boxFilter(among.astype(np.float32), -1, (window, window), borderType=cv2.BORDER_REPLICATE)
    share = cv2.boxFilter((values & among).astype(np.float32), -1, (window, window), borderType=cv2.BORDER_REPLICATE)
    return share / np.maximum(count, 1e-6)
