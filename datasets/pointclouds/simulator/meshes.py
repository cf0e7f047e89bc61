"""Triangle meshes with a material for each triangle, and the simple bodies that things are made of.

Axes x forward, y left, z up, metres. Faces have no inner and outer side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.types import expect_shape


@dataclass(frozen=True)
class Material:
    """How a surface answers a laser.

    Attributes:
        reflectivity: share of the light that is scattered back at right incidence, 0..1.
        gloss: how much of that is lost at grazing incidence: 0 for chalk, 1 for a mirror-like paint.
        transmission: share of the pulses that pass through, as through glass and foliage.
    """

    reflectivity: float
    gloss: float = 0.0
    transmission: float = 0.0


@dataclass(frozen=True)
class Mesh:
    """Vertices [V, 3] float64, triangles [T, 3] int64, and of each triangle the index [T] into ``materials``."""

    vertices: np.ndarray
    triangles: np.ndarray
    material: np.ndarray
    materials: tuple[Material, ...]

    def __post_init__(self) -> None:
        expect_shape("vertices", self.vertices, (None, 3))
        expect_shape("triangles", self.triangles, (None, 3))
        expect_shape("material", self.material, (len(self.triangles),))

    def placed(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Mesh:
        """Turned by ``yaw`` counter-clockwise and moved."""
        cos, sin = np.cos(yaw), np.sin(yaw)
        turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        return Mesh(self.vertices @ turn.T + (x, y, z), self.triangles, self.material, self.materials)


def join(meshes: Sequence[Mesh]) -> Mesh:
    """All meshes as one."""
    vertices = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    materials = np.cumsum([0, *(len(mesh.materials) for mesh in meshes)])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.triangles + first for mesh, first in zip(meshes, vertices, strict=False)]),
        np.concatenate([mesh.material + first for mesh, first in zip(meshes, materials, strict=False)]),
        tuple(material for mesh in meshes for material in mesh.materials),
    )


def of(vertices: np.ndarray, triangles: np.ndarray, material: Material) -> Mesh:
    """A mesh of one material."""
    return Mesh(vertices, triangles, np.zeros(len(triangles), np.int64), (material,))


def grid(points: np.ndarray, material: Material) -> Mesh:
    """The surface through points [A, B, 3]."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    triangles = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2)
    return of(points.reshape(-1, 3), triangles.reshape(-1, 3), material)


def box(centre: Sequence[float] | np.ndarray, size: Sequence[float] | np.ndarray, material: Material) -> Mesh:
    """An upright box by centre and size along x, y, z."""
    signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    quads = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
    triangles = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])
    return of(np.asarray(centre) + signs * np.asarray(size), triangles, material)


def tube(
    start: Sequence[float], end: Sequence[float], radii: tuple[float, float], material: Material, sides: int = 8
) -> Mesh:
    """A cone frustum with closed ends between two points."""
    first, last = np.asarray(start, float), np.asarray(end, float)
    axis = (last - first) / np.linalg.norm(last - first)
    across = np.cross(axis, (0, 0, 1) if abs(axis[2]) < 0.9 else (1, 0, 0))
    across /= np.linalg.norm(across)
    angle = np.arange(sides + 1) * 2 * np.pi / sides
    ring = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * np.cross(axis, across)
    rows = [first + 0 * ring, first + radii[0] * ring, last + radii[1] * ring, last + 0 * ring]
    return grid(np.stack(rows), material)


def ellipsoid(centre: Sequence[float], radii: Sequence[float], material: Material, sides: int = 8) -> Mesh:
    """An upright ellipsoid."""
    around = np.arange(sides + 1) * 2 * np.pi / sides
    up = np.linspace(-np.pi / 2, np.pi / 2, sides // 2 + 1)
    surface = np.stack(
        [
            np.cos(up)[:, None] * np.cos(around),
            np.cos(up)[:, None] * np.sin(around),
            np.repeat(np.sin(up)[:, None], len(around), axis=1),
        ],
        axis=2,
    )
    return grid(np.asarray(centre) + surface * np.asarray(radii), material)


def leaves(
    random: np.random.Generator, centre: Sequence[float], radii: Sequence[float], count: int, material: Material
) -> Mesh:
    """``count`` triangles of a hand's size or two, strewn through an ellipsoid, denser towards its outside."""
    direction = random.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    middles = direction * np.asarray(radii) * random.random((count, 1)) ** (1 / 5) + np.asarray(centre)
    size = 0.1 + 0.08 * max(radii)
    corners = middles[:, None] + random.normal(size=(count, 3, 3)) * size
    return of(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3), material)
