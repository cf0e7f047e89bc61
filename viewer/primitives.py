"""What a layer is drawn with. Every way of showing (picture, page, window) knows these and no layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from datasets.types import expect_shape


class Surroundings(NamedTuple):
    """A ball: what stands around it is not drawn for an eye inside, whose view it would block."""

    centre: np.ndarray
    radius: float

    def hold(self, eye: np.ndarray) -> bool:
        """Whether ``eye`` [3] is inside."""
        return bool(np.linalg.norm(eye - self.centre) < self.radius)


@dataclass(frozen=True)
class Dots:
    """N points: xyz [N, 3] float32 in the world, rgb [N, 3] uint8, ``size`` pixels wide, perhaps scores [N]."""

    xyz: np.ndarray
    rgb: np.ndarray
    size: float = 2.0
    scores: np.ndarray | None = None

    def __post_init__(self) -> None:
        expect_shape("xyz", self.xyz, (None, 3))
        expect_shape("rgb", self.rgb, (len(self.xyz), 3))


@dataclass(frozen=True)
class Segments:
    """M lines: ends [M, 2, 3] float32 in the world, rgb [M, 3] uint8, ``width`` pixels wide, perhaps scores [M]."""

    ends: np.ndarray
    rgb: np.ndarray
    width: float = 1.5
    scores: np.ndarray | None = None
    around: Surroundings | None = None

    def __post_init__(self) -> None:
        expect_shape("ends", self.ends, (None, 2, 3))
        expect_shape("rgb", self.rgb, (len(self.ends), 3))


@dataclass(frozen=True)
class Panel:
    """A flat picture: corners [4, 3] (top left, top right, bottom right, bottom left), image uint8 [H, W, 3]."""

    corners: np.ndarray
    image: np.ndarray
    around: Surroundings | None = None

    def __post_init__(self) -> None:
        expect_shape("corners", self.corners, (4, 3))
        expect_shape("image", self.image, (None, None, 3))


Primitive = Dots | Segments | Panel


def unhindered(primitives: list[Primitive], eye: np.ndarray) -> list[Primitive]:
    """Those of ``primitives`` that do not stand around ``eye`` [3]."""
    return [p for p in primitives if isinstance(p, Dots) or p.around is None or not p.around.hold(eye)]


def thinned(dots: Dots, most: int) -> Dots:
    """At most about ``most`` of the dots, evenly chosen, and wider as they are fewer."""
    step = -(-len(dots.xyz) // max(most, 1))
    if step <= 1:
        return dots
    size = dots.size * min(step**0.5, 2.0)
    return Dots(dots.xyz[::step], dots.rgb[::step], size, None if dots.scores is None else dots.scores[::step])


def extent(positions: np.ndarray, trim: float = 0.0) -> np.ndarray | None:
    """[2, 3] lowest and highest of positions [N, 3], without ``trim`` percent at either side; None of none."""
    finite = positions[np.isfinite(positions).all(axis=1)]
    if len(finite) == 0:
        return None
    few = finite[:: max(1, len(finite) // 200_000)] if trim else finite
    return np.percentile(few.astype(np.float64), [trim, 100 - trim], axis=0)


def joined(extents: list[np.ndarray | None]) -> np.ndarray | None:
    """The extent of several, or None."""
    known = [one for one in extents if one is not None]
    return np.stack([np.min(known, axis=0)[0], np.max(known, axis=0)[1]]) if known else None
