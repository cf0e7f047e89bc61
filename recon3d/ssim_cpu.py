"""L1 + SSIM with its gradient in one pass over the image, on the rasteriser's vectors and threads.

Blurs are separable and run in strips of a tile: rows are blurred sideways as they come in, and eleven of them upright;
the same again for the three maps whose blur is the gradient of SSIM. Nothing but the gradient is written to memory.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from recon3d.rasteriser import pool
from recon3d.rasteriser.blend import cache_aligned
from recon3d.rasteriser.simd import broadcast, first_lanes, fma, inlined, kernel, lanes_between, lanes_from, where
from recon3d.rasteriser.simd_memory import (
    element,
    flush_denormals,
    load,
    load_lanes,
    restore_denormals,
    store,
    store_lanes,
    take_ticket,
)

REACH = 5  # pixels on either side of an 11-pixel window
WINDOW = 2 * REACH + 1
CHANNELS = 3
TILE_ROWS, TILE_COLUMNS = 256, 128  # pixels; the strips of a tile stay in the second-level cache
# Floats between rows: whole cache lines, an odd number of them so that rows do not compete for the same cache sets.
STRIDE = 33 * 16
C1, C2 = 0.01**2, 0.03**2
_HALF_WINDOW = np.exp(-0.5 * (np.arange(REACH, -1, -1) / 1.5) ** 2)
WEIGHTS = (_HALF_WINDOW / (2 * _HALF_WINDOW.sum() - 1)).astype(np.float32)  # from the edge of the window to its middle


@inlined
def _symmetric(weights, a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10):
    """Weighted sum of eleven vectors."""
    low = fma(a1 + a9, element(weights, 1), (a0 + a10) * element(weights, 0))
    middle = fma(a3 + a7, element(weights, 3), (a2 + a8) * element(weights, 2))
    high = fma(a4 + a6, element(weights, 4), a5 * element(weights, 5))
    return low + (middle + high)


_FROM_3, _FROM_9, _FROM_15 = lanes_from(3), lanes_from(9), lanes_from(15)
_FROM_5, _FROM_11 = lanes_from(5), lanes_from(11)


@inlined
def _sideways(row, i, weights):
    """Blur along an interleaved RGB row whose element ``i`` is the first of the window of the result's first lane.

    Loads across cache lines cost two, shuffles compete with arithmetic: half the window is taken from either.
    """
    a, b, c = load(row, i), load(row, i + 16), load(row, i + 32)
    return _symmetric(
        weights,
        a,
        _FROM_3(a, b),
        load(row, i + 6),
        _FROM_9(a, b),
        load(row, i + 12),
        _FROM_15(a, b),
        load(row, i + 18),
        _FROM_5(b, c),
        load(row, i + 24),
        _FROM_11(b, c),
        load(row, i + 30),
    )


@inlined
def _upright(ring, i, stride, first, weights):
    """Blur across the WINDOW rows of a ring whose oldest row is ``first``."""
    return _symmetric(
        weights,
        load(ring, first * stride + i),
        load(ring, (first + 1) % WINDOW * stride + i),
        load(ring, (first + 2) % WINDOW * stride + i),
        load(ring, (first + 3) % WINDOW * stride + i),
        load(ring, (first + 4) % WINDOW * stride + i),
        load(ring, (first + 5) % WINDOW * stride + i),
        load(ring, (first + 6) % WINDOW * stride + i),
        load(ring, (first + 7) % WINDOW * stride + i),
        load(ring, (first + 8) % WINDOW * stride + i),
        load(ring, (first + 9) % WINDOW * stride + i),
        load(ring, (first + 10) % WINDOW * stride + i),
    )


@kernel
def photometric(tickets, image, target, weights, l1_scale, ssim_scale, gradient, sums):
    """Sums of |image - target| and of SSIM, and the gradient of l1_scale * the one + ssim_scale * the other.

    Args:
        image, target, gradient: [H, 3 W] float32.
        weights: [6] float32, WEIGHTS.
        sums: [tiles down, tiles across, 2] float64; a tile is one ticket.
    """
    state = flush_denormals()
    height, length = image.shape
    down, across = sums.shape[0], sums.shape[1]
    reach = REACH * CHANNELS
    rows = np.empty(4 * STRIDE + 16, np.float32)
    ring, maps = np.empty(4 * WINDOW * STRIDE + 16, np.float32), np.empty(3 * STRIDE + 16, np.float32)
    map_ring = np.empty(3 * WINDOW * STRIDE + 16, np.float32)
    rows, ring, maps = rows[cache_aligned(rows) :], ring[cache_aligned(ring) :], maps[cache_aligned(maps) :]
    map_ring = map_ring[cache_aligned(map_ring) :]
    lanes = np.empty(16, np.float32)
    plane = WINDOW * STRIDE
    zero = broadcast(0.0)
    while True:
        ticket = take_ticket(tickets)
        if ticket >= down * across:
            break
        tile_y, tile_x = ticket // across, ticket % across
        top, bottom = height * tile_y // down, height * (tile_y + 1) // down
        pixels = length // CHANNELS
        left, right = CHANNELS * (pixels * tile_x // across), CHANNELS * (pixels * (tile_x + 1) // across)
        inner = right - left
        # Inputs reach two windows beyond the tile, the maps one.
        origin = left - 2 * reach
        total_l1, total_ssim = 0.0, 0.0
        for y in range(top - 2 * REACH, bottom + 2 * REACH):
            for i in range(0, inner + 4 * reach, 16):
                a, b = zero, zero
                if 0 <= y < height:
                    inside = lanes_between(-(origin + i), length - (origin + i))
                    offset = y * length + origin + i
                    a, b = load_lanes(image, offset, inside), load_lanes(target, offset, inside)
                store(rows, i, a)
                store(rows, STRIDE + i, b)
                store(rows, 2 * STRIDE + i, fma(a, a, b * b))
                store(rows, 3 * STRIDE + i, a * b)
            newest = (y + 4 * WINDOW) % WINDOW * STRIDE
            for i in range(0, inner + 2 * reach, 16):
                store(ring, newest + i, _sideways(rows, i, weights))
                store(ring, newest + plane + i, _sideways(rows, STRIDE + i, weights))
                store(ring, newest + 2 * plane + i, _sideways(rows, 2 * STRIDE + i, weights))
                store(ring, newest + 3 * plane + i, _sideways(rows, 3 * STRIDE + i, weights))
            m = y - REACH  # the row whose window is complete
            if m < top - REACH:
                continue
            newest = (m + 4 * WINDOW) % WINDOW * STRIDE
            if not 0 <= m < height:
                for k in range(3):
                    for i in range(0, inner, 16):
                        store(map_ring, newest + k * plane + i, zero)
            else:
                oldest = (y + 1 + 4 * WINDOW) % WINDOW
                sum_ssim = zero
                for i in range(0, inner + 2 * reach, 16):
                    mean_x = _upright(ring, i, STRIDE, oldest, weights)
                    mean_y = _upright(ring, plane + i, STRIDE, oldest, weights)
                    mean_squares = _upright(ring, 2 * plane + i, STRIDE, oldest, weights)
                    mean_xy = _upright(ring, 3 * plane + i, STRIDE, oldest, weights)
                    product = mean_x * mean_y
                    a1 = 2.0 * product + C1
                    a2 = 2.0 * (mean_xy - product) + C2
                    squares = fma(mean_x, mean_x, mean_y * mean_y)
                    b1 = squares + C1
                    b2 = mean_squares - squares + C2
                    inverse = 1.0 / (b1 * b2)
                    s = a1 * a2 * inverse
                    # Derivatives of s by the means of x, of x x and of x y; none outside the image.
                    column = left - reach + i
                    inside = lanes_between(-column, length - column)
                    by_x = 2.0 * inverse * (mean_y * (a2 - a1) - mean_x * s * (b2 - b1))
                    store(maps, i, where(inside, by_x, zero))
                    store(maps, STRIDE + i, where(inside, -s * b1 * inverse, zero))
                    store(maps, 2 * STRIDE + i, where(inside, 2.0 * a1 * inverse, zero))
                    sum_ssim = sum_ssim + where(lanes_between(reach - i, inner + reach - i), s, zero)
                if top <= m < bottom:
                    store(lanes, 0, sum_ssim)
                    for k in range(16):
                        total_ssim += lanes[k]
                for i in range(0, inner, 16):
                    store(map_ring, newest + i, _sideways(maps, i, weights))
                    store(map_ring, newest + plane + i, _sideways(maps, STRIDE + i, weights))
                    store(map_ring, newest + 2 * plane + i, _sideways(maps, 2 * STRIDE + i, weights))
            q = m - REACH
            if q < top:
                continue
            oldest = (m + 1 + 4 * WINDOW) % WINDOW
            sum_l1 = zero
            for i in range(0, inner, 16):
                valid = first_lanes(inner - i)
                offset = q * length + left + i
                a, b = load_lanes(image, offset, valid), load_lanes(target, offset, valid)
                by_x = _upright(map_ring, i, STRIDE, oldest, weights)
                by_xx = _upright(map_ring, plane + i, STRIDE, oldest, weights)
                by_xy = _upright(map_ring, 2 * plane + i, STRIDE, oldest, weights)
                v = fma(2.0 * a, by_xx, fma(b, by_xy, by_x)) * ssim_scale
                difference = a - b
                sign = where(difference > 0.0, broadcast(l1_scale), where(difference < 0.0, broadcast(-l1_scale), zero))
                store_lanes(gradient, offset, v + sign, valid)
                sum_l1 = sum_l1 + where(difference > 0.0, difference, -difference)
            store(lanes, 0, sum_l1)
            for k in range(16):
                total_l1 += lanes[k]
        sums[tile_y, tile_x, 0] = total_l1
        sums[tile_y, tile_x, 1] = total_ssim
    restore_denormals(state)


class _Photometric(torch.autograd.Function):
    @staticmethod
    def forward(ctx, image, target, ssim_weight):
        height, width = image.shape[:2]
        count = image.numel()
        arrays = [t.detach().contiguous().numpy().reshape(height, CHANNELS * width) for t in (image, target)]
        gradient = np.empty((height, CHANNELS * width), np.float32)
        tiles = (-(-height // TILE_ROWS), -(-width // TILE_COLUMNS))
        sums = np.empty((*tiles, 2))
        scales = np.float32((1 - ssim_weight) / count), np.float32(-ssim_weight / count)
        pool.run(photometric, tiles[0] * tiles[1], *arrays, WEIGHTS, *scales, gradient, sums)
        absolute, similarity = sums.sum((0, 1)) / count
        ctx.save_for_backward(torch.from_numpy(gradient.reshape(image.shape)))
        return torch.tensor((1 - ssim_weight) * absolute + ssim_weight * (1 - similarity), dtype=torch.float32)

    @staticmethod
    def backward(ctx, v_loss):
        (gradient,) = ctx.saved_tensors
        scale = float(v_loss)
        return (gradient if scale == 1 else gradient * scale), None, None


def l1_ssim_cpu(image: Tensor, target: Tensor, ssim_weight: float) -> Tensor:
    """The same as :func:`recon3d.ssim.l1_ssim` for float32 tensors on the CPU; the target gets no gradient."""
    return _Photometric.apply(image, target, ssim_weight)
