"""Where a surface can be at all, given photos whose alpha channel says what is background."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit

from recon3d.priors.stereo.level import Neighbours, pack
from recon3d.views import TrainingViews

MARGIN = 1  # pixels by which silhouettes are widened: poses err, and a pixel is a sample
STEPS = 256  # of inverse depth over a view's range, by which the hull is looked for along a ray


@dataclass(frozen=True)
class VisualHull:
    """The points that no photo shows as background (Laurentini, 1994).

    Views that do not see a point, or whose photo has no alpha channel, do not speak against it.

    Attributes:
        silhouettes: [sum of H W] uint8, all views' maps one after the other; 0 where a photo shows the background.
        starts: [V] int64, where each view's map begins.
        sizes: [V, 2] int64 width and height.
        others: of each view, all others.
    """

    silhouettes: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray
    others: tuple[Neighbours, ...]

    @staticmethod
    def of(views: TrainingViews) -> VisualHull | None:
        """The hull of what ``views`` show; None where no photo shows a background that is known."""
        widen = np.ones((2 * MARGIN + 1, 2 * MARGIN + 1), np.uint8)
        maps: list[np.ndarray] = []
        for view in views.views:
            silhouette: np.ndarray = np.ones(view.image.shape[:2], np.uint8)
            if view.alpha is not None:
                silhouette = cv2.dilate((view.alpha > 0).astype(np.uint8), widen)
            if view.mask is not None:
                silhouette[~view.mask] = 1
            maps.append(silhouette)
        if all(silhouette.all() for silhouette in maps):
            return None
        count = len(views)
        return VisualHull(
            pack(maps),
            np.cumsum([0, *(m.size for m in maps[:-1])]),
            views.cameras.sizes.numpy(),
            tuple(Neighbours.of(views.cameras, i, [j for j in range(count) if j != i]) for i in range(count)),
        )

    def contains(self, view: int, inverse_depth: np.ndarray) -> np.ndarray:
        """[H, W] bool, whether the points at an inverse depth [H, W] along the rays of ``view`` lie in the hull."""
        return self.nearest(view, inverse_depth, (0.0, 0.0)) > 0

    def nearest(self, view: int, inverse_depth: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
        """The inverse depth within the hull that is nearest to a given one, along each ray.

        Args:
            view: whose rays.
            inverse_depth: [H, W] where to start; what is not positive is in no hull.
            limits: least and most inverse depth to look at; nothing is looked for where they are the same.

        Returns:
            [H, W] float32: ``inverse_depth`` itself where that is inside, 0 where nothing within the limits is.
        """
        near = self.others[view]
        result = np.empty(inverse_depth.shape, np.float32)
        values = np.ascontiguousarray(inverse_depth, np.float32)
        _nearest(
            self.silhouettes, self.starts, self.sizes, view, near.targets, near.there, values, np.float32(limits[0]),
            np.float32(limits[1]), result,
        )  # fmt: skip
        return result


@njit(nogil=True, error_model="numpy", inline="always")
def _inside(silhouettes, starts, sizes, targets, there, x, y, w):
    for t in range(len(targets)):
        z = there[t, 6] * x + there[t, 7] * y + there[t, 8] + w * there[t, 11]
        if z < np.float32(1e-6):
            continue
        u = (there[t, 0] * x + there[t, 1] * y + there[t, 2] + w * there[t, 9]) / z
        v = (there[t, 3] * x + there[t, 4] * y + there[t, 5] + w * there[t, 10]) / z
        other = targets[t]
        if u < 0 or v < 0 or u >= sizes[other, 0] or v >= sizes[other, 1]:
            continue
        if silhouettes[starts[other] + np.int64(v) * sizes[other, 0] + np.int64(u)] == 0:
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy")
def _nearest(silhouettes, starts, sizes, view, targets, there, inverse_depth, least, most, result):
    width, height = sizes[view]
    step = (most - least) / np.float32(STEPS)
    for i in range(height):
        for j in range(width):
            result[i, j] = 0
            start = inverse_depth[i, j]
            if silhouettes[starts[view] + i * width + j] == 0 or not start > 0:
                continue
            x, y = np.float32(j + 0.5), np.float32(i + 0.5)
            if _inside(silhouettes, starts, sizes, targets, there, x, y, start):
                result[i, j] = start
                continue
            if not step > 0:
                continue
            for k in range(1, STEPS + 1):
                nearer, farther = start + k * step, start - k * step
                if nearer <= most and _inside(silhouettes, starts, sizes, targets, there, x, y, nearer):
                    result[i, j] = nearer
                    break
                if farther >= least and _inside(silhouettes, starts, sizes, targets, there, x, y, farther):
                    result[i, j] = farther
                    break
