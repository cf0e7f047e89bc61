"""Pictures of results for reports, drawn by whoever registers for it (the viewer does)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from datasets.programs.plugins import registered

GROUP = "sparse_vision_3d.shots"


class Photographer(Protocol):
    """What an entry point of :data:`GROUP` is.

    Gives uint8 RGB [H, W, 3] of ``paths`` in one frame, as ``view3d PATHS --shot --view VIEW --columns N`` does; raises
    InputError for what cannot be opened, or a view there is not.
    """

    def __call__(
        self, paths: Sequence[Path], size: tuple[int, int], view: str | None = None, columns: int | None = None
    ) -> np.ndarray: ...


def photographer() -> Photographer | None:
    """The first who is registered; None where nobody is."""
    found: list[Photographer] = registered(GROUP)
    return found[0] if found else None
