"""Where photos were taken: frusta that hold their photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np

from datasets.types import Cameras, Photo
from viewer.layers.base import Choice, Setting, Slider
from viewer.primitives import Panel, Primitive, Segments, Surroundings, extent

THUMBNAIL = 384  # pixels of a photo's longer side inside its frustum
_TRAIN, _TEST, _UNUSED = (40, 170, 255), (255, 170, 40), (150, 155, 165)


class CamerasLayer:
    """Cameras of a scene.

    Args:
        name: what people call it.
        cameras: V cameras.
        photos: V photos, opened when they are shown; or none.
        unit: length in the world of a frustum of size 1.
        test: indices of photos that were held back, drawn in another colour.
        unused: indices of photos that were neither fitted to nor held back, grey.
    """

    def __init__(
        self,
        name: str,
        cameras: Cameras,
        photos: Sequence[Photo],
        unit: float,
        test: Sequence[int] = (),
        unused: Sequence[int] = (),
    ) -> None:
        self.name, self.visible = name, True
        self.size, self.photos = 1.0, "shown" if photos else "hidden"
        self.cameras, self.files = cameras, tuple(photos)
        self._unit, self._colours = unit, dict.fromkeys(test, _TEST) | dict.fromkeys(unused, _UNUSED)
        self._thumbnail: Callable[[int], np.ndarray] = lru_cache(maxsize=None)(self._load_thumbnail)

    @property
    def frames(self) -> int:
        """Cameras stand still."""
        return 1

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Size of the frusta, and whether the photos are in them."""
        size = Slider("size", 0.1, 5.0)
        return (size, Choice("photos", ("shown", "hidden"))) if self.files else (size,)

    def photo(self, index: int) -> np.ndarray:
        """float32 [H, W, 3] in 0..1 of photo ``index``."""
        return self.files[index].load().image

    def primitives(self, frame: int) -> list[Primitive]:
        """Eight lines a camera, and its photo where the image plane is; a camera that one looks from is left out.

        With ``photos`` "train", photos of test cameras and of unused ones are not opened.
        """
        drawn: list[Primitive] = []
        for i, (corners, eye) in enumerate(zip(*self._corners(), strict=True)):
            around = Surroundings(eye, 0.5 * self.size * self._unit)
            ends = np.concatenate(
                [
                    np.stack([corners, np.roll(corners, -1, axis=0)], axis=1),
                    np.stack([np.broadcast_to(eye, corners.shape), corners], axis=1),
                ]
            )
            rgb = np.broadcast_to(np.array(self._colours.get(i, _TRAIN), np.uint8), (8, 3))
            drawn.append(Segments(ends.astype(np.float32), rgb, around=around))
            if self.photos == "shown" or (self.photos == "train" and i not in self._colours):
                drawn.append(Panel(corners, self._thumbnail(i), around))
        return drawn

    def extent(self) -> np.ndarray | None:
        """Of the cameras' places."""
        return extent(self.cameras.centres.double().numpy())

    def _corners(self) -> tuple[np.ndarray, np.ndarray]:
        """[V, 4, 3] image corners from the top left clockwise, in the world, and [V, 3] centres."""
        pose = self.cameras.camera_to_world.double().numpy()
        sizes = self.cameras.sizes.double().numpy()
        pixels = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])[None] * sizes[:, None]
        rays = np.concatenate([pixels, np.ones((*pixels.shape[:2], 1))], axis=2)
        rays = rays @ np.linalg.inv(self.cameras.intrinsics.double().numpy()).transpose(0, 2, 1)
        depth = self.size * self._unit
        return (depth * rays) @ pose[:, :3, :3].transpose(0, 2, 1) + pose[:, None, :3, 3], pose[:, :3, 3]

    def _load_thumbnail(self, index: int) -> np.ndarray:
        image = self.photo(index)
        scale = THUMBNAIL / max(image.shape[:2])
        if scale < 1:
            size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        return np.rint(image * 255).astype(np.uint8)
