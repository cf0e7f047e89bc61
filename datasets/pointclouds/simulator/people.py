"""Pedestrians, cyclists and bicycles as meshes, no two alike."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from datasets.pointclouds.simulator.meshes import Material, Mesh, ellipsoid, join, tube

METAL = Material(0.2, gloss=0.5)
SKIN = Material(0.5)
HIP = 0.48  # height of the hip as a share of a person's


def pedestrian(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """Somebody standing or walking along x at the origin, and length, width, height of the box around."""
    height = float(np.clip(random.normal(1.73, 0.1), 1.2, 1.95))
    stride, swing = random.uniform(0.1, 0.75) * height / 1.75, random.uniform(0, 0.25)
    cloth, trousers = (Material(float(random.uniform(0.08, 0.7))) for _ in range(2))
    body = _upper_body(height, cloth, lean=0.0)
    hip, shoulder = HIP * height, 0.8 * height
    parts = [*body]
    for side in (-1, 1):
        foot = side * stride / 2
        parts.append(tube((0, side * 0.09, hip), (foot, side * 0.1, 0.04), (0.085, 0.055), trousers, 6))
        parts.append(tube((foot - 0.06, side * 0.1, 0.04), (foot + 0.16, side * 0.1, 0.04), (0.05, 0.04), trousers, 6))
        hand = (-side * swing, side * 0.27, 0.45 * height)
        parts.append(tube((0, side * 0.2, shoulder), hand, (0.055, 0.04), cloth, 6))
    if random.random() < 0.2:
        parts.append(ellipsoid((-0.2, 0, 0.68 * height), (0.13, 0.16, 0.25), Material(0.2)))
    return _with_box(parts)


def cyclist(random: np.random.Generator) -> tuple[Mesh, np.ndarray]:
    """Somebody riding a bicycle along x at the origin, and length, width, height of the box around."""
    height = float(np.clip(random.normal(1.73, 0.08), 1.5, 1.9))
    cloth, trousers = (Material(float(random.uniform(0.08, 0.7))) for _ in range(2))
    hip, base = 0.9, float(random.uniform(0.98, 1.08))
    lift = hip - HIP * height
    lean = float(random.uniform(0.1, 0.45))
    parts = [part.placed(-0.2, 0, 0) for part in _upper_body(height, cloth, lean, lift)]
    pedal = random.uniform(-0.15, 0.15)
    for side in (-1, 1):
        knee = (0.15 + side * pedal, side * 0.12, 0.62 + side * pedal)
        parts.append(tube((-0.2, side * 0.09, hip), knee, (0.085, 0.07), trousers, 6))
        parts.append(tube(knee, (0.02 + side * pedal, side * 0.12, 0.25 + side * pedal), (0.065, 0.05), trousers, 6))
        chest = 0.33 * height * lean
        parts.append(
            tube(
                (chest - 0.2, side * 0.2, hip + 0.31 * height * np.sqrt(1 - lean**2)),
                (0.42, side * 0.25, 1.0),
                (0.05, 0.04),
                cloth,
                6,
            )
        )
    parts += bicycle(base)
    return _with_box(parts)


def bicycle(base: float) -> list[Mesh]:
    """A bicycle along x with its wheels' hubs ``base`` metres apart."""
    radius = 0.33
    parts = []
    for x in (-base / 2, base / 2):
        angle = np.arange(13) * 2 * np.pi / 12
        rim = np.stack([x + radius * np.cos(angle), 0 * angle, radius + radius * np.sin(angle)], 1)
        parts += [tube(a, b, (0.022, 0.022), METAL, 4) for a, b in pairwise(rim)]
    joints = [(-base / 2, 0, radius), (0, 0, 0.3), (-0.2, 0, 0.85), (0.4, 0, 0.85), (base / 2, 0, radius)]
    for a, b in ((0, 1), (1, 2), (0, 2), (1, 3), (2, 3), (3, 4)):
        parts.append(tube(joints[a], joints[b], (0.02, 0.02), METAL, 4))
    return [*parts, tube((0.42, -0.25, 1.0), (0.42, 0.25, 1.0), (0.02, 0.02), METAL, 4)]


def _upper_body(height: float, cloth: Material, lean: float, lift: float = 0.0) -> list[Mesh]:
    """Torso and head, bent forward at the hip by ``lean`` (sine of the angle), raised by ``lift``."""

    def at(share: float) -> tuple[float, float, float]:
        above = (share - HIP) * height
        return above * lean, 0.0, HIP * height + lift + above * float(np.sqrt(1 - lean**2))

    torso, neck, head = at(0.66), at(0.84), at(0.93)
    return [
        ellipsoid(torso, (0.14 + 0.1 * lean, 0.22, 0.21 * height), cloth),
        tube(torso, neck, (0.16, 0.07), cloth, 6),
        ellipsoid(head, (0.1, 0.085, 0.07 * height), SKIN),
    ]


def _with_box(parts: list[Mesh]) -> tuple[Mesh, np.ndarray]:
    """The parts centred over the origin with their feet on the ground, and the size of the box around them."""
    mesh = join(parts)
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    x, y = (low + high)[:2] / 2
    return mesh.placed(-x, -y, -low[2]), high - low
