"""The one world that everything shown shares, near enough to its origin for float32."""

from __future__ import annotations

import numpy as np

_FAR = 1e5  # float32 keeps no centimetres beyond


class World:
    """Coordinates of files minus one offset, which the first cloud or scene decides: map coordinates are too large for
    float32 to hold them in detail.

    Attributes:
        offset: [3] float64 that is subtracted; None until something decides.
    """

    def __init__(self) -> None:
        self.offset: np.ndarray | None = None

    def of(self, xyz: np.ndarray) -> np.ndarray:
        """The offset, where need be decided by these points [N, 3]: their median where that is far away, else 0."""
        finite = xyz[np.isfinite(xyz).all(axis=1)] if self.offset is None else xyz
        if self.offset is None and len(finite):
            middle = np.floor(np.median(finite.astype(np.float64), axis=0))
            self.offset = middle if (np.abs(middle) > _FAR).any() else np.zeros(3)
        return np.zeros(3) if self.offset is None else self.offset

    def place(self, xyz: np.ndarray) -> np.ndarray:
        """[N, 3] float32 of coordinates [N, 3] as a file has them."""
        offset = self.of(xyz)
        with np.errstate(over="ignore"):
            return (xyz - offset).astype(np.float32) if offset.any() else xyz.astype(np.float32)
