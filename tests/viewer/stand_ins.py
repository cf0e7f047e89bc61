"""What stands for a splat where only the viewer is tested."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from datasets.types import Cameras, Scene, View


@dataclass
class WallSplat:
    """A stand-in for a splat: a wall of one colour, square to the z axis, at a z of the world."""

    z: float = 4.0
    colour: tuple[float, float, float] = (0.2, 0.6, 0.4)
    background: tuple[float, float, float] = (0.1, 0.1, 0.1)
    antialiased: bool = False
    sources: tuple[Path, ...] = (Path("wall.ply"),)
    scene_to_source: np.ndarray = field(default_factory=lambda: np.eye(4))
    scene: Scene | None = None
    predicts_error: bool = True

    def render(self, camera: Cameras, width: int, height: int) -> View:
        image = np.full((height, width, 3), self.colour, np.float32)
        depth = float(camera.world_to_camera[0, 2, 2] * self.z + camera.world_to_camera[0, 2, 3])
        return View(image, depth=np.full((height, width), max(depth, 0), np.float32))

    def error(self, camera: Cameras, width: int, height: int) -> np.ndarray:
        return np.linspace(0, 0.3, width * height, dtype=np.float32).reshape(height, width)

    def parameters(self) -> dict[str, np.ndarray]:
        means = np.array([[x, y, self.z] for x in (-1, 1) for y in (-1, 1)], np.float32)
        one = np.ones((4, 1), np.float32)
        return {
            "means": means,
            "scales": np.tile(np.log(np.float32([1, 1, 0.01])), (4, 1)).astype(np.float32),
            "quats": np.concatenate([one, 0 * means], axis=1),
            "opacities": 4 * one[:, 0],
            "sh0": np.tile((np.float32(self.colour) - 0.5) / 0.2821, (4, 1, 1)).astype(np.float32),
            "shN": np.zeros((4, 0, 3), np.float32),
        }
