"""The backward pass of project.py: sums over pixels -> gradients of the Gaussians and of the camera's pose."""

from __future__ import annotations

import numpy as np

from recon3d.rasteriser.geometry import (
    CENTRE,
    FX,
    FY,
    R,
    covariance,
    half_covariance,
    jacobian,
    rotation,
    to_camera,
    to_screen_rows,
)
from recon3d.rasteriser.layout import (
    ABS_X,
    ABS_Y,
    BLUR,
    CHANNELS,
    CHUNK,
    G_D,
    G_DD,
    G_E,
    G_ED,
    G_EE,
    K0,
    K1,
    K2,
    MOMENTS,
    RECORD,
    V_CHANNELS,
    G,
)
from recon3d.rasteriser.simd import (
    LANES,
    broadcast,
    deinterleave3,
    deinterleave4,
    first_lanes,
    interleave2,
    interleave3,
    interleave4,
    kernel,
    lane_sums,
    lanes_of,
    masked_sums,
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
    store_lanes,
    take_ticket,
)
from recon3d.rasteriser.spherical_harmonics import C0, basis, weighted_gradient
from recon3d.rasteriser.vector_math import exp, sigmoid

STEEPNESS = 16 * 0.6931471805599453  # d log(alpha) / d(e e + d d) = -STEEPNESS / 2
POSE = 16  # numbers a chunk leaves about the pose: rotation (9), translation (3), camera centre (3)


@kernel
def project_backward(
    tickets,
    means,
    scales,
    quats,
    opacities,
    opacity_factor,
    sh0,
    shN,
    camera,
    degree,
    antialiased,
    records,
    first_slots,
    tile_counts,
    moments,
    v_means,
    v_scales,
    v_quats,
    v_opacities,
    v_factor,
    v_sh0,
    v_shN,
    v_screen,
    v_screen_absolute,
    v_pose,
):
    """Gradients of all N Gaussians (N >= 16), zero for those not drawn; draws chunks of CHUNK from ``tickets``.

    Args:
        means ... tile_counts: as project() and binning left them; moments: from blend_backward().
        v_means ... v_shN: gradients, shaped like the parameters; v_factor like opacity_factor.
        v_screen, v_screen_absolute: [N, 2] gradient of the centre on the screen, the second [0, 2] if unwanted.
        v_pose: [chunks, 16] sums for the pose, or [0, 16].
    """
    state = flush_denormals()
    count = means.shape[0]
    row = 3 * shN.shape[1]
    used = 3 * ((degree + 1) * (degree + 1) - 1)
    scratch, weights, products = np.empty(256, np.float32), np.empty(256, np.float32), np.empty(256, np.float32)
    reds, greens, blues = np.empty(16, np.float32), np.empty(16, np.float32), np.empty(16, np.float32)
    sums = np.empty(POSE * 16, np.float32)
    zero = broadcast(0.0)
    fx, fy = element(camera, FX), element(camera, FY)
    r0, r1, r2 = element(camera, R), element(camera, R + 1), element(camera, R + 2)
    r3, r4, r5 = element(camera, R + 3), element(camera, R + 4), element(camera, R + 5)
    r6, r7, r8 = element(camera, R + 6), element(camera, R + 7), element(camera, R + 8)
    while True:
        chunk = take_ticket(tickets)
        if chunk * CHUNK >= count:
            break
        sums[:] = 0.0
        end = min(count, (chunk + 1) * CHUNK)
        for first in range(chunk * CHUNK, end, LANES):
            i = min(first, count - LANES)
            drawn = np.int64(0)
            for lane in range(LANES):
                total = zero
                slot = first_slots[i + lane]
                slots = tile_counts[i + lane]
                if slots > 0:
                    drawn |= np.int64(1) << lane
                    for k in range(slot, slot + slots):
                        total = total + load(moments, MOMENTS * k)
                store(scratch, 16 * lane, total)
            if drawn == 0:
                for k in range(3):
                    store(v_means, 3 * i + 16 * k, zero)
                    store(v_scales, 3 * i + 16 * k, zero)
                    store(v_sh0, 3 * i + 16 * k, zero)
                for k in range(4):
                    store(v_quats, 4 * i + 16 * k, zero)
                store(v_opacities, i, zero)
                if v_factor.shape[0] > 0:
                    store(v_factor, i, zero)
                for k in range(2):
                    store(v_screen, 2 * i + 16 * k, zero)
                    if v_screen_absolute.shape[0] > 0:
                        store(v_screen_absolute, 2 * i + 16 * k, zero)
                for k in range(row):
                    store(v_shN, row * i + 16 * k, zero)
                continue
            f = transpose(load_table(scratch, 0))
            for lane in range(LANES):
                store(scratch, 16 * lane, load(records, RECORD * (i + lane)))
            if drawn != 0xFFFF:
                for lane in range(LANES):
                    if not drawn >> lane & 1:  # whatever an undrawn Gaussian holds must not reach the arithmetic below
                        store(scratch, 16 * lane, zero)
            record = transpose(load_table(scratch, 0))
            bits = lanes_of(drawn)
            x, y, z = deinterleave3(load(means, 3 * i), load(means, 3 * i + 16), load(means, 3 * i + 32))
            px, py, pz = to_camera(camera, x, y, z)
            rz = 1.0 / pz
            lx, ly, lz = deinterleave3(load(scales, 3 * i), load(scales, 3 * i + 16), load(scales, 3 * i + 32))
            sx, sy, sz = exp(lx), exp(ly), exp(lz)
            q = deinterleave4(
                load(quats, 4 * i), load(quats, 4 * i + 16), load(quats, 4 * i + 32), load(quats, 4 * i + 48)
            )
            m, (qw, qx, qy, qz), q_inverse = rotation(q[0], q[1], q[2], q[3])
            j, (cx, cy) = jacobian(camera, px, py, rz)
            a = to_screen_rows(camera, j)
            u = half_covariance(a, m, sx, sy, sz)
            # With s = STEEPNESS (k0 e, k1 e + k2 d), d log(alpha) is s for the centre and s s^T / 2 for the covariance.
            k0, k1, k2 = STEEPNESS * record[K0], STEEPNESS * record[K1], STEEPNESS * record[K2]
            v_mx = k0 * f[G_E]
            v_my = k1 * f[G_E] + k2 * f[G_D]
            v00 = 0.5 * k0 * k0 * f[G_EE]
            v01 = 0.5 * k0 * (k1 * f[G_EE] + k2 * f[G_ED])
            v11 = 0.5 * (k1 * k1 * f[G_EE] + 2.0 * k1 * k2 * f[G_ED] + k2 * k2 * f[G_DD])
            v_level = f[G] * (1.0 - sigmoid(load(opacities, i)))
            store(v_opacities, i, where(bits, v_level, zero))
            if v_factor.shape[0] > 0:
                store(v_factor, i, where(bits, f[G] / load(opacity_factor, i), zero))
            # covariance = u u^T, u = a m diag(s)
            e00, e01, e02 = (
                2.0 * (v00 * u[0] + v01 * u[3]),
                2.0 * (v00 * u[1] + v01 * u[4]),
                2.0 * (v00 * u[2] + v01 * u[5]),
            )
            e10, e11, e12 = (
                2.0 * (v01 * u[0] + v11 * u[3]),
                2.0 * (v01 * u[1] + v11 * u[4]),
                2.0 * (v01 * u[2] + v11 * u[5]),
            )
            if antialiased:
                # log(ratio of areas) = log(sharp / blurred) / 2, where sharp = |n|^2 with n the product of u's rows:
                # through n, since sharp as a difference of products has no digits left for a needle.
                c00, _, c11, sharp = covariance(u)
                blurred = sharp + BLUR * (c00 + c11) + BLUR * BLUR
                n0, n1, n2 = u[1] * u[5] - u[2] * u[4], u[2] * u[3] - u[0] * u[5], u[0] * u[4] - u[1] * u[3]
                widening = f[G] * BLUR / blurred
                inner = widening * (c00 + c11 + BLUR) / sharp
                e00 = e00 + inner * (u[4] * n2 - u[5] * n1) - widening * u[0]
                e01 = e01 + inner * (u[5] * n0 - u[3] * n2) - widening * u[1]
                e02 = e02 + inner * (u[3] * n1 - u[4] * n0) - widening * u[2]
                e10 = e10 + inner * (n1 * u[2] - n2 * u[1]) - widening * u[3]
                e11 = e11 + inner * (n2 * u[0] - n0 * u[2]) - widening * u[4]
                e12 = e12 + inner * (n0 * u[1] - n1 * u[0]) - widening * u[5]
            e00, e10, e01, e11, e02, e12 = e00 * sx, e10 * sx, e01 * sy, e11 * sy, e02 * sz, e12 * sz
            # n: gradient of m (with its column's scale already in e); its columns' products with m give the log scales.
            n00, n01, n02 = a[0] * e00 + a[3] * e10, a[0] * e01 + a[3] * e11, a[0] * e02 + a[3] * e12
            n10, n11, n12 = a[1] * e00 + a[4] * e10, a[1] * e01 + a[4] * e11, a[1] * e02 + a[4] * e12
            n20, n21, n22 = a[2] * e00 + a[5] * e10, a[2] * e01 + a[5] * e11, a[2] * e02 + a[5] * e12
            v_s = interleave3(
                where(bits, n00 * m[0] + n10 * m[3] + n20 * m[6], zero),
                where(bits, n01 * m[1] + n11 * m[4] + n21 * m[7], zero),
                where(bits, n02 * m[2] + n12 * m[5] + n22 * m[8], zero),
            )
            v_w = 2.0 * (qx * (n21 - n12) + qy * (n02 - n20) + qz * (n10 - n01))
            v_i = 2.0 * (qw * (n21 - n12) + qy * (n10 + n01) + qz * (n20 + n02) - 2.0 * qx * (n11 + n22))
            v_j = 2.0 * (qw * (n02 - n20) + qx * (n10 + n01) + qz * (n21 + n12) - 2.0 * qy * (n00 + n22))
            v_k = 2.0 * (qw * (n10 - n01) + qx * (n20 + n02) + qy * (n21 + n12) - 2.0 * qz * (n00 + n11))
            along = v_w * qw + v_i * qx + v_j * qy + v_k * qz
            v_q = interleave4(
                where(bits, (v_w - along * qw) * q_inverse, zero),
                where(bits, (v_i - along * qx) * q_inverse, zero),
                where(bits, (v_j - along * qy) * q_inverse, zero),
                where(bits, (v_k - along * qz) * q_inverse, zero),
            )
            # b: gradient of a = jacobian times camera rotation
            b00, b01, b02 = (
                e00 * m[0] + e01 * m[1] + e02 * m[2],
                e00 * m[3] + e01 * m[4] + e02 * m[5],
                e00 * m[6] + e01 * m[7] + e02 * m[8],
            )
            b10, b11, b12 = (
                e10 * m[0] + e11 * m[1] + e12 * m[2],
                e10 * m[3] + e11 * m[4] + e12 * m[5],
                e10 * m[6] + e11 * m[7] + e12 * m[8],
            )
            v_j00 = b00 * r0 + b01 * r1 + b02 * r2
            v_j02 = b00 * r6 + b01 * r7 + b02 * r8
            v_j11 = b10 * r3 + b11 * r4 + b12 * r5
            v_j12 = b10 * r6 + b11 * r7 + b12 * r8
            # Camera point: through the centre, the Jacobian (with its direction constant where clamped) and the depth.
            v_px = fx * rz * v_mx
            v_py = fy * rz * v_my
            v_pz = f[V_CHANNELS + 3] - (v_px * px + v_py * py) * rz
            v_pz = v_pz - (fx * v_j00 + fy * v_j11 - fx * cx * v_j02 - fy * cy * v_j12) * rz * rz
            v_cx, v_cy = -fx * rz * v_j02, -fy * rz * v_j12
            free_x, free_y = (cx >= px * rz) & (cx <= px * rz), (cy >= py * rz) & (cy <= py * rz)
            v_px = v_px + where(free_x, v_cx * rz, zero)
            v_py = v_py + where(free_y, v_cy * rz, zero)
            v_pz = v_pz - where(free_x, v_cx * cx * rz, zero) - where(free_y, v_cy * cy * rz, zero)
            v_x = r0 * v_px + r3 * v_py + r6 * v_pz
            v_y = r1 * v_px + r4 * v_py + r7 * v_pz
            v_z = r2 * v_px + r5 * v_py + r8 * v_pz
            # Colour, clamped at zero.
            red = where(record[CHANNELS] > 0.0, f[V_CHANNELS], zero)
            green = where(record[CHANNELS + 1] > 0.0, f[V_CHANNELS + 1], zero)
            blue = where(record[CHANNELS + 2] > 0.0, f[V_CHANNELS + 2], zero)
            v_0 = interleave3(C0 * red, C0 * green, C0 * blue)
            g_x, g_y, g_z = zero, zero, zero
            if degree > 0:
                dx, dy = x - element(camera, CENTRE), y - element(camera, CENTRE + 1)
                dz = z - element(camera, CENTRE + 2)
                d_inverse = 1.0 / sqrt(dx * dx + dy * dy + dz * dz)
                dx, dy, dz = dx * d_inverse, dy * d_inverse, dz * d_inverse
                store_all(weights, 0, transpose((*basis(degree, dx, dy, dz), zero)))
                store(reds, 0, red)
                store(greens, 0, green)
                store(blues, 0, blue)
                tail = min(count - i, LANES)
                for lane in range(tail):
                    start = (i + lane) * row
                    if drawn >> lane & 1:
                        h = load(weights, 16 * lane)
                        p = interleave3(h * reds[lane], h * greens[lane], h * blues[lane])
                        r, g, b = deinterleave3(
                            load_lanes(shN, start, first_lanes(used)),
                            load_lanes(shN, start + 16, first_lanes(used - 16)),
                            load_lanes(shN, start + 32, first_lanes(used - 32)),
                        )
                        store(products, 16 * lane, r * reds[lane] + g * greens[lane] + b * blues[lane])
                    else:
                        store(products, 16 * lane, zero)
                        p = (zero, zero, zero)
                    store_lanes(v_shN, start, p[0], first_lanes(row))
                    store_lanes(v_shN, start + 16, p[1], first_lanes(row - 16))
                    store_lanes(v_shN, start + 32, p[2], first_lanes(row - 32))
                w_x, w_y, w_z = weighted_gradient(degree, dx, dy, dz, transpose(load_table(products, 0)))
                along = w_x * dx + w_y * dy + w_z * dz
                g_x = (w_x - along * dx) * d_inverse
                g_y = (w_y - along * dy) * d_inverse
                g_z = (w_z - along * dz) * d_inverse
            else:
                for k in range(row):
                    store(v_shN, row * i + 16 * k, zero)
            v_m = interleave3(where(bits, v_x + g_x, zero), where(bits, v_y + g_y, zero), where(bits, v_z + g_z, zero))
            store_all(v_means, 3 * i, v_m)
            store_all(v_scales, 3 * i, v_s)
            store_all(v_quats, 4 * i, v_q)
            store_all(v_sh0, 3 * i, v_0)
            store_all(v_screen, 2 * i, interleave2(where(bits, v_mx, zero), where(bits, v_my, zero)))
            if v_screen_absolute.shape[0] > 0:
                total_x, total_y = where(bits, k0 * f[ABS_X], zero), where(bits, STEEPNESS * f[ABS_Y], zero)
                store_all(v_screen_absolute, 2 * i, interleave2(total_x, total_y))
            if v_pose.shape[0] > 0:
                repeated = first - i  # lanes that were counted with the group before
                bits = lanes_of(drawn >> repeated << repeated)
                j00, j02, j11, j12 = j
                rows = (
                    v_px * x + j00 * b00,
                    v_px * y + j00 * b01,
                    v_px * z + j00 * b02,
                    v_py * x + j11 * b10,
                    v_py * y + j11 * b11,
                    v_py * z + j11 * b12,
                    v_pz * x + j02 * b00 + j12 * b10,
                    v_pz * y + j02 * b01 + j12 * b11,
                    v_pz * z + j02 * b02 + j12 * b12,
                    v_px,
                    v_py,
                    v_pz,
                    zero - g_x,
                    zero - g_y,
                    zero - g_z,
                )
                store_all(sums, 0, masked_sums(load_table(sums, 0), (*rows, zero), bits))
        if v_pose.shape[0] > 0:
            store(v_pose, POSE * chunk, lane_sums(load_table(sums, 0)))
    restore_denormals(state)
