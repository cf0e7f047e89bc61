"""The brightness of photos, in which priors look for what matches."""

from __future__ import annotations

import cv2
import numpy as np


def luminance(image: np.ndarray) -> np.ndarray:
    """[H, W] float32 luminance in 0..1 of an image [H, W, 3]; what is not a number is black."""
    return cv2.cvtColor(np.nan_to_num(np.clip(image, 0, 1)).astype(np.float32), cv2.COLOR_RGB2GRAY)


def luminance_bytes(image: np.ndarray) -> np.ndarray:
    """[H, W] uint8 luminance of an image [H, W, 3] in 0..1."""
    return np.rint(luminance(image) * 255).astype(np.uint8)
