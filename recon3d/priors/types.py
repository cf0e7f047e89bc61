"""What a depth prior is, and what it returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from datasets.types import expect_shape
from recon3d.views import TrainingViews


@dataclass(frozen=True)
class DepthEstimate:
    """Estimated geometry of one photo.

    Attributes:
        depth: [H, W] float32 z-depth in scene units, 0 where unknown.
        confidence: [H, W] float32 in 0..1, 0 where the depth is unknown.

    Raises:
        ValueError: for shapes that disagree, or values that are not finite or out of range.
    """

    depth: np.ndarray
    confidence: np.ndarray

    def __post_init__(self) -> None:
        expect_shape("depth", self.depth, (None, None))
        expect_shape("confidence", self.confidence, self.depth.shape)
        if not (np.isfinite(self.depth).all() and (self.depth >= 0).all()):
            raise ValueError("depth holds negative values or values that are not finite; unknown depth is 0")
        if not ((self.confidence >= 0) & (self.confidence <= 1)).all():
            raise ValueError("confidence holds values outside 0..1")

    @property
    def known(self) -> np.ndarray:
        """[H, W] bool, True where there is a depth."""
        return self.depth > 0

    def else_from(self, other: DepthEstimate, least: float) -> DepthEstimate:
        """This estimate where it is at least ``least`` confident, elsewhere what ``other`` says of the same photo."""
        taken = self.known & (self.confidence >= least)
        return DepthEstimate(
            np.where(taken, self.depth, other.depth), np.where(taken, self.confidence, other.confidence)
        )


def inverse_of(depth: np.ndarray) -> np.ndarray:
    """[H, W] inverse of a depth [H, W], 0 where that is unknown (0)."""
    return np.where(depth > 0, 1 / np.where(depth > 0, depth, 1), 0)


class DepthPrior(ABC):
    """Estimates the geometry of the train views from their photos and cameras.

    Attributes:
        uses_finer: whether it looks at photos of twice the size too, where a scene has them.
        has_one_size: whether its depth is of photos of one size, so that smaller ones save no time.
        is_quick: whether it takes a fraction of the time that priors which follow flow take.
    """

    uses_finer: bool = False
    has_one_size: bool = False
    is_quick: bool = False

    @abstractmethod
    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """One estimate per view, in order."""

    def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
        """Estimates of the views, once or up to ``count`` times: the best, then others that err in other places."""
        return [self(views)]

    def in_less_time(self) -> DepthPrior | None:
        """Another prior that does part of what this one does, and most of its good, or None."""
        return None


class SeveralOpinions(DepthPrior):
    """A prior that has more than one opinion, or asks one that may; a call gives the best of them."""

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """The first of the opinions; raises what those raise."""
        return self.opinions(views, 1)[0]

    @abstractmethod
    def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
        """As :meth:`DepthPrior.opinions` says."""
