"""Dots, lines and flat pictures into an image with a depth buffer, on the CPU.

Kernels write in place: image uint8 [H, W, 3], depth float32 [H, W] (z-depth, infinite where nothing is drawn yet).
The nearest wins; of what is at one depth, what comes first. Nothing nearer than :data:`NEAR` is drawn.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numba import njit

from datasets.types import Cameras
from viewer.primitives import Dots, Panel, Primitive, Segments

NEAR = 1e-3


def paint(primitive: Primitive, camera: Cameras, image: np.ndarray, depth: np.ndarray, scale: float = 1.0) -> None:
    """Draw into ``image`` and ``depth``, both of the camera's size; widths in pixels are multiplied by ``scale``."""
    pose = camera.world_to_camera[0].double().numpy()
    k = camera.intrinsics[0].double().numpy()
    if isinstance(primitive, Dots):
        size = max(1, round(primitive.size * scale))
        projection = k @ pose[:3]
        _dots(np.ascontiguousarray(primitive.xyz, np.float32), primitive.rgb, size, projection, image, depth)
    elif isinstance(primitive, Segments):
        size = max(1, round(primitive.width * scale))
        finite = np.isfinite(primitive.ends).all(axis=(1, 2))
        ends = primitive.ends[finite].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
        _lines(ends, primitive.rgb[finite], size, k, image, depth)
    else:
        _panel(primitive, pose, k, image, depth)


@njit(cache=True, nogil=True)
def _square(image, depth, u, v, z, size, r, g, b):
    """A square of ``size`` pixels about (u, v), where it is nearer than what is there."""
    height, width = depth.shape
    left, top = u - 0.5 * size + 0.5, v - 0.5 * size + 0.5
    if not (-size <= left < width and -size <= top < height):
        return
    x0, y0 = math.floor(left), math.floor(top)
    z = np.float32(z)
    for y in range(max(y0, 0), min(y0 + size, height)):
        for x in range(max(x0, 0), min(x0 + size, width)):
            if z < depth[y, x]:
                depth[y, x] = z
                image[y, x, 0] = r
                image[y, x, 1] = g
                image[y, x, 2] = b


@njit(cache=True, nogil=True, error_model="numpy")
def _dots(xyz, rgb, size, projection, image, depth):
    """``projection`` [3, 4] brings a point to (u z, v z, z)."""
    a0, a1, a2, a3 = projection[0]
    b0, b1, b2, b3 = projection[1]
    c0, c1, c2, c3 = projection[2]
    for i in range(len(xyz)):
        x, y, z = xyz[i, 0], xyz[i, 1], xyz[i, 2]
        w = c0 * x + c1 * y + c2 * z + c3
        if not w > NEAR:  # also what is NaN
            continue
        inverse = 1 / w
        u = (a0 * x + a1 * y + a2 * z + a3) * inverse
        v = (b0 * x + b1 * y + b2 * z + b3) * inverse
        _square(image, depth, u, v, w, size, rgb[i, 0], rgb[i, 1], rgb[i, 2])


@njit(cache=True, nogil=True)
def _lines(ends, rgb, size, k, image, depth):
    height, width = depth.shape
    for i in range(len(ends)):
        low, high = 0.0, 1.0  # the part of the line that is in front and in the picture
        a, b = ends[i, 0], ends[i, 1]
        for plane in range(5):
            # Signed distance to the near plane and to the four planes through the picture's borders.
            if plane == 0:
                da, db = a[2] - NEAR, b[2] - NEAR
            elif plane == 1:
                da, db = k[0, 0] * a[0] + k[0, 2] * a[2], k[0, 0] * b[0] + k[0, 2] * b[2]
            elif plane == 2:
                da, db = (width - k[0, 2]) * a[2] - k[0, 0] * a[0], (width - k[0, 2]) * b[2] - k[0, 0] * b[0]
            elif plane == 3:
                da, db = k[1, 1] * a[1] + k[1, 2] * a[2], k[1, 1] * b[1] + k[1, 2] * b[2]
            else:
                da, db = (height - k[1, 2]) * a[2] - k[1, 1] * a[1], (height - k[1, 2]) * b[2] - k[1, 1] * b[1]
            if da < 0 and db < 0:
                low, high = 1.0, 0.0
            elif da < 0:
                low = max(low, da / (da - db))
            elif db < 0:
                high = min(high, da / (da - db))
        if low >= high:
            continue
        ax, ay, az = a[0] + low * (b[0] - a[0]), a[1] + low * (b[1] - a[1]), a[2] + low * (b[2] - a[2])
        bx, by, bz = a[0] + high * (b[0] - a[0]), a[1] + high * (b[1] - a[1]), a[2] + high * (b[2] - a[2])
        az, bz = max(az, NEAR), max(bz, NEAR)
        ua, va = ax / az * k[0, 0] + k[0, 2], ay / az * k[1, 1] + k[1, 2]
        ub, vb = bx / bz * k[0, 0] + k[0, 2], by / bz * k[1, 1] + k[1, 2]
        steps = math.ceil(max(abs(ub - ua), abs(vb - va))) + 1
        for s in range(steps + 1):
            t = s / steps
            z = 1 / ((1 - t) / az + t / bz)  # 1/z is what is linear on the screen
            _square(image, depth, ua + t * (ub - ua), va + t * (vb - va), z, size, rgb[i, 0], rgb[i, 1], rgb[i, 2])


def _panel(panel: Panel, pose: np.ndarray, k: np.ndarray, image: np.ndarray, depth: np.ndarray) -> None:
    """Warp the picture onto the screen; a panel that reaches behind the camera is left out."""
    corners = panel.corners @ pose[:3, :3].T + pose[:3, 3]
    if not (corners[:, 2] > NEAR).all():
        return
    on_screen = corners @ k.T
    pixels = on_screen[:, :2] / on_screen[:, 2:]
    height, width = depth.shape
    low = np.floor(np.clip(pixels.min(axis=0), 0, [width, height])).astype(int)
    high = np.ceil(np.clip(pixels.max(axis=0), 0, [width, height])).astype(int)
    if (high <= low).any():
        return
    rows, columns = panel.image.shape[:2]
    texture = np.array([(0, 0), (columns, 0), (columns, rows), (0, rows)], np.float32) - 0.5
    shifted = (pixels - low - 0.5).astype(np.float32)
    area = tuple(int(side) for side in high - low)
    homography = cv2.getPerspectiveTransform(texture, shifted)
    warped = cv2.warpPerspective(panel.image, homography, area, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = np.zeros(area[::-1], np.uint8)
    cv2.fillConvexPoly(inside, np.rint(shifted).astype(np.int32), 1)
    normal = np.cross(corners[1] - corners[0], corners[3] - corners[0])
    x = (np.arange(low[0], high[0]) + 0.5 - k[0, 2]) / k[0, 0]
    y = (np.arange(low[1], high[1]) + 0.5 - k[1, 2]) / k[1, 1]
    facing = normal[0] * x[None] + normal[1] * y[:, None] + normal[2]
    z = normal @ corners[0] / np.where(np.abs(facing) > 1e-12, facing, 1e-12)
    window = (slice(low[1], high[1]), slice(low[0], high[0]))
    shown = (inside > 0) & (z > NEAR) & (z < depth[window])
    image[window][shown] = warped[shown]
    depth[window][shown] = z[shown]
