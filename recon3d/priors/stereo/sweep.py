"""Plane sweep (Collins, 1996): how alike a photo and its targets look at each of a set of inverse depths."""

from __future__ import annotations

import numpy as np
from numba import njit

from recon3d.priors.stereo.level import Level, Neighbours
from recon3d.rasteriser import pool
from recon3d.rasteriser.simd_memory import take_ticket

SMALL, LARGE = 2, 4  # half sides of the two windows, pixels
BAND = 32  # rows that one thread works on at a time
# Shares of 1 - ZNCC over the small and the large window, and of the absolute difference.
SHARES = np.array([0.35, 0.25, 0.4], np.float32)
FULL_DIFFERENCE = 38.0  # levels of luminance, from which on a difference counts no more
NOISE = np.float32(4)  # variance in levels below which a window says nothing
NEXT = 0.54  # what each target counts, of what the next better one counts: an occluded one spoils little
FULL = 200  # volume's value for a cost of 1
UNSEEN = 110  # volume's value where no target looks


def sweep(level: Level, neighbours: Neighbours, inverse_depths: np.ndarray) -> np.ndarray:
    """Matching cost of every pixel at every inverse depth, planes parallel to the image.

    The cost blends zero-mean normalised cross-correlation over two windows with the absolute difference of luminance;
    over targets it is a mean that favours those which match best, since the others may be occluded.

    Args:
        level: the photos.
        neighbours: the view and its targets.
        inverse_depths: [D] float32.

    Returns:
        [H, W, D] uint8, :data:`FULL` for what does not match at all, :data:`UNSEEN` where no target looks.
    """
    width, height = level.sizes[neighbours.view]
    volume = np.empty((height, width, len(inverse_depths)), np.uint8)
    bands = -(-int(height) // BAND)
    pool.run(
        _sweep_bands, bands, level.quads, level.counts, not level.counts.all(), level.starts, level.sizes,
        neighbours.view, neighbours.targets, neighbours.there, inverse_depths.astype(np.float32), volume,
    )  # fmt: skip
    return volume


@njit(nogil=True, fastmath=True, error_model="numpy", inline="always")
def _box(columns, x, reach):
    total = columns[x]
    for k in range(1, reach + 1):
        total += columns[x - k] + columns[x + k]
    return total


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _sweep_bands(tickets, quads, counts, masked, starts, sizes, view, targets, there, inverse_depths, volume):
    width, height = sizes[view]
    bands = -(-height // BAND)
    across, down = width + 2 * LARGE, BAND + 2 * LARGE
    photo = np.empty((down, across), np.float32)
    warped = np.empty((down, across), np.float32)
    seen = np.empty((BAND, width), np.bool_)
    mean = np.empty((2, BAND, width), np.float32)
    variance = np.empty((2, BAND, width), np.float32)
    columns = np.empty((7, across), np.float32)
    cost = np.empty((len(targets), BAND, width), np.float32)
    small_area = np.float32(1 / (2 * SMALL + 1) ** 2)
    large_area = np.float32(1 / (2 * LARGE + 1) ** 2)
    while True:
        band = take_ticket(tickets)
        if band >= bands:
            return
        top = band * BAND
        rows = min(BAND, height - top)
        for i in range(rows + 2 * LARGE):
            y = min(max(top + i - LARGE, 0), height - 1)
            for j in range(across):
                x = min(max(j - LARGE, 0), width - 1)
                photo[i, j] = np.float32(np.int32(quads[starts[view] + y * width + x] & np.uint32(255)))
        for i in range(rows):
            for j in range(across):
                small, small_squares = np.float32(0), np.float32(0)
                large, large_squares = np.float32(0), np.float32(0)
                for k in range(2 * LARGE + 1):
                    value = photo[i + k, j]
                    large += value
                    large_squares += value * value
                    if LARGE - SMALL <= k <= LARGE + SMALL:
                        small += value
                        small_squares += value * value
                columns[0, j], columns[1, j] = small, small_squares
                columns[2, j], columns[3, j] = large, large_squares
            for j in range(width):
                m = _box(columns[0], j + LARGE, SMALL) * small_area
                mean[0, i, j] = m
                variance[0, i, j] = max(_box(columns[1], j + LARGE, SMALL) * small_area - m * m, np.float32(0)) + NOISE
                m = _box(columns[2], j + LARGE, LARGE) * large_area
                mean[1, i, j] = m
                variance[1, i, j] = max(_box(columns[3], j + LARGE, LARGE) * large_area - m * m, np.float32(0)) + NOISE
        for d in range(len(inverse_depths)):
            for t in range(len(targets)):
                _warp_band(
                    quads, counts, masked, starts[targets[t]], sizes[targets[t]], there[t], inverse_depths[d],
                    top, rows, width, warped, seen,
                )  # fmt: skip
                for i in range(rows):
                    for j in range(across):
                        s0, s1, s2 = np.float32(0), np.float32(0), np.float32(0)
                        l0, l1, l2 = np.float32(0), np.float32(0), np.float32(0)
                        for k in range(LARGE - SMALL):
                            a, b = warped[i + k, j], warped[i + 2 * LARGE - k, j]
                            p, q = photo[i + k, j], photo[i + 2 * LARGE - k, j]
                            l0 += a + b
                            l1 += a * a + b * b
                            l2 += a * p + b * q
                        for k in range(LARGE - SMALL, LARGE + SMALL + 1):
                            a, p = warped[i + k, j], photo[i + k, j]
                            s0 += a
                            s1 += a * a
                            s2 += a * p
                        difference = np.float32(0)
                        for k in range(LARGE - 1, LARGE + 2):
                            difference += min(abs(warped[i + k, j] - photo[i + k, j]), np.float32(FULL_DIFFERENCE))
                        columns[0, j], columns[1, j], columns[2, j] = s0, s1, s2
                        columns[3, j], columns[4, j], columns[5, j] = l0 + s0, l1 + s1, l2 + s2
                        columns[6, j] = difference
                    for j in range(width):
                        x = j + LARGE
                        m = _box(columns[0], x, SMALL) * small_area
                        v = max(_box(columns[1], x, SMALL) * small_area - m * m, np.float32(0)) + NOISE
                        c = _box(columns[2], x, SMALL) * small_area - m * mean[0, i, j] + NOISE
                        total = SHARES[0] * (1 - c / np.sqrt(v * variance[0, i, j]))
                        m = _box(columns[3], x, LARGE) * large_area
                        v = max(_box(columns[4], x, LARGE) * large_area - m * m, np.float32(0)) + NOISE
                        c = _box(columns[5], x, LARGE) * large_area - m * mean[1, i, j] + NOISE
                        total += SHARES[1] * (1 - c / np.sqrt(v * variance[1, i, j]))
                        total += SHARES[2] * _box(columns[6], x, 1) * np.float32(1 / (9 * FULL_DIFFERENCE))
                        cost[t, i, j] = min(total, np.float32(1)) if seen[i, j] else np.float32(2)
            for i in range(rows):
                for j in range(width):
                    volume[top + i, j, d] = _blend(cost, i, j)


@njit(nogil=True, fastmath=True, error_model="numpy", inline="always")
def _blend(cost, i, j):
    """Sorts the targets' costs and weighs them; 2 stands for a target that does not see the point."""
    for t in range(1, len(cost)):
        value, k = cost[t, i, j], t
        while k > 0 and cost[k - 1, i, j] > value:
            cost[k, i, j] = cost[k - 1, i, j]
            k -= 1
        cost[k, i, j] = value
    total, weights, weight = np.float32(0), np.float32(0), np.float32(1)
    for t in range(len(cost)):
        if cost[t, i, j] < 1.5:
            total += weight * cost[t, i, j]
            weights += weight
            weight *= np.float32(NEXT)
    return np.uint8(FULL * total / weights) if weights > 0 else np.uint8(UNSEEN)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _warp_band(quads, counts, masked, start, size, there, inverse_depth, top, rows, width, warped, seen):
    """Sample a target along a plane for a band of rows and its surroundings, beyond its border as at its border."""
    right, bottom = np.float32(size[0] - 1), np.float32(size[1] - 1)
    across, first = np.int32(size[0]), np.int32(start)
    ex, ey, ez = inverse_depth * there[9], inverse_depth * there[10], inverse_depth * there[11]
    for i in range(rows + 2 * LARGE):
        y = np.float32(top + i - LARGE + 0.5)
        fx = there[1] * y + there[2] + ex
        fy = there[4] * y + there[5] + ey
        fz = there[7] * y + there[8] + ez
        for j in range(width + 2 * LARGE):
            x = np.float32(j - LARGE + 0.5)
            z = fz + there[6] * x
            scale = np.float32(1) / max(z, np.float32(1e-6))
            u = (fx + there[0] * x) * scale - np.float32(0.5)
            v = (fy + there[3] * x) * scale - np.float32(0.5)
            u = min(max(u, np.float32(0)), right)
            v = min(max(v, np.float32(0)), bottom)
            column, row = np.int32(u), np.int32(v)
            quad = quads[np.uint32(first + row * across + column)]
            du, dv = u - np.float32(column), v - np.float32(row)
            a = np.float32(np.int32(quad & np.uint32(255)))
            b = np.float32(np.int32((quad >> np.uint32(8)) & np.uint32(255)))
            c = np.float32(np.int32((quad >> np.uint32(16)) & np.uint32(255)))
            d = np.float32(np.int32(quad >> np.uint32(24)))
            upper = a + du * (b - a)
            lower = c + du * (d - c)
            warped[i, j] = upper + dv * (lower - upper)
    for i in range(rows):
        y = np.float32(top + i + 0.5)
        fx = there[1] * y + there[2] + ex
        fy = there[4] * y + there[5] + ey
        fz = there[7] * y + there[8] + ez
        for j in range(width):  # no branch and no division, so that it becomes vector instructions
            x = np.float32(j + 0.5)
            u, v, z = fx + there[0] * x, fy + there[3] * x, fz + there[6] * x
            inside = (u >= 0) & (v >= 0) & (u < z * np.float32(size[0])) & (v < z * np.float32(size[1]))
            seen[i, j] = inside & (z > np.float32(1e-6))
        if masked:
            for j in range(width):
                if seen[i, j]:
                    x = np.float32(j + 0.5)
                    scale = np.float32(1) / (fz + there[6] * x)
                    u = min((fx + there[0] * x) * scale, right)
                    v = min((fy + there[3] * x) * scale, bottom)
                    seen[i, j] = counts[start + np.int64(v) * across + np.int64(u)] > 0
