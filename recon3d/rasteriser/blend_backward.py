"""The backward pass of blend.py: back to front, leaving one record of sums per (Gaussian, tile)."""

from __future__ import annotations

import numpy as np

from recon3d.rasteriser.blend import (
    AHEAD,
    ALPHA_TOP,
    CORNER_Y,
    LEVEL_MIN,
    LOW,
    NONE,
    ONE,
    PIXEL_X,
    PIXEL_Y,
    TWO,
    UNIT,
    alpha_curve,
    cache_aligned,
)
from recon3d.rasteriser.layout import (
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
    MOMENTS,
    RECORD,
    TILE_HEIGHT,
    TILE_WIDTH,
)
from recon3d.rasteriser.simd import (
    absolute,
    broadcast,
    deinterleave3,
    fma,
    inlined,
    kernel,
    lane_sums,
    lowest_bit,
    minimum,
    quarters,
    rough_reciprocal,
    where,
)
from recon3d.rasteriser.simd_memory import (
    element,
    flush_denormals,
    load,
    prefetch,
    restore_denormals,
    store,
    store_past_cache,
    take_ticket,
)

STATE = 6 * 16  # floats a block: transmittance, what lies behind (as one number), gradient of four channels


@inlined
def _store_blocks(scratch, s, parts):
    """A row-wise quantity of four neighbouring blocks -> the blocks' own vectors."""
    store(scratch, s, parts[0])
    store(scratch, s + STATE, parts[1])
    store(scratch, s + 2 * STATE, parts[2])
    store(scratch, s + 3 * STATE, parts[3])


@inlined
def _open_tile(scratch, base, tile, left, top, width, height, background, transmittance, v_colour, v_alpha, v_depth):
    """Fill a tile's state from what the forward pass left and the gradients of the images, zero outside them."""
    zero = broadcast(0.0)
    for b in range(BLOCKS):
        store(scratch, base + b * STATE, load(transmittance, (tile * BLOCKS + b) * 16))
    for row in range(BLOCKS_DOWN):
        y = top + row * BLOCK
        for half in range(0, BLOCKS_ACROSS, 4):
            x = left + half * BLOCK
            s = base + (row * BLOCKS_ACROSS + half) * STATE
            if x + 16 <= width and y + BLOCK <= height:
                q0 = y * width + x
                q1, q2, q3 = q0 + width, q0 + 2 * width, q0 + 3 * width
                r0, g0, b0 = _channels(v_colour, q0)
                r1, g1, b1 = _channels(v_colour, q1)
                r2, g2, b2 = _channels(v_colour, q2)
                r3, g3, b3 = _channels(v_colour, q3)
                _store_blocks(scratch, s + 32, quarters(r0, r1, r2, r3))
                _store_blocks(scratch, s + 48, quarters(g0, g1, g2, g3))
                _store_blocks(scratch, s + 64, quarters(b0, b1, b2, b3))
                deep = quarters(load(v_depth, q0), load(v_depth, q1), load(v_depth, q2), load(v_depth, q3))
                _store_blocks(scratch, s + 80, deep)
                _store_blocks(
                    scratch,
                    s + 16,
                    quarters(
                        _behind(r0, g0, b0, background, load(v_alpha, q0)),
                        _behind(r1, g1, b1, background, load(v_alpha, q1)),
                        _behind(r2, g2, b2, background, load(v_alpha, q2)),
                        _behind(r3, g3, b3, background, load(v_alpha, q3)),
                    ),
                )
            else:
                for i in range(4):
                    for k in range(1, 6):
                        store(scratch, s + i * STATE + 16 * k, zero)
                for j in range(BLOCK):
                    for i in range(16):
                        k = s + i // BLOCK * STATE + BLOCK * j + i % BLOCK
                        if y + j >= height or x + i >= width:
                            # Never blended, so never closed: undoing a deep stack here would overflow.
                            scratch[k] = np.float32(0.0)
                            continue
                        behind = -v_alpha[y + j, x + i]
                        for c in range(3):
                            scratch[k + 32 + 16 * c] = v_colour[y + j, x + i, c]
                            behind += v_colour[y + j, x + i, c] * background[c]
                        scratch[k + 80] = v_depth[y + j, x + i]
                        scratch[k + 16] = behind


@inlined
def _channels(v_colour, q):
    """16 pixels of a row -> red, green, blue."""
    return deinterleave3(load(v_colour, 3 * q), load(v_colour, 3 * q + 16), load(v_colour, 3 * q + 32))


@inlined
def _behind(red, green, blue, background, v_alpha):
    """Gradient with respect to what is left behind the last Gaussian."""
    sum_rg = fma(red, element(background, 0), green * element(background, 1))
    return fma(blue, element(background, 2), sum_rg) - v_alpha


def _backward(absolute_gradients):
    """The kernel, with or without the sums of absolute screen gradients (two more registers)."""

    @kernel
    def blend_backward(
        tickets,
        records,
        starts,
        tile_order,
        entries,
        width,
        height,
        tiles_across,
        background,
        table,
        transmittance,
        closed,
        stops,
        v_colour,
        v_alpha,
        v_depth,
        moments,
    ):
        """Gradients of the pixels -> moments [pairs, 16] float32 (see layout.py), one row per slot of the entries.

        The other arguments are those of blend(), as it left them; v_* are the gradients of its results, and ``moments``
        starts at a cache line. No two threads write the same row: nothing is atomic, and the result does not depend on
        their number.
        """
        state = flush_denormals()
        scratch = np.empty(BLOCKS * STATE + 16, np.float32)
        base = cache_aligned(scratch)
        zero = broadcast(0.0)
        never_row = tile_order.shape[0] * BLOCKS * 16
        while True:
            ticket = take_ticket(tickets)
            if ticket >= tile_order.shape[0]:
                break
            tile = np.int64(tile_order[ticket])
            start, end = starts[tile], starts[tile + 1]
            if start == end:
                continue
            left, top = tile % tiles_across * TILE_WIDTH, tile // tiles_across * TILE_HEIGHT
            kept = (background, transmittance, v_colour, v_alpha, v_depth)
            _open_tile(scratch, base, tile, left, top, width, height, *kept)
            stopped = closed[tile]
            for p in range(end - 1, start - 1, -1):
                if p - AHEAD >= start:
                    prefetch(records, np.int64(element(entries, 2 * (p - AHEAD)) & LOW) * RECORD)
                blocks = element(entries, 2 * p + 1)
                slot = np.int64(element(entries, 2 * p) >> np.uint64(32))
                if blocks == NONE:
                    store_past_cache(moments, MOMENTS * slot, zero)
                    continue
                r = np.int64(element(entries, 2 * p) & LOW) * RECORD
                k0, k1, k2 = element(records, r + K0), element(records, r + K1), element(records, r + K2)
                dx = PIXEL_X() + (np.float32(left) - element(records, r + CENTRE_X))
                dy = PIXEL_Y() + (np.float32(top) - element(records, r + CENTRE_Y))
                e0 = fma(dy, k1, dx * k0)
                d0 = dy * k2
                position = np.float32(p - start)
                s_g, s_e, s_d, s_ee, s_ed, s_dd = zero, zero, zero, zero, zero, zero
                s_0, s_1, s_2, s_3, s_x, s_y = zero, zero, zero, zero, zero, zero
                while blocks != NONE:
                    b = lowest_bit(blocks)
                    blocks &= blocks - ONE
                    s = base + b * STATE
                    limit = never_row
                    if stopped >> np.uint64(b) & ONE != NONE:
                        limit = (tile * BLOCKS + b) * 16
                    d = fma(element(table, CORNER_Y + b), element(records, r + K2), d0)
                    e = fma(element(table, CORNER_Y + b), element(records, r + K1), e0)
                    e = fma(element(table, b), element(records, r + K0), e)
                    u = fma(-e, e, fma(-d, d, element(records, r + LOG_OPACITY)))
                    hit = (load(stops, limit) > position) & (u >= element(table, LEVEL_MIN))
                    curve = alpha_curve(table, u)
                    a = where(hit, minimum(curve, element(table, ALPHA_TOP)), zero)
                    # What was left before this Gaussian is what is left behind it, divided by 1 - a; one Newton step.
                    passed = element(table, UNIT) - a
                    inverse = rough_reciprocal(passed)
                    rest = load(scratch, s) * inverse
                    before = rest * fma(-passed, inverse, element(table, TWO))
                    store(scratch, s, before)
                    weight = a * before
                    behind = load(scratch, s + 16)
                    v_0, v_1 = load(scratch, s + 32), load(scratch, s + 48)
                    v_2, v_3 = load(scratch, s + 64), load(scratch, s + 80)
                    change = fma(v_0, element(records, r + CHANNELS), -behind)
                    change = fma(v_1, element(records, r + CHANNELS + 1), change)
                    change = fma(v_2, element(records, r + CHANNELS + 2), change)
                    change = fma(v_3, element(records, r + CHANNELS + 3), change)
                    store(scratch, s + 16, fma(a, change, behind))
                    g = where(curve <= element(table, ALPHA_TOP), weight * change, zero)
                    s_0 = fma(weight, v_0, s_0)
                    s_1 = fma(weight, v_1, s_1)
                    s_2 = fma(weight, v_2, s_2)
                    s_3 = fma(weight, v_3, s_3)
                    g_e = g * e
                    g_d = g * d
                    s_g = s_g + g
                    s_e = s_e + g_e
                    s_d = s_d + g_d
                    s_ee = fma(g_e, e, s_ee)
                    s_ed = fma(g_e, d, s_ed)
                    s_dd = fma(g_d, d, s_dd)
                    if absolute_gradients:
                        s_x = s_x + absolute(g_e)
                        s_y = s_y + absolute(fma(g_e, k1, g_d * k2))
                if absolute_gradients:
                    sums = lane_sums((s_g, s_e, s_d, s_ee, s_ed, s_dd, s_0, s_1, s_2, s_3, s_x, s_y))
                else:
                    sums = lane_sums((s_g, s_e, s_d, s_ee, s_ed, s_dd, s_0, s_1, s_2, s_3))
                store_past_cache(moments, MOMENTS * slot, sums)
        restore_denormals(state)

    return blend_backward


blend_backward = _backward(False)
blend_backward_absolute = _backward(True)
