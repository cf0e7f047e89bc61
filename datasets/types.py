"""Cameras, views and scenes: the types that readers produce and that fitting, evaluation and the viewer consume.

Those of point clouds and boxes are in ``datasets/pointclouds/types.py``.

Conventions, stated once: camera axes are OpenCV's (x right, y down, z forward); ``world_to_camera`` is never stored
transposed; the top left pixel's centre is (0.5, 0.5); images are float32 sRGB in 0..1, [H, W, 3]; depth is z-depth
in the scene's units, 0 where unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets.errors import InputError


def expect_shape(name: str, value: Tensor | np.ndarray, shape: tuple[int | None, ...]) -> None:
    """Raise ValueError, saying what was got, unless ``value`` has ``shape`` (None matches any size)."""
    got = tuple(value.shape)
    if len(got) != len(shape) or any(want is not None and want != have for want, have in zip(shape, got, strict=True)):
        want = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} has shape {got}, expected ({want})")


@dataclass(frozen=True)
class Cameras:
    """A batch of C pinhole cameras.

    Attributes:
        world_to_camera: [C, 4, 4] rigid transforms, OpenCV axes.
        intrinsics: [C, 3, 3] in pixels; the top left pixel's centre is (0.5, 0.5).
        sizes: [C, 2] int64, width and height in pixels.

    Raises:
        ValueError: for shapes that disagree.
    """

    world_to_camera: Tensor
    intrinsics: Tensor
    sizes: Tensor

    def __post_init__(self) -> None:
        expect_shape("world_to_camera", self.world_to_camera, (None, 4, 4))
        count = len(self.world_to_camera)
        expect_shape("intrinsics", self.intrinsics, (count, 3, 3))
        expect_shape("sizes", self.sizes, (count, 2))

    def __len__(self) -> int:
        return len(self.world_to_camera)

    def __getitem__(self, index: int | slice | Sequence[int] | Tensor) -> Cameras:
        """Cameras at ``index``; a single number gives a batch of one."""
        chosen: slice | Sequence[int] | Tensor = [index] if isinstance(index, int) else index
        return Cameras(self.world_to_camera[chosen], self.intrinsics[chosen], self.sizes[chosen])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the whole batch; ValueError where its cameras differ in size."""
        sizes = {tuple(size) for size in self.sizes.tolist()}
        if len(sizes) != 1:
            raise ValueError(f"the {len(self)} cameras do not share one image size: {sorted(sizes)}")
        width, height = sizes.pop()
        return width, height

    @property
    def centres(self) -> Tensor:
        """[C, 3] positions of the cameras in the world."""
        rotation, translation = self.world_to_camera[:, :3, :3], self.world_to_camera[:, :3, 3]
        return -(rotation.transpose(1, 2) @ translation[:, :, None])[:, :, 0]

    @property
    def camera_to_world(self) -> Tensor:
        """[C, 4, 4] inverse of the rigid ``world_to_camera``."""
        inverse = torch.zeros_like(self.world_to_camera)
        inverse[:, :3, :3] = self.world_to_camera[:, :3, :3].transpose(1, 2)
        inverse[:, :3, 3] = self.centres
        inverse[:, 3, 3] = 1
        return inverse

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Cameras:
        """Move to ``device`` and convert the real-valued tensors to ``dtype``."""
        return Cameras(
            self.world_to_camera.to(device=device, dtype=dtype),
            self.intrinsics.to(device=device, dtype=dtype),
            self.sizes.to(device=device),
        )

    def resized(self, scale: float) -> Cameras:
        """The same cameras for images ``scale`` times as large, sizes rounded to whole pixels."""
        sizes = (self.sizes.double() * scale).round().clamp(min=1).to(torch.int64)
        ratio = (sizes.double() / self.sizes.double()).to(self.intrinsics.dtype)
        intrinsics = self.intrinsics.clone()
        intrinsics[:, :2] *= ratio[:, :, None]
        return Cameras(self.world_to_camera, intrinsics, sizes)

    @staticmethod
    def concatenate(batches: Sequence[Cameras]) -> Cameras:
        """One batch of all cameras, in order."""
        return Cameras(
            torch.cat([batch.world_to_camera for batch in batches]),
            torch.cat([batch.intrinsics for batch in batches]),
            torch.cat([batch.sizes for batch in batches]),
        )


@dataclass(frozen=True)
class View:
    """What one photo holds once loaded, undistorted, at its camera's size.

    Attributes:
        image: [H, W, 3] float32 in 0..1.
        mask: [H, W] bool, True where the photo counts, or None for everywhere.
        depth: [H, W] float32 z-depth in scene units, 0 where unknown, or None.
        alpha: [H, W] float32 share of each pixel, 0..1, that does not show the scene's known background, or None where
            the photo does not say.
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    depth: np.ndarray | None = None
    alpha: np.ndarray | None = None

    def __post_init__(self) -> None:
        expect_shape("image", self.image, (None, None, 3))
        for name in ("mask", "depth", "alpha"):
            value = getattr(self, name)
            if value is not None:
                expect_shape(name, value, self.image.shape[:2])

    @property
    def colours(self) -> np.ndarray:
        """[N, 3] of the pixels that count."""
        return self.image.reshape(-1, 3) if self.mask is None else self.image[self.mask]


@dataclass(frozen=True)
class Photo:
    """A posed photo on disk (or in memory) that is opened only when asked for.

    Attributes:
        path: the image file, which names the view in messages and results.
        load: opens it; raises SceneError naming the file where it cannot be used.
    """

    path: Path
    load: Callable[[], View]


@dataclass(frozen=True)
class Points:
    """Sparse points of a scene: xyz [P, 3] float32 in world units, rgb [P, 3] float32 in 0..1."""

    xyz: np.ndarray
    rgb: np.ndarray

    def __post_init__(self) -> None:
        expect_shape("xyz", self.xyz, (None, 3))
        expect_shape("rgb", self.rgb, (len(self.xyz), 3))

    def __len__(self) -> int:
        return len(self.xyz)


@dataclass(frozen=True)
class Scene:
    """Posed photos of one place, in one order: cameras[i] took photos[i].

    Attributes:
        name: short name, for titles and folders.
        cameras: [V] cameras of all views.
        photos: V photos, lazily loaded.
        train, test: indices into the views; disjoint.
        points: sparse points, or None.
        bounds: [V, 2] near and far depth per view as the source states them, or None.
        background: colour behind everything (RGBA sources composited on it), or None where there is none.
        scene_to_source: [4, 4] similarity that brings this scene's world into the source file's world.
    """

    name: str
    cameras: Cameras
    photos: tuple[Photo, ...]
    train: tuple[int, ...] = ()
    test: tuple[int, ...] = ()
    points: Points | None = None
    bounds: np.ndarray | None = None
    background: tuple[float, float, float] | None = None
    scene_to_source: np.ndarray = field(default_factory=lambda: np.eye(4))

    def __post_init__(self) -> None:
        if len(self.cameras) != len(self.photos):
            raise ValueError(f"{len(self.cameras)} cameras but {len(self.photos)} photos")
        if shared := set(self.train) & set(self.test):
            raise ValueError(f"views {sorted(shared)} are in both the train and the test split")
        if self.bounds is not None:
            expect_shape("bounds", self.bounds, (len(self.photos), 2))

    def __len__(self) -> int:
        return len(self.photos)

    def with_split(self, train: Sequence[int], test: Sequence[int]) -> Scene:
        """The same scene with another split; raises InputError for an index that is out of range or repeated."""
        for name, indices in (("train", train), ("test", test)):
            if len(set(indices)) != len(indices) or any(not 0 <= i < len(self) for i in indices):
                raise InputError(f"the {name} split {list(indices)} does not fit a scene of {len(self)} views")
        return replace(self, train=tuple(train), test=tuple(test))
