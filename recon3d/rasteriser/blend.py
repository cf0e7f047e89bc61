"""Compositing a tile's Gaussians front to back: Gaussians in the outer loop, 4x4 blocks of pixels in the inner."""

from __future__ import annotations

import numpy as np

from recon3d.rasteriser.layout import (
    ALPHA_MAX,
    BLOCK,
    BLOCKS,
    BLOCKS_PER_TILE,
    CENTRE_X,
    CENTRE_Y,
    CHANNELS,
    K0,
    K1,
    K2,
    LOG_OPACITY,
    RECORD,
    TILE,
    TRANSMITTANCE_MIN,
)
from recon3d.rasteriser.project import LOG_OPACITY_MIN
from recon3d.rasteriser.simd import (
    absolute,
    any_lane,
    block_thirds,
    broadcast,
    inlined,
    kernel,
    lane_constant,
    lowest_bit,
    minimum,
    where,
)
from recon3d.rasteriser.simd_memory import (
    element,
    flush_denormals,
    load,
    prefetch,
    restore_denormals,
    store,
    store_rows,
    take_ticket,
)

PIXEL_X = lane_constant([i % BLOCK + 0.5 for i in range(16)])
PIXEL_Y = lane_constant([i // BLOCK + 0.5 for i in range(16)])
# Offset of each block from its tile's corner: x of the 64 blocks, then y.
BLOCK_CORNERS = np.array(
    [b % BLOCKS * BLOCK for b in range(BLOCKS_PER_TILE)] + [b // BLOCKS * BLOCK for b in range(BLOCKS_PER_TILE)],
    np.float32,
)
NEVER = 1e9  # later than any position in a tile's list
AHEAD = 8  # records to prefetch
STATE = 5 * 16  # floats a block: transmittance (negative once closed), four channels
LOW, ONE, NONE = np.uint64(0xFFFFFFFF), np.uint64(1), np.uint64(0)


@inlined
def cache_aligned(array):
    """Offset of the first element of a float32 array that starts a cache line."""
    return (-array.ctypes.data % 64) // 4


@inlined
def alpha_curve(u):
    """2 ** (8 u) for u in -1 .. 0, to 1e-6: a polynomial for 2 ** u, squared three times."""
    u2 = u * u
    high = (u * 0.000938788294 + 0.00918861162) * u2 + (u * 0.0552797225 + 0.240172189)
    p = high * u2 + (u * 0.693142253 + 0.999999925)
    p = p * p
    p = p * p
    return p * p


@kernel
def blend(
    tickets,
    records,
    starts,
    tile_order,
    entries,
    width,
    height,
    tiles_across,
    background,
    mask,
    corners,
    colour,
    alpha,
    depth,
    transmittance,
    stops,
):
    """Composite all tiles (draws them from ``tickets``).

    Args:
        records: [N, 16] float32; entries [pairs, 2] uint64, starts [tiles + 1]: see bin_into_tiles. The block masks in
            entries are narrowed to the blocks where the Gaussian is really drawn, for the backward pass.
        tile_order: [tiles] int32, longest lists first.
        background: [3] float32. mask: [H, W] bool, or [0, 0] for all pixels.
        colour [H, W, 3], alpha [H, W], depth [H, W]: float32 results; depth is the fourth channel's sum.
        transmittance, stops: [tiles, 64, 16] float32 for the backward pass: what is left behind the last Gaussian, and
            the position in the tile's list at which a pixel was closed.
    """
    state = flush_denormals()
    scratch = np.empty(BLOCKS_PER_TILE * STATE + 16, np.float32)
    base = cache_aligned(scratch)
    zero, never = broadcast(0.0), broadcast(NEVER)
    while True:
        ticket = take_ticket(tickets)
        if ticket >= tile_order.shape[0]:
            break
        tile = np.int64(tile_order[ticket])
        start, end = starts[tile], starts[tile + 1]
        left, top = tile % tiles_across * TILE, tile // tiles_across * TILE
        live = NONE
        for b in range(BLOCKS_PER_TILE):
            x, y = left + b % BLOCKS * BLOCK, top + b // BLOCKS * BLOCK
            s = base + b * STATE
            for k in range(1, 5):
                store(scratch, s + 16 * k, zero)
            store(stops, (tile * BLOCKS_PER_TILE + b) * 16, never)
            if x + BLOCK <= width and y + BLOCK <= height and mask.size == 0:
                store(scratch, s, broadcast(1.0))
                live |= ONE << np.uint64(b)
            else:
                for i in range(16):
                    px, py = x + i % BLOCK, y + i // BLOCK
                    inside = px < width and py < height and (mask.size == 0 or mask[py, px])
                    scratch[s + i] = 1.0 if inside else -1.0
                    if inside:
                        live |= ONE << np.uint64(b)
        for p in range(start, end):
            if live == NONE:
                for q in range(p, end):
                    entries[q, 1] = NONE
                break
            if p + AHEAD < end:
                prefetch(records, np.int64(element(entries, 2 * (p + AHEAD)) & LOW) * RECORD)
            blocks = element(entries, 2 * p + 1) & live
            drawn = NONE
            if blocks != NONE:
                r = np.int64(element(entries, 2 * p) & LOW) * RECORD
                k0, k1, k2 = element(records, r + K0), element(records, r + K1), element(records, r + K2)
                dx = PIXEL_X() + (np.float32(left) - element(records, r + CENTRE_X))
                dy = PIXEL_Y() + (np.float32(top) - element(records, r + CENTRE_Y))
                e0 = dx * k0 + dy * k1
                d0 = dy * k2
                level = element(records, r + LOG_OPACITY)
                c0, c1 = element(records, r + CHANNELS), element(records, r + CHANNELS + 1)
                c2, c3 = element(records, r + CHANNELS + 2), element(records, r + CHANNELS + 3)
                while blocks != NONE:
                    b = lowest_bit(blocks)
                    blocks &= blocks - ONE
                    s = base + b * STATE
                    corner_y = element(corners, BLOCKS_PER_TILE + b)
                    e = e0 + k1 * corner_y + k0 * element(corners, b)
                    d = d0 + k2 * corner_y
                    u = level - d * d - e * e
                    left_over = load(scratch, s)
                    hit = (u >= LOG_OPACITY_MIN) & (left_over > 0.0)
                    weight = where(hit, minimum(alpha_curve(u), ALPHA_MAX) * left_over, zero)
                    rest = left_over - weight
                    closing = hit & (rest <= TRANSMITTANCE_MIN)
                    if any_lane(closing):
                        weight = where(closing, zero, weight)
                        rest = where(closing, -left_over, left_over - weight)
                        q = (tile * BLOCKS_PER_TILE + b) * 16
                        store(stops, q, where(closing, np.float32(p - start), load(stops, q)))
                        if not any_lane(rest > 0.0):
                            live &= ~(ONE << np.uint64(b))
                    drawn |= np.uint64(any_lane(hit)) << np.uint64(b)
                    store(scratch, s, rest)
                    store(scratch, s + 16, load(scratch, s + 16) + weight * c0)
                    store(scratch, s + 32, load(scratch, s + 32) + weight * c1)
                    store(scratch, s + 48, load(scratch, s + 48) + weight * c2)
                    store(scratch, s + 64, load(scratch, s + 64) + weight * c3)
            entries[p, 1] = drawn
        for b in range(BLOCKS_PER_TILE):
            s = base + b * STATE
            rest = absolute(load(scratch, s))
            store(transmittance, (tile * BLOCKS_PER_TILE + b) * 16, rest)
            red = load(scratch, s + 16) + rest * background[0]
            green = load(scratch, s + 32) + rest * background[1]
            blue = load(scratch, s + 48) + rest * background[2]
            x, y = left + b % BLOCKS * BLOCK, top + b // BLOCKS * BLOCK
            if x + BLOCK <= width and y + BLOCK <= height:
                q = y * width + x
                q1, q2, q3 = q + width, q + 2 * width, q + 3 * width
                first, middle, last = block_thirds(red, green, blue)
                store_rows(colour, 3 * q, 3 * q1, 3 * q2, 3 * q3, first)
                store_rows(colour, 3 * q + 4, 3 * q1 + 4, 3 * q2 + 4, 3 * q3 + 4, middle)
                store_rows(colour, 3 * q + 8, 3 * q1 + 8, 3 * q2 + 8, 3 * q3 + 8, last)
                store_rows(depth, q, q1, q2, q3, load(scratch, s + 64))
                store_rows(alpha, q, q1, q2, q3, 1.0 - rest)
            elif x < width and y < height:
                store(scratch, s, rest)
                store(scratch, s + 16, red)
                store(scratch, s + 32, green)
                store(scratch, s + 48, blue)
                for j in range(min(BLOCK, height - y)):
                    for i in range(min(BLOCK, width - x)):
                        k = s + BLOCK * j + i
                        for c in range(3):
                            colour[y + j, x + i, c] = scratch[k + 16 + 16 * c]
                        depth[y + j, x + i] = scratch[k + 64]
                        alpha[y + j, x + i] = np.float32(1.0) - scratch[k]
    restore_denormals(state)
