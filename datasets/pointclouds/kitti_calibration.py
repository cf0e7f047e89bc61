"""KITTI's calibration files, and the only place where boxes change between KITTI's camera axes and ours.

KITTI's camera axes are x right, y down, z forward; a box there stands on its bottom's centre and turns by rotation_y
about the y axis. Ours are the sensor's x forward, y left, z up; a box is at its centre and turns counter-clockwise
about z. A box keeps upright in either: the small tilt between the two vertical axes moves its centre, never its size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from datasets.errors import SceneError
from datasets.geometry import is_rigid
from datasets.pointclouds.kitti_labels import KittiObjects
from datasets.pointclouds.types import Boxes3D, wrap_angle
from datasets.scenes.files import read_bytes
from datasets.types import Cameras

NEAR = 0.1  # metres before the camera from which a box is drawn into its image
EDGES = np.array([(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)])


@dataclass(frozen=True)
class KittiCalibration:
    """How one frame's sensor and left colour camera stand to each other, float64.

    Attributes:
        to_camera: [4, 4] from the sensor's axes to the rectified camera's (R0_rect times Tr_velo_to_cam).
        projection: [3, 4] from the rectified camera's axes to pixels (P2), or None where the file has none. The top
            left pixel's centre is (0, 0) here, as in KITTI's 2D boxes.
    """

    to_camera: np.ndarray
    projection: np.ndarray | None

    @property
    def turn(self) -> float:
        """Yaw, in the sensor's axes, of the direction in which the camera looks."""
        forward = self.to_camera[2, :3]
        return float(np.arctan2(forward[1], forward[0]))

    def image_size(self) -> tuple[int, int]:
        """(width, height) of an image centred at the principal point: a guess for where there is no image."""
        if self.projection is None:
            raise ValueError("a calibration without P2 has no image")
        width, height = np.round(2 * self.projection[:2, 2] + 1).astype(int)
        return int(width), int(height)

    def camera(self, size: tuple[int, int]) -> Cameras | None:
        """The camera of P2, its world being the sensor's axes; None where the file has no P2."""
        if self.projection is None:
            return None
        intrinsics = self.projection[:, :3] / self.projection[2, 2]
        shift = np.eye(4)
        shift[:3, 3] = np.linalg.solve(self.projection[:, :3], self.projection[:, 3])
        intrinsics = intrinsics + np.array([[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        return Cameras(
            torch.from_numpy(shift @ self.to_camera).float()[None],
            torch.from_numpy(intrinsics).float()[None],
            torch.tensor([size]),
        )

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [N, 2] (KITTI's: first pixel's centre at 0) and depth [N] of points [N, 3] in the camera's axes."""
        if self.projection is None:
            raise ValueError("a calibration without P2 cannot project")
        on_screen = points @ self.projection[:, :3].T + self.projection[:, 3]
        return on_screen[:, :2] / on_screen[:, 2:], on_screen[:, 2]


AXES_ONLY = KittiCalibration(np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]]), None)


def read_calibration(path: Path) -> KittiCalibration:
    """Read the calibration of a frame; lines without numbers count as absent, R0_rect may be.

    Raises:
        SceneError: naming the file, for a line of another form, and where Tr_velo_to_cam is missing or is no rigid
            transform.
    """
    lines: dict[str, np.ndarray] = {}
    for number, line in enumerate(read_bytes(path).decode("utf-8-sig", "replace").splitlines(), 1):
        key, *words = line.replace(":", " ", 1).split() or [""]
        try:
            values = np.array([float(word) for word in words])
        except ValueError as error:
            raise SceneError(path, f"line {number} is no calibration ({error})", "Restore the file") from error
        if words:
            lines[key] = values
    # The tracking and raw collections name two of the lines otherwise than the object collection does.
    rectification = _matrix(path, lines, ("R0_rect", "R_rect"), (3, 3))
    sensor = _matrix(path, lines, ("Tr_velo_to_cam", "Tr_velo_cam"), (3, 4))
    if sensor is None:
        raise SceneError(path, f"has no Tr_velo_to_cam, only {sorted(lines)}", "Add the sensor's pose, 12 numbers")
    to_camera = np.eye(4)
    to_camera[:3] = sensor if rectification is None else rectification @ sensor
    if not is_rigid(to_camera):
        raise SceneError(path, "R0_rect x Tr_velo_to_cam is no rotation", "Restore the file")
    projection = _matrix(path, lines, ("P2",), (3, 4))
    if projection is not None and abs(np.linalg.det(projection[:, :3])) < 1e-6:
        raise SceneError(path, "P2 is no projection: it has no focal length", "Correct or remove the line")
    return KittiCalibration(to_camera, projection)


def _matrix(
    path: Path, lines: dict[str, np.ndarray], names: Sequence[str], shape: tuple[int, int]
) -> np.ndarray | None:
    for name in names:
        if name in lines:
            values = lines[name]
            if values.size != shape[0] * shape[1] or not np.isfinite(values).all():
                mend = f"It needs {shape[0] * shape[1]} finite numbers: restore the file, or remove the line"
                raise SceneError(path, f"{name} holds {values.tolist()}", mend)
            return values.reshape(shape)
    return None


def box_values(objects: KittiObjects, calibration: KittiCalibration = AXES_ONLY) -> np.ndarray:
    """[M, 7] float64 boxes in the sensor's axes of all objects; without a calibration only the axes are renamed."""
    height, width, length = objects.sizes.T
    centres = objects.locations - np.stack([0 * height, height / 2, 0 * height], axis=1)
    rotation, translation = calibration.to_camera[:3, :3], calibration.to_camera[:3, 3]
    centres = (centres - translation) @ np.linalg.inv(rotation).T
    yaw = wrapped(calibration.turn - np.pi / 2 - objects.rotation_y)
    return np.column_stack([centres, length, width, height, yaw]).reshape(-1, 7)


def to_boxes(objects: KittiObjects, calibration: KittiCalibration, class_names: Sequence[str]) -> Boxes3D:
    """The objects of ``class_names`` as boxes in the sensor's axes, in the file's order; others are left out."""
    chosen = objects[np.isin(objects.names, list(class_names))]
    boxes = torch.from_numpy(box_values(chosen, calibration)).float()
    boxes[:, 6] = wrap_angle(boxes[:, 6])
    labels = torch.tensor([list(class_names).index(name) for name in chosen.names], dtype=torch.int64)
    scores = None if chosen.scores is None else torch.from_numpy(chosen.scores).float()
    return Boxes3D(boxes, labels, scores)


def from_boxes(
    boxes: Boxes3D, calibration: KittiCalibration, class_names: Sequence[str], image_size: tuple[int, int]
) -> KittiObjects:
    """Boxes in the sensor's axes as KITTI has them, the inverse of :func:`to_boxes`.

    2D boxes are those of the corners' projections, cut to the image; a box that does not show in the image gets one of
    no area, and without P2 all get -1. Truncation and occlusion are -1, which means that they are not stated.
    """
    values = boxes.boxes.double().cpu().numpy()
    centres = values[:, :3] @ calibration.to_camera[:3, :3].T + calibration.to_camera[:3, 3]
    length, width, height = values[:, 3:6].T
    locations = centres + np.stack([0 * height, height / 2, 0 * height], axis=1)
    rotation_y = wrapped(calibration.turn - np.pi / 2 - values[:, 6])
    alpha = wrapped(rotation_y - np.arctan2(locations[:, 0], locations[:, 2]))
    sizes = np.stack([height, width, length], axis=1)
    unstated = np.full(len(boxes), -1)
    return KittiObjects(
        np.array([class_names[label] for label in boxes.labels.tolist()], dtype=np.str_),
        unstated.astype(np.float64),
        unstated.astype(np.int64),
        alpha,
        _boxes_2d(locations, sizes, rotation_y, calibration, image_size),
        sizes,
        locations,
        rotation_y,
        None if boxes.scores is None else boxes.scores.double().cpu().numpy(),
    )


def camera_corners(locations: np.ndarray, sizes: np.ndarray, rotation_y: np.ndarray) -> np.ndarray:
    """[M, 8, 3] corners in the camera's axes: four at the bottom, then the four above them."""
    height, width, length = sizes.T[:, :, None]
    along = length / 2 * np.array([1, -1, -1, 1, 1, -1, -1, 1])
    across = width / 2 * np.array([1, 1, -1, -1, 1, 1, -1, -1])
    up = height * np.array([0, 0, 0, 0, 1, 1, 1, 1])
    cos, sin = np.cos(rotation_y)[:, None], np.sin(rotation_y)[:, None]
    offsets = np.stack([along * cos + across * sin, -up, across * cos - along * sin], axis=2)
    return locations[:, None] + offsets


def _boxes_2d(
    locations: np.ndarray,
    sizes: np.ndarray,
    rotation_y: np.ndarray,
    calibration: KittiCalibration,
    image_size: tuple[int, int],
) -> np.ndarray:
    count = len(locations)
    if calibration.projection is None or not count:
        return np.full((count, 4), -1.0)
    ends = camera_corners(locations, sizes, rotation_y)[:, EDGES]
    depth = ends[..., 2]
    # Edges that pass the camera are cut where they come before it, so that near boxes keep a 2D box.
    cut = np.clip((NEAR - depth) / np.where(depth[..., ::-1] == depth, 1, depth[..., ::-1] - depth), 0, 1)
    ends = np.where(depth[..., None] < NEAR, ends + cut[..., None] * (ends[..., ::-1, :] - ends), ends)
    pixels, _ = calibration.project(ends.reshape(-1, 3))
    pixels = pixels.reshape(count, -1, 2)
    shown = (ends[..., 2] >= NEAR - 1e-9).reshape(count, -1, 1)
    low = np.where(shown, pixels, np.inf).min(axis=1)
    high = np.where(shown, pixels, -np.inf).max(axis=1)
    last = np.array(image_size) - 1.0
    empty = ((high < 0) | (low > last)).any(axis=1) | ~shown.any(axis=(1, 2))
    boxes = np.concatenate([np.clip(low, 0, last), np.clip(high, 0, last)], axis=1)
    return np.where(empty[:, None], 0.0, boxes)


def wrapped(angle: np.ndarray) -> np.ndarray:
    """``angle`` brought into [-pi, pi)."""
    return (angle + np.pi) % (2 * np.pi) - np.pi
