"""Named views: what ``--view`` takes, and the first view of what was opened."""

from __future__ import annotations

import math
import re

import numpy as np

from datasets.errors import InputError
from datasets.types import Cameras
from viewer.layers import PointsLayer
from viewer.primitives import joined
from viewer.reading import Contents
from viewer.viewpoint import FLAT, Viewpoint, framing, from_above, from_json, of_camera, unit

ABOVE = 0.35  # slope of the view from behind the photos
BEHIND = np.array([1.0, 0.0, -0.45])  # a LiDAR scene is first seen from behind and above the sensor
_PHOTO = re.compile(r"photo:(\d{1,9})")
NEAR_PART, CLOSE_PART = 0.9, 0.4  # of a sweep's extent: most of what matters is near the sensor


def first_view(contents: Contents) -> Viewpoint:
    """Where to begin: at the middle one of the photos, else behind a sweep, else in front of a splat."""
    cameras = contents.cameras
    if cameras is not None:
        middle = len(cameras.cameras) // 2
        return photo_viewpoint(contents, middle)
    if any(isinstance(layer, PointsLayer) for layer in contents.layers):
        return framing(_near_part(contents, CLOSE_PART), BEHIND, contents.up)
    extent = contents.extent()
    return framing(extent, unit(np.array([0.0, 0.25, 1.0])), contents.up)


def photo_viewpoint(contents: Contents, index: int) -> Viewpoint:
    """The viewpoint nearest to that of photo ``index``, with what the scene's middle is as its target."""
    camera = photo_camera(contents, index)
    pose = camera.world_to_camera[0].double().numpy()
    extents = [layer.extent() for layer in contents.layers if layer is not contents.cameras]
    around = joined(extents)
    middle = (contents.extent() if around is None else around).mean(axis=0)
    depth = float(pose[2, :3] @ middle + pose[2, 3])
    size = float(np.linalg.norm(np.ptp(contents.extent(), axis=0)))
    return of_camera(camera, depth if depth > 0.02 * size else max(0.5 * size, 1e-3), contents.up)


def photo_camera(contents: Contents, index: int) -> Cameras:
    """The camera of photo ``index``.

    Raises:
        InputError: where there is none.
    """
    cameras = contents.cameras
    count = 0 if cameras is None else len(cameras.cameras)
    if cameras is None or not 0 <= index < count:
        have = f"photos 0 to {count - 1}" if count else "no photos"
        raise InputError(f"there is no photo {index}: {have} are open")
    return cameras.cameras[index]


def named_camera(contents: Contents, view: str | None, width: int, height: int) -> Cameras:
    """The camera that ``view`` names, for a picture of width x height pixels.

    Args:
        contents: what is open.
        view: as in :func:`named_viewpoint`.
        width, height: of the picture. A photo keeps its own camera and shape within them.

    Raises:
        InputError: for a view there is not.
    """
    if view is not None and (found := _PHOTO.fullmatch(view)):
        camera = photo_camera(contents, int(found[1]))
        own_width, own_height = camera.size
        return camera.resized(min(width / own_width, height / own_height))
    return named_viewpoint(contents, view, width / height).camera(width, height)


def named_viewpoint(contents: Contents, view: str | None, aspect: float) -> Viewpoint:
    """The viewpoint that ``view`` names.

    Args:
        contents: what is open.
        view: JSON (see :func:`viewer.viewpoint.from_json`), "top", "bev", "behind", "photo:N", or None for the first
            view.
        aspect: width / height of the picture.

    Raises:
        InputError: for a view there is not.
    """
    if view is None:
        return first_view(contents)
    if view == "top":
        return from_above(contents.extent(), contents.up)
    if view == "bev":
        return bird_view(contents, aspect)
    if view == "behind":
        return behind_photos(contents)
    if found := _PHOTO.fullmatch(view):
        return photo_viewpoint(contents, int(found[1]))
    if view.lstrip().startswith("{"):
        return from_json(view, contents.up)
    raise InputError(f"there is no view {view!r}: give top, bev, behind, photo:N, or JSON with eye, target, up and fov")


def behind_photos(contents: Contents) -> Viewpoint:
    """From behind and above where the photos were taken, with all of those places in the picture.

    Raises:
        InputError: where no photos are open.
    """
    if contents.cameras is None or not len(contents.cameras.cameras):
        raise InputError("there is no view behind the photos: no photos are open")
    poses = contents.cameras.cameras.world_to_camera.double().numpy()
    places = -np.einsum("nji,nj->ni", poses[:, :3, :3], poses[:, :3, 3])
    target = first_view(contents).target
    ahead = target - places.mean(axis=0)
    if np.linalg.norm(ahead) < 1e-9:
        ahead = poses[:, 2, :3].mean(axis=0)
    shown = np.concatenate([places, target[None]])
    extent = np.stack([shown.min(axis=0), shown.max(axis=0)])
    return framing(extent, unit(ahead) - ABOVE * contents.up, contents.up)


def bird_view(contents: Contents, aspect: float) -> Viewpoint:
    """From far above, all but parallel, so that lengths on the ground compare: +x is up in the picture."""
    extent = _near_part(contents, NEAR_PART)
    view = from_above(extent, contents.up, FLAT)
    axes = view.axes
    corners = np.stack(np.meshgrid(*extent.T, indexing="ij"), axis=-1).reshape(-1, 3) - view.target
    right, down = np.abs(corners @ axes[0]).max(), np.abs(corners @ axes[1]).max()
    distance = max(down, right / aspect) * 1.05 / math.tan(math.radians(FLAT) / 2)
    return Viewpoint(view.target - distance * axes[2], view.target, view.up, FLAT)


def _near_part(contents: Contents, share: float) -> np.ndarray:
    """The extent; where sweeps are open, ``share`` of its sides, around its middle: far ends are mostly empty."""
    extent = contents.extent()
    if contents.cameras is not None or not any(isinstance(layer, PointsLayer) for layer in contents.layers):
        return extent
    middle = extent.mean(axis=0)
    return middle + (extent - middle) * np.where(np.abs(contents.up) > 0.5, 1.0, share)
