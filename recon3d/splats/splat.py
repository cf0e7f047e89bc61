"""A fitted scene: its Gaussians and what else a picture of it needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from datasets.types import expect_shape
from recon3d.gaussians import Gaussians
from recon3d.splats.errors import SplatError


@dataclass(frozen=True)
class Splat:
    """Gaussians together with how they were meant to be rendered.

    Attributes:
        gaussians: N Gaussians in the scene's world (OpenCV handedness, the scene's units).
        background: colour behind everything, 0..1.
        antialiased: whether they were fitted with the anti-aliased mode and want it when rendered.
        scene_to_source: [4, 4] similarity that brings the scene's world into the world of the photos' source.

    Raises:
        ValueError: for shapes that disagree.
    """

    gaussians: Gaussians
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    antialiased: bool = False
    scene_to_source: np.ndarray = field(default_factory=lambda: np.eye(4))

    def __post_init__(self) -> None:
        if len(self.background) != 3:
            raise ValueError(f"background has {len(self.background)} values, expected 3")
        expect_shape("scene_to_source", self.scene_to_source, (4, 4))

    def __len__(self) -> int:
        return len(self.gaussians)


def require_drawable(path: Path, splat: Splat, mend: str) -> None:
    """Raise SplatError naming the first tensor of ``splat`` that holds NaN, inf, or a quaternion of length zero."""
    for name, value in splat.gaussians.parameters().items():
        bad = ~torch.isfinite(value).flatten(1).all(1) if value.ndim > 1 else ~torch.isfinite(value)
        if bool(bad.any()):
            raise SplatError(path, f"{name} of {int(bad.sum())} of {len(splat)} Gaussians is NaN or infinite", mend)
    zero = splat.gaussians.quats.detach().double().norm(dim=1) == 0
    if bool(zero.any()):
        raise SplatError(path, f"quats of {int(zero.sum())} of {len(splat)} Gaussians are zero", mend)
    if not (np.isfinite(splat.background).all() and np.isfinite(splat.scene_to_source).all()):
        raise SplatError(path, "background or scene_to_source is NaN or infinite", mend)
