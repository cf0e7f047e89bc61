"""Clouds with boxes from above, and in a photo."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from datasets.pictures import to_bytes
from datasets.pointclouds.boxes import corners_bev
from datasets.pointclouds.types import Boxes3D
from datasets.types import Cameras

COLOURS = ((255, 200, 90), (120, 255, 120), (220, 140, 255), (90, 210, 255), (255, 120, 120), (255, 255, 255))
OUTLINE = (255, 80, 80)
ANNOTATED = (255, 255, 255)
NEAR = 0.1  # metres in front of a camera
EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))


def colour(label: int) -> tuple[int, int, int]:
    """The colour of a class."""
    return COLOURS[label % len(COLOURS)]


def from_above(
    points: Tensor,
    limits: Sequence[float],
    class_names: Sequence[str],
    found: Boxes3D | None = None,
    annotated: Boxes3D | None = None,
    title: str = "",
    pixels: int = 900,
    outline: Sequence[float] | None = None,
) -> np.ndarray:
    """[H, W, 3] uint8: x up and y to the left, the longer side ``pixels`` long.

    Points are brighter where higher. What was found has its class's colour, a line from the middle to the front and its
    score; what is annotated is white.

    Args:
        points: [N, 3 or more].
        limits: least x, y, z, then greatest: what is shown.
        outline: limits that are drawn as a frame.
    """
    low, high = np.array(limits[:2], float), np.array(limits[3:5], float)
    scale = pixels / float((high - low).max())
    width, height = (int(np.ceil(side * scale - 1e-6)) for side in (high - low)[::-1])

    def place(xy: np.ndarray) -> np.ndarray:
        return np.stack([(high[1] - xy[..., 1]) * scale, (high[0] - xy[..., 0]) * scale], axis=-1)

    picture = np.zeros((height, width, 3), np.uint8)
    cloud = points[:, :3].numpy()
    at = place(cloud[:, :2])
    shown = np.isfinite(cloud).all(axis=1) & (at >= 0).all(axis=1) & (at < (width, height)).all(axis=1)
    columns, rows = at[shown].astype(int).T
    heights = cloud[shown, 2]
    bottom, top = np.percentile(heights, [2, 98]) if len(heights) else (0.0, 1.0)
    grey = 70 + 130 * np.clip((heights - bottom) / max(float(top - bottom), 1e-3), 0, 1)
    if len(cloud) < 5000:  # so few points would hardly show as single pixels
        for column, row, value in zip(columns.tolist(), rows.tolist(), grey.tolist(), strict=True):
            cv2.circle(picture, (column, row), 2, (int(value),) * 3, -1, cv2.LINE_AA)
    else:
        np.maximum.at(picture, (rows, columns), np.repeat(grey[:, None], 3, axis=1).astype(np.uint8))
    if outline is not None:
        ends = place(np.array([outline[:2], outline[3:5]], float)).round().astype(int).tolist()
        cv2.rectangle(picture, ends[0], ends[1], OUTLINE, 1)
    if annotated is not None:
        for corners in place(corners_bev(annotated.boxes).numpy()):
            cv2.polylines(picture, [corners.round().astype(np.int32)], True, ANNOTATED, 1, cv2.LINE_AA)
    if found is not None:
        scores = [None] * len(found) if found.scores is None else found.scores.tolist()
        for corners, label, score in zip(
            place(corners_bev(found.boxes).numpy()), found.labels.tolist(), scores, strict=True
        ):
            cv2.polylines(picture, [corners.round().astype(np.int32)], True, colour(label), 2, cv2.LINE_AA)
            middle, front = (end.mean(axis=0).round().astype(int).tolist() for end in (corners, corners[[0, 3]]))
            cv2.line(picture, middle, front, colour(label), 2, cv2.LINE_AA)
            if score is not None:
                right = (round(float(corners[:, 0].max())) + 3, middle[1])
                cv2.putText(
                    picture, f"{score:.2f}", right, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour(label), 1, cv2.LINE_AA
                )
    write_legend(picture, title, class_names, annotated is not None)
    return picture


def write_legend(picture: np.ndarray, title: str, class_names: Sequence[str], annotated: bool = False) -> None:
    """Write a title and the classes in their colours into the top left corner."""
    lines = [(title, ANNOTATED), *((name, colour(label)) for label, name in enumerate(class_names))]
    lines += [("annotated", ANNOTATED)] if annotated else []
    for number, (text, ink) in enumerate(lines):
        cv2.putText(picture, text, (8, 18 + 18 * number), cv2.FONT_HERSHEY_SIMPLEX, 0.45, ink, 1, cv2.LINE_AA)


def in_photo(image: np.ndarray, camera: Cameras, found: Boxes3D) -> np.ndarray:
    """[H, W, 3] uint8: the edges of boxes drawn into a photo.

    Args:
        image: [H, W, 3] float in 0..1.
        camera: the one camera that took it, its world being the axes of the boxes.
    """
    picture = to_bytes(image)
    pose, intrinsics = camera.world_to_camera[0].double(), camera.intrinsics[0].double()
    corners = found.corners().double() @ pose[:3, :3].T + pose[:3, 3]
    for box, label in zip(corners, found.labels.tolist(), strict=True):
        for first, last in EDGES:
            ends = _in_front(box[first], box[last])
            if ends is None:
                continue
            on_image = ends @ intrinsics.T
            (x1, y1), (x2, y2) = (on_image[:, :2] / on_image[:, 2:] - 0.5).clamp(-1e4, 1e4).round().int().tolist()
            cv2.line(picture, (x1, y1), (x2, y2), colour(label), 2, cv2.LINE_AA)
    return picture


def _in_front(first: Tensor, last: Tensor) -> Tensor | None:
    """[2, 3] the part of an edge that is in front of the camera, or None."""
    if float(first[2]) < float(last[2]):
        first, last = last, first
    if float(first[2]) <= NEAR:
        return None
    if float(last[2]) < NEAR:
        last = first + (last - first) * (first[2] - NEAR) / (first[2] - last[2])
    return torch.stack([first, last])
