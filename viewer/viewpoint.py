"""Where one looks from, and how mouse and keys change it.

Positions are in the world of what is shown; ``up`` is the direction that stays upright in the picture. The camera
that a viewpoint stands for follows the conventions of :mod:`datasets.types` (OpenCV axes, pixel centres at 0.5).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from datasets.errors import InputError
from datasets.types import Cameras

FIELD_OF_VIEW = 50.0  # degrees from top to bottom
STEEPEST = math.radians(89.0)  # an orbit stops short of looking along its axis
FLAT = 2.0  # degrees: so narrow that parallels stay parallel, for the bird's eye view
KEYS = ("eye", "target", "up", "fov")


@dataclass(frozen=True)
class Viewpoint:
    """A camera that looks at a point.

    Attributes:
        eye, target, up: [3] float64; ``up`` of length one, not along the view.
        fov: degrees from top to bottom.
    """

    eye: np.ndarray
    target: np.ndarray
    up: np.ndarray
    fov: float = FIELD_OF_VIEW

    @property
    def distance(self) -> float:
        """From the eye to the target."""
        return float(np.linalg.norm(self.target - self.eye))

    @property
    def axes(self) -> np.ndarray:
        """[3, 3] rows right, down, forward."""
        forward = unit(self.target - self.eye)
        right = np.cross(forward, self.up)
        if np.linalg.norm(right) < 1e-9:  # straight along up: any right will do
            right = np.cross(forward, np.roll(self.up, 1))
        right = unit(right)
        return np.stack([right, np.cross(forward, right), forward])

    def camera(self, width: int, height: int) -> Cameras:
        """A batch of one."""
        pose = np.eye(4)
        pose[:3, :3] = self.axes
        pose[:3, 3] = -pose[:3, :3] @ self.eye
        focal = height / 2 / math.tan(math.radians(self.fov) / 2)
        intrinsics = torch.tensor([[[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]]])
        return Cameras(torch.from_numpy(pose[None]).float(), intrinsics.float(), torch.tensor([[width, height]]))

    def upright(self, up: np.ndarray) -> Viewpoint:
        """Of a view straight down, whose top of the picture is some direction on the ground, the same a hair off the
        vertical, with ``up`` [3] upwards, so that one goes around that; others as they are.
        """
        if unit(self.eye - self.target) @ up < math.cos(1e-3) or abs(self.up @ up) > 1e-3:
            return self
        away = math.sin(STEEPEST) * up - math.cos(STEEPEST) * self.up
        return replace(self, eye=self.target + self.distance * away, up=up)

    def turned(self, right: float, down: float) -> Viewpoint:
        """Orbit: go around the target by ``right`` and over it by ``down`` radians, as dragging turns the scene."""
        offset = self.eye - self.target
        height = math.asin(float(np.clip(unit(offset) @ self.up, -1, 1)))
        down = float(np.clip(height + down, -STEEPEST, STEEPEST)) - height
        offset = rotation(self.axes[0], -down) @ offset
        return replace(self, eye=self.target + rotation(self.up, -right) @ offset)

    def looked(self, right: float, down: float) -> Viewpoint:
        """Turn the head in place by radians."""
        look = self.target - self.eye
        height = math.asin(float(np.clip(unit(look) @ self.up, -1, 1)))
        down = height - float(np.clip(height - down, -STEEPEST, STEEPEST))
        look = rotation(self.axes[0], -down) @ look
        return replace(self, target=self.eye + rotation(self.up, -right) @ look)

    def moved(self, right: float, down: float, forward: float) -> Viewpoint:
        """Eye and target together, in units of the distance to the target along the camera's axes."""
        step = self.distance * (np.array([right, down, forward]) @ self.axes)
        return replace(self, eye=self.eye + step, target=self.target + step)

    def nearer(self, factor: float) -> Viewpoint:
        """At ``factor`` of the distance, the same target."""
        return replace(self, eye=self.target + (self.eye - self.target) * factor)

    def to_json(self) -> dict[str, Any]:
        """The same as numbers, which :func:`from_json` reads."""
        return {"eye": self.eye.tolist(), "target": self.target.tolist(), "up": self.up.tolist(), "fov": self.fov}


def from_json(text: str, up: np.ndarray) -> Viewpoint:
    """A viewpoint from ``{"eye": [x, y, z], "target": [x, y, z], "up"?: [x, y, z], "fov"?: degrees}``.

    Args:
        text: the JSON.
        up: [3] taken where the JSON states none.

    Raises:
        InputError: naming what is missing or is no such number.
    """
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--view is not readable JSON ({error}). Give {{eye, target, up, fov}}") from error
    if not isinstance(given, dict) or set(given) - set(KEYS) or not {"eye", "target"} <= set(given):
        found = f"holds {', '.join(map(str, given))}" if isinstance(given, dict) else "is no object"
        raise InputError(f"--view {found}. Give eye and target, and perhaps up and fov")
    vectors = {}
    for key in KEYS[:3]:
        value = given.get(key, up.tolist())
        good = isinstance(value, list) and len(value) == 3
        good = good and all(isinstance(x, (int, float)) and abs(x) < 1e12 for x in value)
        if not good:
            raise InputError(f"--view has {key} {value!r}. Give three finite numbers")
        vectors[key] = np.array(value, np.float64)
    fov = given.get("fov", FIELD_OF_VIEW)
    if not isinstance(fov, (int, float)) or not 0.1 <= fov <= 170:
        raise InputError(f"--view has fov {fov!r}. Give degrees from 0.1 to 170")
    look = vectors["target"] - vectors["eye"]
    if np.linalg.norm(look) < 1e-9 or np.linalg.norm(np.cross(look, vectors["up"])) < 1e-9 * np.linalg.norm(look):
        raise InputError("--view looks nowhere: its eye is its target, or up is along the view")
    return Viewpoint(vectors["eye"], vectors["target"], unit(vectors["up"]), float(fov))


def of_camera(camera: Cameras, target_distance: float, up: np.ndarray) -> Viewpoint:
    """The viewpoint nearest to a camera (a batch of one): its place and direction, without its roll and shift."""
    pose = camera.world_to_camera[0].double().numpy()
    eye = -pose[:3, :3].T @ pose[:3, 3]
    _, height = camera.size
    fov = math.degrees(2 * math.atan(height / 2 / float(camera.intrinsics[0, 1, 1])))
    return Viewpoint(eye, eye + target_distance * pose[2, :3], up, fov)


def framing(extent: np.ndarray, direction: np.ndarray, up: np.ndarray, fov: float = FIELD_OF_VIEW) -> Viewpoint:
    """All of ``extent`` [2, 3] (lowest, highest), looking along ``direction``."""
    middle = extent.mean(axis=0)
    radius = max(float(np.linalg.norm(extent[1] - extent[0])) / 2, 1e-6)
    distance = radius / math.tan(math.radians(fov) / 2)
    return Viewpoint(middle - unit(direction) * distance, middle, unit(up), fov)


def from_above(extent: np.ndarray, up: np.ndarray, fov: float = FIELD_OF_VIEW) -> Viewpoint:
    """All of ``extent`` from straight above; the picture's top is +x, or what comes nearest to it."""
    north = np.array([1.0, 0, 0]) if abs(up[0]) < 0.9 else np.array([0, 1.0, 0])
    return framing(extent, -up, unit(north - (north @ up) * up), fov)


def along(views: Sequence[Viewpoint], between: int) -> list[Viewpoint]:
    """A smooth path through ``views``, ``between`` steps from one to the next (Catmull and Rom, 1974)."""
    count = len(views)
    path = []
    for i in range(count - 1):
        a, b, c, d = (views[min(max(j, 0), count - 1)] for j in range(i - 1, i + 3))
        for t in np.arange(between) / between:
            weights = 0.5 * np.array(
                [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
            )
            eye, target = (weights @ [getattr(v, name) for v in (a, b, c, d)] for name in ("eye", "target"))
            path.append(Viewpoint(eye, target, unit((1 - t) * b.up + t * c.up), (1 - t) * b.fov + t * c.fov))
    return [*path, *views[-1:]]


def unit(vector: np.ndarray) -> np.ndarray:
    """``vector`` [3] at length one; one of length zero stays."""
    return vector / max(float(np.linalg.norm(vector)), 1e-300)


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """[3, 3] right-handed turn by ``angle`` radians about a unit ``axis`` (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross
