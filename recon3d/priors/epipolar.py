"""Two-view geometry with known poses: where a pixel with a given depth lands, and back.

A pixel p of the source with inverse depth w lands in the target at ``A p + w b`` (homogeneous), where
``A = K_t R K_s^-1`` is the homography of the plane at infinity and ``b = K_t T`` the epipole, R and T being the pose
of the source camera in the target's frame. Everything here is in pixels with the top left pixel's centre at (0.5, 0.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.types import Cameras

TINY = 1e-12


def pixel_centres(width: int, height: int) -> np.ndarray:
    """[H, W, 2] float64 pixel centres (x, y)."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y], axis=-1)


@dataclass(frozen=True)
class Pair:
    """The geometry of an ordered pair of views, source to target.

    Its methods take the source's pixels as ``far``, what :meth:`far_points` makes of them, because images are asked
    about many times; they compute in the precision of ``far``.

    Attributes:
        infinity: [3, 3] homography A of the plane at infinity.
        epipole: [3] homogeneous image b of the source's centre in the target, scaled so that inverse depth is in the
            scene's units.
    """

    infinity: np.ndarray
    epipole: np.ndarray

    @staticmethod
    def of(cameras: Cameras, source: int, target: int) -> Pair:
        """The pair of views ``source`` and ``target`` of ``cameras``."""
        poses, intrinsics = cameras.world_to_camera.double().numpy(), cameras.intrinsics.double().numpy()
        relative = poses[target] @ np.linalg.inv(poses[source])
        return Pair(
            infinity=intrinsics[target] @ relative[:3, :3] @ np.linalg.inv(intrinsics[source]),
            epipole=intrinsics[target] @ relative[:3, 3],
        )

    def far_points(self, points: np.ndarray) -> np.ndarray:
        """[..., 3] homogeneous positions in the target of source pixels [..., 2] at infinite depth."""
        return points @ self.infinity[:, :2].T + self.infinity[:, 2]

    def project(self, far: np.ndarray, inverse_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where source pixels with a given inverse depth land.

        Args:
            far: [..., 3] source pixels, see :meth:`far_points`.
            inverse_depth: [...] 1 / z-depth in the source camera.

        Returns:
            [..., 2] target pixels, and [...] their z-depth in the target divided by that in the source: not positive
            for a point behind the target camera (its pixel then means nothing).
        """
        x, y, z = self._epipole(far)
        ratio = far[..., 2] + inverse_depth * z
        safe = np.where(np.abs(ratio) > TINY, ratio, TINY)
        u, v = (far[..., 0] + inverse_depth * x) / safe, (far[..., 1] + inverse_depth * y) / safe
        return np.stack([u, v], axis=-1), ratio

    def epipolar_foot(self, far: np.ndarray, matches: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The foot of the perpendicular from each match on its epipolar line, and its signed length.

        Args:
            far: [..., 3] source pixels, see :meth:`far_points`.
            matches: [..., 2] target pixels that a flow found for them.

        Returns:
            [..., 2] the foot, and [...] the signed distance in target pixels: infinite where the source pixel is the
            epipole, which has no line.
        """
        x, y, z = self._epipole(far)
        a = y * far[..., 2] - z * far[..., 1]  # the line joins the epipole and the point at infinity
        b = z * far[..., 0] - x * far[..., 2]
        c = x * far[..., 1] - y * far[..., 0]
        length = np.hypot(a, b)
        scale = 1 / np.where(length > TINY, length, np.inf)
        a, b = a * scale, b * scale
        distance = a * matches[..., 0] + b * matches[..., 1] + c * scale
        foot = matches - np.stack([distance * a, distance * b], axis=-1)
        return foot, np.where(length > TINY, distance, np.inf)

    def inverse_depth(self, far: np.ndarray, matches: np.ndarray) -> np.ndarray:
        """Intersect the rays through source pixels and their matches.

        For a match on the epipolar line the intersection is exact; otherwise it is the one with the least algebraic
        error in the target.

        Args:
            far: [..., 3] source pixels, see :meth:`far_points`.
            matches: [..., 2] target pixels.

        Returns:
            [...] inverse z-depth in the source; NaN where the match is the epipole, negative where the rays part.
        """
        x, y, z = self._epipole(far)
        u, v = matches[..., 0], matches[..., 1]
        along_u, along_v = u * z - x, v * z - y
        square = along_u**2 + along_v**2
        rest = (far[..., 0] - u * far[..., 2]) * along_u + (far[..., 1] - v * far[..., 2]) * along_v
        return np.where(square > TINY, rest / np.maximum(square, TINY), np.nan)

    def parallax(self, far: np.ndarray, inverse_depth: np.ndarray) -> np.ndarray:
        """[...] pixels that a match moves along its epipolar line per unit of inverse depth, |d match / d w|.

        Its reciprocal is how much the inverse depth errs per pixel of error in the flow; |d depth / d flow| is that
        times depth squared.
        """
        x, y, z = self._epipole(far)
        ratio = far[..., 2] + inverse_depth * z
        across = np.hypot(x * far[..., 2] - far[..., 0] * z, y * far[..., 2] - far[..., 1] * z)
        return across / np.maximum(ratio**2, TINY)

    def _epipole(self, far: np.ndarray) -> np.ndarray:
        return self.epipole.astype(far.dtype)
