"""Pictures of a data set: frames from above with their boxes, and all objects of a class laid over one another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from datasets.files import replacing
from datasets.pointclouds.boxes import corners_bev, in_box_axes
from datasets.pointclouds.types import PointCloudSample

COLOURS = ((90, 200, 255), (120, 255, 120), (255, 140, 220), (255, 210, 90), (120, 120, 255), (255, 255, 255))
PIXELS = 900
MARGIN = 0.5  # metres around a box that are shown with it


def colour(label: int) -> tuple[int, int, int]:
    """The colour (blue, green, red) of a class."""
    return COLOURS[label % len(COLOURS)]


def frame_from_above(sample: PointCloudSample, reach: float, limits: Sequence[float] | None = None) -> np.ndarray:
    """[900, 900, 3] uint8, x to the right and y up, ``reach`` metres to each side of the sensor.

    Points are brighter where higher; boxes have the colour of their class and a line from the middle to the front;
    ``limits`` (x, y, z low, then high) are drawn as a frame.
    """
    scale = PIXELS / (2 * reach)

    def pixels(xy: np.ndarray) -> np.ndarray:
        return np.stack([PIXELS / 2 + xy[..., 0] * scale, PIXELS / 2 - xy[..., 1] * scale], axis=-1)

    picture = np.zeros((PIXELS, PIXELS, 3), np.uint8)
    points = sample.points[:, :3].numpy()
    at = pixels(points[:, :2])
    shown = np.isfinite(points).all(axis=1) & (at >= 0).all(axis=1) & (at < PIXELS).all(axis=1)
    columns, rows = at[shown].astype(int).T
    heights = points[shown, 2]
    low, high = np.percentile(heights, [2, 98]) if len(heights) else (0.0, 1.0)
    grey = 70 + 170 * np.clip((heights - low) / max(high - low, 1e-3), 0, 1)
    np.maximum.at(picture, (rows, columns), np.repeat(grey[:, None], 3, axis=1).astype(np.uint8))
    if limits is not None:
        corners = pixels(np.array([[limits[0], limits[1]], [limits[3], limits[4]]])).astype(int)
        cv2.rectangle(picture, corners[0].tolist(), corners[1].tolist(), (80, 80, 255), 1)
    if sample.boxes is not None and len(sample.boxes):
        footprints = pixels(corners_bev(sample.boxes.boxes).numpy())
        for corners, label in zip(footprints, sample.boxes.labels.tolist(), strict=True):
            cv2.polylines(picture, [corners.round().astype(np.int32)], True, colour(label), 1, cv2.LINE_AA)
            middle, front = (end.mean(axis=0).round().astype(int).tolist() for end in (corners, corners[[0, 3]]))
            cv2.line(picture, middle, front, colour(label), 1, cv2.LINE_AA)
    return _titled(picture, sample.frame, sample.class_names)


def objects_of_class(samples: Sequence[PointCloudSample], label: int, name: str) -> np.ndarray:
    """[300, 900, 3] uint8: points of all objects of a class in their box, stretched to one size, from the right, from
    behind and from above. A sound data set shows a crisp shape that fills the frame."""
    views = [np.zeros((300, 300), np.float64) for _ in range(3)]
    for sample in samples:
        if sample.boxes is None:
            continue
        boxes = sample.boxes.boxes[sample.boxes.labels == label]
        for box in boxes:
            near = sample.points[((sample.points[:, :2] - box[:2]).abs() <= box[3:5].max()).all(dim=1), :3]
            seen = in_box_axes(near, box[None])[0] / (box[3:6] / 2 + MARGIN)
            seen = seen[(seen.abs() < 1).all(dim=1)].numpy()
            for view, (across, up, flip) in zip(views, ((0, 2, 1), (1, 2, -1), (0, 1, 1)), strict=True):
                columns = ((flip * seen[:, across] + 1) * 150).astype(int)
                rows = ((1 - seen[:, up]) * 150).astype(int)
                np.add.at(view, (np.clip(rows, 0, 299), np.clip(columns, 0, 299)), 1 / max(len(seen), 1))
    size = torch.cat([s.boxes.boxes[s.boxes.labels == label, 3:6] for s in samples if s.boxes is not None])
    mean = size.mean(dim=0).numpy() if len(size) else np.ones(3)
    pictures = []
    for view, (across, up) in zip(views, ((0, 2), (1, 2), (0, 1)), strict=True):
        bright = np.sqrt(view / max(np.percentile(view[view > 0], 99) if (view > 0).any() else 1, 1e-9))
        picture = np.repeat((255 * np.clip(bright, 0, 1))[:, :, None], 3, axis=2).astype(np.uint8)
        half = [round(150 * float(mean[axis] / (mean[axis] + 2 * MARGIN))) for axis in (across, up)]
        cv2.rectangle(picture, (150 - half[0], 150 - half[1]), (150 + half[0], 150 + half[1]), colour(label), 1)
        pictures.append(picture)
    return _titled(np.hstack(pictures), f"{name}: from the right, from behind, from above", ())


def _titled(picture: np.ndarray, title: str, class_names: Sequence[str]) -> np.ndarray:
    cv2.putText(picture, title, (8, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    for label, name in enumerate(class_names):
        cv2.putText(picture, name, (8, 38 + 18 * label), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour(label), 1, cv2.LINE_AA)
    return picture


def write_picture(path: Path, picture: np.ndarray) -> None:
    """Write a PNG that is whole or absent."""
    done, data = cv2.imencode(".png", picture)
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} and type {picture.dtype} cannot be written as PNG")
    with replacing(path) as part:
        part.write_bytes(data.tobytes())
