"""Depth that a LiDAR, or any other sensor of points, measured, projected into the photos through the calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from datasets.errors import InputError
from datasets.geometry import is_rigid
from datasets.pointclouds.formats import SUFFIXES, read_coordinates
from recon3d.priors.alignment import align, find_anchors
from recon3d.priors.scattered import in_sight, reach_of, surface
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews

FAINTEST = 0.5  # confidence farthest from all points


class ProjectedCloud(DepthPrior):
    """The surface between points of a cloud that a photo sees.

    What lies behind nearer points is taken out first, as a camera beside the sensor sees less than that does. Depth is
    known between neighbouring points of one surface. Confidence falls from 1 at a point to 1/2 as far from all as
    points lie apart; inside :class:`~recon3d.priors.fusion.Fusion` it is measured instead.

    Args:
        clouds: a file: one cloud of the whole scene, in the world of the cameras' source. Or a folder with one file for
            each photo, of its name: ``.bin``, ``.npy``, ``.ply``, ``.pcd`` or ``.las``.
        to_camera: [4, 4] from the axes of the photos' own clouds into their camera (x right, y down, z forward), as
            calibration gives it; without, these clouds are in the world too.
        columns: float32 values a point in ``.bin`` files.
        aligned: whether cloud and cameras have one unit; else scale and shift are found from the scene's points and
            from sparse matches.

    Raises:
        ValueError: for a ``to_camera`` that is no rigid motion, or one beside a single file.
    """

    is_quick = True

    def __init__(
        self, clouds: Path, to_camera: Sequence[Sequence[float]] | None = None, columns: int = 4, aligned: bool = True
    ) -> None:
        self.clouds, self.columns, self.aligned = Path(clouds), columns, aligned
        self.to_camera = None if to_camera is None else _rigid(to_camera)
        if columns < 3:
            raise ValueError(f"ProjectedCloud: columns is {columns}, but a point has at least x, y and z")

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """Depth of each view; unknown for a view without a cloud.

        Raises:
            SceneError: for a file that cannot be used.
            InputError: where there is no cloud, or no photo sees a point of one.
        """
        whole = read_coordinates(self.clouds, self.columns) if self.clouds.is_file() else None
        if whole is not None and self.to_camera is not None:
            raise InputError(
                f"ProjectedCloud: {self.clouds} is one cloud for all photos, which to_camera cannot place: leave "
                "to_camera out, or give a folder with a cloud for each photo"
            )
        paths = [None] * len(views) if whole is not None else self._files(views)
        found, estimates = 0, []
        for view, path in enumerate(paths):
            xyz = whole if path is None else read_coordinates(path, self.columns)
            pixels, depth = self._seen(views, view, np.zeros((0, 3)) if xyz is None else xyz)
            found += len(pixels)
            estimates.append(_between(pixels, depth, views.cameras[view].size))
        if not found:
            raise InputError(
                f"{self.clouds}: no train photo sees a point of it. Check that cloud and cameras share axes and units"
                + ("" if self.to_camera is None else ", and that to_camera leads from the sensor to the camera")
            )
        return estimates if self.aligned else _aligned(estimates, views)

    def _files(self, views: TrainingViews) -> list[Path | None]:
        """The cloud of each photo."""
        if views.names is None or len(set(views.names)) < len(views.names):
            raise InputError("ProjectedCloud finds clouds by the names of the photos, which must differ")
        files = [
            next((path for suffix in SUFFIXES if (path := self.clouds / f"{name}{suffix}").is_file()), None)
            for name in views.names
        ]
        if not any(files):
            raise InputError(
                f"{self.clouds}: no cloud for any train photo. Give one file, or a folder with files like "
                f"{views.names[0]}{SUFFIXES[0]} (or {', '.join(SUFFIXES[1:])})"
            )
        return files

    def _seen(self, views: TrainingViews, view: int, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [N, 2] and z-depth [N] of the points of a cloud that one view sees."""
        camera, to_source = views.cameras[view], views.scene_to_source
        if self.to_camera is None:
            xyz, unit = (xyz - to_source[:3, 3]) @ np.linalg.inv(to_source[:3, :3]).T, 1.0
        else:
            camera = replace(camera, world_to_camera=torch.from_numpy(self.to_camera)[None])
            unit = float(np.cbrt(np.linalg.det(to_source[:3, :3])))
        pixels, depth = in_sight(xyz, camera)
        return pixels, depth / unit


def _between(pixels: np.ndarray, depth: np.ndarray, size: tuple[int, int]) -> DepthEstimate:
    if not len(pixels):
        nothing = np.zeros(size[::-1], np.float32)
        return DepthEstimate(nothing, nothing)
    reach = reach_of(pixels)
    between = surface(pixels, depth, size, reach).astype(np.float32)
    y, x = np.nonzero(between)
    apart, _ = cKDTree(pixels).query(np.column_stack([x, y]) + 0.5)
    confidence = np.zeros_like(between)
    confidence[y, x] = 1 - (1 - FAINTEST) * np.clip((apart - 1) / reach, 0, 1)
    return DepthEstimate(between, confidence)


def _aligned(estimates: Sequence[DepthEstimate], views: TrainingViews) -> list[DepthEstimate]:
    maps = [np.where(one.known, one.depth, np.nan) for one in estimates]
    moved = align(maps, find_anchors(views), "depth")
    return [
        DepthEstimate(depth, np.where(depth > 0, one.confidence, np.float32(0)))
        for depth, one in zip(moved, estimates, strict=True)
    ]


def _rigid(rows: Sequence[Sequence[float]]) -> np.ndarray:
    try:
        pose = np.array(rows, np.float64).reshape(4, 4)
    except (ValueError, TypeError) as error:
        raise ValueError(f"ProjectedCloud: to_camera is {rows}, expected four rows of four numbers") from error
    if not is_rigid(pose):
        raise ValueError("ProjectedCloud: to_camera is not rigid: give a rotation and a translation")
    return pose
