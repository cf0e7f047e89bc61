"""Gaussians in the world -> Gaussians on the screen (Zwicker et al., EWA splatting, 2001; Kerbl et al., 2023).

Sixteen Gaussians at a time, one to a lane.
"""

from __future__ import annotations

import numpy as np

from recon3d.rasteriser.geometry import (
    CENTRE,
    CX,
    CY,
    FAR,
    FX,
    FY,
    NEAR,
    covariance,
    half_covariance,
    jacobian,
    rotation,
    to_camera,
    to_screen_rows,
)
from recon3d.rasteriser.layout import ALPHA_MIN, BLUR, CHUNK, RECORD, TILE_HEIGHT, TILE_WIDTH
from recon3d.rasteriser.simd import (
    LANES,
    absolute,
    any_lane,
    broadcast,
    ceil,
    deinterleave3,
    deinterleave4,
    first_lanes,
    floor,
    interleave2,
    kernel,
    lane_bits,
    lane_sums,
    maximum,
    minimum,
    sqrt,
    transpose,
    where,
)
from recon3d.rasteriser.simd_memory import (
    element,
    flush_denormals,
    load,
    load_lanes,
    load_table,
    restore_denormals,
    store,
    store_all,
    store_int32,
    take_ticket,
)
from recon3d.rasteriser.spherical_harmonics import C0, basis
from recon3d.rasteriser.vector_math import exp, log2, sigmoid

HUGE = 1e30  # beyond this a covariance or colour is taken for not finite
LOG2_E = 1.4426950408889634
LOG_OPACITY_MIN = float(np.log2(ALPHA_MIN)) / 8


@kernel
def project(
    tickets,
    means,
    scales,
    quats,
    opacities,
    opacity_factor,
    sh0,
    shN,
    camera,
    width,
    height,
    degree,
    antialiased,
    records,
    depths,
    radii,
    tile_counts,
    first_slots,
    visible,
    chunk_visible,
    chunk_slots,
):
    """Fill what the later passes need of N Gaussians (N >= 16; draws chunks of CHUNK from ``tickets``).

    Args:
        means [N, 3], scales [N, 3] (log), quats [N, 4], opacities [N] (logit), sh0 [N, 1, 3], shN [N, K, 3]: float32.
        opacity_factor: [N] float32, or empty for ones.
        camera: see pack_camera.
        records: [N, 16] float32, see layout.py.
        depths: [N] float32 z-depth.
        radii: [N, 2] int32 half extents in pixels, 0 where culled.
        tile_counts: [N] int32, tiles of the box around each Gaussian, 0 where it is culled.
        first_slots: [N] int64, where its (Gaussian, tile) pairs begin, counted from the start of its chunk.
        visible: [N] int32; a chunk's visible Gaussians stand at its start.
        chunk_visible, chunk_slots: [chunks] int64, how many Gaussians and pairs the chunk has.
    """
    state = flush_denormals()
    count = means.shape[0]
    row = 3 * shN.shape[1]  # numbers that shN stores a Gaussian
    used = 3 * ((degree + 1) * (degree + 1) - 1)  # and those in use
    weights, red = np.empty(256, np.float32), np.empty(256, np.float32)
    green, blue = np.empty(256, np.float32), np.empty(256, np.float32)
    low_x, high_x = np.empty(16, np.int32), np.empty(16, np.int32)
    low_y, high_y = np.empty(16, np.int32), np.empty(16, np.int32)
    zero = broadcast(0.0)
    while True:
        chunk = take_ticket(tickets)
        if chunk * CHUNK >= count:
            break
        seen = 0
        slots = 0
        end = min(count, (chunk + 1) * CHUNK)
        for first in range(chunk * CHUNK, end, LANES):
            # The last group is moved back to be whole; it repeats some Gaussians with the same result.
            i = min(first, count - LANES)
            x, y, z = deinterleave3(load(means, 3 * i), load(means, 3 * i + 16), load(means, 3 * i + 32))
            px, py, pz = to_camera(camera, x, y, z)
            logit = load(opacities, i)
            opacity = sigmoid(logit)
            if opacity_factor.shape[0] > 0:
                opacity = opacity * load(opacity_factor, i)
            shown = (pz >= element(camera, NEAR)) & (pz <= element(camera, FAR)) & (opacity >= ALPHA_MIN)
            shown = shown & (absolute(logit) < HUGE)
            bits = lane_bits(shown)
            around_x, around_y = zero, zero
            if bits != 0:
                rz = 1.0 / pz
                lx, ly, lz = deinterleave3(load(scales, 3 * i), load(scales, 3 * i + 16), load(scales, 3 * i + 32))
                q = deinterleave4(
                    load(quats, 4 * i), load(quats, 4 * i + 16), load(quats, 4 * i + 32), load(quats, 4 * i + 48)
                )
                shown = shown & (absolute(lx) + absolute(ly) + absolute(lz) < HUGE)  # exp() would hide NaN
                m, _, _ = rotation(q[0], q[1], q[2], q[3])
                j, _ = jacobian(camera, px, py, rz)
                u = half_covariance(to_screen_rows(camera, j), m, exp(lx), exp(ly), exp(lz))
                c00, c01, c11, sharp = covariance(u)
                determinant = sharp + BLUR * (c00 + c11) + BLUR * BLUR
                c00 = c00 + BLUR
                c11 = c11 + BLUR
                if antialiased:
                    opacity = opacity * sqrt(sharp / determinant)
                shown = shown & (opacity >= ALPHA_MIN) & (determinant < HUGE) & (c00 + c11 < HUGE)
                lg = log2(maximum(opacity, ALPHA_MIN))
                # Slightly wide, so that rounding cannot cut off a pixel that reaches 1/255.
                reach = sqrt((2.0 / LOG2_E) * 1.0005 * (lg - 8 * LOG_OPACITY_MIN) + 1e-4)
                extent_x, extent_y = reach * sqrt(c00), reach * sqrt(c11)
                mx = element(camera, FX) * px * rz + element(camera, CX)
                my = element(camera, FY) * py * rz + element(camera, CY)
                left, right = maximum(ceil(mx - extent_x - 0.5), 0.0), minimum(floor(mx + extent_x - 0.5), width - 1)
                top, bottom = maximum(ceil(my - extent_y - 0.5), 0.0), minimum(floor(my + extent_y - 0.5), height - 1)
                shown = shown & (left <= right) & (top <= bottom)
                rx, ry, rb = deinterleave3(load(sh0, 3 * i), load(sh0, 3 * i + 16), load(sh0, 3 * i + 32))
                if degree > 0 and any_lane(shown):
                    dx, dy = x - element(camera, CENTRE), y - element(camera, CENTRE + 1)
                    dz = z - element(camera, CENTRE + 2)
                    inverse = 1.0 / sqrt(dx * dx + dy * dy + dz * dz)
                    harmonics = basis(degree, dx * inverse, dy * inverse, dz * inverse)
                    store_all(weights, 0, transpose((*harmonics, zero)))
                    bits = lane_bits(shown)
                    for lane in range(LANES):
                        if not bits >> lane & 1:
                            store(red, 16 * lane, zero)
                            store(green, 16 * lane, zero)
                            store(blue, 16 * lane, zero)
                            continue
                        start = (i + lane) * row
                        r, g, b = deinterleave3(
                            load_lanes(shN, start, first_lanes(used)),
                            load_lanes(shN, start + 16, first_lanes(used - 16)),
                            load_lanes(shN, start + 32, first_lanes(used - 32)),
                        )
                        weight = load(weights, 16 * lane)
                        store(red, 16 * lane, r * weight)
                        store(green, 16 * lane, g * weight)
                        store(blue, 16 * lane, b * weight)
                    rx = C0 * rx + lane_sums(load_table(red, 0))
                    ry = C0 * ry + lane_sums(load_table(green, 0))
                    rb = C0 * rb + lane_sums(load_table(blue, 0))
                else:
                    rx, ry, rb = C0 * rx, C0 * ry, C0 * rb
                shown = shown & (absolute(rx) + absolute(ry) + absolute(rb) < HUGE)
                scale = sqrt((0.0625 * LOG2_E) / determinant)
                k0 = scale * sqrt(c11)
                k1 = -c01 / c11 * k0
                k2 = sqrt((0.0625 * LOG2_E) / c11)
                bits = lane_bits(shown)
                if bits != 0:
                    fields = (mx, my, k0, k1, k2, lg * 0.125)
                    colour = (maximum(rx + 0.5, 0.0), maximum(ry + 0.5, 0.0), maximum(rb + 0.5, 0.0), pz)
                    record = (*fields, *colour, extent_x, extent_y, zero, zero, zero, zero)
                    store_all(records, RECORD * i, transpose(record))
                    store(depths, i, pz)
                    around_x, around_y = where(shown, ceil(extent_x), zero), where(shown, ceil(extent_y), zero)
                    store_int32(low_x, 0, where(shown, left, zero))
                    store_int32(high_x, 0, where(shown, right, zero))
                    store_int32(low_y, 0, where(shown, top, zero))
                    store_int32(high_y, 0, where(shown, bottom, zero))
            around = interleave2(around_x, around_y)
            store_int32(radii, 2 * i, around[0])
            store_int32(radii, 2 * i + 16, around[1])
            for lane in range(first - i, min(LANES, end - i)):
                n = i + lane
                first_slots[n] = slots
                if bits >> lane & 1:
                    across = high_x[lane] // TILE_WIDTH - low_x[lane] // TILE_WIDTH + 1
                    tiles = across * (high_y[lane] // TILE_HEIGHT - low_y[lane] // TILE_HEIGHT + 1)
                    tile_counts[n] = tiles
                    visible[chunk * CHUNK + seen] = n
                    seen += 1
                    slots += tiles
                else:
                    tile_counts[n] = 0
        chunk_visible[chunk] = seen
        chunk_slots[chunk] = slots
    restore_denormals(state)
