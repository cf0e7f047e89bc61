"""Scenes and clouds that are small enough to know what a picture of them must show."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.types import Cameras
from viewer.viewpoint import Viewpoint

WIDTH, HEIGHT = 64, 48


@pytest.fixture
def ahead() -> Cameras:
    """At the origin, looking along z."""
    return Viewpoint(np.zeros(3), np.array([0.0, 0, 1]), np.array([0.0, -1, 0]), 60.0).camera(WIDTH, HEIGHT)


@pytest.fixture
def scene_folder(tmp_path: Path) -> Path:
    """Three photos in a row, each of one colour, that look along z."""
    folder = tmp_path / "scene"
    folder.mkdir()
    frames = []
    for i, colour in enumerate(((255, 0, 0), (0, 255, 0), (0, 0, 255))):
        cv2.imwrite(str(folder / f"photo_{i}.png"), np.full((HEIGHT, WIDTH, 3), colour[::-1], np.uint8))
        pose = np.eye(4)
        pose[0, 3] = 1.0 - i
        focal = {"fx": 50, "fy": 50, "cx": WIDTH / 2, "cy": HEIGHT / 2}
        frames.append({"file": f"photo_{i}.png", "width": WIDTH, "height": HEIGHT, **focal, "w2c": pose.tolist()})
    (folder / "cameras.json").write_text(json.dumps({"frames": frames}))
    return folder


@pytest.fixture
def sweep(tmp_path: Path) -> Callable[..., Path]:
    """Writes a cloud of points [N, C] as .bin and gives its path."""

    def write(points: np.ndarray, name: str = "sweep.bin") -> Path:
        path = tmp_path / name
        path.write_bytes(np.asarray(points, "<f4").tobytes())
        return path

    return write
