"""The brightness of photos, in which priors look for what matches, and how it changes."""

from __future__ import annotations

import cv2
import numpy as np


def luminance(image: np.ndarray) -> np.ndarray:
    """[H, W] float32 luminance in 0..1 of an image [H, W, 3]; what is not a number is black."""
    return cv2.cvtColor(np.nan_to_num(np.clip(image, 0, 1)).astype(np.float32), cv2.COLOR_RGB2GRAY)


def luminance_bytes(image: np.ndarray) -> np.ndarray:
    """[H, W] uint8 luminance of an image [H, W, 3] in 0..1."""
    return np.rint(luminance(image) * 255).astype(np.uint8)


def contrast(image: np.ndarray, smooth: float, around: float) -> np.ndarray:
    """[H, W] float32 change of luminance per pixel around each pixel of an image [H, W, 3] in 0..1.

    Args:
        image: colour.
        smooth: standard deviation, in pixels, by which luminance is blurred first; 0 for not at all.
        around: standard deviation, in pixels, of the window over which the change is averaged.
    """
    grey = luminance(image)
    if smooth > 0:
        grey = cv2.GaussianBlur(grey, (0, 0), smooth)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, dx, 1 - dx, scale=1 / 8) for dx in (1, 0))
    return cv2.GaussianBlur(np.hypot(across, down), (0, 0), around)
