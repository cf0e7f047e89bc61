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
POINTS = 20_000  # of each photo's surface that are looked at
BEFORE = 0.97  # times the surface's depth, up to which a point stands in front of it
BLOCK = 4  # side, pixels, of the squares of a guessed surface that stand in the way or do not


def in_the_way(positions: np.ndarray, cameras: Cameras, surfaces: Sequence[Surface]) -> np.ndarray:
    """[N] bool: which of positions [N, 3], that no photo sees, would stand in the way of views between the photos.

    Those are points nearer to the way between two cameras that look alike than anything that these see, and points in
    front of a measured surface, seen from a few places on that way and a little beyond its ends.
    """
    cameras = cameras.to(dtype=torch.float64)
    known = np.concatenate([_points_of(cameras, i, surface) for i, surface in enumerate(surfaces)])
    clearance = [_nearest(surface) for surface in surfaces]
    result = np.zeros(len(positions), bool)
    for i, j in _pairs(cameras):
        result |= _beside(positions, cameras, i, j, clearance)
        for stop in _stops(cameras, i, j):
            result |= _before(positions, known, stop)
    return result


def guesses_in_the_way(view: int, cameras: Cameras, surfaces: Sequence[Surface]) -> np.ndarray:
    """[H, W] bool: where a view's surface is a guess that would stand in the way, to within a few pixels."""
    surface = surfaces[view]
    height, width = surface.known.shape
    y, x = (at.ravel() for at in np.mgrid[:height:BLOCK, :width:BLOCK])
    y, x = np.minimum(y + BLOCK // 2, height - 1), np.minimum(x + BLOCK // 2, width - 1)
    guessed = ~surface.known[y, x]
    blocks = np.zeros(len(x), bool)
    pixels = np.stack([x, y], axis=1)[guessed] + 0.5
    points = back_project(cameras.to(dtype=torch.float64), view, pixels, surface.inverse_depth[y, x][guessed])
    blocks[guessed] = in_the_way(points, cameras, surfaces)
    grid = blocks.reshape(-(-height // BLOCK), -(-width // BLOCK))
    found: np.ndarray = np.repeat(np.repeat(grid, BLOCK, axis=0), BLOCK, axis=1)[:height, :width] & ~surface.known
    return found


def _pairs(cameras: Cameras) -> Iterator[tuple[int, int]]:
    axes = cameras.world_to_camera[:, 2, :3].numpy()
    alike = axes @ axes.T > ALIKE
    return ((i, j) for i in range(len(axes)) for j in range(i + 1, len(axes)) if alike[i, j])


def _points_of(cameras: Cameras, view: int, surface: Surface) -> np.ndarray:
    y, x = np.nonzero(surface.known & surface.counts)
    every = slice(None, None, max(1, len(x) // POINTS))
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


def _before(positions: np.ndarray, known: np.ndarray, camera: Cameras) -> np.ndarray:
    """[N] bool: which of positions a camera sees in front of all that is known [M, 3] around the same place."""
    width, height = camera.size
    cell = width / CELLS
    rows = int(height / cell) + 1

    def seen(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        pixels, depth = project(torch.from_numpy(points), camera)
        which = np.flatnonzero(inside(pixels, depth, camera)[0].numpy())
        x, y = (pixels[0, which].numpy() / cell).astype(np.int64).T
        return which, np.minimum(y, rows - 1) * CELLS + np.minimum(x, CELLS - 1), depth[0, which].numpy()

    nearest = np.full(rows * CELLS, np.inf)
    _, place, depth = seen(known)
    np.minimum.at(nearest, place, depth)
    result = np.zeros(len(positions), bool)
    which, place, depth = seen(positions)
    result[which] = np.isfinite(nearest[place]) & (depth < BEFORE * nearest[place])
    return result
