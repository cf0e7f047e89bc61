"""Real spherical harmonics of degree 1 to 3 and their derivatives, for 16 directions at once (constants as in 3DGS)."""

from __future__ import annotations

from recon3d.rasteriser.simd import broadcast, inlined

C0 = 0.28209479177387814
C1 = 0.4886025119029199
C2 = 1.0925484305920792
C2_ZZ = 0.31539156525252005
C2_XY = 0.5462742152960396
C3 = 0.5900435899266435
C3_XYZ = 2.890611442640554
C3_Y = 0.4570457994644658
C3_Z = 0.3731763325901154
C3_ZXY = 1.445305721320277


@inlined
def basis(degree, x, y, z):
    """The 15 harmonics above the constant one at unit directions; those above ``degree`` are zero."""
    zero = broadcast(0.0)
    b4 = b5 = b6 = b7 = b8 = b9 = b10 = b11 = b12 = b13 = b14 = b15 = zero
    if degree > 1:
        xx, yy, zz = x * x, y * y, z * z
        b4 = C2 * x * y
        b5 = -C2 * y * z
        b6 = C2_ZZ * (2.0 * zz - xx - yy)
        b7 = -C2 * x * z
        b8 = C2_XY * (xx - yy)
        if degree > 2:
            b9 = -C3 * y * (3.0 * xx - yy)
            b10 = C3_XYZ * x * y * z
            b11 = -C3_Y * y * (4.0 * zz - xx - yy)
            b12 = C3_Z * z * (2.0 * zz - 3.0 * xx - 3.0 * yy)
            b13 = -C3_Y * x * (4.0 * zz - xx - yy)
            b14 = C3_ZXY * z * (xx - yy)
            b15 = -C3 * x * (xx - 3.0 * yy)
    return -C1 * y, C1 * z, -C1 * x, b4, b5, b6, b7, b8, b9, b10, b11, b12, b13, b14, b15


@inlined
def weighted_gradient(degree, x, y, z, p):
    """Gradient with respect to (x, y, z) of the sum of p[k] basis[k], for 16 weights p (the last is ignored)."""
    dx = -C1 * p[2]
    dy = -C1 * p[0]
    dz = C1 * p[1]
    if degree > 1:
        xx, yy, zz, xy, yz, xz = x * x, y * y, z * z, x * y, y * z, x * z
        dx = dx + C2 * (y * p[3] - z * p[6]) - 2.0 * C2_ZZ * x * p[5] + 2.0 * C2_XY * x * p[7]
        dy = dy + C2 * (x * p[3] - z * p[4]) - 2.0 * C2_ZZ * y * p[5] - 2.0 * C2_XY * y * p[7]
        dz = dz - C2 * (y * p[4] + x * p[6]) + 4.0 * C2_ZZ * z * p[5]
        if degree > 2:
            q9, q10, q11, q12 = C3 * p[8], C3_XYZ * p[9], C3_Y * p[10], C3_Z * p[11]
            q13, q14, q15 = C3_Y * p[12], C3_ZXY * p[13], C3 * p[14]
            dx = dx - 6.0 * xy * q9 + yz * q10 + 2.0 * xy * q11 - 6.0 * xz * q12
            dx = dx - (4.0 * zz - 3.0 * xx - yy) * q13 + 2.0 * xz * q14 - 3.0 * (xx - yy) * q15
            dy = dy - 3.0 * (xx - yy) * q9 + xz * q10 - (4.0 * zz - xx - 3.0 * yy) * q11 - 6.0 * yz * q12
            dy = dy + 2.0 * xy * q13 - 2.0 * yz * q14 + 6.0 * xy * q15
            dz = dz + xy * q10 - 8.0 * yz * q11 + (6.0 * zz - 3.0 * xx - 3.0 * yy) * q12
            dz = dz - 8.0 * xz * q13 + (xx - yy) * q14
    return dx, dy, dz
