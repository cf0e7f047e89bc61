"""All photos at one scale, packed so that a kernel can be given any of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from datasets.types import Cameras
from recon3d.priors.epipolar import TINY, Pair, pixel_centres


@dataclass(frozen=True)
class Level:
    """V photos at one scale. Maps of all views lie one after the other in flat arrays, rows first.

    Attributes:
        cameras: [V] cameras at this scale.
        quads: [sum of H W] uint32, luminance in 0..255 of a pixel and, in ever higher bytes, of its neighbours to the
            right, below, and below right: what bilinear sampling needs, in one load.
        counts: [sum of H W] uint8, 1 where the photo counts.
        starts: [V] int64, where each view's map begins.
        sizes: [V, 2] int64 width and height.
    """

    cameras: Cameras
    quads: np.ndarray
    counts: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    @staticmethod
    def of(cameras: Cameras, greys: Sequence[np.ndarray], counts: Sequence[np.ndarray | None], scale: float) -> Level:
        """Reduce luminance [H, W] and masks [H, W] (None for all) of each camera to ``scale``."""
        cameras = cameras.resized(scale)
        sizes = cameras.sizes.numpy()
        reduced, valid = [], []
        for grey, count, (width, height) in zip(greys, counts, sizes.tolist(), strict=True):
            count = np.ones(grey.shape, bool) if count is None else count
            small = cv2.resize(grey.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
            reduced.append(_quads(np.rint(255 * np.clip(small, 0, 1)).astype(np.uint32)))
            share = cv2.resize(count.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
            valid.append((share > 0.999).astype(np.uint8))
        return Level(cameras, pack(reduced), pack(valid), np.cumsum([0, *(g.size for g in reduced[:-1])]), sizes)

    def __len__(self) -> int:
        return len(self.starts)

    def grey(self, view: int) -> np.ndarray:
        """[H, W] float32 luminance in 0..255."""
        return (self.map_of(self.quads, view) & 255).astype(np.float32)

    def map_of(self, flat: np.ndarray, view: int) -> np.ndarray:
        """[H, W] one view's part of a flat array; a window, not a copy."""
        width, height = self.sizes[view]
        return flat[self.starts[view] : self.starts[view] + width * height].reshape(height, width)


@dataclass(frozen=True)
class Neighbours:
    """The T targets of one view and the geometry of going there and back.

    Attributes:
        view: the view itself.
        targets: [T] int64 the other views.
        there: [T, 12] float32, A row by row and then b, of the pair from the view to each target.
        back: [T, 12] float32, the same from each target to the view.
    """

    view: int
    targets: np.ndarray
    there: np.ndarray
    back: np.ndarray

    @staticmethod
    def of(cameras: Cameras, view: int, targets: Sequence[int]) -> Neighbours:
        """The geometry between ``view`` and ``targets`` of ``cameras``."""

        def rows(pairs: Sequence[Pair]) -> np.ndarray:
            flat = [np.append(pair.infinity.ravel(), pair.epipole) for pair in pairs]
            return np.array(flat, np.float32).reshape(-1, 12)

        return Neighbours(
            view,
            np.array(targets, np.int64),
            rows([Pair.of(cameras, view, target) for target in targets]),
            rows([Pair.of(cameras, target, view) for target in targets]),
        )


def _quads(grey: np.ndarray) -> np.ndarray:
    right = np.roll(grey, -1, axis=1)
    right[:, -1] = grey[:, -1]
    pair = grey | right << 8
    below = np.roll(pair, -1, axis=0)
    below[-1] = pair[-1]
    return pair | below << 16


def pack(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Maps [H, W] of all views as one flat array."""
    return np.concatenate([np.ascontiguousarray(m).reshape(-1) for m in maps])


def inverse_depth_per_pixel(
    cameras: Cameras, view: int, targets: Sequence[int], inverse_depth: np.ndarray
) -> np.ndarray:
    """[H, W] by how much inverse depth must change for a match to move by one pixel, in the target where it moves most.

    Args:
        cameras: all cameras.
        view: the view.
        targets: at least one other view.
        inverse_depth: [H, W] where the change is measured.
    """
    points = pixel_centres(*cameras.sizes[view].tolist())
    most = np.zeros(inverse_depth.shape)
    for target in targets:
        pair = Pair.of(cameras, view, target)
        far = pair.far_points(points)
        there, ratio = pair.project(far, inverse_depth)
        width, height = cameras.sizes[target].tolist()
        seen = (ratio > 0) & ((there >= 0) & (there <= [width, height])).all(axis=-1)
        most = np.maximum(most, np.where(seen, pair.parallax(far, inverse_depth), 0))
    typical = np.median(most[most > 0]) if (most > 0).any() else 1.0
    return (1 / np.where(most > 0, np.maximum(most, 1e-3 * typical), typical)).astype(np.float32)


def plane_coefficients(planes: np.ndarray, cameras: Cameras, view: int) -> np.ndarray:
    """Inverse depth along world planes as linear functions of a view's pixels.

    Args:
        planes: [Q, 4] (n, e) with n . x + e = 0.
        cameras: all cameras.
        view: the view.

    Returns:
        [Q, 3] float32: change per pixel to the right, down, and value at the image's corner (0, 0).
    """
    pose = cameras.world_to_camera[view].double().numpy()
    normals = planes[:, :3] @ pose[:3, :3].T
    offsets = planes[:, 3] - normals @ pose[:3, 3]
    across = normals @ np.linalg.inv(cameras.intrinsics[view].double().numpy())
    return (-across / np.where(np.abs(offsets) > TINY, offsets, TINY)[:, None]).astype(np.float32)
