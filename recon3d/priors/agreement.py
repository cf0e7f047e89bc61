"""Do the depth maps of several views describe the same surface?"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from datasets.types import Cameras
from recon3d.priors.epipolar import Pair, pixel_centres


def nearest_sample(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """[H, W] value of the pixel of ``values`` that holds each of ``points`` [H, W, 2]; 0 outside."""
    position = (points - 0.5).astype(np.float32)
    return cv2.remap(values, position[..., 0], position[..., 1], cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT)


def round_trip_error(cameras: Cameras, depths: Sequence[np.ndarray], source: int, target: int) -> np.ndarray:
    """[H, W] pixels by which a source pixel misses itself when it goes to the target by the source's depth and comes
    back by the target's (Yao et al., MVSNet, 2018); infinite where one of them knows no depth."""
    depth = depths[source].astype(np.float64)
    points = pixel_centres(*cameras.sizes[source].tolist())
    known = depth > 0
    forth, back = Pair.of(cameras, source, target), Pair.of(cameras, target, source)
    there, ratio = forth.project(forth.far_points(points), 1 / np.where(known, depth, 1))
    theirs = nearest_sample(depths[target].astype(np.float32), there).astype(np.float64)
    known &= (theirs > 0) & (ratio > 0)
    returned, ratio = back.project(back.far_points(there), 1 / np.where(known, theirs, 1))
    error = np.hypot(*np.moveaxis(returned - points, -1, 0))
    return np.where(known & (ratio > 0), error, np.inf)


def project_known(cameras: Cameras, depths: Sequence[np.ndarray], view: int) -> np.ndarray:
    """[H, W] z-depth in ``view`` of what the other views know, the nearest where several fall on one pixel; 0 where
    none does."""
    width, height = cameras.sizes[view].tolist()
    nearest = np.full(height * width, np.inf)
    for other, depth in enumerate(depths):
        if other == view or not (depth > 0).any():
            continue
        known = depth > 0
        points = pixel_centres(*cameras.sizes[other].tolist())[known]
        pair = Pair.of(cameras, other, view)
        there, ratio = pair.project(pair.far_points(points), 1 / depth[known].astype(np.float64))
        inside = (ratio > 0) & ((there >= 0) & (there < [width, height])).all(axis=-1)
        x, y = np.floor(there[inside]).astype(np.int64).T
        np.minimum.at(nearest, y * width + x, depth[known][inside] * ratio[inside])
    return np.where(np.isfinite(nearest), nearest, 0).reshape(height, width)
