"""Small scenes written in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.errors import SceneError
from datasets.scenes import open_scene

OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class Truth:
    """What a written scene should be read as: poses [V, 4, 4], K [3, 3], size, and 8-bit images by sorted name."""

    poses: np.ndarray
    intrinsics: np.ndarray
    size: tuple[int, int]
    images: tuple[np.ndarray, ...]
    names: tuple[str, ...]

    def write_images(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for name, image in zip(self.names, self.images, strict=True):
            cv2.imwrite(str(folder / name), image[:, :, ::-1])

    def write_cameras_json(self, root: Path) -> Path:
        self.write_images(root / "images")
        k, (width, height) = self.intrinsics, self.size
        frames = [
            {
                "file": f"images/{name}",
                "width": width,
                "height": height,
                **{"fx": k[0, 0], "fy": k[1, 1], "cx": k[0, 2], "cy": k[1, 2]},
                "w2c": pose.tolist(),
            }
            for name, pose in zip(self.names, self.poses, strict=True)
        ]
        (root / "cameras.json").write_text(json.dumps({"frames": frames[::-1]}))
        return root / "cameras.json"

    def write_transforms(self, root: Path) -> Path:
        self.write_images(root / "images")
        k, (width, height) = self.intrinsics, self.size
        document = {
            **{"fl_x": k[0, 0], "fl_y": k[1, 1], "cx": k[0, 2], "cy": k[1, 2], "w": float(width), "h": float(height)},
            "frames": [
                {"file_path": f"./images/{name}", "transform_matrix": (np.linalg.inv(pose) @ OPENGL).tolist()}
                for name, pose in zip(self.names, self.poses, strict=True)
            ],
        }
        (root / "transforms.json").write_text(json.dumps(document))
        return root / "transforms.json"

    def write_llff(self, root: Path) -> Path:
        """Needs a centred principal point and one focal length."""
        self.write_images(root / "images")
        rows = []
        for pose in self.poses:
            right, down, forward, position = np.linalg.inv(pose)[:3].T
            hwf = (self.size[1], self.size[0], self.intrinsics[0, 0])
            rows.append([*np.stack([down, right, -forward, position, hwf], axis=1).ravel(), 1.5, 9.5])
        np.save(root / "poses_bounds.npy", np.array(rows))
        return root / "poses_bounds.npy"


def _picture(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    coarse = rng.integers(0, 256, (6, 8, 3)).astype(np.uint8)
    return cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def truth() -> Truth:
    """Ten cameras on an arc, 40x30, with a centred principal point and one focal length."""
    rng = np.random.default_rng(5)
    poses = []
    for i in range(10):
        pose = np.eye(4)
        pose[:3, :3] = cv2.Rodrigues(rng.normal(0, 0.2, 3))[0]
        pose[:3, 3] = -pose[:3, :3] @ np.array([0.3 * i, 0.1 * i * i, 0.05 * i])
        poses.append(pose)
    size = (40, 30)
    return Truth(
        poses=np.stack(poses),
        intrinsics=np.array([[35.0, 0, 20], [0, 35.0, 15], [0, 0, 1]]),
        size=size,
        images=tuple(_picture(rng, size) for _ in poses),
        names=tuple(f"view_{i}.png" for i in range(10)),
    )


def open_all(root: Path, options: dict) -> None:
    for photo in open_scene(root, **options).photos:
        photo.load()


@pytest.fixture
def refused(tmp_path: Path) -> Callable[..., SceneError]:
    """Opens a scene (and by default every photo), which must fail with one error that says all it should."""

    def check(names: str, found: str, root: Path | None = None, **options) -> SceneError:
        with pytest.raises(SceneError) as caught:
            open_all(root or tmp_path, options)
        error = caught.value
        assert error.path.name == names, str(error)
        assert found in error.found, str(error)
        assert len(error.mend) > 5
        assert str(error) == f"{error.path}: {error.found}. {error.mend}"
        return error

    return check
