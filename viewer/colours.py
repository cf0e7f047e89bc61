"""Numbers and classes as colours."""

from __future__ import annotations

import cv2
import numpy as np

# Twelve hues that stay apart on light and dark ground.
CLASSES = np.array(
    [
        *((0, 158, 224), (255, 127, 14), (60, 190, 80), (226, 60, 70), (160, 110, 220), (160, 110, 80)),
        *((240, 120, 190), (240, 210, 40), (30, 200, 190), (150, 160, 170), (90, 110, 240), (180, 210, 90)),
    ],
    np.uint8,
)
UNKNOWN = np.array([128, 128, 128], np.uint8)


def by_class(labels: np.ndarray) -> np.ndarray:
    """[N, 3] uint8 of whole numbers [N]; negative ones are grey."""
    labels = labels.astype(np.int64)
    return np.where(labels[:, None] < 0, UNKNOWN, CLASSES[labels % len(CLASSES)])


def by_value(values: np.ndarray, low: float | None = None, high: float | None = None) -> np.ndarray:
    """[N, 3] uint8 of numbers [N], from blue (low) to red (high); what is not finite is grey.

    Args:
        values: any numbers.
        low, high: ends of the scale; None takes percentiles 2 and 98, so that strays do not flatten the rest.
    """
    finite = np.isfinite(values)
    if low is None or high is None:
        some = values[finite][:: max(1, len(values) // 200_000)]
        ends = np.percentile(some, [2, 98]) if len(some) else (0.0, 1.0)
        low, high = (ends[0] if low is None else low), (ends[1] if high is None else high)
    share = (np.where(finite, values, 0) - low) / max(float(high - low), 1e-12)
    coloured = _TURBO[np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8)]
    return np.where(finite[:, None], coloured, UNKNOWN)


def depth_image(depth: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] of z-depth [H, W]: red is near, blue far, even in 1/depth; black where it is 0."""
    known = depth > 0
    inverse = 1 / np.where(known, depth, 1)
    coloured = by_value(np.where(known, inverse, np.nan).ravel()).reshape(*depth.shape, 3)
    return np.where(known[..., None], coloured, np.uint8(0))


_TURBO = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_TURBO)[:, 0, ::-1].copy()
