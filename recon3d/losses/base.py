"""What a loss is, and what it may hold a render against."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from datasets.types import Cameras
from recon3d.gaussians import Gaussians
from recon3d.render import Render


@dataclass(frozen=True)
class PriorDepth:
    """What the depth prior of the start says of one train view.

    Attributes:
        depth: [H, W] float32 z-depth in scene units, 0 where unknown.
        confidence: [H, W] float32 in 0..1, 0 where the depth is unknown.
    """

    depth: Tensor
    confidence: Tensor

    def to(self, device: torch.device | str) -> PriorDepth:
        """The same on ``device``."""
        return PriorDepth(self.depth.to(device), self.confidence.to(device))


@dataclass(frozen=True)
class Step:
    """The training step in which a loss is asked, for losses that change over a fit or look from elsewhere.

    Attributes:
        number: of the step, from 0.
        progress: share of the fit that is done after this step, 0 to 1.
        index: of the photo among the train photos.
        cameras: of all train photos.
        look: renders what this step renders (the same Gaussians left out) from other cameras, with gradients.
        others: the same for each further field of a fit of several.
    """

    number: int
    progress: float
    index: int
    cameras: Cameras
    look: Callable[[Cameras], Render]
    others: tuple[Callable[[Cameras], Render], ...] = ()

    @property
    def camera(self) -> Cameras:
        """The photo's camera, a batch of one."""
        return self.cameras[self.index]


@dataclass(frozen=True)
class Target:
    """The photo of one training step, and what is known besides.

    Attributes:
        image: [H, W, 3] float32 in 0..1.
        mask: [H, W] bool, True where the photo counts, or None for everywhere.
        depth: [H, W] float32 measured z-depth in scene units, 0 where unknown, or None.
        prior: estimated depth; None unless a loss of the fit uses it.
        step: the training step; None outside a fit.
    """

    image: Tensor
    mask: Tensor | None = None
    depth: Tensor | None = None
    prior: PriorDepth | None = None
    step: Step | None = None

    @property
    def required_step(self) -> Step:
        """The training step; ValueError outside a fit."""
        if self.step is None:
            raise ValueError("this loss needs to know the training step, but the target carries none")
        return self.step


class Loss(ABC):
    """One term of the sum that a fit minimises.

    Args:
        weight: factor of this term, not negative.

    Attributes:
        uses_prior: whether targets must carry the prior's depth.
        uses_uncertainty: whether the Gaussians must learn an uncertainty, which is the render's feature.
        uses_fields: whether several fields must be fitted side by side.
    """

    uses_prior: bool = False
    uses_fields: bool = False
    uses_uncertainty: bool = False

    def __init__(self, weight: float = 1.0) -> None:
        if not (weight >= 0 and math.isfinite(weight)):
            raise ValueError(f"{type(self).__name__}: weight is {weight}, expected a finite number >= 0")
        self.weight = weight

    def __call__(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        """The weighted scalar for one camera (``render`` holds a batch of one)."""
        return self.weight * self.value(render, target, gaussians)

    @abstractmethod
    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        """The scalar before weighting."""
