"""What stands beside streets, and is not to be detected: ground, houses, trees, hedges, poles, fences, bins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from datasets.pointclouds.simulator.meshes import Material, Mesh, box, ellipsoid, grid, join, leaves, tube

ASPHALT = Material(0.34)
PAVEMENT = Material(0.38)
GRASS = Material(0.48)
WOOD = Material(0.3)
METAL = Material(0.35, gloss=0.4)
PAINT = Material(0.8)
RETRO = Material(1.0)
GLASS = Material(0.08, gloss=1.0, transmission=0.7)


def foliage(random: np.random.Generator) -> Material:
    """Leaves, of which a pulse passes some."""
    return Material(float(random.uniform(0.3, 0.6)), transmission=0.15)


@dataclass(frozen=True)
class Relief:
    """Hills: waves [W, 4] of x and y frequency (rad/m), phase and amplitude (m); the height is 0 at the origin."""

    waves: np.ndarray

    def __call__(self, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
        """Height of the ground in metres."""
        along, across, phase, amplitude = self.waves.T
        swing = np.sin(np.multiply.outer(x, along) + np.multiply.outer(y, across) + phase) - np.sin(phase)
        return (amplitude * swing).sum(axis=-1)

    @staticmethod
    def drawn(random: np.random.Generator) -> Relief:
        """Hills of half a metre over a hundred metres, humps of a few centimetres."""
        spread = np.array([0.06] * 3 + [0.4] * 4)[:, None] * random.uniform(-1, 1, (7, 2))
        amplitude = np.array([0.35] * 3 + [0.025] * 4) * random.random(7)
        return Relief(np.column_stack([spread, random.uniform(0, 2 * np.pi, 7), amplitude]))


def ground(edges: tuple[float, float], pavement: float, kerb: float, reach: float, relief: Relief) -> Mesh:
    """The ground along a straight street on x: road between two y, a pavement raised by ``kerb`` on both sides, grass.

    The road carries painted lines.
    """
    right, left = edges
    y = [-reach, right - pavement - 0.05, right - pavement, right - 0.02, right, left, left + 0.02, left + pavement]
    y = [*y, left + pavement + 0.05, reach]
    raised = [kerb, kerb, kerb, kerb, 0.0, 0.0, kerb, kerb, kerb, kerb]
    materials = [GRASS, GRASS, PAVEMENT, PAVEMENT, ASPHALT, PAVEMENT, PAVEMENT, GRASS, GRASS]
    x = np.linspace(-reach, reach, 81)
    parts = []
    for i, material in enumerate(materials):
        strip = np.linspace(y[i], y[i + 1], max(2, int(abs(y[i + 1] - y[i]) / 2) + 1))
        mesh_x, mesh_y = np.meshgrid(x, strip, indexing="ij")
        level = np.interp(mesh_y, y, raised) + relief(mesh_x, mesh_y)
        parts.append(grid(np.stack([mesh_x, mesh_y, level], axis=2), material))
    middle = (right + left) / 2
    parts += [
        box((at, middle, float(relief(at, middle)) + 0.005), (3, 0.12, 0.012), PAINT)
        for at in np.arange(-reach, reach, 9)
    ]
    return join(parts)


def house(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A block with recessed windows towards -y, and its footprint's length and depth."""
    width, depth, height = random.uniform([8, 8, 4], [22, 14, 14])
    wall = Material(float(random.uniform(0.25, 0.7)))
    parts = [box((0, depth / 2, height / 2), (width, depth, height), wall)]
    for storey in range(int(height // 3)):
        for at in np.arange(-width / 2 + 1.5, width / 2 - 1, random.uniform(2, 4)):
            if random.random() < 0.8:
                middle, sill = (at, -0.06, 3 * storey + 1.6), (at, -0.12, 3 * storey + 0.9)
                parts += [box(middle, (1.1, 0.08, 1.3), GLASS), box(sill, (1.3, 0.22, 0.08), wall)]
    if random.random() < 0.5:
        parts.append(box((random.uniform(-width / 3, width / 3), -0.7, 0.5), (1.5, 1.4, 1.0), wall))
    return join(parts), np.array([width, depth])


def tree(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A trunk and a crown of leaves."""
    height, radius = random.uniform(3.5, 9), random.uniform(0.08, 0.28)
    crown, stem = random.uniform(1.0, 2.8), random.uniform(1.6, 3)
    spread = (crown, crown, (height - stem) / 2)
    return join(
        [
            tube((0, 0, -0.2), (random.normal() * 0.15, 0, stem + 1), (radius, radius * 0.7), WOOD, 7),
            leaves(random, (0, 0, (height + stem) / 2), spread, 400, foliage(random)),
        ]
    ), np.array([0.6, 0.6])


def bush(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A shrub, as high and as wide as many things that are to be found."""
    length, width, height = random.uniform([0.6, 0.6, 0.5], [3, 1.8, 2.2])
    leafy = leaves(random, (0, 0, height / 2), (length / 2, width / 2, height / 2), 150, foliage(random))
    core = ellipsoid((0, 0, height * 0.45), (length * 0.3, width * 0.3, height * 0.35), WOOD, 6)
    return join([leafy, core]), np.array([length, width])


def hedge(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A clipped hedge."""
    length, width, height = random.uniform([4, 0.5, 0.8], [14, 1.2, 2.0])
    count = int(60 * length)
    middles = random.uniform([-length / 2, -width / 2, 0], [length / 2, width / 2, height], (count, 3))
    corners = middles[:, None] + 0.12 * random.normal(size=(count, 3, 3))
    material = foliage(random)
    leafy = Mesh(corners.reshape(-1, 3), np.arange(3 * count).reshape(-1, 3), np.zeros(count, np.int64), (material,))
    core = box((0, 0, height * 0.45), (length * 0.97, width * 0.7, height * 0.85), material)
    return join([leafy, core]), np.array([length, width])


def fence(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """Posts with boards or bars."""
    length, height = random.uniform(5, 15), random.uniform(0.8, 1.8)
    posts = [box((x, 0, height / 2), (0.08, 0.08, height), WOOD) for x in np.arange(-length / 2, length / 2, 2)]
    if random.random() < 0.5:
        return join([*posts, box((0, 0, height / 2), (length, 0.03, height * 0.95), WOOD)]), np.array([length, 0.3])
    bars = [box((0, 0, z), (length, 0.04, 0.05), METAL) for z in np.linspace(0.25, height, 4)]
    return join([*posts, *bars]), np.array([length, 0.3])


def wall(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A low wall."""
    length, thick, height = random.uniform([3, 0.2, 0.5], [14, 0.4, 2.2])
    return box((0, 0, height / 2), (length, thick, height), Material(0.4)), np.array([length, thick])


def pole(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A lamp post, a post with a sign, or a bollard."""
    kind = random.random()
    if kind < 0.4:
        height, radius = random.uniform(5, 9), random.uniform(0.06, 0.14)
        arm = tube((0, 0, height), (0, 1.2, height), (0.04, 0.04), METAL, 6)
        return join([tube((0, 0, 0), (0, 0, height), (radius, radius * 0.6), METAL, 8), arm]), np.array([0.4, 0.4])
    if kind < 0.8:
        height = random.uniform(2.2, 3.2)
        plate = box((0, 0, height - 0.3), (0.03, 0.6, 0.6), RETRO)
        return join([tube((0, 0, 0), (0, 0, height), (0.035, 0.035), METAL, 6), plate]), np.array([0.4, 0.6])
    height = random.uniform(0.8, 1.2)
    return tube((0, 0, 0), (0, 0, height), (0.07, 0.07), METAL, 8), np.array([0.3, 0.3])


def bin_or_cabinet(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A dustbin, a switch cabinet, a skip: boxes of all sizes that are no vehicles."""
    low, high = ([0.5, 0.5, 0.8], [0.8, 0.8, 1.2]) if random.random() < 0.75 else ([1.2, 0.8, 1.0], [3.5, 1.8, 1.7])
    size = random.uniform(low, high)
    return box((0, 0, size[2] / 2), size, Material(float(random.uniform(0.1, 0.5)))), size[:2]


ROADSIDE: tuple[tuple[Callable[[np.random.Generator], tuple[Mesh, np.ndarray]], float], ...] = (
    (tree, 0.28),
    (pole, 0.22),
    (bush, 0.16),
    (hedge, 0.1),
    (fence, 0.08),
    (wall, 0.06),
    (bin_or_cabinet, 0.1),
)
