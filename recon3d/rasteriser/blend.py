"""Compositing a tile's Gaussians front to back: Gaussians in the outer loop, 4x4 blocks of pixels in the inner."""

from __future__ import annotations

import numpy as np

from recon3d.rasteriser.layout import (
    ALPHA_MAX,
    BLOCK,
    BLOCKS,
    BLOCKS_ACROSS,
    BLOCKS_DOWN,
    CENTRE_X,
    CENTRE_Y,
    CHANNELS,
    K0,
    K1,
    K2,
    LOG_OPACITY,
    RECORD,
    TILE_HEIGHT,
    TILE_WIDTH,
    TRANSMITTANCE_MIN,
)
from recon3d.rasteriser.project import LOG_OPACITY_MIN
from recon3d.rasteriser.simd import (
    absolute,
    any_lane,
    broadcast,
    fma,
    inlined,
    interleave3,
    kernel,
    lane_constant,
    lowest_bit,
    minimum,
    quarters,
    where,
)
from recon3d.rasteriser.simd_memory import (
    element,
    flush_denormals,
    load,
    prefetch,
    prefetch_for_writing,
    restore_denormals,
    store,
    store_all,
    take_ticket,
)

PIXEL_X = lane_constant([i % BLOCK + 0.5 for i in range(16)])
PIXEL_Y = lane_constant([i // BLOCK + 0.5 for i in range(16)])

# Numbers of the inner loops, read from memory as part of the instruction that uses them: the corner of each block of a
# tile (x, then y), then what the names below say.
TABLE = np.zeros(2 * BLOCKS + 16, np.float32)
TABLE[:BLOCKS] = [b % BLOCKS_ACROSS * BLOCK for b in range(BLOCKS)]
TABLE[BLOCKS : 2 * BLOCKS] = [b // BLOCKS_ACROSS * BLOCK for b in range(BLOCKS)]
CORNER_Y = BLOCKS
CURVE = 2 * BLOCKS  # six coefficients of 2 ** u on -1 .. 0
TABLE[CURVE : CURVE + 6] = 0.999999925, 0.693142253, 0.240172189, 0.0552797225, 0.00918861162, 0.000938788294
LEVEL_MIN, ALPHA_TOP, REST_MIN, UNIT, TWO = (CURVE + 6 + i for i in range(5))
TABLE[LEVEL_MIN : LEVEL_MIN + 5] = LOG_OPACITY_MIN, ALPHA_MAX, TRANSMITTANCE_MIN, 1.0, 2.0

NEVER = 1e9  # later than any position in a tile's list
AHEAD = 8  # records to prefetch
STATE = 5 * 16  # floats a block: transmittance (negative once closed), four channels
LOW, ONE, NONE = np.uint64(0xFFFFFFFF), np.uint64(1), np.uint64(0)


@inlined
def cache_aligned(array):
    """Offset of the first element of a float32 array that starts a cache line."""
    return (-array.ctypes.data % 64) // 4


@inlined
def alpha_curve(table, u):
    """2 ** (8 u) for u in -1 .. 0, to 1e-6: a polynomial for 2 ** u, squared three times."""
    u2 = u * u
    low = fma(u, element(table, CURVE + 1), element(table, CURVE))
    middle = fma(u, element(table, CURVE + 3), element(table, CURVE + 2))
    high = fma(u, element(table, CURVE + 5), element(table, CURVE + 4))
    p = fma(fma(high, u2, middle), u2, low)
    p = p * p
    p = p * p
    return p * p


@inlined
def _open_tile(scratch, base, left, top, width, height, mask):
    """Clear a tile's state; pixels outside the image or the mask are closed. Returns the blocks with an open pixel."""
    live = NONE
    zero = broadcast(0.0)
    for b in range(BLOCKS):
        x, y = left + b % BLOCKS_ACROSS * BLOCK, top + b // BLOCKS_ACROSS * BLOCK
        s = base + b * STATE
        store_all(scratch, s, (broadcast(1.0), zero, zero, zero, zero))
        if x + BLOCK <= width and y + BLOCK <= height and mask.size == 0:
            live |= ONE << np.uint64(b)
        else:
            for i in range(16):
                px, py = x + i % BLOCK, y + i // BLOCK
                if px < width and py < height and (mask.size == 0 or mask[py, px]):
                    live |= ONE << np.uint64(b)
                else:
                    scratch[s + i] = -1.0
    return live


@inlined
def _prefetch_pixels(left, top, width, height, colour, alpha, depth):
    """Fetch the cache lines that the tile will be written to while it is blended."""
    across = min(TILE_WIDTH, width - left)
    for y in range(top, min(height, top + TILE_HEIGHT)):
        q = y * width + left
        for i in range(0, 3 * across, 16):
            prefetch_for_writing(colour, 3 * q + i)
        for i in range(0, across, 16):
            prefetch_for_writing(alpha, q + i)
            prefetch_for_writing(depth, q + i)


@inlined
def _close_tile(scratch, base, left, top, width, height, background, colour, alpha, depth):
    """Write a tile's pixels, by rows of four blocks so that whole cache lines are written one behind the other."""
    for row in range(BLOCKS_DOWN):
        y = top + row * BLOCK
        for half in range(0, BLOCKS_ACROSS, 4):
            x = left + half * BLOCK
            s = base + (row * BLOCKS_ACROSS + half) * STATE
            if x + 16 <= width and y + BLOCK <= height:
                rests = _rows_of(scratch, s)
                reds, greens, blues = _rows_of(scratch, s + 16), _rows_of(scratch, s + 32), _rows_of(scratch, s + 48)
                depths = _rows_of(scratch, s + 64)
                q = y * width + x
                _write_pixels(rests[0], reds[0], greens[0], blues[0], depths[0], q, background, colour, alpha, depth)
                q += width
                _write_pixels(rests[1], reds[1], greens[1], blues[1], depths[1], q, background, colour, alpha, depth)
                q += width
                _write_pixels(rests[2], reds[2], greens[2], blues[2], depths[2], q, background, colour, alpha, depth)
                q += width
                _write_pixels(rests[3], reds[3], greens[3], blues[3], depths[3], q, background, colour, alpha, depth)
            else:
                for j in range(max(0, min(BLOCK, height - y))):
                    for i in range(max(0, min(16, width - x))):
                        k = s + i // BLOCK * STATE + BLOCK * j + i % BLOCK
                        rest = abs(scratch[k])
                        for c in range(3):
                            colour[y + j, x + i, c] = scratch[k + 16 + 16 * c] + rest * background[c]
                        depth[y + j, x + i] = scratch[k + 64]
                        alpha[y + j, x + i] = np.float32(1.0) - rest


@inlined
def _rows_of(scratch, s):
    """One quantity of four neighbouring blocks -> its four rows of 16 pixels."""
    return quarters(
        load(scratch, s), load(scratch, s + STATE), load(scratch, s + 2 * STATE), load(scratch, s + 3 * STATE)
    )


@inlined
def _write_pixels(rest, red, green, blue, deep, q, background, colour, alpha, depth):
    """16 pixels of a row, from the flat index ``q`` on."""
    rest = absolute(rest)
    red = fma(rest, element(background, 0), red)
    green = fma(rest, element(background, 1), green)
    blue = fma(rest, element(background, 2), blue)
    store_all(colour, 3 * q, interleave3(red, green, blue))
    store(alpha, q, 1.0 - rest)
    store(depth, q, deep)


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
    table,
    colour,
    alpha,
    depth,
    transmittance,
    closed,
    stops,
):
    """Composite all tiles (draws them from ``tickets``).

    Args:
        records: [N, 16] float32; entries [pairs, 2] uint64, starts [tiles + 1]: see bin_into_tiles. The block masks in
            entries lose the blocks whose pixels were all closed already, for the backward pass.
        tile_order: [tiles] int32, longest lists first.
        background: [3] float32. mask: [H, W] bool, or [0, 0] for all pixels. table: TABLE.
        colour [H, W, 3], alpha [H, W], depth [H, W]: float32 results; depth is the fourth channel's sum.
        transmittance: [tiles, BLOCKS, 16] float32, what is left behind the last Gaussian.
        closed: [tiles] uint64, the blocks with a pixel that became opaque; stops: [tiles * BLOCKS + 1, 16] float32, for
            those blocks the position in the tile's list at which each pixel did. The last row says never.
    """
    state = flush_denormals()
    scratch = np.empty(BLOCKS * STATE + 16, np.float32)
    base = cache_aligned(scratch)
    never = broadcast(NEVER)
    store(stops, tile_order.shape[0] * BLOCKS * 16, never)
    zero = broadcast(0.0)
    while True:
        ticket = take_ticket(tickets)
        if ticket >= tile_order.shape[0]:
            break
        tile = np.int64(tile_order[ticket])
        start, end = starts[tile], starts[tile + 1]
        left, top = tile % tiles_across * TILE_WIDTH, tile // tiles_across * TILE_HEIGHT
        live = _open_tile(scratch, base, left, top, width, height, mask)
        stopped = NONE
        if mask.size > 0:  # pixels outside the mask are closed from the start, for the backward pass too
            for b in range(BLOCKS):
                if live >> np.uint64(b) & ONE != NONE:
                    inside = load(scratch, base + b * STATE) > 0.0
                    store(stops, (tile * BLOCKS + b) * 16, where(inside, never, zero))
                    stopped |= ONE << np.uint64(b)
        _prefetch_pixels(left, top, width, height, colour, alpha, depth)
        for p in range(start, end):
            if live == NONE:
                for q in range(p, end):
                    entries[q, 1] = NONE
                break
            if p + AHEAD < end:
                prefetch(records, np.int64(element(entries, 2 * (p + AHEAD)) & LOW) * RECORD)
            blocks = element(entries, 2 * p + 1) & live
            entries[p, 1] = blocks
            if blocks == NONE:
                continue
            r = np.int64(element(entries, 2 * p) & LOW) * RECORD
            k0, k1, k2 = element(records, r + K0), element(records, r + K1), element(records, r + K2)
            dx = PIXEL_X() + (np.float32(left) - element(records, r + CENTRE_X))
            dy = PIXEL_Y() + (np.float32(top) - element(records, r + CENTRE_Y))
            e0 = fma(dy, k1, dx * k0)
            d0 = dy * k2
            level = element(records, r + LOG_OPACITY)
            c0, c1 = element(records, r + CHANNELS), element(records, r + CHANNELS + 1)
            c2, c3 = element(records, r + CHANNELS + 2), element(records, r + CHANNELS + 3)
            while blocks != NONE:
                b = lowest_bit(blocks)
                blocks &= blocks - ONE
                s = base + b * STATE
                d = fma(element(table, CORNER_Y + b), k2, d0)
                e = fma(element(table, b), k0, fma(element(table, CORNER_Y + b), k1, e0))
                u = fma(-e, e, fma(-d, d, level))
                left_over = load(scratch, s)
                hit = (left_over > 0.0) & (u >= element(table, LEVEL_MIN))
                a = minimum(alpha_curve(table, u), element(table, ALPHA_TOP))
                weight = where(hit, a * left_over, zero)
                rest = left_over - weight
                closing = hit & (rest <= element(table, REST_MIN))
                if any_lane(closing):
                    weight = where(closing, zero, weight)
                    rest = where(closing, -left_over, left_over - weight)
                    bit = ONE << np.uint64(b)
                    q = (tile * BLOCKS + b) * 16
                    before = never
                    if stopped & bit != NONE:
                        before = load(stops, q)
                    store(stops, q, where(closing, np.float32(p - start), before))
                    stopped |= bit
                    if not any_lane(rest > 0.0):
                        live &= ~bit
                store(scratch, s, rest)
                store(scratch, s + 16, fma(weight, c0, load(scratch, s + 16)))
                store(scratch, s + 32, fma(weight, c1, load(scratch, s + 32)))
                store(scratch, s + 48, fma(weight, c2, load(scratch, s + 48)))
                store(scratch, s + 64, fma(weight, c3, load(scratch, s + 64)))
        closed[tile] = stopped
        for b in range(BLOCKS):
            store(transmittance, (tile * BLOCKS + b) * 16, absolute(load(scratch, base + b * STATE)))
        _close_tile(scratch, base, left, top, width, height, background, colour, alpha, depth)
    restore_denormals(state)
