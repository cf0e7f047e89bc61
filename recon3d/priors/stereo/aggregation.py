"""Semi-global aggregation of a cost volume along eight directions (Hirschmüller, 2008)."""

from __future__ import annotations

import numpy as np
from numba import njit

from recon3d.rasteriser import pool
from recon3d.rasteriser.simd_memory import take_ticket

STEP = 8  # cost of changing by one plane from a pixel to the next
JUMP = 70  # cost of changing by more, where the photo is even
EDGE = 0.12  # by how much a step of one level in luminance makes a jump cheaper: JUMP / (1 + EDGE step)


def aggregate(volume: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Sum over eight directions of the least cost of a path that ends in each pixel and plane.

    Args:
        volume: [H, W, D] uint8 matching costs.
        grey: [H, W] float32 luminance in 0..255, along whose edges jumps are cheap.

    Returns:
        [H, W, D] uint16.
    """
    sums = np.zeros((2, *volume.shape), np.uint16)
    pool.run(_aggregate_halves, 2, volume, grey, sums)
    sums[0] += sums[1]
    return sums[0]


def best_planes(sums: np.ndarray) -> np.ndarray:
    """[H, W] float32 position along the last axis of [H, W, D] where the sum is least, between planes by a parabola."""
    best = np.clip(sums.argmin(axis=2), 1, max(sums.shape[2] - 2, 1))[..., None]
    before, middle, after = (np.take_along_axis(sums, best + k, axis=2)[..., 0].astype(np.float32) for k in (-1, 0, 1))
    bend = np.maximum(before - 2 * middle + after, 1e-6)
    return (best[..., 0] + np.clip(0.5 * (before - after) / bend, -1, 1)).astype(np.float32)


@njit(nogil=True, inline="always")
def _along(before, costs, jump, after, total):
    """One step of a path: from the costs at the pixel before to those at this pixel, in ``after``."""
    planes = len(costs)
    least = before[1]
    for d in range(2, planes + 1):
        least = min(least, before[d])
    limit = np.uint16(least + jump)
    for d in range(1, planes + 1):
        value = min(before[d], np.uint16(min(before[d - 1], before[d + 1]) + np.uint16(STEP)))
        value = np.uint16(np.uint16(min(value, limit) - least) + np.uint16(costs[d - 1]))
        after[d] = value
        total[d - 1] += value


@njit(cache=True, nogil=True)
def _aggregate_halves(tickets, volume, grey, sums):
    """Ticket 0 adds up the four directions that come from the left and above, ticket 1 their opposites."""
    height, width, planes = volume.shape
    far = np.uint16(20000)
    while True:
        half = take_ticket(tickets)
        if half >= 2:
            return
        total = sums[half]
        way = 1 if half == 0 else -1
        # Costs of the row before and of this row for three directions, with a border that no path comes from.
        rows = np.zeros((2, 3, width + 2, planes + 2), np.uint16)
        side = np.zeros((2, planes + 2), np.uint16)
        rows[:, :, :, 0] = far
        rows[:, :, :, planes + 1] = far
        side[:, 0] = far
        side[:, planes + 1] = far
        for i in range(height):
            y = i if half == 0 else height - 1 - i
            old, new = rows[i % 2], rows[1 - i % 2]
            side[:, 1 : planes + 1] = 0
            for j in range(width):
                x = j if half == 0 else width - 1 - j
                here = grey[y, x]
                before = grey[y, x - way] if j > 0 else here
                jump = np.uint16(max(JUMP / (1 + EDGE * abs(here - before)), STEP + 1.0))
                _along(side[j % 2], volume[y, x], jump, side[1 - j % 2], total[y, x])
                for k in range(3):
                    px = x + k - 1
                    before = grey[y - way, px] if i > 0 and 0 <= px < width else here
                    jump = np.uint16(max(JUMP / (1 + EDGE * abs(here - before)), STEP + 1.0))
                    _along(old[k, px + 1], volume[y, x], jump, new[k, x + 1], total[y, x])
