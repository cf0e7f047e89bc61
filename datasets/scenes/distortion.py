"""Lens distortion, and its removal when a photo is loaded.

Coefficients are OpenCV's. Pixel coordinates here have the top left pixel's centre at (0.5, 0.5); OpenCV puts it at
(0, 0), so half a pixel is taken off every principal point and coordinate handed to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

Pair = tuple[float, float]
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
    """How to resample a photo to a pinhole camera of the same pose, size and principal point.

    Attributes:
        map_x, map_y: [H, W] float32, where in the distorted photo each pixel lies (OpenCV's coordinates).
        mask: [H, W] bool, False where the photo has nothing to show, or None where it has something everywhere.
    """

    map_x: np.ndarray
    map_y: np.ndarray
    mask: np.ndarray | None

    def image(self, pixels: np.ndarray) -> np.ndarray:
        """Resample [H, W, 3] float32 (Lanczos, since OpenCV's bicubic bends even a straight ramp), clipped to 0..1."""
        warped = cv2.remap(pixels, self.map_x, self.map_y, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REPLICATE)
        return np.clip(warped, 0, 1, out=warped)

    def nearest(self, pixels: np.ndarray) -> np.ndarray:
        """Resample [H, W] depth or mask (nearest pixel, 0 where masked). The axes stay, and so z-depth does."""
        warped = cv2.remap(pixels, self.map_x, self.map_y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE)
        return warped if self.mask is None else np.where(self.mask, warped, 0).astype(pixels.dtype)


def pinhole_focal(focal: Pair, centre: Pair, size: tuple[int, int], distortion: Distortion) -> Pair:
    """Focal lengths of the pinhole that shows as much as it can of a distorted photo without an empty border.

    They are the photo's times the smallest factor in 0.5..8 at which every pixel of the border has something to
    show. Where there is none (a principal point outside the photo), the photo's own are kept.
    """
    border = _border(size)

    def filled(zoom: float) -> bool:
        x, y = _distorted(border, focal, centre, distortion, zoom)
        right = _distorted(border + np.array([1, 0]), focal, centre, distortion, zoom)
        down = _distorted(border + np.array([0, 1]), focal, centre, distortion, zoom)
        turn = (right[0] - x) * (down[1] - y) - (down[0] - x) * (right[1] - y)
        return bool((_on_photo(x, y, size) & (turn > 0)).all())

    low, high = SMALLEST_ZOOM, LARGEST_ZOOM
    if not filled(high):
        return focal
    if filled(low):
        high = low
    while high / low > 1.0001:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if filled(middle) else (middle, high)
    return focal[0] * high, focal[1] * high


@lru_cache(maxsize=4)  # the photos of a scene mostly share one lens
def undistortion(focal: Pair, centre: Pair, size: tuple[int, int], distortion: Distortion) -> Undistortion:
    """The resampling to :func:`pinhole_focal`'s camera. What a lens polynomial folds over is masked."""
    source, coefficients = _matrix(focal, centre), np.array(distortion.coefficients)
    pinhole = _matrix(pinhole_focal(focal, centre, size, distortion), centre)
    build = cv2.fisheye.initUndistortRectifyMap if distortion.fisheye else cv2.initUndistortRectifyMap
    map_x, map_y = build(source, coefficients, np.eye(3), pinhole, size, cv2.CV_32FC1)
    valid = _on_photo(map_x, map_y, size)
    if min(size) > 1:
        x_down, x_right = np.gradient(map_x)
        y_down, y_right = np.gradient(map_y)
        valid &= x_right * y_down - x_down * y_right > 0
    return Undistortion(map_x, map_y, None if valid.all() else valid)


def _matrix(focal: Pair, centre: Pair) -> np.ndarray:
    return np.array([[focal[0], 0, centre[0] - 0.5], [0, focal[1], centre[1] - 0.5], [0, 0, 1]])


def _border(size: tuple[int, int]) -> np.ndarray:
    """[N, 2] pixels around the picture, OpenCV's coordinates; at most 256 a side, as lenses bend smoothly."""
    last_x, last_y = size[0] - 1.0, size[1] - 1.0
    along = np.linspace(0, 1, 256)
    sides = [(along * last_x, 0 * along), (along * last_x, 0 * along + last_y)]
    sides += [(0 * along, along * last_y), (0 * along + last_x, along * last_y)]
    return np.concatenate([np.stack(side, 1) for side in sides])


def _distorted(
    pixels: np.ndarray, focal: Pair, centre: Pair, distortion: Distortion, zoom: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where on the photo the pinhole's pixels [N, 2] lie, OpenCV's coordinates."""
    rays = (pixels - (centre[0] - 0.5, centre[1] - 0.5)) / (focal[0] * zoom, focal[1] * zoom)
    matrix, coefficients = _matrix(focal, centre), np.array(distortion.coefficients)
    if distortion.fisheye:
        on_photo = cv2.fisheye.distortPoints(rays[:, None], matrix, coefficients)
    else:
        on_photo, _ = cv2.projectPoints(np.c_[rays, np.ones(len(rays))], np.zeros(3), np.zeros(3), matrix, coefficients)
    return on_photo[:, 0, 0], on_photo[:, 0, 1]


def _on_photo(x: np.ndarray, y: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Within the photo, whose outer pixels reach half a pixel beyond their centres; 0.01 for rounding."""
    reach = 0.51
    return (x >= -reach) & (x <= size[0] - 1 + reach) & (y >= -reach) & (y <= size[1] - 1 + reach)
