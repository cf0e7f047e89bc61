"""A fitted scene: its Gaussians and what else a picture of it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from datasets.types import expect_shape
from recon3d.gaussians import Gaussians
from recon3d.splats.errors import SplatError
from recon3d.splats.mean import apart, mean_of


@dataclass(frozen=True)
class Splat:
    """Gaussians together with how they were meant to be rendered.

    They may be several fields that were fitted to the same photos side by side. The mean of the pictures of the fields
    is nearer to the truth than each (:func:`recon3d.pictures.draw`); for programs that know no fields, the Gaussians
    together, each dimmed for it, show about that mean.

    Attributes:
        gaussians: N Gaussians in the scene's world (OpenCV handedness, the scene's units).
        background: colour behind everything, 0..1.
        antialiased: whether they were fitted with the anti-aliased mode and want it when rendered.
        scene_to_source: [4, 4] similarity that brings the scene's world into the world of the photos' source.
        fields: how many of the Gaussians, in order, are of each field; () where there is but one.

    Raises:
        ValueError: for shapes or numbers that disagree.
    """

    gaussians: Gaussians
    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    antialiased: bool = False
    scene_to_source: np.ndarray = field(default_factory=lambda: np.eye(4))
    fields: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.background) != 3:
            raise ValueError(f"background has {len(self.background)} values, expected 3")
        expect_shape("scene_to_source", self.scene_to_source, (4, 4))
        if self.fields and (min(self.fields) < 0 or sum(self.fields) != len(self.gaussians)):
            raise ValueError(f"fields {list(self.fields)} do not share out {len(self.gaussians)} Gaussians")

    @staticmethod
    def of_fields(
        fields: Sequence[Gaussians],
        background: tuple[float, float, float] = (0.0, 0.0, 0.0),
        antialiased: bool = False,
        scene_to_source: np.ndarray | None = None,
    ) -> Splat:
        """One field, or several, as a splat."""
        counts = tuple(len(one) for one in fields) if len(fields) > 1 else ()
        gaussians = mean_of(fields) if counts else fields[0]
        to_source = np.eye(4) if scene_to_source is None else scene_to_source
        return Splat(gaussians, background, antialiased, to_source, counts)

    @cached_property
    def apart(self) -> tuple[Gaussians, ...]:
        """Each field as it was fitted."""
        return apart(self.gaussians, self.fields) if self.fields else (self.gaussians,)

    def to(self, device: torch.device | str) -> Splat:
        """The same splat with its Gaussians on ``device``."""
        return replace(self, gaussians=self.gaussians.to(device))

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
