"""Splats: drawn by whoever opened them, see :mod:`viewer.splats`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from datasets.errors import InputError
from datasets.types import Cameras
from viewer import colours
from viewer.layers.base import Choice, Layer, Setting
from viewer.primitives import Primitive, extent
from viewer.splats import ShownSplat

WORST_ERROR = 0.3  # mean absolute error that is shown in red


class SplatLayer:
    """A splat as colour, depth, normals, or how wrong its colour may be.

    Args:
        name: what people call it.
        splat: what was opened.
        reopen: opens it again, for a file that a running fit replaces.
    """

    def __init__(self, name: str, splat: ShownSplat, reopen: Callable[[], ShownSplat | None]) -> None:
        self.name, self.visible = name, True
        self.show = "colour"
        self.splat, self._reopen = splat, reopen
        self._stamp = _stamp(splat)
        self._extent: np.ndarray | None = None

    @property
    def frames(self) -> int:
        """A splat stands still."""
        return 1

    @property
    def settings(self) -> tuple[Setting, ...]:
        """What of the splat is shown."""
        uncertainty = ("uncertainty",) if self.splat.predicts_error else ()
        return (Choice("show", ("colour", "depth", "normals", *uncertainty)),)

    def primitives(self, frame: int) -> list[Primitive]:
        """None: a splat is drawn as an image."""
        return []

    def extent(self) -> np.ndarray | None:
        """Of the centres, without the outer tenth at each side: splats have strays and far layers."""
        if self._extent is None:
            self._extent = extent(self.splat.parameters()["means"], trim=10.0)
        return self._extent

    def image(self, camera: Cameras, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [H, W, 3] as ``show`` says, and z-depth [H, W], 0 where there is nothing."""
        seen = self.splat.render(camera, width, height)
        depth = np.zeros((height, width), np.float32) if seen.depth is None else seen.depth
        if self.show == "depth":
            return colours.depth_image(depth), depth
        if self.show == "normals":
            return normals_image(depth, camera, width, height), depth
        if self.show == "uncertainty" and self.splat.predicts_error:
            error = self.splat.error(camera, width, height)
            return colours.by_value(error.ravel(), 0.0, WORST_ERROR).reshape(height, width, 3), depth
        return cv2.convertScaleAbs(np.clip(seen.image, 0, 1), alpha=255), depth  # several times as quick as numpy

    def refresh(self) -> bool:
        """Open the splat again if its files are others than before; True where the picture changes.

        Raises InputError where it cannot be used any more; the one before stays, until the files change again.
        """
        stamp = _stamp(self.splat)
        if stamp == self._stamp or not any(stamp):
            return False
        self._stamp = stamp
        found = self._reopen()
        if found is None:
            return False
        self.splat, self._extent = found, None
        return True


def refresh_all(layers: Sequence[Layer]) -> tuple[bool, InputError | None]:
    """Refresh every splat among ``layers``: whether one of them changed, and what the last that failed said."""
    changed, failed = False, None
    for layer in layers:
        if isinstance(layer, SplatLayer):
            try:
                changed |= layer.refresh()
            except InputError as error:
                failed = error
    return changed, failed


def normals_image(depth: np.ndarray, camera: Cameras, width: int, height: int) -> np.ndarray:
    """uint8 [H, W, 3] of the surface that z-depth [H, W] describes: red is right, green up, blue towards the camera."""
    scale = np.array([width, height]) / camera.sizes[0].numpy()
    k = camera.intrinsics[0].double().numpy()
    x = (np.arange(width) + 0.5 - k[0, 2] * scale[0]) / (k[0, 0] * scale[0])
    y = (np.arange(height) + 0.5 - k[1, 2] * scale[1]) / (k[1, 1] * scale[1])
    points = np.stack([depth * x[None], depth * y[:, None], depth], axis=2)
    normal = np.cross(np.gradient(points, axis=1), np.gradient(points, axis=0))
    length = np.linalg.norm(normal, axis=2, keepdims=True)
    shown = np.rint((normal / np.maximum(length, 1e-20) * [-1, 1, 1] / 2 + 0.5) * 255).astype(np.uint8)
    whole = (depth > 0)[..., None] & (length > 0)
    return np.where(whole, shown, np.uint8(0))


def _stamp(splat: ShownSplat) -> tuple[tuple[int, int] | None, ...]:
    """What tells one version of the files from the next; None for each that is not there."""
    stamps: list[tuple[int, int] | None] = []
    for source in splat.sources:
        try:
            status = source.stat()
        except FileNotFoundError:
            stamps.append(None)
        else:
            stamps.append((status.st_mtime_ns, status.st_size))
    return tuple(stamps)
