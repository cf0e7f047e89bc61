"""Removing small patches of depth that disagree with everything around them."""

from __future__ import annotations

import cv2
import numpy as np

UNITS = 1000  # steps per factor of e in depth
MISSING = -32000
MOSTLY = 0.5  # share of the known pixels


def without_chance(depth: np.ndarray, smallest: int, share: float = MOSTLY) -> np.ndarray:
    """``depth`` [H, W], without its small patches where too few others are left: then the views share next to nothing.

    Between views that do share something small patches are mostly right, and holes worse than they are.

    Args:
        depth: 0 where unknown.
        smallest: pixels of the smallest patch that is not a small one.
        share: of the known pixels, in such patches, from which on the views share something.
    """
    patches = without_speckles(depth, smallest)
    return depth if (patches > 0).sum() >= share * (depth > 0).sum() else patches


def without_speckles(depth: np.ndarray, smallest: int, step: float = 0.02) -> np.ndarray:
    """``depth`` [H, W] without its connected patches of fewer than ``smallest`` pixels, 0 there.

    Two neighbouring pixels belong to one patch where their depths differ by less than the share ``step``. Chance
    matches make small patches, surfaces large ones.
    """
    known = depth > 0
    if not known.any():
        return depth
    logarithm = np.log(np.where(known, depth, 1)) - np.log(np.median(depth[known]))
    code = np.where(known, np.clip(np.round(UNITS * logarithm), -30000, 30000), MISSING).astype(np.int16)
    cv2.filterSpeckles(code, MISSING, smallest - 1, step * UNITS)
    return np.where(code == MISSING, 0, depth)
