"""The photos that fitting may look at: the train split, loaded once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from datasets.errors import InputError
from datasets.scenes.images import shrink_depth, shrink_image, shrink_mask
from datasets.types import Cameras, Points, Scene, View


@dataclass(frozen=True)
class TrainingViews:
    """V loaded train views.

    Attributes:
        cameras: [V] cameras.
        views: V views; view i was taken by cameras[i].
        bounds: [V, 2] near and far depth in scene units as the source states them, or None.
        points: sparse points of the source, or None.
        background: colour that is known to lie behind everything, or None.
        names: the photos' file names without their ending, by which other files of theirs are found, or None.
        scene_to_source: [4, 4] similarity from this world into that of the photos' source.
        finer: opens the same views with photos of twice the size, or gives None where they turn out to be of no use;
            None where there are no such photos.
    """

    cameras: Cameras
    views: tuple[View, ...]
    bounds: np.ndarray | None = None
    points: Points | None = None
    background: tuple[float, float, float] | None = None
    names: tuple[str, ...] | None = None
    scene_to_source: np.ndarray = field(default_factory=lambda: np.eye(4))
    finer: Callable[[], TrainingViews | None] | None = None

    def __len__(self) -> int:
        return len(self.views)

    def reduced(self, scale: float) -> TrainingViews:
        """The same views with photos ``scale`` times as large, less than 1."""
        cameras = self.cameras.resized(scale)
        sizes = [(width, height) for width, height in cameras.sizes.tolist()]
        return replace(
            self, cameras=cameras, views=tuple(_shrunk(*both) for both in zip(self.views, sizes, strict=True))
        )

    @staticmethod
    def load(scene: Scene) -> TrainingViews:
        """Open the train photos of ``scene``, and no others.

        Raises:
            SceneError: for a photo that cannot be used.
            InputError: where the scene has no train split, or its masks leave nothing to look at.
        """
        if not scene.train:
            raise InputError(f"scene {scene.name} has no train views: choose a split")
        train = list(scene.train)
        views = tuple(scene.photos[i].load() for i in train)
        if all(view.mask is not None and not view.mask.any() for view in views):
            raise InputError(f"scene {scene.name}: the masks of all train photos hide everything. Are they inverted?")
        return TrainingViews(
            cameras=scene.cameras[train],
            views=views,
            bounds=None if scene.bounds is None else scene.bounds[train],
            points=scene.points,
            background=scene.background,
            names=tuple(scene.photos[i].path.stem for i in train),
            scene_to_source=scene.scene_to_source,
        )


def _shrunk(view: View, size: tuple[int, int]) -> View:
    return View(
        image=shrink_image(view.image, size),
        mask=None if view.mask is None else shrink_mask(view.mask, size),
        depth=None if view.depth is None else shrink_depth(view.depth, size),
        alpha=None if view.alpha is None else shrink_image(view.alpha, size),
    )
