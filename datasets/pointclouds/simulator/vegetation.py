"""Trees, bushes, hedges and planted beds: leaves that a pulse may pass, in clumps."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from datasets.pointclouds.simulator.meshes import Material, Mesh, ellipsoid, join, of, tube

WOOD = Material(0.3)


def foliage(random: np.random.Generator) -> Material:
    """Leaves, of which a pulse passes some."""
    return Material(float(random.uniform(0.3, 0.6)), transmission=float(random.uniform(0.05, 0.35)))


def leaves(random: np.random.Generator, middles: np.ndarray, size: float, material: Material) -> Mesh:
    """A triangle of random attitude and about ``size`` metres at each of ``middles`` [N, 3]."""
    corners = middles[:, None] + random.normal(size=(len(middles), 3, 3)) * size
    return of(corners.reshape(-1, 3), np.arange(3 * len(middles)).reshape(-1, 3), material)


def clump(random: np.random.Generator, centre: np.ndarray, radii: np.ndarray, count: int, material: Material) -> Mesh:
    """``count`` leaves strewn through an ellipsoid, denser towards its outside; none below the ground."""
    direction = random.normal(size=(count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    middles = centre + direction * radii * random.random((count, 1)) ** (1 / 4)
    return leaves(random, middles[middles[:, 2] > 0], random.uniform(0.05, 0.16), material)


def tree(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A trunk, branches, and a clump of leaves about the end of each; some are leafy down to the ground."""
    height, radius = random.uniform(2.5, 10), random.uniform(0.05, 0.3)
    stem = height * random.uniform(0.05, 0.25) if random.random() < 0.25 else min(random.uniform(1.6, 3), 0.7 * height)
    crown, material = random.uniform(0.18, 0.38) * height, foliage(random)
    fork = np.array([random.normal() * 0.15, random.normal() * 0.15, stem])
    parts = [tube((0, 0, -0.2), fork, (radius, radius * 0.7), WOOD, 7)]
    for _ in range(int(random.integers(4, 9))):
        end = np.array([*random.normal(size=2) * crown * 0.5, random.uniform(stem, height)])
        parts.append(tube(fork, end, (radius * 0.5, 0.02), WOOD, 4))
        size = crown * random.uniform([0.35, 0.35, 0.3], [0.75, 0.75, 0.6])
        parts.append(clump(random, end, size, int(40 + 90 * size.mean() ** 2 * 4), material))
    return join(parts), np.full(2, 0.6 if stem > 1.5 else 1.5 * crown)


def bush(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A shrub or a few grown together, as high and as wide as many things that are to be found."""
    length, width, height = random.uniform([0.5, 0.5, 0.4], [4.5, 2.2, 2.4])
    material = foliage(random)
    count = max(1, round(length / width + random.uniform(0, 2)))
    parts: list[Mesh] = []
    for at in np.linspace(-0.5, 0.5, count + 2)[1:-1]:
        radii = np.array([length / count, width, height]) * random.uniform(0.4, 0.6, 3)
        centre = np.array([at * length, random.normal() * 0.1 * width, radii[2] * random.uniform(0.6, 1)])
        parts += [
            clump(random, centre, radii, int(60 + 120 * radii.mean() ** 2), material),
            ellipsoid(tuple(centre * (1, 1, 0.9)), tuple(radii * random.uniform(0.4, 0.8)), material, 6),
        ]
    return join(parts), np.array([length, width])


def hedge(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """A hedge, clipped or grown out, its height changing from place to place."""
    length, width, height = random.uniform([3, 0.4, 0.6], [14, 1.4, 2.4])
    material, rough = foliage(random), random.uniform(0.02, 0.3)
    at = np.linspace(-length / 2, length / 2, max(3, int(length)))
    tops = height * (1 + rough * random.normal(size=len(at))).clip(0.4, 1.5)
    count = int(80 * length)
    x = random.uniform(-length / 2, length / 2, count)
    top = np.interp(x, at, tops)
    middles = np.stack([x, random.uniform(-0.5, 0.5, count) * width, top * random.random(count) ** 0.6], axis=1)
    core = [
        ellipsoid(((a + b) / 2, 0, 0.42 * h), (0.75 * (b - a), 0.35 * width, 0.5 * h), material, 6)
        for (a, b), h in zip(pairwise(at), tops, strict=False)
    ]
    return join([leaves(random, middles, random.uniform(0.06, 0.14), material), *core]), np.array([length, width])


def bed(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """Overgrown ground: grass, herbs and brushwood, ankle-deep to waist-high, with single shrubs and stakes."""
    length, width = random.uniform([3, 1], [22, 9])
    deep, material = random.uniform(0.08, 0.8), foliage(random)
    count = int(length * width * random.uniform(3, 14))
    place = random.uniform(-0.5, 0.5, (count, 2)) * (length, width)
    waves = random.normal(size=(3, 2)) * 1.2
    patchy = 1 + 0.3 * np.sin(place @ waves.T + random.uniform(0, 6, 3)).sum(axis=1)
    middles = np.column_stack([place, deep * patchy.clip(0.1) * random.random(count)])
    parts = [leaves(random, middles, random.uniform(0.05, 0.12), material)]
    for _ in range(random.poisson(length * width / 15)):
        x, y = random.uniform(-0.45, 0.45, 2) * (length, width)
        if random.random() < 0.3:
            parts.append(tube((x, y, 0), (x, y, random.uniform(0.6, 2.5)), (0.03, 0.02), WOOD, 4))
        else:
            radii = random.uniform([0.2, 0.2, 0.2], [0.9, 0.9, 0.9])
            parts.append(clump(random, np.array([x, y, radii[2] * 0.8]), radii, int(120 * radii.mean()), material))
    return join(parts), np.array([length, width])
