"""Lens distortion, and its removal when a photo is loaded.

Coefficients are OpenCV's. Pixel coordinates here have the top left pixel's centre at (0.5, 0.5); OpenCV puts it at
(0, 0), so half a pixel is taken off every principal point and coordinate handed to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

SMALLEST_ZOOM, LARGEST_ZOOM = 0.5, 8.0


@dataclass(frozen=True)
class Distortion:
    """OpenCV's lens models.

    Attributes:
        coefficients: k1, k2, p1, p2, k3, k4, k5, k6 (perspective), or k1, k2, k3, k4 (fisheye).
        fisheye: whether radii are polynomials of the angle (Kannala and Brandt, 2006) instead of its tangent.
    """

    coefficients: tuple[float, ...]
    fisheye: bool = False

    def __post_init__(self) -> None:
        if len(self.coefficients) != (4 if self.fisheye else 8):
            raise ValueError(f"{len(self.coefficients)} coefficients given: a fisheye lens has 4, another 8")

    @property
    def is_none(self) -> bool:
        """True where the lens is a pinhole already. An equidistant fisheye with zero coefficients is not."""
        return not self.fisheye and not any(self.coefficients)


@dataclass(frozen=True)
class Undistortion:
    """How to resample a photo to a pinhole camera of the same pose and size.

    Attributes:
        focal, centre: the pinhole's intrinsics in pixels.
        map_x, map_y: [H, W] float32, where in the distorted photo each pixel lies (OpenCV's coordinates).
        mask: [H, W] bool, False where the photo has nothing, or None where it has everything.
    """

    focal: tuple[float, float]
    centre: tuple[float, float]
    map_x: np.ndarray
    map_y: np.ndarray
    mask: np.ndarray | None

    def image(self, pixels: np.ndarray) -> np.ndarray:
        """Resample [H, W, 3] float32 (bicubic, clipped to 0..1)."""
        warped = cv2.remap(pixels, self.map_x, self.map_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.clip(warped, 0, 1, out=warped)

    def nearest(self, pixels: np.ndarray) -> np.ndarray:
        """Resample [H, W] depth or mask (nearest pixel, 0 outside). The axes are kept, so z-depth stays z-depth."""
        return cv2.remap(pixels, self.map_x, self.map_y, cv2.INTER_NEAREST, borderValue=0)


@lru_cache(maxsize=4)  # the photos of a scene mostly share one lens
def undistortion(
    focal: tuple[float, float], centre: tuple[float, float], size: tuple[int, int], distortion: Distortion
) -> Undistortion:
    """The pinhole that shows as much as it can of a distorted photo without an empty border.

    The photo's focal lengths are multiplied by one zoom, the smallest in 0.5..8 at which every pixel of the border
    has something to show; the principal point stays. Pixels that nevertheless show nothing, or what a lens
    polynomial folds over, are masked.
    """

    def maps(zoom: float) -> tuple[np.ndarray, np.ndarray]:
        return _maps(focal, centre, size, distortion, zoom)

    low, high = SMALLEST_ZOOM, LARGEST_ZOOM
    if _valid(*maps(low)).all():
        zoom = low
    else:
        for _ in range(14):
            middle = (low * high) ** 0.5
            inside = _valid(*maps(middle))
            if inside[0].all() and inside[-1].all() and inside[:, 0].all() and inside[:, -1].all():
                high = middle
            else:
                low = middle
        zoom = high
    map_x, map_y = maps(zoom)
    valid = _valid(map_x, map_y)
    return Undistortion(
        focal=(focal[0] * zoom, focal[1] * zoom),
        centre=centre,
        map_x=map_x,
        map_y=map_y,
        mask=None if valid.all() else valid,
    )


def _maps(
    focal: tuple[float, float],
    centre: tuple[float, float],
    size: tuple[int, int],
    distortion: Distortion,
    zoom: float,
) -> tuple[np.ndarray, np.ndarray]:
    cx, cy = centre[0] - 0.5, centre[1] - 0.5
    source = np.array([[focal[0], 0, cx], [0, focal[1], cy], [0, 0, 1]])
    pinhole = np.array([[focal[0] * zoom, 0, cx], [0, focal[1] * zoom, cy], [0, 0, 1]])
    coefficients = np.array(distortion.coefficients)
    build = cv2.fisheye.initUndistortRectifyMap if distortion.fisheye else cv2.initUndistortRectifyMap
    map_x, map_y = build(source, coefficients, np.eye(3), pinhole, size, cv2.CV_32FC1)
    return map_x, map_y


def _valid(map_x: np.ndarray, map_y: np.ndarray) -> np.ndarray:
    """[H, W] bool: the pixel lies on the photo (half a pixel beyond its outer centres), and is not folded over."""
    height, width = map_x.shape
    on_photo = (map_x >= -0.5) & (map_x <= width - 0.5) & (map_y >= -0.5) & (map_y <= height - 0.5)
    if min(height, width) < 2:
        return on_photo
    x_down, x_right = np.gradient(map_x)
    y_down, y_right = np.gradient(map_y)
    return on_photo & (x_right * y_down - x_down * y_right > 0)
