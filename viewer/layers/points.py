"""Point clouds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from datasets.types import expect_shape
from viewer import colours
from viewer.layers.base import Choice, Setting, Slider
from viewer.primitives import Dots, Primitive, extent


@dataclass(frozen=True)
class Cloud:
    """N points: xyz [N, 3] float32, ``rgb`` [N, 3] uint8 or None, and named numbers [N] for each point.

    The names that colouring knows are intensity, class, score, error and uncertainty.
    """

    xyz: np.ndarray
    rgb: np.ndarray | None = None
    values: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expect_shape("xyz", self.xyz, (None, 3))
        if self.rgb is not None:
            expect_shape("rgb", self.rgb, (len(self.xyz), 3))
        for name, value in self.values.items():
            expect_shape(name, value, (len(self.xyz),))

    def __len__(self) -> int:
        return len(self.xyz)


class PointsLayer:
    """A cloud, or one a moment.

    Args:
        name: what people call it.
        load: opens the cloud of each moment; called when it is shown, and the last one is kept.
        up: [3] axis along which "height" is measured.
        score: points whose score is lower are hidden.
    """

    def __init__(self, name: str, load: Sequence[Callable[[], Cloud]], up: np.ndarray, score: float = 0.0) -> None:
        self.name, self.visible = name, True
        self.size = 2.0
        self.score = score
        self._up = up
        self._cloud = lru_cache(maxsize=1)(lambda frame: load[frame]())
        self._frames = len(load)
        self._made: tuple[tuple[int, str, float, float], Dots] | None = None
        first = self._cloud(0)
        self._values, self._extent = tuple(first.values), extent(first.xyz, trim=1.0)
        self.colour = "rgb" if first.rgb is not None else "class" if "class" in first.values else "height"

    @property
    def frames(self) -> int:
        """One a cloud."""
        return self._frames

    @property
    def settings(self) -> tuple[Setting, ...]:
        """What the points are coloured by, how large they are, and the lowest score where they have one."""
        rgb = ("rgb",) if self._cloud(0).rgb is not None else ()
        chosen = Choice("colour", (*rgb, "height", *self._values))
        score = (Slider("score", 0.0, 1.0),) if "score" in self._values else ()
        return chosen, Slider("size", 1.0, 8.0), *score

    def cloud(self, frame: int) -> Cloud:
        """The cloud of a moment."""
        return self._cloud(min(frame, self._frames - 1))

    def primitives(self, frame: int) -> list[Primitive]:
        """The dots of one moment, made anew only where something else than the place one looks from has changed."""
        key = (frame, self.colour, self.size, self.score)
        if self._made is None or self._made[0] != key:
            self._made = (key, self._dots(frame))
        return [self._made[1]]

    def _dots(self, frame: int) -> Dots:
        cloud = self.cloud(frame)
        xyz, rgb, scores = cloud.xyz, self._colours(cloud), cloud.values.get("score")
        if self.score > 0 and scores is not None:
            kept = scores >= self.score
            xyz, rgb, scores = xyz[kept], rgb[kept], scores[kept]
        return Dots(xyz, rgb, self.size, scores)

    def extent(self) -> np.ndarray | None:
        """Of the first moment, without the outermost percent."""
        return self._extent

    def _colours(self, cloud: Cloud) -> np.ndarray:
        if self.colour == "rgb" and cloud.rgb is not None:
            return cloud.rgb
        if self.colour == "class" and "class" in cloud.values:
            return colours.by_class(cloud.values["class"])
        if self.colour in cloud.values:
            return colours.by_value(cloud.values[self.colour])
        return colours.by_value(cloud.xyz @ self._up.astype(np.float32))
