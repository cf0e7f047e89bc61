"""A prior's estimate for photos of another size than those that it saw."""

from __future__ import annotations

import cv2
import numpy as np

from recon3d.priors.types import DepthEstimate, inverse_of

SAME_SURFACE = 0.02  # relative difference of depth between neighbours up to which they are one surface


def enlarged(estimate: DepthEstimate, width: int, height: int) -> DepthEstimate:
    """The estimate for a larger photo: inverse depth, in which planes are linear, is interpolated along surfaces and
    jumps between them."""
    depth, confidence = (
        cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
        for values in (estimate.depth, estimate.confidence)
    )
    inverse = inverse_of(estimate.depth)
    weight, mean = (
        cv2.resize(values.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
        for values in (estimate.known, inverse)
    )
    smooth = np.divide(weight, mean, out=np.zeros_like(mean), where=mean > 0)
    along = np.abs(smooth - depth) < SAME_SURFACE * depth
    return DepthEstimate(np.where(along, smooth, depth), confidence)


def reduced(estimate: DepthEstimate, width: int, height: int) -> DepthEstimate:
    """The estimate for a photo of about half the size: the most confident of four depths in each pixel, averaged with
    those of the same surface by inverse depth, in which planes are linear."""
    y, x = (
        (2 * np.arange(2 * new) + 1) * old // (4 * new)
        for new, old in zip((height, width), estimate.depth.shape, strict=True)
    )

    def quarters(values: np.ndarray) -> np.ndarray:
        return values[np.ix_(y, x)].reshape(height, 2, width, 2).transpose(0, 2, 1, 3).reshape(height, width, 4)

    inverse, confidence = quarters(inverse_of(estimate.depth)), quarters(estimate.confidence)
    best = np.take_along_axis(inverse, confidence.argmax(axis=2)[..., None], axis=2)
    weight = np.where(np.abs(inverse - best) < SAME_SURFACE * best, confidence, 0)
    mean = (weight * inverse).sum(axis=2) / np.maximum(weight.sum(axis=2), 1e-12)
    most = np.where(mean > 0, confidence.max(axis=2), 0)
    return DepthEstimate(inverse_of(mean).astype(np.float32), most.astype(np.float32))
