"""The ground that streets lie on: hills, road, pavements, grass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from datasets.pointclouds.simulator.meshes import Material, Mesh, box, grid, join

ASPHALT = Material(0.34)
PAVEMENT = Material(0.38)
GRASS = Material(0.48)
PAINT = Material(0.8)


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
