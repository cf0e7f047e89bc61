"""What every layer offers, and the settings from which window and page build their controls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from viewer.primitives import Primitive


@dataclass(frozen=True)
class Choice:
    """One of a few words, kept in the layer's attribute ``name``."""

    name: str
    options: tuple[str, ...]


@dataclass(frozen=True)
class Slider:
    """A number from ``low`` to ``high``, kept in the layer's attribute ``name``."""

    name: str
    low: float
    high: float


Setting = Choice | Slider


class Layer(Protocol):
    """Something that can be shown, hidden and set.

    Attributes:
        name: what people call it; unique among the layers that are open.
        visible: whether it is drawn.
        frames: how many moments it has; 1 for what stands still.
    """

    name: str
    visible: bool

    @property
    def frames(self) -> int: ...

    @property
    def settings(self) -> tuple[Setting, ...]:
        """What can be changed; setting the attribute is enough, the next drawing shows it."""
        ...

    def primitives(self, frame: int) -> list[Primitive]:
        """What to draw at moment ``frame``; a layer with fewer moments shows its last one."""
        ...

    def extent(self) -> np.ndarray | None:
        """[2, 3] lowest and highest corner of what is worth looking at, strays left out; None of nothing."""
        ...
