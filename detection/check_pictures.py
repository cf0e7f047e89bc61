"""Pictures of a data set: its frames from above, and all objects of a class laid over one another."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch

from datasets.pointclouds.boxes import in_box_axes
from datasets.pointclouds.types import PointCloudSample
from detection.pictures import colour, from_above, write_legend

REACH = 80.0  # metres that are shown at most
MARGIN = 0.5  # metres around a box that are shown with it


def annotated_frame(sample: PointCloudSample, limits: Sequence[float] | None) -> np.ndarray:
    """[H, W, 3] uint8: a frame from above with its boxes, as far as its points and boxes and ``limits`` (x, y, z low,
    then high; drawn as a frame) reach."""
    points = sample.points[torch.isfinite(sample.points[:, :3]).all(dim=1), :2].double().numpy()
    corners = [np.percentile(points, [2, 98], axis=0)] if len(points) else [np.array([[-10.0, -10], [10, 10]])]
    if sample.boxes is not None:
        corners.append(sample.boxes.corners()[..., :2].double().reshape(-1, 2).numpy())
    if limits is not None:
        corners.append(np.array([limits[:2], limits[3:5]], float))
    reached = np.concatenate(corners)
    low, high = (np.clip(side, -REACH, REACH) for side in (reached.min(axis=0) - 1, reached.max(axis=0) + 1))
    shown = [*low.tolist(), 0.0, *high.tolist(), 0.0]
    return from_above(sample.points, shown, sample.class_names, sample.boxes, title=sample.frame, outline=limits)


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
    picture = np.hstack(pictures)
    write_legend(picture, f"{name}: from the right, from behind, from above", ())
    return picture
