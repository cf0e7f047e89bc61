"""Which objects share a frame, where the objects of all frames are in one list."""

from __future__ import annotations

import numpy as np


def same_frame(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of all pairs of the same frame, sorted by the first, then by the second.

    Args:
        first: [A] int frames, in any order.
        second: [B] int frames, ascending.
    """
    start = np.searchsorted(second, first)
    counts = np.searchsorted(second, first, side="right") - start
    rows = np.repeat(np.arange(len(first)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    return rows, np.repeat(start, counts) + within
