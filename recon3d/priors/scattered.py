"""Depth at scattered places of an image: which of them a camera really sees, and the surface between them.

A cloud that another sensor measured is seen from elsewhere: through the gaps between the points of a near thing shine
those of what it hides.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial import Delaunay, QhullError, cKDTree

from datasets.geometry import inside, project
from datasets.types import Cameras
from recon3d.priors.types import inverse_of

NEAREST = 64  # points around one that are looked at
NEARER = 0.1  # of the depth, by which a point lies before another one
HIDING = 3  # quadrants around a point in which something lies before it, from which on it is hidden
PART = 50_000  # points that are looked at together
SAMPLE = 2000  # points that tell how far apart they lie
WIDER = 1.5  # reach over the median distance within which there are points on all sides
EDGE = 2.0  # reaches that the longest side of a triangle may have
STEP = 0.75  # least of its nearest corner's depth over its farthest's: more is a step from one thing to another


def in_photo(xyz: np.ndarray, camera: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """Places [N, 2] and z-depth [N] of those of the points [P, 3] float64 that lie within a photo, hidden or not.

    Args:
        xyz: points of the world.
        camera: a batch of one camera, which took the photo.
    """
    at, away = project(torch.from_numpy(xyz), camera.to(dtype=torch.float64))
    within = inside(at, away, camera)
    return at[within].numpy(), away[within].numpy()


def in_sight(xyz: np.ndarray, camera: Cameras) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`in_photo`, without what other points hide."""
    pixels, depth = in_photo(xyz, camera)
    kept = nearest_of_pixels(pixels, depth)
    pixels, depth = pixels[kept], depth[kept]
    if len(pixels):
        kept = seen(pixels, depth, reach_of(pixels))
        pixels, depth = pixels[kept], depth[kept]
    return pixels, depth


def reach_of(pixels: np.ndarray) -> float:
    """Pixels within which most points have others on all sides, however scan lines run; 1 where there are few.

    Args:
        pixels: [N, 2] places.
    """
    some = np.random.default_rng(0).permutation(len(pixels))[:SAMPLE]
    around, valid = _around(pixels, pixels[some], np.inf)
    away = pixels[around] - pixels[some][:, None]
    apart = np.where(valid, np.linalg.norm(away, axis=-1), np.inf)
    x, y = np.moveaxis(away, -1, 0)
    sides = (x > np.abs(y), -x > np.abs(y), y > np.abs(x), -y > np.abs(x))  # the next scan line is above or below
    farthest = np.max([np.where(side, apart, np.inf).min(axis=1, initial=np.inf) for side in sides], axis=0)
    farthest = farthest[np.isfinite(farthest)]
    return max(WIDER * float(np.median(farthest)), 1.0) if len(farthest) else 1.0


def seen(pixels: np.ndarray, depth: np.ndarray, reach: float) -> np.ndarray:
    """[N] bool: points that nothing hides, after screen-space visibility of points (Pintus et al., 2011).

    A point is hidden where something lies before it in at least three of the four quadrants around it: what lies
    before a point on one side only is the next thing, or the same ground, nearer.

    Args:
        pixels: [N, 2] places of the points.
        depth: [N] positive z-depth.
        reach: pixels around a point that are looked at, see :func:`reach_of`.
    """
    hiding = np.zeros(len(pixels), np.int64)
    for first in range(0, len(pixels), PART):
        part = slice(first, first + PART)
        around, valid = _around(pixels, pixels[part], reach)
        before = valid & (depth[around] < (1 - NEARER) * depth[part, None])
        right, below = np.moveaxis(pixels[around] - pixels[part, None] > 0, -1, 0)
        for quadrant in (right & below, right & ~below, ~right & below, ~right & ~below):
            hiding[part] += (before & quadrant).any(axis=1)
    return hiding < HIDING


def nearest_of_pixels(pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Indices of the points that are the nearest of those in their pixel: of a dense cloud all that can matter."""
    order = np.lexsort((depth, *np.floor(pixels).T))
    cells = np.floor(pixels[order])
    return order[np.append(True, (cells[1:] != cells[:-1]).any(axis=1))[: len(order)]]


def surface(pixels: np.ndarray, depth: np.ndarray, size: tuple[int, int], reach: float) -> np.ndarray:
    """[H, W] float64 z-depth of planes between neighbouring points, 0 where none are near enough.

    The points are triangulated in the image; a triangle that is too long, or spans a step of depth, is left out. In
    inverse depth a plane is linear in the image. A point in no triangle is kept in its own pixel.

    Args:
        pixels: [N, 2] places, the top left pixel's centre being (0.5, 0.5).
        depth: [N] positive z-depth.
        size: (width, height).
        reach: see :func:`reach_of`.
    """
    width, height = size
    inverse, corners = np.zeros((height, width)), np.zeros((0, 3), np.int64)
    try:
        mesh = Delaunay(pixels) if len(pixels) > 3 else None
    except QhullError:  # all on a line
        mesh = None
    if mesh is not None:
        corners = mesh.simplices
        sides = np.linalg.norm(pixels[corners] - pixels[np.roll(corners, 1, axis=1)], axis=-1)
        near, far = depth[corners].min(axis=1), depth[corners].max(axis=1)
        good = (sides.max(axis=1) <= EDGE * reach) & (near >= STEP * far)
        centres = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), axis=-1).reshape(-1, 2)
        triangle = mesh.find_simplex(centres)
        within = np.flatnonzero((triangle >= 0) & good[triangle])
        which = triangle[within]
        first = np.einsum("nij,nj->ni", mesh.transform[which, :2], centres[within] - mesh.transform[which, 2])
        weight = np.column_stack([first, 1 - first.sum(axis=1)])
        inverse.ravel()[within] = (weight / depth[corners[which]]).sum(axis=1)
        corners = corners[good]
    alone = np.setdiff1d(np.arange(len(pixels)), corners)
    x, y = np.floor(pixels[alone]).astype(int).T
    np.maximum.at(inverse, (y, x), 1 / depth[alone])
    return inverse_of(inverse)


def _around(pixels: np.ndarray, centres: np.ndarray, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """[M, K] the points nearest to each centre but at it, and whether there are so many within ``reach``."""
    count = min(NEAREST, len(pixels))
    apart, around = cKDTree(pixels).query(centres, k=np.arange(1, count + 1), distance_upper_bound=reach)
    valid = np.isfinite(apart) & (apart > 0)
    return np.where(valid, around, 0), valid
