"""A coarse layer behind and beyond the photos, so that novel views do not look into nothing.

Where a novel view looks past an edge or beside the photos, something has to be there. The best guess is what lies
behind: the far parts of each photo continued under its near parts and over its border, at their depth and colour.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from scipy.ndimage import percentile_filter

from datasets.geometry import inside, project
from recon3d.initialisation.clouds import Cloud, back_project, footprint
from recon3d.initialisation.surfaces import Surface
from recon3d.initialisation.ways import Ways
from recon3d.views import TrainingViews

BORDER = 0.3  # of the photo's sides, by which the layer reaches beyond them
WINDOW = 0.16  # of the photo's width, over which the far surface is looked for
FAR = 20  # percentile of the inverse depth in the window that counts as far
BEHIND = 0.97  # of the far surface's inverse depth, at which the layer lies
ON_LAYER = 1.08  # times the layer's inverse depth, up to which a pixel shows it and lends its colour
SPACING = 1 / 63  # of the photo's width, between points
OPACITY = 0.9
SIZE = 0.8  # standard deviation, of the spacing


def far_layer(views: TrainingViews, surfaces: Sequence[Surface], ways: Ways) -> Cloud:
    """Points of the far layers of all views that no photo would see in front of its surface, nor views between them."""
    cameras = views.cameras.to(dtype=torch.float64)
    clouds = []
    for i in range(len(views)):
        layer, colours, border = _layer_of(views.views[i].image, surfaces[i])
        step = max(1, round(SPACING * surfaces[i].inverse_depth.shape[1]))
        height, width = layer.shape
        row, column = np.mgrid[step // 2 : height : step, step // 2 : width : step].reshape(2, -1)
        pixels = np.stack([column - border[1], row - border[0]], axis=1) + 0.5
        inverse_depth = layer[row, column]
        positions = back_project(views.cameras, i, pixels, inverse_depth)
        hidden = np.ones(len(positions), bool)
        there, depth = project(torch.from_numpy(positions), cameras)
        within = inside(there, depth, cameras)
        for j, surface in enumerate(surfaces):
            seen = np.flatnonzero(within[j])
            x, y = there[j, seen].long().numpy().T
            hidden[seen] &= depth[j, seen].numpy() > 1 / surface.inverse_depth[y, x]
        sizes = SIZE * step * footprint(views.cameras, i, inverse_depth)
        opacities, source = np.full(len(positions), OPACITY), np.full(len(positions), i)
        clouds.append(Cloud(positions, colours[row, column], sizes, opacities, source)[hidden])
    layer_points = Cloud.concatenate(clouds)
    return layer_points[~ways.obstructed_by(layer_points.positions)]


def _layer_of(image: np.ndarray, surface: Surface) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Inverse depth and colour of one photo's layer on a canvas, and how far the canvas reaches over the photo."""
    inverse_depth = surface.inverse_depth.astype(np.float32)
    height, width = inverse_depth.shape
    border = (int(height * BORDER), int(width * BORDER))
    shrink = max(1, round(width / 128))
    small = cv2.resize(inverse_depth, (max(1, width // shrink), max(1, height // shrink)), interpolation=cv2.INTER_AREA)
    window = max(3, int(WINDOW * small.shape[1]))
    far = cv2.GaussianBlur(percentile_filter(small, FAR, size=window), (0, 0), window / 6)
    far = np.minimum(cv2.resize(far, (width, height)), inverse_depth)
    shows_layer = (inverse_depth < ON_LAYER * far) & surface.counts
    sides = (border[0], border[0], border[1], border[1])
    far = cv2.copyMakeBorder(far, *sides, cv2.BORDER_REPLICATE)
    weight = cv2.copyMakeBorder(shows_layer.astype(np.float32), *sides, cv2.BORDER_CONSTANT)
    return BEHIND * far.astype(np.float64), _spread_colours(image, weight, sides), border


def _spread_colours(image: np.ndarray, weight: np.ndarray, sides: tuple[int, int, int, int]) -> np.ndarray:
    """Colours of the canvas from the pixels with a weight, each from as near as there are enough of them."""
    canvas = cv2.copyMakeBorder(image, *sides, cv2.BORDER_CONSTANT)
    shown = weight > 0
    mean = canvas[shown].mean(axis=0) if shown.any() else image.mean(axis=(0, 1))
    colours = np.broadcast_to(mean, canvas.shape).astype(np.float32).copy()
    weighted = np.dstack([canvas * weight[..., None], weight])
    missing = np.ones(weight.shape, bool)
    deviation = weight.shape[1] / 540
    for _ in range(7):
        near = _blurred(weighted, deviation)
        enough = missing & (near[..., 3] > 0.15)
        colours[enough] = near[enough, :3] / near[enough, 3:]
        missing &= ~enough
        deviation *= 2
    return colours


def _blurred(values: np.ndarray, deviation: float) -> np.ndarray:
    """``values`` [H, W, C] blurred by ``deviation`` pixels: a wide blur on a smaller picture, where it is as exact."""
    height, width = values.shape[:2]
    shrink = max(1, int(deviation / 3))
    size = (max(1, width // shrink), max(1, height // shrink))
    small = cv2.resize(values, size, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), deviation * size[0] / width)
    return cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
