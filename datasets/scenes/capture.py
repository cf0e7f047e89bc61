"""From what a format states to a checked :class:`Scene`: everything the readers have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy.spatial import cKDTree

from datasets.errors import SceneError
from datasets.geometry import is_rigid
from datasets.scenes import images
from datasets.scenes.distortion import Distortion, pinhole_focal, undistortion
from datasets.scenes.files import inside
from datasets.types import Cameras, Photo, Points, Scene, View

FAR_FROM_ORIGIN = 1e3  # in units of the cameras' extent, where float32 positions would lose the detail
COINCIDENT = 1e-6  # in the same units
LARGEST = 1e18  # of any number: its square still is one in float32
LARGEST_SIDE, LARGEST_AREA = 32766, 1 << 27  # of a photo, in pixels: what OpenCV can resample
LEAST_OF_A_PHOTO = 0.5  # that undistortion may leave

Pinhole = tuple[tuple[float, float], tuple[float, float], tuple[int, int]]
"""Focal lengths, principal point and (width, height), in pixels."""


@dataclass(frozen=True)
class Frame:
    """One posed photo as a format states it, unchecked.

    Attributes:
        source: the file that states it, which messages name.
        path: the photo.
        world_to_camera: [4, 4] float64, OpenCV axes.
        focal, centre: of the photo as stored, in pixels.
        size: (width, height) of the photo as stored.
        distortion: the lens, or None for a pinhole.
        shrink: by how much the photo is reduced when loaded.
        depth, mask: further files of the same size, or None.
        full_size: their size where the photo is a shipped smaller one, or None.
        bounds: (near, far) depth, or None.
        declared: the split the format itself gives, or None.
    """

    source: Path
    path: Path
    world_to_camera: np.ndarray
    focal: tuple[float, float]
    centre: tuple[float, float]
    size: tuple[int, int]
    distortion: Distortion | None = None
    shrink: int = 1
    depth: Path | None = None
    mask: Path | None = None
    full_size: tuple[int, int] | None = None
    bounds: tuple[float, float] | None = None
    declared: Literal["train", "test"] | None = None


@dataclass(frozen=True)
class Capture:
    """What a reader found.

    Attributes:
        root: the scene's folder.
        source: the file that holds the poses, which messages name.
        frames: in the order that splits count.
        points: sparse points, or None.
        seen: [V, P] bool, which points each frame saw, or None where the source does not tell.
    """

    root: Path
    source: Path
    frames: tuple[Frame, ...]
    points: Points | None = None
    seen: np.ndarray | None = None


def half_up(value: float) -> int:
    """Round to the nearest whole number, halves up, as image tools round a reduced size; at least 1."""
    return max(1, math.floor(value + 0.5))


def reduced(root: Path, frame: Frame, downscale: int) -> Frame:
    """``frame`` at 1/downscale: the shipped ``images_N`` where the folder has it, else reduced when loaded."""
    if downscale == 1 or min(frame.size) < 1:  # a size that is none is refused with the other checks
        return frame
    shipped = root / f"images_{downscale}"
    relative = frame.path.relative_to(root)
    if relative.parts[0] != "images" or not shipped.is_dir():
        return replace(frame, shrink=downscale)
    path = with_image_suffix(shipped.joinpath(*relative.parts[1:]))
    size = (half_up(frame.size[0] / downscale), half_up(frame.size[1] / downscale))
    path = inside(root, str(path.relative_to(root)), shipped)
    return replace(_at(frame, size), path=path, full_size=frame.size)


def with_image_suffix(path: Path) -> Path:
    """``path``, or where there is no such file, the same with the first image suffix that exists."""
    if path.is_file():
        return path
    base = path.with_suffix("") if path.suffix.lower() in images.IMAGE_SUFFIXES else path
    for suffix in images.IMAGE_SUFFIXES:
        for candidate in (base.with_name(base.name + suffix), base.with_name(base.name + suffix.upper())):
            if candidate.is_file():
                return candidate
    return path


def scene_from(
    capture: Capture, train: Sequence[int], test: Sequence[int], background: tuple[float, float, float]
) -> Scene:
    """Check a capture and make it a scene. Of the photos, at most training ones are opened, to see what is cut out.

    Args:
        capture: what the reader found.
        train, test: indices into its frames.
        background: colour that photos with an alpha channel are composited on.

    Raises:
        SceneError: naming the file, what was found, and the mend.
        ValueError: for a split that does not fit.
    """
    frames = capture.frames
    if any(not 0 <= index < len(frames) for index in (*train, *test)):
        raise ValueError(f"train {list(train)} and test {list(test)} do not fit a scene of {len(frames)} views")
    names = set()
    for frame in frames:
        _check_frame(frame)
        if frame.path in names:
            raise SceneError(capture.source, f"{frame.path.name} is listed twice", "List each photo once")
        names.add(frame.path)
    if train:
        frames = _as_shipped(frames, frames[train[0]])
    poses = np.stack([rigid_pose(frame.source, frame.path.name, frame.world_to_camera) for frame in frames])
    centres = -np.einsum("vji,vj->vi", poses[:, :3, :3], poses[:, :3, 3])
    extent = _check_apart(capture.source, frames, centres)
    scene_to_source = np.eye(4)
    if np.abs(centres).max() > FAR_FROM_ORIGIN * extent:
        scene_to_source[:3, 3] = centres.mean(axis=0)
        poses = poses @ scene_to_source
    cameras = [_pinhole(frame) for frame in frames]
    points = _seen_while_training(capture, train)
    if points is not None:
        points = Points((points.xyz - scene_to_source[:3, 3]).astype(np.float32), points.rgb.astype(np.float32))
    bounds = None
    if all(frame.bounds is not None for frame in frames):
        bounds = np.array([frame.bounds for frame in frames], dtype=np.float32)
    scene = Scene(
        name=capture.root.resolve().name,
        cameras=pinhole_cameras(poses, cameras),
        photos=tuple(
            Photo(frame.path, partial(load_view, frame, size, background))
            for frame, (_, _, size) in zip(frames, cameras, strict=True)
        ),
        points=points,
        bounds=bounds,
        background=background if images.are_cut_out([frames[i].path for i in train]) else None,
        scene_to_source=scene_to_source,
    )
    return scene.with_split(train, test)


def pinhole_cameras(poses: np.ndarray, pinholes: Sequence[Pinhole]) -> Cameras:
    """Cameras at ``poses`` [C, 4, 4], world to camera."""
    rows = [[[f[0], 0.0, c[0]], [0.0, f[1], c[1]], [0.0, 0.0, 1.0]] for f, c, _ in pinholes]
    return Cameras(
        torch.from_numpy(poses).float(),
        torch.tensor(rows, dtype=torch.float32),
        torch.tensor([size for _, _, size in pinholes], dtype=torch.int64),
    )


def _as_shipped(frames: tuple[Frame, ...], first: Frame) -> tuple[Frame, ...]:
    """Frames of shipped ``images_N``, cut to whole pixels the way that the ``first`` one's file was: programs round
    sizes that N does not divide up or down.
    """
    full = first.full_size
    if full is None:
        return frames
    height, width = images.read_pixels(first.path).shape[:2]
    if (width, height) == first.size or abs(width - first.size[0]) > 1 or abs(height - first.size[1]) > 1:
        return frames  # other sizes are refused where the photo is loaded
    factor = round(full[0] / first.size[0])
    downwards = (width, height) == (full[0] // factor, full[1] // factor)
    return tuple(_resized(frame, factor, math.floor if downwards else math.ceil) for frame in frames)


def _resized(frame: Frame, factor: int, cut: Callable[[float], int]) -> Frame:
    """``frame`` with the size and intrinsics that its photo has at 1/``factor`` of its full size."""
    full = frame.full_size
    if full is None:
        return frame
    size = (max(cut(full[0] / factor), 1), max(cut(full[1] / factor), 1))
    return _at(frame, size)


def _at(frame: Frame, size: tuple[int, int]) -> Frame:
    """``frame`` with ``size`` (width, height) and the intrinsics that go with it."""
    x, y = size[0] / frame.size[0], size[1] / frame.size[1]
    focal, centre = (frame.focal[0] * x, frame.focal[1] * y), (frame.centre[0] * x, frame.centre[1] * y)
    return replace(frame, size=size, focal=focal, centre=centre)


def load_view(frame: Frame, size: tuple[int, int], background: tuple[float, float, float]) -> View:
    """Open a frame's photo, depth and mask; undistort, then reduce to ``size`` (width, height).

    Raises:
        SceneError: naming the file that cannot be used.
    """
    image, alpha = images.read_photo(frame.path, background)
    images.expect_size(frame.path, image, frame.size)
    mask = depth = None
    full_size = frame.full_size or frame.size
    if frame.mask is not None:
        mask = images.read_mask(frame.mask)
        images.expect_size(frame.mask, mask, full_size)
        mask = images.shrink_mask(mask, frame.size)
    if frame.depth is not None:
        depth = images.read_depth(frame.depth)
        images.expect_size(frame.depth, depth, full_size)
        depth = images.shrink_depth(depth, frame.size)
    if frame.distortion is not None:
        lens = undistortion(frame.focal, frame.centre, frame.size, frame.distortion)
        if lens.mask is not None and lens.mask.mean() < LEAST_OF_A_PHOTO:
            raise SceneError(
                frame.path,
                f"of this photo its lens leaves {lens.mask.mean():.0%}: {frame.distortion}",
                "Correct the distortion coefficients or the principal point",
            )
        image = lens.image(image)
        alpha = None if alpha is None else lens.image(alpha)
        depth = None if depth is None else lens.nearest(depth)
        mask = lens.mask if mask is None else lens.nearest(mask.astype(np.uint8)) != 0
    depth = None if depth is None else images.shrink_depth(depth, size)
    mask = None if mask is None else images.shrink_mask(mask, size)
    alpha = None if alpha is None else images.shrink_image(alpha, size)
    return View(images.shrink_image(image, size), mask, depth, alpha)


def _pinhole(frame: Frame) -> Pinhole:
    """The camera of the view that :func:`load_view` gives."""
    focal, centre = frame.focal, frame.centre
    if frame.distortion is not None:
        focal = pinhole_focal(focal, centre, frame.size, frame.distortion)
    if frame.shrink == 1:
        return focal, centre, frame.size
    size = (half_up(frame.size[0] / frame.shrink), half_up(frame.size[1] / frame.shrink))
    x, y = size[0] / frame.size[0], size[1] / frame.size[1]
    return (focal[0] * x, focal[1] * y), (centre[0] * x, centre[1] * y), size


def check_pinhole(source: Path, name: str, pinhole: Pinhole) -> None:
    """Raise SceneError, naming ``source`` and the camera's ``name``, for what no camera has."""
    focal, centre, size = pinhole
    if min(size) < 1 or max(size) > LARGEST_SIDE or math.prod(size) > LARGEST_AREA:
        raise SceneError(source, f"{name} has size {size}", "Give its width and height in pixels")
    if not all(0 < f < LARGEST for f in focal):
        raise SceneError(source, f"{name} has focal lengths {focal}", "They must be positive, in pixels")
    if not all(-side <= c <= 2 * side for c, side in zip(centre, size, strict=True)):
        raise SceneError(
            source,
            f"{name} has its principal point at {centre}, far outside its {size} pixels",
            "Give cx and cy in pixels of that photo",
        )


def _check_frame(frame: Frame) -> None:
    source, name = frame.source, frame.path.name
    check_pinhole(source, name, (frame.focal, frame.centre, frame.size))
    if frame.distortion is not None and not all(abs(k) < LARGEST for k in frame.distortion.coefficients):
        raise SceneError(source, f"{name} has lens {frame.distortion.coefficients}", "Its coefficients must be numbers")
    if frame.bounds is not None and not 0 < frame.bounds[0] < frame.bounds[1] < math.inf:
        raise SceneError(source, f"{name} has depth bounds {frame.bounds}", "They must be 0 < near < far")
    for path in (frame.path, frame.depth, frame.mask):
        if path is not None and not path.is_file():
            raise SceneError(path, f"is listed in {source.name}, but there is no such file", "Restore it or unlist it")


def rigid_pose(source: Path, name: str, pose: np.ndarray) -> np.ndarray:
    """``pose`` [4, 4] of the camera ``name`` with its rotation exactly one.

    Raises:
        SceneError: naming ``source`` and the camera, for what is no pose.
    """
    mend = "Give a rotation and a translation; scaled or mirrored axes are not a camera pose"
    if not (np.abs(pose) < LARGEST).all():
        raise SceneError(source, f"the pose of {name} holds NaN, infinity or an absurdly large number", mend)
    if not is_rigid(pose):
        raise SceneError(source, f"the pose of {name} is not rigid: {pose.round(4).tolist()}", mend)
    rotation = pose[:3, :3]
    u, _, v = np.linalg.svd(rotation)
    result = np.eye(4)
    result[:3, :3] = u @ v
    # The camera's centre is what sources state most exactly: it stays where it is.
    result[:3, 3] = result[:3, :3] @ np.linalg.solve(rotation, pose[:3, 3])
    return result


def _check_apart(source: Path, frames: Sequence[Frame], centres: np.ndarray) -> float:
    """The cameras' extent; SceneError where there are too few or two share a place."""
    if len(frames) < 2:
        raise SceneError(source, f"{len(frames)} views", "At least two photos from different places are needed")
    extent = float(np.linalg.norm(centres - centres.mean(axis=0), axis=1).max())
    distances, nearest = cKDTree(centres).query(centres, k=2)
    first = int(distances[:, 1].argmin())
    if distances[first, 1] <= COINCIDENT * extent:
        second = next(int(i) for i in nearest[first] if i != first)
        raise SceneError(
            source,
            f"{frames[first].path.name} and {frames[second].path.name} were taken from one place",
            "Without parallax there is no depth: remove one of them",
        )
    return extent


def _seen_while_training(capture: Capture, train: Sequence[int]) -> Points | None:
    """Without the points that fewer than two training views saw, which only test photos could have told."""
    points = capture.points
    if points is None or capture.seen is None:
        return points
    keep = capture.seen[list(train)].sum(axis=0) >= 2
    return Points(points.xyz[keep], points.rgb[keep])
