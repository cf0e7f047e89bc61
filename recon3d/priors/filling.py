"""Filling holes of a map from what is known around them, level or along its slope."""

from __future__ import annotations

import cv2
import numpy as np

FULL_SUPPORT = 0.3  # share of known pixels around a pixel from which on coarser levels add nothing
DAMPING = 0.05  # of a slope, by the squared distance over which it continues against the spread of what it was found in
NARROWEST = 1e-3  # of the map's longer side, spread of pixels that still tells a slope
LEAST = 0.1  # of the least known value, below which no slope leads


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
    weight = _weights(known)
    return np.where(known, values, _means(np.dstack([weight, np.where(known, values, 0)]))[..., 1])


def fill_sloping(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill unknown pixels with planes through the known ones around them, the nearer the more: what lies beside a
    surface mostly is that surface, further on.

    The moments that a linear regression needs are spread as :func:`fill_smoothly` spreads values, so that each pixel
    has a regression of its own over as small a neighbourhood as knows enough. Slopes fade with the distance.

    Args:
        values: [H, W] float map above 0; its values at unknown pixels do not matter.
        known: [H, W] bool.

    Returns:
        [H, W] float64: ``values`` where known, elsewhere at least a tenth of the least and at most the largest of them.

    Raises:
        ValueError: where nothing is known.
    """
    weight = _weights(known)
    value = np.where(known, values, 0).astype(np.float64)
    y, x = np.mgrid[: known.shape[0], : known.shape[1]] / max(known.shape)
    parts = (
        weight,
        weight * x,
        weight * y,
        weight * x * x,
        weight * x * y,
        weight * y * y,
        value,
        value * x,
        value * y,
    )
    _, mean_x, mean_y, xx, xy, yy, level, zx, zy = np.moveaxis(_means(np.dstack(parts)), -1, 0)
    xx, xy, yy = xx - mean_x**2, xy - mean_x * mean_y, yy - mean_y**2
    zx, zy = zx - mean_x * level, zy - mean_y * level
    x, y = x - mean_x, y - mean_y

    ridge = DAMPING * (x**2 + y**2) + NARROWEST**2
    a, c = xx + ridge, yy + ridge
    filled = level + ((c * zx - xy * zy) * x + (a * zy - xy * zx) * y) / (a * c - xy**2)
    return np.where(known, values, np.clip(filled, LEAST * values[known].min(), values[known].max()))


def _weights(known: np.ndarray) -> np.ndarray:
    if not known.any():
        raise ValueError("there is nothing to fill from: no pixel is known")
    return known.astype(np.float64)


def _means(sums: np.ndarray) -> np.ndarray:
    """[H, W, C] weighted means around every pixel, of sums [H, W, C] whose first channel is the weight: over a
    neighbourhood that is small where much is known there, and as large as it takes elsewhere."""
    levels = [sums]
    while min(levels[-1].shape[:2]) > 2:
        levels.append(cv2.pyrDown(levels[-1]))
    total = levels[-1].sum(axis=(0, 1))
    means = np.broadcast_to(total / total[0], levels[-1].shape)
    for level, around in enumerate(reversed(levels)):
        if level > 0:
            means = cv2.pyrUp(means, dstsize=around.shape[1::-1])
        share = np.clip(around[..., :1] / FULL_SUPPORT, 0, 1)
        means = share * around / np.maximum(around[..., :1], 1e-12) + (1 - share) * means
    return means
