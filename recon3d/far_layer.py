"""A coarse layer behind the visible surface and beyond the photos' borders: what no train view sees.

Without it a new view looks through holes and past borders into nothing. The layer continues the local background in
depth and colour; a fit keeps of it what it has no reason to remove.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from scipy.ndimage import percentile_filter

from recon3d.pixels import Surfels, in_front_of, unproject
from recon3d.priors.filling import fill_smoothly
from recon3d.views import TrainingViews

MARGIN = 0.3  # of the image, by which the layer reaches beyond each border
WINDOW = 1 / 6  # of the image's width: within it the far side counts as background
FAR_PERCENTILE = 20  # of inverse depth in the window
SPACING = 1 / 63  # of the image's width, between neighbours of the layer
BEHIND = 0.97  # of the background's inverse depth, at which the layer stands
SLACK = 1.08  # times the background's inverse depth: surface up to there lends the layer its colour
REDUCTION = 4  # the background is found at a quarter of the size
OPACITY = 0.9


def far_layer(views: TrainingViews, inverse_depths: Sequence[np.ndarray]) -> Surfels:
    """The layer of all views, without what would hide a surface from a view.

    Args:
        inverse_depths: one [H, W] map a view, without holes.
    """
    parts = [_layer_of(views, i, inverse_depth) for i, inverse_depth in enumerate(inverse_depths)]
    kept = []
    for part in parts:
        hides = np.zeros(len(part), bool)
        for i, inverse_depth in enumerate(inverse_depths):
            hides |= in_front_of(views, i, part.xyz, inverse_depth)
        kept.append(part[~hides])
    return Surfels.joined(kept)


def _layer_of(views: TrainingViews, view: int, inverse_depth: np.ndarray) -> Surfels:
    height, width = inverse_depth.shape
    window = max(3, round(WINDOW * width / REDUCTION))
    small = cv2.resize(
        inverse_depth, (max(1, width // REDUCTION), max(1, height // REDUCTION)), interpolation=cv2.INTER_AREA
    )
    background = percentile_filter(small, FAR_PERCENTILE, size=window)
    background = cv2.GaussianBlur(background, (0, 0), window / 6)
    background = np.minimum(cv2.resize(background, (width, height)), inverse_depth)
    across, down = round(MARGIN * width), round(MARGIN * height)

    def widened(array: np.ndarray, border: int) -> np.ndarray:
        return cv2.copyMakeBorder(array, down, down, across, across, border)

    lends = widened((inverse_depth < SLACK * background).astype(np.uint8), cv2.BORDER_CONSTANT) > 0
    image = widened(views.views[view].image, cv2.BORDER_CONSTANT)
    depth = widened(background, cv2.BORDER_REPLICATE)
    colour = np.stack([fill_smoothly(image[:, :, k], lends) for k in range(3)], axis=2)
    spacing = max(2, round(SPACING * width))
    rows, columns = np.mgrid[spacing // 2 : depth.shape[0] : spacing, spacing // 2 : depth.shape[1] : spacing]
    y, x = rows.ravel(), columns.ravel()
    return unproject(
        views,
        view,
        x - across + 0.5,
        y - down + 0.5,
        BEHIND * depth[y, x],
        spacing,
        np.full(len(x), OPACITY),
        rgb=colour[y, x],
    )
