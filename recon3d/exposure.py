"""Photos of one place at one exposure.

Cameras change exposure and white balance from photo to photo, by 5 to 15 % in common sets. A fit to a few such photos
explains the difference by geometry that only one of them sees. Here the difference is measured where photos show the
same points, and taken back before anything else looks at them.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch

from datasets.geometry import project
from datasets.pictures import to_bytes
from recon3d.priors.agreement import round_trip_error
from recon3d.priors.epipolar import Pair, pixel_centres
from recon3d.priors.view_selection import candidate_pairs, shared_landmarks
from recon3d.views import TrainingViews

FEATURES = 2000  # at most, per photo
AROUND = 2.0  # pixels, standard deviation of the window around a point in which colours are compared
GRID = 8  # pixels between those that measured depth relates
SAME_POINT = 1.5  # pixels by which such a one may miss itself on the way to the other view and back
RANGE = (0.03, 0.97)  # colours outside are crushed or clipped
FEWEST = 15  # points below which a pair tells nothing
ALIKE = 0.15  # median deviation of the logarithm of a pair's ratios above which most matches are wrong
CERTAIN = 0.01  # logarithm of a gain: no pair is trusted further
SPREAD = 3.7  # standard error of a pair's median over its absolute deviation and root of count, one point in four new
USUAL = 0.15  # standard deviation of the logarithm of exposure between photos, beforehand


def equalised(views: TrainingViews) -> TrainingViews:
    """The same views with the photos at their mean exposure and white balance, clipped to 0..1.

    Photos on a known background are left alone: they are rendered, or cut out.
    """
    if views.background is not None or len(views) < 2:
        return views
    gains = exposure_gains(views).astype(np.float32)
    photos = (
        replace(view, image=np.clip(view.image * gain, 0, 1)) for view, gain in zip(views.views, gains, strict=True)
    )
    return replace(views, views=tuple(photos))


def exposure_gains(views: TrainingViews) -> np.ndarray:
    """[V, 3] factors on the channels of each photo that bring all to one exposure, of geometric mean 1.

    The robust difference of each pair of photos at the points that they share, all pairs at once by least squares; 1
    where nothing is shared. Points are matched features, and pixels on which the measured depth of both views agrees.
    """
    smooth = [cv2.GaussianBlur(np.ascontiguousarray(view.image, np.float32), (0, 0), AROUND) for view in views.views]
    pairs, differences, errors = [], [], []
    for (first, second), places in _shared(views).items():
        colours = np.stack([_at(smooth[view], there) for view, there in zip((first, second), places, strict=True)])
        colours = colours[:, ((colours > RANGE[0]) & (colours < RANGE[1])).all(axis=(0, 2))]
        if colours.shape[1] < FEWEST:
            continue
        ratio = np.log(colours[1]) - np.log(colours[0])
        median = np.median(ratio, axis=0)
        deviation = np.median(np.abs(ratio - median), axis=0)
        if deviation.max() <= ALIKE:
            pairs.append((first, second))
            differences.append(median)
            errors.append(CERTAIN + SPREAD * deviation / np.sqrt(len(ratio)))
    return _solve(len(views), np.array(pairs, np.int64).reshape(-1, 2), np.array(differences), np.array(errors))


def _shared(views: TrainingViews) -> dict[tuple[int, int], tuple[np.ndarray, np.ndarray]]:
    """Pixels [P, 2] in the first and [P, 2] in the second view of each pair that show the same points."""
    greys = [cv2.cvtColor(to_bytes(view.image), cv2.COLOR_RGB2GRAY) for view in views.views]
    landmarks = shared_landmarks(views.cameras, greys, FEATURES)
    pixels = project(torch.from_numpy(landmarks.xyz), views.cameras.to(dtype=torch.float64))[0].numpy()
    shared = {}
    for first, second in candidate_pairs(views.cameras):
        of_pair = np.flatnonzero((landmarks.views == (first, second)).all(axis=1))
        here, there = _by_depth(views, first, second)
        here, there = np.concatenate([pixels[first, of_pair], here]), np.concatenate([pixels[second, of_pair], there])
        shared[first, second] = here, there
    return shared


def _by_depth(views: TrainingViews, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of a grid [P, 2] in the first view, and [P, 2] where measured depth puts them in the second."""
    depth, other = views.views[first].depth, views.views[second].depth
    if depth is None or other is None:
        return np.zeros((0, 2)), np.zeros((0, 2))
    cameras = views.cameras[[first, second]]
    agree = round_trip_error(cameras, [depth, other], 0, 1)[::GRID, ::GRID] < SAME_POINT
    pixels = pixel_centres(*cameras.sizes[0].tolist())[::GRID, ::GRID][agree]
    pair = Pair.of(cameras, 0, 1)
    return pixels, pair.project(pair.far_points(pixels), 1 / depth[::GRID, ::GRID][agree].astype(np.float64))[0]


def _at(image: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """[P, 3] colours of the pixels that hold the places [P, 2]."""
    x, y = np.floor(pixels).astype(int).T
    return image[y.clip(0, image.shape[0] - 1), x.clip(0, image.shape[1] - 1)]


def _solve(count: int, pairs: np.ndarray, differences: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """[V, 3] gains: least squares over pairs [K, 2] with differences of logarithms [K, 3] and their errors [K, 3]."""
    exposure = np.zeros((count, 3))
    rows = np.zeros((len(pairs), count))
    rows[np.arange(len(pairs)), pairs[:, 0]], rows[np.arange(len(pairs)), pairs[:, 1]] = -1, 1
    for channel in range(3 if len(pairs) else 0):
        weight = 1 / errors[:, channel] ** 2
        normal = rows.T @ (weight[:, None] * rows) + np.eye(count) / USUAL**2
        exposure[:, channel] = np.linalg.solve(normal, rows.T @ (weight * differences[:, channel]))
    return np.exp(exposure.mean(axis=0) - exposure)
