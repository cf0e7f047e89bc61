"""The picture of all layers together, on the CPU and without a display."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import cv2
import numpy as np

from datasets.types import Cameras
from viewer.layers import Layer, SplatLayer
from viewer.primitives import Dots, thinned, unhindered
from viewer.raster import paint

BACKGROUND = (24, 26, 30)
SMOOTHING = 2  # lines and dots are drawn this many times larger and averaged


def draw(
    layers: Sequence[Layer],
    camera: Cameras,
    frame: int = 0,
    background: tuple[int, int, int] = BACKGROUND,
    smoothing: int = SMOOTHING,
) -> np.ndarray:
    """What ``camera`` (a batch of one) sees of the visible layers at moment ``frame``: uint8 [H, W, 3].

    A splat hides what is behind its surface (its z-depth) and is hidden by what is before it. Of several splats the
    nearer surface is seen.
    """
    return draw_with_depth(layers, camera, frame, background, smoothing)[0]


def draw_with_depth(
    layers: Sequence[Layer],
    camera: Cameras,
    frame: int = 0,
    background: tuple[int, int, int] = BACKGROUND,
    smoothing: int = SMOOTHING,
    most_dots: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`draw`, and the z-depth [H, W] of the nearest thing in each pixel, infinite where there is none.

    ``most_dots`` of a cloud are drawn, evenly chosen; None draws all.
    """
    eye = camera.centres[0].double().numpy()
    primitives = [p for layer in layers if layer.visible for p in unhindered(layer.primitives(frame), eye)]
    image, depth = draw_splats(layers, camera, background)
    if not primitives:
        return image, depth
    if smoothing > 1:
        image, depth = (np.repeat(np.repeat(one, smoothing, axis=0), smoothing, axis=1) for one in (image, depth))
    large = camera.resized(smoothing)
    for primitive in primitives:
        if isinstance(primitive, Dots) and most_dots is not None:
            primitive = thinned(primitive, most_dots)
        paint(primitive, large, image, depth, smoothing)
    if smoothing == 1:
        return image, depth
    size = (image.shape[1] // smoothing, image.shape[0] // smoothing)
    parts = [depth[i::smoothing, j::smoothing] for i in range(smoothing) for j in range(smoothing)]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA), reduce(np.minimum, parts)


def draw_splats(
    layers: Sequence[Layer], camera: Cameras, background: tuple[int, int, int] = BACKGROUND
) -> tuple[np.ndarray, np.ndarray]:
    """The visible splats alone: uint8 [H, W, 3], and float32 z-depth [H, W], infinite where there is nothing."""
    width, height = camera.size
    seen: tuple[np.ndarray, np.ndarray] | None = None
    for layer in layers:
        if isinstance(layer, SplatLayer) and layer.visible:
            colour, reach = layer.image(camera, width, height)
            reach = np.where(reach > 0, reach, np.float32(np.inf))
            if seen is None:
                seen = colour, reach
            else:
                nearer = reach < seen[1]
                seen = np.where(nearer[..., None], colour, seen[0]), np.minimum(reach, seen[1])
    if seen is None:
        return np.full((height, width, 3), background, np.uint8), np.full((height, width), np.inf, np.float32)
    return seen
