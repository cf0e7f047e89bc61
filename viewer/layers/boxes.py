"""Oriented boxes, annotated or detected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from datasets.pointclouds.types import Boxes3D
from viewer import colours
from viewer.layers.base import Choice, Setting, Slider
from viewer.primitives import Primitive, Segments, extent

# Pairs of corners as Boxes3D.corners() orders them, and two lines that cross in the front face, where the box heads.
_EDGES = np.array([(0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7)])
_FRONT = np.array([(0, 7), (3, 4)])


class BoxesLayer:
    """Boxes of one moment or several.

    Args:
        name: what people call it.
        boxes: of each moment.
        class_names: what their labels mean.
        score: boxes with a lower score are hidden.
        frame_names: of the moments, "" where one has none.
    """

    def __init__(
        self,
        name: str,
        boxes: Sequence[Boxes3D],
        class_names: Sequence[str],
        score: float = 0.0,
        frame_names: Sequence[str] = (),
    ) -> None:
        self.name, self.visible = name, True
        self.colour, self.score, self.width = "class", score, 2.0
        self.class_names = tuple(class_names)
        self._boxes, self._frame_names = tuple(boxes), tuple(frame_names)
        self._scored = any(one.scores is not None for one in boxes)

    def follow(self, names: Sequence[str]) -> None:
        """Take the moments of ``names``, with no boxes in those that have none, if any of them is known here.

        Moments that share a name stay in the order that they have.
        """
        known = dict(zip(self._frame_names, self._boxes, strict=False))
        if len(known) == len(self._boxes) and known.keys() & set(names):
            self._boxes = tuple(known.get(name, Boxes3D.empty()) for name in names)
            self._frame_names = tuple(names)

    @property
    def frames(self) -> int:
        """One a list of boxes."""
        return len(self._boxes)

    @property
    def settings(self) -> tuple[Setting, ...]:
        """Colour, line width, and the lowest score that is shown."""
        width = Slider("width", 1.0, 6.0)
        return (
            (Choice("colour", ("class", "score")), Slider("score", 0.0, 1.0), width)
            if self._scored
            else (Choice("colour", ("class",)), width)
        )

    def shown(self, frame: int) -> Boxes3D:
        """The boxes of a moment whose score suffices."""
        boxes = self._boxes[min(frame, self.frames - 1)]
        return boxes if boxes.scores is None else boxes[boxes.scores >= self.score]

    def primitives(self, frame: int) -> list[Primitive]:
        """Twelve edges a box, and a cross on its front."""
        boxes = self.shown(frame)
        corners = boxes.corners().numpy().astype(np.float32)
        edges = np.concatenate([_EDGES, _FRONT])
        if self.colour == "score" and boxes.scores is not None:
            rgb = colours.by_value(boxes.scores.numpy(), 0.0, 1.0)
        else:
            rgb = colours.by_class(boxes.labels.numpy())
        scores = None if boxes.scores is None else np.repeat(boxes.scores.numpy(), len(edges))
        ends = corners[:, edges].reshape(-1, 2, 3)
        return [Segments(ends, np.repeat(rgb, len(edges), axis=0), self.width, scores)]

    def extent(self) -> np.ndarray | None:
        """Of all boxes of the first moment that has any."""
        some = next((boxes for boxes in self._boxes if len(boxes)), Boxes3D.empty())
        return extent(some.corners().numpy().reshape(-1, 3))
