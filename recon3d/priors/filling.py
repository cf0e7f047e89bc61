"""Filling holes of a map smoothly."""

from __future__ import annotations

import cv2
import numpy as np

FULL_SUPPORT = 0.3  # share of known pixels around a pixel from which on coarser levels add nothing


def fill_smoothly(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill unknown pixels from known ones around them, the nearer the more (pull-push over a Gaussian pyramid; Gortler
    et al., The Lumigraph, 1996).

    Depth is best filled as inverse depth, in which a plane is linear in the image.

    Args:
        values: [H, W] float map; its values at unknown pixels do not matter.
        known: [H, W] bool.

    Returns:
        [H, W] float64: ``values`` where known, elsewhere a smooth continuation within the range of the known ones.

    Raises:
        ValueError: where nothing is known.
    """
    if not known.any():
        raise ValueError("there is nothing to fill from: no pixel is known")
    total: np.ndarray = np.where(known, values, 0).astype(np.float64)
    weight: np.ndarray = known.astype(np.float64)
    levels = [(total, weight)]
    while min(total.shape) > 2:
        total, weight = cv2.pyrDown(total), cv2.pyrDown(weight)
        levels.append((total, weight))
    smooth = np.full(total.shape, total.sum() / weight.sum())
    for level, (total, weight) in enumerate(reversed(levels)):
        if level > 0:
            smooth = cv2.pyrUp(smooth, dstsize=total.shape[::-1])
        share = np.clip(weight / FULL_SUPPORT, 0, 1)
        smooth = share * total / np.maximum(weight, 1e-12) + (1 - share) * smooth
    return np.where(known, values, smooth)
