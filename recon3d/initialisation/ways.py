"""Where novel views are likely to be taken from, and which points would stand in their way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp

from datasets.geometry import inside, project
from datasets.types import Cameras
from recon3d.initialisation.clouds import back_project
from recon3d.initialisation.surfaces import Surface

ALIKE = 0.5  # cosine between the axes of two cameras between which novel views are likely
STOPS = (-0.25, 0.25, 0.5, 0.75, 1.25)  # of the way from one camera to another
NEAR = 98  # percentile of the inverse depth of a photo that counts as the nearest it shows
CELLS = 96  # along the width of a view in which points are held against the surface
POINTS, POINTS_IN_ALL = 20_000, 180_000  # of each photo's surface that are looked at at most, and of all of them
PARTNERS = 8  # cameras nearest to one, to which ways lead from it
BEFORE = 0.97  # times the surface's depth, up to which a point stands in front of it
BLOCK = 4  # side, pixels, of the squares of a guessed surface that stand in the way or do not


class Ways:
    """The ways between cameras that look alike, and what is known of what is seen from there.

    Args:
        cameras: of the photos.
        surfaces: of each photo.
    """

    def __init__(self, cameras: Cameras, surfaces: Sequence[Surface]) -> None:
        self.cameras, self.surfaces = cameras.to(dtype=torch.float64), surfaces
        most = min(POINTS, POINTS_IN_ALL // max(len(surfaces), 1))
        known = [_points_of(self.cameras, i, surface, most) for i, surface in enumerate(surfaces)]
        self._clearance = [_nearest(surface) for surface in surfaces]
        self._pairs = list(_pairs(self.cameras))
        points = np.concatenate(known) if known else np.zeros((0, 3))
        self._stops = [_Stop(camera, points) for i, j in self._pairs for camera in _stops(self.cameras, i, j)]

    def obstructed_by(self, positions: np.ndarray) -> np.ndarray:
        """[N] bool: which of positions [N, 3], that no photo sees, would stand in the way of views between the photos.

        Those are points nearer to the way between two cameras that look alike than anything that these see, and points
        in front of a measured surface, seen from a few places on that way and a little beyond its ends.
        """
        result = np.zeros(len(positions), bool)
        for i, j in self._pairs:
            result |= _beside(positions, self.cameras, i, j, self._clearance)
        for stop in self._stops:
            result |= stop.sees_before(positions)
        return result

    def obstructed_by_guesses(self, view: int) -> np.ndarray:
        """[H, W] bool: where a view's surface is a guess that would stand in the way, to within a few pixels."""
        surface = self.surfaces[view]
        height, width = surface.known.shape
        y, x = (at.ravel() for at in np.mgrid[:height:BLOCK, :width:BLOCK])
        y, x = np.minimum(y + BLOCK // 2, height - 1), np.minimum(x + BLOCK // 2, width - 1)
        guessed = ~surface.known[y, x]
        blocks = np.zeros(len(x), bool)
        pixels = np.stack([x, y], axis=1)[guessed] + 0.5
        points = back_project(self.cameras, view, pixels, surface.inverse_depth[y, x][guessed])
        blocks[guessed] = self.obstructed_by(points)
        grid = blocks.reshape(-(-height // BLOCK), -(-width // BLOCK))
        found: np.ndarray = np.repeat(np.repeat(grid, BLOCK, axis=0), BLOCK, axis=1)[:height, :width] & ~surface.known
        return found


def _pairs(cameras: Cameras) -> Iterator[tuple[int, int]]:
    """Pairs that look alike, of each camera and its :data:`PARTNERS` nearest ones."""
    axes, centres = cameras.world_to_camera[:, 2, :3].numpy(), cameras.centres.numpy()
    alike = axes @ axes.T > ALIKE
    apart = np.linalg.norm(centres[:, None] - centres, axis=2)
    rank = apart.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    alike &= (rank <= PARTNERS) | (rank.T <= PARTNERS)
    return ((i, j) for i in range(len(axes)) for j in range(i + 1, len(axes)) if alike[i, j])


def _points_of(cameras: Cameras, view: int, surface: Surface, most: int) -> np.ndarray:
    y, x = np.nonzero(surface.known & surface.counts)
    every = slice(None, None, max(1, len(x) // most))
    y, x = y[every], x[every]
    return back_project(cameras, view, np.stack([x, y], axis=1) + 0.5, surface.inverse_depth[y, x])


def _nearest(surface: Surface) -> float:
    return float(1 / np.percentile(surface.inverse_depth[surface.counts], NEAR)) if surface.counts.any() else 0.0


def _beside(positions: np.ndarray, cameras: Cameras, i: int, j: int, clearance: Sequence[float]) -> np.ndarray:
    """[N] bool: which of positions lie within the cameras' clearances of the straight way between two of them."""
    start, end = cameras.centres[[i, j]].numpy()
    way = end - start
    along = np.clip((positions - start) @ way / max(float(way @ way), 1e-12), 0, 1)
    apart = np.linalg.norm(positions - start - along[:, None] * way, axis=1)
    return apart < (1 - along) * clearance[i] + along * clearance[j]


def _stops(cameras: Cameras, i: int, j: int) -> Iterator[Cameras]:
    """Cameras on the way from one to another and beyond, like the first but for their pose."""
    start, end = cameras.centres[[i, j]].numpy()
    turn = Slerp([0, 1], Rotation.from_matrix(cameras.world_to_camera[[i, j], :3, :3].numpy()))
    for share in STOPS:
        pose = np.eye(4)
        pose[:3, :3] = turn(np.clip(share, 0, 1)).as_matrix()
        pose[:3, 3] = -pose[:3, :3] @ (start + share * (end - start))
        yield Cameras(torch.from_numpy(pose)[None], cameras.intrinsics[i : i + 1], cameras.sizes[i : i + 1])


class _Stop:
    """A place to look from, and the depth of the nearest thing known in each cell of its view, infinite where nothing
    is.
    """

    def __init__(self, camera: Cameras, known: np.ndarray) -> None:
        self.camera = camera
        width, height = camera.size
        self.cell = width / CELLS
        self.rows = int(height / self.cell) + 1
        self.nearest = np.full(self.rows * CELLS, np.inf)
        _, place, depth = self._seen(known)
        np.minimum.at(self.nearest, place, depth)

    def sees_before(self, positions: np.ndarray) -> np.ndarray:
        """[N] bool: which of positions [N, 3] it sees in front of all that is known around the same place."""
        result = np.zeros(len(positions), bool)
        which, place, depth = self._seen(positions)
        nearest = self.nearest[place]
        result[which] = np.isfinite(nearest) & (depth < BEFORE * nearest)
        return result

    def _seen(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which points are in the view, and of those the cell and the depth."""
        pixels, depth = project(torch.from_numpy(points), self.camera)
        which = np.flatnonzero(inside(pixels, depth, self.camera)[0].numpy())
        x, y = (pixels[0, which].numpy() / self.cell).astype(np.int64).T
        return which, np.minimum(y, self.rows - 1) * CELLS + np.minimum(x, CELLS - 1), depth[0, which].numpy()
