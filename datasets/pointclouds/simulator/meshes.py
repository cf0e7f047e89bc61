"""Triangle meshes with a material for each triangle, and the simple bodies that things are made of.

Axes x forward, y left, z up, metres. Faces have no inner and outer side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from datasets.types import expect_shape

CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2  # of a unit box
QUADS = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])
SIDES = np.concatenate([QUADS[:, [0, 1, 2]], QUADS[:, [0, 2, 3]]])


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
    return of(points.reshape(-1, 3), _between(*points.shape[:2]), material)


@lru_cache(maxsize=256)
def _between(rows: int, columns: int) -> np.ndarray:
    """Triangles [T, 3] between the points of a grid."""
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]
    triangles = np.stack([np.stack([a, b, c], -1), np.stack([a, c, d], -1)], axis=2).reshape(-1, 3)
    triangles.flags.writeable = False  # shared by all grids of this size
    return triangles


def box(centre: Sequence[float] | np.ndarray, size: Sequence[float] | np.ndarray, material: Material) -> Mesh:
    """An upright box by centre and size along x, y, z."""
    return of(np.asarray(centre) + CORNERS * np.asarray(size), SIDES, material)


def tube(
    start: Sequence[float] | np.ndarray,
    end: Sequence[float] | np.ndarray,
    radii: tuple[float, float],
    material: Material,
    sides: int = 8,
) -> Mesh:
    """A cone frustum with closed ends between two points."""
    first, last = np.asarray(start, float), np.asarray(end, float)
    x, y, z = (last - first) / np.linalg.norm(last - first)
    across = np.array([y, -x, 0.0] if abs(z) < 0.9 else [0.0, z, -y])
    across /= np.linalg.norm(across)
    a, b, c = across
    upward = np.array([y * c - z * b, z * a - x * c, x * b - y * a])
    angle = np.arange(sides + 1) * 2 * np.pi / sides
    ring = np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * upward
    rows = np.empty((4, sides + 1, 3))
    rows[0], rows[1], rows[2], rows[3] = first, first + radii[0] * ring, last + radii[1] * ring, last
    return grid(rows, material)


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
