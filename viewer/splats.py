"""What the viewer knows of splats, and how it finds somebody who can open one.

The viewer draws no Gaussians itself: a package that does registers an opener in the entry point group
:data:`GROUP` of its metadata, and the viewer asks each in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from datasets.programs.plugins import registered
from datasets.types import Cameras, Scene, View

GROUP = "sparse_vision_3d.splats"


class ShownSplat(Protocol):
    """A splat that is open.

    Attributes:
        background: colour behind it, 0..1.
        antialiased: whether it wants the anti-aliased mode (for those who draw ``parameters`` themselves).
        sources: files, of which a new version is another splat; they need not all be there.
        scene_to_source: [4, 4] similarity from the world it is shown in to that of its photos' files.
        scene: the photos it was fitted to, in its world, or None.
        predicts_error: whether :meth:`error` can be asked for.
    """

    background: tuple[float, float, float]
    antialiased: bool
    sources: tuple[Path, ...]
    scene_to_source: np.ndarray
    scene: Scene | None

    @property
    def predicts_error(self) -> bool: ...

    def render(self, camera: Cameras, width: int, height: int) -> View:
        """What a camera (a batch of one, brought to width x height) sees; depth is 0 where there is nothing."""
        ...

    def error(self, camera: Cameras, width: int, height: int) -> np.ndarray:
        """[H, W] how wrong the colour may be there: predicted mean absolute error, of colours in 0..1."""
        ...

    def parameters(self) -> Mapping[str, np.ndarray]:
        """float32: means [N, 3], scales [N, 3] (logarithms), quats [N, 4] (wxyz), opacities [N] (logits),
        sh0 [N, 1, 3], shN [N, K, 3]."""
        ...


class SplatOpener(Protocol):
    """What an entry point of :data:`GROUP` is: gives the splat at ``path``, or None where there is none.

    Raises InputError where ``path`` is a splat that cannot be used.
    """

    def __call__(self, path: Path) -> ShownSplat | None: ...


def installed_openers() -> list[SplatOpener]:
    """The registered openers, in the order of their names."""
    openers: list[SplatOpener] = registered(GROUP)
    return openers


def open_splat(path: Path, openers: list[SplatOpener]) -> ShownSplat | None:
    """What the first opener that knows ``path`` makes of it."""
    return next((splat for opener in openers if (splat := opener(path)) is not None), None)
