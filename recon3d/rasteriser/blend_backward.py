"""The backward pass of blend.py: back to front, leaving one record of sums per (Gaussian, tile)."""

from __future__ import annotations

import numpy as np

from recon3d.rasteriser.blend import AHEAD, LOW, NONE, ONE, PIXEL_X, PIXEL_Y, alpha_curve, cache_aligned
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
    MOMENTS,
    RECORD,
    TILE,
)
from recon3d.rasteriser.project import LOG_OPACITY_MIN
from recon3d.rasteriser.simd import (
    absolute,
    block_channels,
    broadcast,
    kernel,
    lane_sums,
    lowest_bit,
    minimum,
    reciprocal,
    where,
)
from recon3d.rasteriser.simd_memory import (
    element,
    flush_denormals,
    load,
    load_rows,
    prefetch,
    restore_denormals,
    store,
    store_past_cache,
    take_ticket,
)

STATE = 6 * 16  # floats a block: transmittance, what lies behind (as one number), gradient of four channels


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
        corners,
        transmittance,
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
        scratch = np.empty(BLOCKS_PER_TILE * STATE + 16, np.float32)
        base = cache_aligned(scratch)
        zero = broadcast(0.0)
        while True:
            ticket = take_ticket(tickets)
            if ticket >= tile_order.shape[0]:
                break
            tile = np.int64(tile_order[ticket])
            start, end = starts[tile], starts[tile + 1]
            if start == end:
                continue
            left, top = tile % tiles_across * TILE, tile // tiles_across * TILE
            for b in range(BLOCKS_PER_TILE):
                x, y = left + b % BLOCKS * BLOCK, top + b // BLOCKS * BLOCK
                s = base + b * STATE
                store(scratch, s, load(transmittance, (tile * BLOCKS_PER_TILE + b) * 16))
                if x + BLOCK <= width and y + BLOCK <= height:
                    q = y * width + x
                    q1, q2, q3 = q + width, q + 2 * width, q + 3 * width
                    v_red, v_green, v_blue = block_channels(
                        load_rows(v_colour, 3 * q, 3 * q1, 3 * q2, 3 * q3),
                        load_rows(v_colour, 3 * q + 4, 3 * q1 + 4, 3 * q2 + 4, 3 * q3 + 4),
                        load_rows(v_colour, 3 * q + 8, 3 * q1 + 8, 3 * q2 + 8, 3 * q3 + 8),
                    )
                    store(scratch, s + 32, v_red)
                    store(scratch, s + 48, v_green)
                    store(scratch, s + 64, v_blue)
                    store(scratch, s + 80, load_rows(v_depth, q, q1, q2, q3))
                    behind = v_red * background[0] + v_green * background[1] + v_blue * background[2]
                    store(scratch, s + 16, behind - load_rows(v_alpha, q, q1, q2, q3))
                else:
                    for i in range(16, STATE):
                        scratch[s + i] = 0.0
                    for j in range(min(BLOCK, height - y)):
                        for i in range(min(BLOCK, width - x)):
                            k = s + BLOCK * j + i
                            behind = -v_alpha[y + j, x + i]
                            for c in range(3):
                                scratch[k + 32 + 16 * c] = v_colour[y + j, x + i, c]
                                behind += v_colour[y + j, x + i, c] * background[c]
                            scratch[k + 80] = v_depth[y + j, x + i]
                            scratch[k + 16] = behind
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
                e0 = dx * k0 + dy * k1
                d0 = dy * k2
                level = element(records, r + LOG_OPACITY)
                c0, c1 = element(records, r + CHANNELS), element(records, r + CHANNELS + 1)
                c2, c3 = element(records, r + CHANNELS + 2), element(records, r + CHANNELS + 3)
                position = broadcast(np.float32(p - start))
                s_g, s_e, s_d, s_ee, s_ed, s_dd = zero, zero, zero, zero, zero, zero
                s_0, s_1, s_2, s_3, s_x, s_y = zero, zero, zero, zero, zero, zero
                while blocks != NONE:
                    b = lowest_bit(blocks)
                    blocks &= blocks - ONE
                    s = base + b * STATE
                    corner_y = element(corners, BLOCKS_PER_TILE + b)
                    e = e0 + k1 * corner_y + k0 * element(corners, b)
                    d = d0 + k2 * corner_y
                    u = level - d * d - e * e
                    hit = (u >= LOG_OPACITY_MIN) & (position < load(stops, (tile * BLOCKS_PER_TILE + b) * 16))
                    curve = alpha_curve(u)
                    a = where(hit, minimum(curve, ALPHA_MAX), zero)
                    before = load(scratch, s) * reciprocal(1.0 - a)
                    store(scratch, s, before)
                    weight = a * before
                    v_0, v_1 = load(scratch, s + 32), load(scratch, s + 48)
                    v_2, v_3 = load(scratch, s + 64), load(scratch, s + 80)
                    behind = load(scratch, s + 16)
                    change = v_0 * c0 - behind + v_1 * c1 + v_2 * c2 + v_3 * c3
                    store(scratch, s + 16, behind + a * change)
                    g = where(curve <= ALPHA_MAX, weight * change, zero)
                    s_0 = s_0 + weight * v_0
                    s_1 = s_1 + weight * v_1
                    s_2 = s_2 + weight * v_2
                    s_3 = s_3 + weight * v_3
                    g_e = g * e
                    g_d = g * d
                    s_g = s_g + g
                    s_e = s_e + g_e
                    s_d = s_d + g_d
                    s_ee = s_ee + g_e * e
                    s_ed = s_ed + g_e * d
                    s_dd = s_dd + g_d * d
                    if absolute_gradients:
                        s_x = s_x + absolute(g_e)
                        s_y = s_y + absolute(g_e * k1 + g_d * k2)
                if absolute_gradients:
                    sums = lane_sums((s_g, s_e, s_d, s_ee, s_ed, s_dd, s_0, s_1, s_2, s_3, s_x, s_y))
                else:
                    sums = lane_sums((s_g, s_e, s_d, s_ee, s_ed, s_dd, s_0, s_1, s_2, s_3))
                store_past_cache(moments, MOMENTS * slot, sums)
        restore_denormals(state)

    return blend_backward


blend_backward = _backward(False)
blend_backward_absolute = _backward(True)
