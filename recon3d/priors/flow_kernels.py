"""Two-view geometry at every pixel of a photo, compiled: :class:`~recon3d.priors.epipolar.Pair`'s formulas in one pass.

``infinity`` and ``epipole`` are a pair's; what has no match lies at :data:`NOWHERE`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from recon3d.priors.epipolar import TINY

NOWHERE = -1e6  # coordinate of a match that does not exist


@njit(cache=True, nogil=True, error_model="numpy")
def project(infinity, epipole, inverse_depth, width, height):
    """Where the source's pixels land.

    Args:
        infinity, epipole: the pair's.
        inverse_depth: [H, W] of the source's pixels.
        width, height: of the target.

    Returns:
        [H, W, 2] float32 positions, :data:`NOWHERE` behind the target, and [H, W] bool whether they lie in the target.
    """
    rows, columns = inverse_depth.shape
    points = np.empty((rows, columns, 2), np.float32)
    visible = np.empty((rows, columns), np.bool_)
    for i in range(rows):
        y = i + 0.5
        for j in range(columns):
            x, w = j + 0.5, float(inverse_depth[i, j])
            ratio = infinity[2, 0] * x + infinity[2, 1] * y + infinity[2, 2] + w * epipole[2]
            u = (infinity[0, 0] * x + infinity[0, 1] * y + infinity[0, 2] + w * epipole[0]) / ratio
            v = (infinity[1, 0] * x + infinity[1, 1] * y + infinity[1, 2] + w * epipole[1]) / ratio
            before = ratio > TINY
            points[i, j, 0] = u if before else NOWHERE
            points[i, j, 1] = v if before else NOWHERE
            visible[i, j] = before & (u > 0) & (u < width) & (v > 0) & (v < height)
    return points, visible


@njit(cache=True, nogil=True, error_model="numpy")
def triangulate(infinity, epipole, matches, width, height, least, most):
    """Depth from the match of each of the source's pixels, see :func:`recon3d.priors.guided_flow.triangulate`.

    Args:
        infinity, epipole: the pair's.
        matches: [H, W, 2] positions in the target.
        width, height: of the target.
        least, most: inverse depth.

    Returns:
        What :class:`recon3d.priors.guided_flow.Triangulated` holds, in its order.
    """
    rows, columns = matches.shape[:2]
    inverse_depth = np.empty((rows, columns), np.float32)
    distance = np.empty((rows, columns), np.float32)
    foot = np.empty((rows, columns, 2), np.float32)
    parallax = np.empty((rows, columns), np.float32)
    possible = np.empty((rows, columns), np.bool_)
    ex, ey, ez = epipole
    for i in range(rows):
        y = i + 0.5
        for j in range(columns):
            x, u, v = j + 0.5, float(matches[i, j, 0]), float(matches[i, j, 1])
            fx = infinity[0, 0] * x + infinity[0, 1] * y + infinity[0, 2]
            fy = infinity[1, 0] * x + infinity[1, 1] * y + infinity[1, 2]
            fz = infinity[2, 0] * x + infinity[2, 1] * y + infinity[2, 2]
            a, b, c = ey * fz - ez * fy, ez * fx - ex * fz, ex * fy - ey * fx
            length = np.sqrt(a * a + b * b)
            has_line = length > TINY  # the pixel that is the epipole has none
            scale = 1 / length if has_line else 0.0
            off = (a * u + b * v + c) * scale
            u, v = u - off * a * scale, v - off * b * scale
            along_u, along_v = u * ez - ex, v * ez - ey
            square = along_u * along_u + along_v * along_v
            raw = ((fx - u * fz) * along_u + (fy - v * fz) * along_v) / max(square, TINY)
            clipped = min(max(raw, least), most)
            ratio = fz + clipped * ez
            moves = np.sqrt((ex * fz - fx * ez) ** 2 + (ey * fz - fy * ez) ** 2) / max(ratio * ratio, TINY)
            pixel = 1 / max(moves, TINY)
            mu, mv = matches[i, j, 0], matches[i, j, 1]
            inside = (mu > 0) & (mu < width) & (mv > 0) & (mv < height)
            in_range = (raw > least - pixel) & (raw < most + pixel) & (pixel < most - least)
            inverse_depth[i, j] = clipped
            distance[i, j] = off if has_line else np.inf
            foot[i, j, 0], foot[i, j, 1] = u, v
            parallax[i, j] = moves
            possible[i, j] = has_line & (square > TINY) & in_range & (ratio > 0) & inside
    return inverse_depth, distance, foot, parallax, possible
