"""One depth from several priors, each believed as far as photos and views agree with it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from datasets.errors import InputError
from recon3d.priors.epipolar_flow import EpipolarFlow
from recon3d.priors.evidence import gather
from recon3d.priors.landmarks import Landmarks
from recon3d.priors.multi_view_stereo import MultiViewStereo
from recon3d.priors.stereo.level import Level, Neighbours, inverse_depth_per_pixel
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.priors.view_selection import choose_targets, depth_ranges
from recon3d.views import TrainingViews

TARGETS = 4  # other views that each view's depth is held against
NO_LANDMARKS = Landmarks(np.zeros((0, 3)), np.zeros((0, 2), np.int64))


class Fusion(DepthPrior):
    """Blends the depth of several priors by what speaks for each, pixel by pixel.

    What a prior says of its own confidence does not count: it is measured for all alike (how alike the photos look
    along the depth, whether they would like another depth better, whether the views agree; see
    :mod:`recon3d.priors.evidence`). At each pixel the depth with the highest confidence is taken, averaged with those
    that lie within a pixel of parallax; where no confidence is high enough there is a hole. A prior that disagrees with
    the photos therefore loses its weight, and a pixel that only it knows becomes a hole.

    Args:
        priors: the priors, at least one; None for flow and stereo. One that cannot work on these views raises.
        least: confidence, 0..1, below which a depth is not believed.

    Raises:
        ValueError: for no prior, or ``least`` out of range.
    """

    def __init__(self, priors: list[DepthPrior] | None = None, least: float = 0.4) -> None:
        if priors is None:
            priors = [EpipolarFlow(), MultiViewStereo()]
        if not priors:
            raise ValueError("Fusion: priors is empty, expected at least one")
        if not 0 < least < 1:
            raise ValueError(f"Fusion: least is {least}, expected a confidence between 0 and 1")
        self.priors, self.least = priors, least

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """The blended depth of each view.

        Raises:
            InputError: for fewer than two views, or where one of the priors raises it.
        """
        if len(views) < 2:
            raise InputError(f"fusion holds views against one another: it needs at least two, got {len(views)}")
        return fuse(views, [prior(views) for prior in self.priors], self.least)


def fuse(views: TrainingViews, candidates: Sequence[Sequence[DepthEstimate]], least: float) -> list[DepthEstimate]:
    """Blend ``candidates``, for each prior an estimate per view; see :class:`Fusion`."""
    luminance = [
        cv2.cvtColor(np.nan_to_num(np.clip(view.image, 0, 1)).astype(np.float32), cv2.COLOR_RGB2GRAY)
        for view in views.views
    ]
    level = Level.of(views.cameras, luminance, [view.mask for view in views.views], 1.0)
    targets = choose_targets(views.cameras, _ranges(views, candidates), TARGETS)
    depths = [[estimate.depth for estimate in estimates] for estimates in candidates]
    fused = []
    for i in range(len(views)):
        near = Neighbours.of(views.cameras, i, targets[i])
        counts = level.map_of(level.counts, i) > 0
        confidences = []
        for prior in depths:
            evidence = gather(level, near, prior)
            # Neither photos nor views speak for what has no target at all, and that is everything they could say.
            believed = (prior[i] > 0) & counts & np.isfinite(evidence.error)
            confidences.append(np.where(believed, evidence.confidence(), np.float32(0)))
        fused.append(_blend(level, near, [prior[i] for prior in depths], confidences, least))
    return fused


def _blend(
    level: Level, near: Neighbours, depths: Sequence[np.ndarray], confidences: Sequence[np.ndarray], least: float
) -> DepthEstimate:
    confidence = np.stack(confidences)
    inverse = np.stack([np.where(depth > 0, 1 / np.where(depth > 0, depth, 1), 0) for depth in depths])
    most = confidence.max(axis=0)
    best = np.take_along_axis(inverse, confidence.argmax(axis=0)[None], axis=0)[0]
    known = most >= least
    if not known.any():
        return DepthEstimate(np.zeros(most.shape, np.float32), np.zeros(most.shape, np.float32))
    pixel = inverse_depth_per_pixel(level.cameras, near.view, near.targets.tolist(), best)
    weight = np.where(np.abs(inverse - best) <= pixel, confidence**2, 0) * (confidence >= least)
    mean = (weight * inverse).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-12)
    depth = np.where(known, 1 / np.where(known, mean, 1), 0)
    return DepthEstimate(depth.astype(np.float32), np.where(known, most, np.float32(0)))


def _ranges(views: TrainingViews, candidates: Sequence[Sequence[DepthEstimate]]) -> np.ndarray:
    """[V, 2] near and far depth of each view, from what all priors know of it, else from the cameras."""
    ranges = depth_ranges(views.cameras, views.bounds, NO_LANDMARKS)
    for i in range(len(views)):
        known = np.concatenate([estimates[i].depth[estimates[i].known] for estimates in candidates])
        if len(known):
            near, far = np.percentile(known, [2, 98])
            ranges[i] = near * 0.8, far * 1.2
    return ranges
