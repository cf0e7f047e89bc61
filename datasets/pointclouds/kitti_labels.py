"""KITTI's label and result files: one object a line, 15 fields, and a 16th with the score in results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from datasets.errors import SceneError
from datasets.files import replacing
from datasets.scenes.files import read_bytes
from datasets.types import expect_shape

CLASSES = ("Car", "Van", "Truck", "Pedestrian", "Person_sitting", "Cyclist", "Tram", "Misc", "DontCare")


@dataclass(frozen=True)
class KittiObjects:
    """M objects as KITTI's text files have them: camera axes (x right, y down, z forward), metres, radians, pixels.

    Attributes:
        names: [M] class names.
        truncated: [M] share outside the image, 0..1; -1 in results.
        occluded: [M] int64 0 visible, 1 partly, 2 largely occluded, 3 unknown; -1 in results.
        alpha: [M] angle at which the camera sees the object.
        boxes_2d: [M, 4] left, top, right, bottom.
        sizes: [M, 3] height, width, length.
        locations: [M, 3] centre of the box's *bottom*.
        rotation_y: [M] about the camera's y axis, 0 where the object heads along +x.
        scores: [M] confidence, or None in labels.
    """

    names: np.ndarray
    truncated: np.ndarray
    occluded: np.ndarray
    alpha: np.ndarray
    boxes_2d: np.ndarray
    sizes: np.ndarray
    locations: np.ndarray
    rotation_y: np.ndarray
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        for name, columns in (("boxes_2d", 4), ("sizes", 3), ("locations", 3)):
            expect_shape(name, getattr(self, name), (count, columns))
        for name in ("truncated", "occluded", "alpha", "rotation_y", "scores"):
            if (value := getattr(self, name)) is not None:
                expect_shape(name, value, (count,))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, chosen: np.ndarray | slice | Sequence[int]) -> KittiObjects:
        """Objects at ``chosen``: a mask, a slice, or numbers."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: value[chosen] for name, value in values.items() if value is not None})


def read_objects(path: Path, scored: bool = False) -> KittiObjects:
    """The objects of a label file, or with ``scored`` of a result file, in the file's order.

    Raises:
        SceneError: naming file and line, for a line of another form, a value that is not finite, and a box without
            positive sizes (which DontCare and purely two-dimensional results, all -1, may have).
    """
    try:
        lines = read_bytes(path).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise SceneError(path, f"is not text ({error})", "Write it again, as UTF-8") from error
    names, rows = [], []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words:
            continue
        names.append(words[0])
        rows.append(_row(path, number, words, 15 if scored else 14))
    values = np.array(rows, dtype=np.float64).reshape(len(rows), 15 if scored else 14)
    return KittiObjects(
        np.array(names, dtype=np.str_),
        values[:, 0],
        values[:, 1].astype(np.int64),
        values[:, 2],
        values[:, 3:7],
        values[:, 7:10],
        values[:, 10:13],
        values[:, 13],
        values[:, 14] if scored else None,
    )


def _row(path: Path, number: int, words: list[str], count: int) -> list[float]:
    kind = "a result" if count == 15 else "a label"
    if len(words) != count + 1:
        mend = f"A line of {kind} has a class and {count} numbers"
        raise SceneError(path, f"line {number} has {len(words)} fields", mend)
    try:
        row = [float(word) for word in words[1:]]
    except ValueError as error:
        raise SceneError(path, f"line {number} is no object ({error})", "Correct or remove the line") from error
    if not np.isfinite(row).all():
        raise SceneError(path, f"line {number} holds a value that is not finite", "Correct or remove the line")
    sizes = row[7:10]
    if words[0] != "DontCare" and min(sizes) <= 0 and not (count == 15 and sizes == [-1, -1, -1]):
        found = f"line {number}: a {words[0]} has height, width, length {sizes}"
        raise SceneError(path, found, "Sizes must be positive: correct or remove the line")
    return row


def write_objects(path: Path, objects: KittiObjects) -> None:
    """Write a label file, or where there are scores a result file, so that a reader never sees half of it."""
    lines = []
    for i in range(len(objects)):
        numbers = [
            objects.alpha[i],
            *objects.boxes_2d[i],
            *objects.sizes[i],
            *objects.locations[i],
            objects.rotation_y[i],
            *(() if objects.scores is None else (objects.scores[i],)),
        ]
        head = f"{objects.names[i]} {objects.truncated[i]:g} {objects.occluded[i]:d}"
        lines.append(" ".join([head, *(f"{number:.4f}" for number in numbers)]) + "\n")
    with replacing(path) as part:
        part.write_text("".join(lines), encoding="utf-8")
