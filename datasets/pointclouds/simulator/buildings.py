"""Houses: fronts with recesses, windows, doors, balconies and pipes, none quite alike."""

from __future__ import annotations

import numpy as np

from datasets.pointclouds.simulator.meshes import Material, Mesh, box, grid, join, tube

GLASS = Material(0.08, gloss=1.0, transmission=0.7)
METAL = Material(0.35, gloss=0.4)
STOREY = 3.0


def house(random: np.random.Generator, width: float = 12.0) -> tuple[Mesh, np.ndarray]:
    """A house ``width`` metres wide with its front towards -y, and its footprint's length and depth.

    The front goes in and out by bays, as deep as a window or as a porch.
    """
    depth, height = random.uniform([7, 3], [14, 14])
    wall = Material(float(random.uniform(0.25, 0.7)))
    relief = random.choice([0.1, 0.6, 1.8])
    edges, offsets = [-width / 2], []
    while edges[-1] < width / 2 - 0.5:
        edges.append(min(edges[-1] + random.uniform(1.2, 5), width / 2))
        offsets.append(0.5 + random.uniform(0, relief))
    edges[-1] = width / 2
    front = [(x, y) for left, right, y in zip(edges, edges[1:], offsets, strict=False) for x in (left, right)]
    outline = np.array([(-width / 2, depth), *front, (width / 2, depth), (-width / 2, depth)])
    rows = np.stack([np.column_stack([outline, np.full(len(outline), z)]) for z in (0.0, height)])
    parts = [grid(rows, wall)]
    for left, right, y in zip(edges, edges[1:], offsets, strict=False):
        parts += _bay(random, (left + right) / 2, right - left, y, height, wall)
    if random.random() < 0.6:
        x = random.choice(edges)
        parts.append(tube((x, 0.42, 0), (x, 0.42, height), (0.06, 0.06), METAL, 5))
    return join(parts).placed(0, -depth / 2), np.array([width, depth])


def _bay(random: np.random.Generator, x: float, width: float, y: float, height: float, wall: Material) -> list[Mesh]:
    """Windows or a door in a bay of a front, and what hangs on it."""
    parts: list[Mesh] = []
    wide = min(random.uniform(0.8, 2.2), 0.8 * width)
    for storey in range(max(1, int(height // STOREY))):
        base, kind = storey * STOREY, random.random()
        if storey == 0 and kind < 0.25:  # a door over a step or two
            parts.append(box((x, y - 0.03, 1.05), (min(1.0, wide), 0.08, 2.1), Material(0.3)))
            steps = int(random.integers(0, 4))
            parts += [box((x, y - 0.15 * (steps - i), 0.08 + 0.16 * i), (1.2, 0.3, 0.16), wall) for i in range(steps)]
            continue
        if kind < 0.85:
            sill = base + random.uniform(0.3, 1.0)
            tall = min(random.uniform(1.1, 1.7), height - sill - 0.1)
            if tall < 0.4:
                continue
            deep = random.uniform(0.03, 0.12)
            parts.append(box((x, y - 0.02, sill + tall / 2), (wide, 0.05, tall), GLASS))
            parts += [box((x + s * wide / 2, y - deep / 2, sill + tall / 2), (0.08, deep, tall), wall) for s in (-1, 1)]
            parts.append(box((x, y - 0.1, sill), (wide + 0.2, 0.2, 0.06), wall))
        if storey and kind > 0.8:  # a balcony
            parts.append(box((x, y - 0.45, base), (0.9 * width, 0.9, 0.15), wall))
            parts += [box((x, y - 0.9, base + h), (0.9 * width, 0.04, 0.05), METAL) for h in (0.3, 0.6, 0.9)]
    if random.random() < 0.12:  # an awning
        low = np.array([[x - width / 2, y - 1.0, 2.2], [x + width / 2, y - 1.0, 2.2]])
        parts.append(grid(np.stack([low, low * (1, 0, 1) + (0, y, 0.5)]), Material(0.5)))
    return parts
