"""What stands beside streets and is not to be detected: fences, walls, poles, bins, bicycles, tables, planters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from datasets.pointclouds.simulator.buildings import METAL
from datasets.pointclouds.simulator.meshes import Material, Mesh, box, join, tube
from datasets.pointclouds.simulator.people import bicycle
from datasets.pointclouds.simulator.vegetation import WOOD, bed, bush, clump, foliage, hedge, tree

RETRO = Material(1.0)


def fence(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """Posts with boards, bars or upright rods."""
    length, height, kind = random.uniform(4, 15), random.uniform(0.8, 1.8), random.random()
    posts = [box((x, 0, height / 2), (0.08, 0.08, height), WOOD) for x in np.arange(-length / 2, length / 2, 2)]
    if kind < 0.35:
        rest = [box((0, 0, height / 2), (length, 0.03, height * 0.95), WOOD)]
    elif kind < 0.65:
        rest = [box((0, 0, z), (length, 0.04, 0.05), METAL) for z in np.linspace(0.25, height, 4)]
    else:
        rest = [box((x, 0, height / 2), (0.03, 0.03, height), METAL) for x in np.arange(-length / 2, length / 2, 0.14)]
    return join([*posts, *rest]), np.array([length, 0.3])


def wall(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A low wall, straight or going round a corner."""
    length, thick, height = random.uniform([2, 0.2, 0.4], [14, 0.4, 2.2])
    along, depth = box((0, 0, height / 2), (length, thick, height), Material(0.4)), thick
    if random.random() < 0.6:
        return along, np.array([length, depth])
    depth = random.uniform(1, 5)
    end = box((length / 2, depth / 4, height / 2), (thick, depth / 2, height), Material(0.4))
    return join([along, end]), np.array([length + thick, depth])


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


def parked_bicycles(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """One to six bicycles without riders, side by side, leaning a little."""
    count, apart = int(random.choice([1, 1, 2, 4, 6])), random.uniform(0.4, 0.7)
    parts = []
    for i in range(count):
        one = join(bicycle(float(random.uniform(0.98, 1.08))))
        tilt = random.normal() * 0.15
        leaning = one.vertices + one.vertices[:, 2:] * np.array([0, np.sin(tilt), 0])
        upright = Mesh(leaning, one.triangles, one.material, one.materials)
        parts.append(upright.placed(random.normal() * 0.1, (i - (count - 1) / 2) * apart, 0, random.normal() * 0.1))
    return join(parts), np.array([1.9, 0.6 + apart * (count - 1)])


def table(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A cafe's table with its chairs, perhaps below a parasol, or a bench."""
    wood = Material(float(random.uniform(0.2, 0.6)))

    def seat(x: float, y: float) -> list[Mesh]:
        legs = [
            tube((x + a, y + b, 0), (x + a, y + b, 0.45), (0.02, 0.02), METAL, 4)
            for a in (-0.2, 0.2)
            for b in (-0.2, 0.2)
        ]
        return [*legs, box((x, y, 0.45), (0.45, 0.45, 0.04), wood), box((x * 1.25, y, 0.7), (0.04, 0.42, 0.4), wood)]

    if random.random() < 0.3:
        long = random.uniform(1.2, 2.4)
        slabs = [box((0, 0, 0.45), (long, 0.45, 0.05), wood), box((0, 0.22, 0.75), (long, 0.05, 0.35), wood)]
        feet = [box((s * long * 0.4, 0, 0.22), (0.08, 0.4, 0.44), METAL) for s in (-1, 1)]
        return join([*slabs, *feet]), np.array([long, 0.6])
    parts = [tube((0, 0, 0), (0, 0, 0.74), (0.04, 0.04), METAL, 6), box((0, 0, 0.75), (0.7, 0.7, 0.03), wood)]
    parts += [part for x in (-0.65, 0.65) if random.random() < 0.9 for part in seat(x, 0.0)]
    if random.random() < 0.3:
        parts.append(tube((0, 0, 0.7), (0, 0, 2.4), (0.025, 0.025), METAL, 5))
        parts.append(tube((0, 0, 2.1), (0, 0, 2.6), (1.3, 0.05), wood, 8))
    return join(parts), np.array([1.9, 0.9])


def planter(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A tub with a plant."""
    length, width, height = random.uniform([0.4, 0.4, 0.3], [1.8, 0.8, 0.8])
    radii = np.array([length, width, 0.6]) * random.uniform(0.35, 0.7)
    plant = clump(
        random, np.array([0, 0, height + 0.5 * radii[2]]), radii, int(random.uniform(40, 150)), foliage(random)
    )
    return join([box((0, 0, height / 2), (length, width, height), Material(0.35)), plant]), np.array([length, width])


ROADSIDE: tuple[tuple[Callable[[np.random.Generator], tuple[Mesh, np.ndarray]], float], ...] = (
    (tree, 0.2),
    (pole, 0.16),
    (bush, 0.16),
    (bed, 0.1),
    (hedge, 0.08),
    (fence, 0.08),
    (wall, 0.06),
    (bin_or_cabinet, 0.08),
    (parked_bicycles, 0.05),
    (table, 0.05),
    (planter, 0.04),
)
