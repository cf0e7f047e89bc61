"""What projection and its backward pass both compute for 16 Gaussians: rotation, camera point, screen covariance.

The camera travels as one float32 array, see :func:`pack_camera`.
"""

from __future__ import annotations

import numpy as np

from recon3d.rasteriser.simd import inlined, maximum, minimum, sqrt
from recon3d.rasteriser.simd_memory import element

R, T = 0, 9  # rotation row by row, translation
FX, FY, CX, CY = 12, 13, 14, 15
X_LOW, X_HIGH, Y_LOW, Y_HIGH = 16, 17, 18, 19
CENTRE = 20
NEAR, FAR = 23, 24
CAMERA = 25


def pack_camera(
    world_to_camera: np.ndarray, intrinsics: np.ndarray, width: int, height: int, near: float, far: float
) -> np.ndarray:
    """One float32 array [25] from a [4, 4] pose and [3, 3] intrinsics (float64).

    The limits on x/z and y/z bound the Jacobian of the projection beyond the image, by 0.3 of the half field of view.
    """
    camera = np.empty(CAMERA)
    rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    camera[R : R + 9] = rotation.reshape(-1)
    camera[T : T + 3] = translation
    camera[FX : CY + 1] = fx, fy, cx, cy
    margin_x, margin_y = 0.15 * width / fx, 0.15 * height / fy
    camera[X_LOW : Y_HIGH + 1] = (
        -cx / fx - margin_x,
        (width - cx) / fx + margin_x,
        -cy / fy - margin_y,
        (height - cy) / fy + margin_y,
    )
    camera[CENTRE : CENTRE + 3] = -rotation.T @ translation
    camera[NEAR : FAR + 1] = near, min(far, float(np.finfo(np.float32).max))
    return camera.astype(np.float32)


@inlined
def to_camera(camera, x, y, z):
    """World point -> camera point."""
    px = element(camera, R) * x + element(camera, R + 1) * y + element(camera, R + 2) * z + element(camera, T)
    py = element(camera, R + 3) * x + element(camera, R + 4) * y + element(camera, R + 5) * z + element(camera, T + 1)
    pz = element(camera, R + 6) * x + element(camera, R + 7) * y + element(camera, R + 8) * z + element(camera, T + 2)
    return px, py, pz


@inlined
def rotation(w, x, y, z):
    """Rotation matrix, row by row, of a quaternion of any length; then the unit quaternion and 1 / length."""
    inverse = 1.0 / sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w * inverse, x * inverse, y * inverse, z * inverse
    matrix = (
        1.0 - 2.0 * (y * y + z * z),
        2.0 * (x * y - w * z),
        2.0 * (x * z + w * y),
        2.0 * (x * y + w * z),
        1.0 - 2.0 * (x * x + z * z),
        2.0 * (y * z - w * x),
        2.0 * (x * z - w * y),
        2.0 * (y * z + w * x),
        1.0 - 2.0 * (x * x + y * y),
    )
    return matrix, (w, x, y, z), inverse


@inlined
def jacobian(camera, px, py, rz):
    """Non-zero entries (j00, j02, j11, j12) of d(screen)/d(camera point) at the clamped direction; that direction."""
    ux, uy = px * rz, py * rz
    cx = minimum(maximum(ux, element(camera, X_LOW)), element(camera, X_HIGH))
    cy = minimum(maximum(uy, element(camera, Y_LOW)), element(camera, Y_HIGH))
    fx, fy = element(camera, FX), element(camera, FY)
    return (fx * rz, -fx * rz * cx, fy * rz, -fy * rz * cy), (cx, cy)


@inlined
def to_screen_rows(camera, j):
    """The two rows of jacobian times camera rotation."""
    j00, j02, j11, j12 = j
    a = (
        j00 * element(camera, R) + j02 * element(camera, R + 6),
        j00 * element(camera, R + 1) + j02 * element(camera, R + 7),
        j00 * element(camera, R + 2) + j02 * element(camera, R + 8),
        j11 * element(camera, R + 3) + j12 * element(camera, R + 6),
        j11 * element(camera, R + 4) + j12 * element(camera, R + 7),
        j11 * element(camera, R + 5) + j12 * element(camera, R + 8),
    )
    return a


@inlined
def half_covariance(a, m, sx, sy, sz):
    """u = a (rotation diag(scales)): the screen covariance is u u^T."""
    ux0 = (a[0] * m[0] + a[1] * m[3] + a[2] * m[6]) * sx
    ux1 = (a[0] * m[1] + a[1] * m[4] + a[2] * m[7]) * sy
    ux2 = (a[0] * m[2] + a[1] * m[5] + a[2] * m[8]) * sz
    uy0 = (a[3] * m[0] + a[4] * m[3] + a[5] * m[6]) * sx
    uy1 = (a[3] * m[1] + a[4] * m[4] + a[5] * m[7]) * sy
    uy2 = (a[3] * m[2] + a[4] * m[5] + a[5] * m[8]) * sz
    return ux0, ux1, ux2, uy0, uy1, uy2


@inlined
def covariance(u):
    """(c00, c01, c11, determinant) of u u^T; the determinant as a sum of squares, since c00 c11 - c01^2 cancels."""
    c00 = u[0] * u[0] + u[1] * u[1] + u[2] * u[2]
    c01 = u[0] * u[3] + u[1] * u[4] + u[2] * u[5]
    c11 = u[3] * u[3] + u[4] * u[4] + u[5] * u[5]
    d01, d02, d12 = u[0] * u[4] - u[1] * u[3], u[0] * u[5] - u[2] * u[3], u[1] * u[5] - u[2] * u[4]
    return c00, c01, c11, d01 * d01 + d02 * d02 + d12 * d12
