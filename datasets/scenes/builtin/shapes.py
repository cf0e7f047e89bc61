"""Triangle meshes of the built-in scene: parametric surfaces, solids of revolution, tubes, boxes. Metres, z up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import CubicSpline, PchipInterpolator

Surface = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Count(Protocol):
    """How many cells to divide a shape into, ``wanted`` at full detail."""

    def __call__(self, wanted: int, least: int = 4) -> int: ...


@dataclass(frozen=True)
class Mesh:
    """A mesh of one material.

    Attributes:
        vertices, normals: [N, 3] float64.
        uv: [N, 2] texture coordinates; a texture repeats every 1.
        triangles: [T, 3] int32.
    """

    vertices: np.ndarray
    normals: np.ndarray
    uv: np.ndarray
    triangles: np.ndarray

    def placed(self, position: ArrayLike, turn: float = 0.0, tilt: float = 0.0) -> Mesh:
        """Tilted about x, then turned about z (degrees), then moved."""
        a, b = math.radians(turn), math.radians(tilt)
        about_z = np.array([[math.cos(a), -math.sin(a), 0], [math.sin(a), math.cos(a), 0], [0, 0, 1]])
        about_x = np.array([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
        rotation = about_z @ about_x
        return replace(
            self, vertices=self.vertices @ rotation.T + np.asarray(position), normals=self.normals @ rotation.T
        )


def merged(meshes: Sequence[Mesh]) -> Mesh:
    """All meshes as one."""
    offsets = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.uv for mesh in meshes]),
        np.concatenate([mesh.triangles + offset for mesh, offset in zip(meshes, offsets, strict=True)]),
    )


def surface(shape: Surface, columns: int, rows: int, repeat: tuple[float, float] = (1.0, 1.0)) -> Mesh:
    """The surface ``shape(u, v)`` over the unit square; its normal is d/du x d/dv."""
    u, v = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 1, columns + 1), np.linspace(0, 1, rows + 1)))
    step = 1e-4
    inner = np.clip(v, 2 * step, 1 - 2 * step)  # off the poles, where a derivative vanishes
    along = shape(u + step, inner) - shape(u - step, inner)
    across = shape(u, inner + step) - shape(u, inner - step)
    normals = np.cross(along, across)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    return Mesh(shape(u, v), normals, np.stack([u, v], 1) * repeat, _grid_triangles(columns, rows))


def revolved(
    profile: Sequence[tuple[float, float]], columns: int, rows: int, repeat: tuple[float, float] = (1.0, 1.0)
) -> Mesh:
    """A smooth profile of (radius, height), from the bottom up, turned about z."""
    points = np.array(profile, dtype=float)
    chord = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    curve = PchipInterpolator(chord / chord[-1], points)

    def shape(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        radius, height = curve(v).T
        angle = 2 * math.pi * u
        return np.stack([radius * np.cos(angle), radius * np.sin(angle), height], 1)

    return surface(shape, columns, rows, repeat)


def ball(radii: tuple[float, float, float], columns: int, rows: int, dimple: float = 0.0) -> Mesh:
    """An ellipsoid about the origin; ``dimple`` presses its top in, as an apple's."""

    def shape(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        angle, polar = 2 * math.pi * u, math.pi * (1 - v)
        height = np.cos(polar) - dimple * np.exp(-((np.sin(polar) / 0.35) ** 2)) * (v > 0.5)
        points = np.stack([np.sin(polar) * np.cos(angle), np.sin(polar) * np.sin(angle), height], 1)
        return points * radii

    return surface(shape, columns, rows)


def tube(
    path: ArrayLike | Sequence[ArrayLike],
    radius: float | Sequence[float],
    segments: int,
    sides: int,
    closed: bool = False,
    repeat: tuple[float, float] = (1.0, 1.0),
) -> Mesh:
    """A round tube along a smooth curve through ``path``; ``radius`` is one, or one for each point of the path."""
    points = np.asarray(path, dtype=float)
    if closed:
        points = np.concatenate([points, points[:1]])
    along = np.linspace(0, 1, len(points))
    curve = CubicSpline(along, points, bc_type="periodic" if closed else "natural")
    t = np.linspace(0, 1, segments + 1)
    centres, tangents = curve(t), curve(t, 1)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    radii = np.interp(t, along, np.broadcast_to(np.asarray(radius, dtype=float), (len(points),)))
    side = np.empty_like(tangents)
    start = np.eye(3)[np.abs(tangents[0]).argmin()]
    for i, tangent in enumerate(tangents):  # carried along without twisting
        start = start - tangent * (start @ tangent)
        side[i] = start = start / np.linalg.norm(start)
    other = np.cross(tangents, side)
    angle = np.linspace(0, 2 * math.pi, sides + 1)
    normals = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * other[:, None]
    vertices = centres[:, None] + radii[:, None, None] * normals
    u, v = np.meshgrid(np.linspace(0, repeat[0], sides + 1), t * repeat[1])
    return Mesh(
        vertices.reshape(-1, 3),
        normals.reshape(-1, 3),
        np.stack([u.ravel(), v.ravel()], 1),
        _grid_triangles(sides, segments),
    )


def rectangle(corner: ArrayLike, right: ArrayLike, up: ArrayLike, columns: int, rows: int) -> Mesh:
    """A flat rectangle from its lower left ``corner``, seen from the side that right x up points to."""
    a, b, c = (np.asarray(x, dtype=float) for x in (corner, right, up))
    return surface(lambda u, v: a + u[:, None] * b + v[:, None] * c, columns, rows)


def box(size: tuple[float, float, float], cells: int) -> dict[str, Mesh]:
    """The six faces of a box that stands centred on the origin: top, bottom, front (-y), back, left (-x), right."""
    x, y, z = size
    return {
        "top": rectangle((-x / 2, -y / 2, z), (x, 0, 0), (0, y, 0), cells, cells),
        "bottom": rectangle((-x / 2, y / 2, 0), (x, 0, 0), (0, -y, 0), cells, cells),
        "front": rectangle((-x / 2, -y / 2, 0), (x, 0, 0), (0, 0, z), cells, max(2, cells // 3)),
        "back": rectangle((x / 2, y / 2, 0), (-x, 0, 0), (0, 0, z), cells, max(2, cells // 3)),
        "left": rectangle((-x / 2, y / 2, 0), (0, -y, 0), (0, 0, z), cells, max(2, cells // 3)),
        "right": rectangle((x / 2, -y / 2, 0), (0, y, 0), (0, 0, z), cells, max(2, cells // 3)),
    }


def blade(
    base: ArrayLike,
    direction: ArrayLike,
    facing: ArrayLike,
    length: float,
    width: float,
    droop: float,
    cells: int = 8,
) -> Mesh:
    """A leaf or petal: from ``base`` along ``direction``, its upper side to ``facing``, its tip bent by ``droop``."""
    origin, aim, up = (np.asarray(x, dtype=float) for x in (base, direction, facing))
    ahead = aim / np.linalg.norm(aim)
    across = np.cross(ahead, up)
    across /= np.linalg.norm(across)
    up = np.cross(across, ahead)

    def shape(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        s = u - 0.5
        outline = np.sin(math.pi * np.clip(v, 0.02, 0.985) ** 0.8)
        lift = -droop * v**2 * length + 0.5 * width * s**2 * outline
        return origin + (v * length)[:, None] * ahead + (s * width * outline)[:, None] * across + lift[:, None] * up

    return surface(shape, max(2, cells // 2), cells)


def _grid_triangles(columns: int, rows: int) -> np.ndarray:
    corner = (np.arange(rows)[:, None] * (columns + 1) + np.arange(columns)).ravel()
    lower = np.stack([corner, corner + 1, corner + columns + 2], 1)
    upper = np.stack([corner, corner + columns + 2, corner + columns + 1], 1)
    return np.concatenate([lower, upper]).astype(np.int32)
