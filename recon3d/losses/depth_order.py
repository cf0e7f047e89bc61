"""What the prior says of pairs of pixels: which is nearer, and which lie on one surface.

All pixels are paired at once with those at one offset, which is drawn at each step: no gathering, any offset in time.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.losses.surface import Comparison
from recon3d.render import Render


class _Pairs(Loss):
    """Mean over pairs of pixels at most ``reach`` apart on either axis, weighted by the smaller confidence."""

    uses_prior = True

    def __init__(self, reach: int, weight: float) -> None:
        super().__init__(weight)
        if reach < 1:
            raise ValueError(f"{type(self).__name__}: reach is {reach}, expected at least 1 pixel")
        self.reach = reach

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        both = Comparison.of(render, target)
        dy, dx = _offset(self.reach, both.belief)
        (a, b), (prior_a, prior_b), beliefs = (
            _pair(values, dy, dx) for values in (both.rendered, both.prior, both.belief)
        )
        unit = (prior_a + prior_b) / 2
        cost = self._cost((b - a) / unit, (prior_b - prior_a) / unit)
        return (torch.minimum(*beliefs) * cost).sum() / both.belief.numel()

    @abstractmethod
    def _cost(self, rendered: Tensor, prior: Tensor) -> Tensor:
        """Of the relative steps in depth from one pixel of each pair to the other."""


class DepthRanking(_Pairs):
    """Cost of rendering two pixels in another order of depth than the prior has them (Wang et al., SparseNeRF, 2023).

    ``max(near - far + margin, 0)`` with z-depths relative to the prior's.

    Args:
        reach: pixels, up to which the two are apart on either axis.
        least: relative step in the prior's depth from which it is believed to know the order.
        margin: by which the farther one has to lie behind, relative.
        weight: factor of this term.

    Raises:
        ValueError: for arguments out of range; when asked, for a target without a prior.
    """

    def __init__(self, reach: int = 16, least: float = 0.01, margin: float = 1e-4, weight: float = 0.1) -> None:
        super().__init__(reach, weight)
        _expect_share("DepthRanking", "least", least)
        _expect_share("DepthRanking", "margin", margin)
        self.least, self.margin = least, margin

    def _cost(self, rendered: Tensor, prior: Tensor) -> Tensor:
        cost = (self.margin - prior.sign() * rendered).clamp(min=0)
        return torch.where(prior.abs() > self.least, cost, 0)


class DepthContinuity(_Pairs):
    """Cost of a step in the rendered depth where the prior has none (after Wang et al., SparseNeRF, 2023).

    ``max(|step| - slack, 0)`` between neighbours, relative to the prior's depth. The source takes the neighbours that
    are nearest in the prior's depth; here all that are near enough count.

    Args:
        reach: pixels, up to which neighbours are apart on either axis.
        alike: relative step in the prior's depth up to which two pixels are on one surface.
        slack: relative step that costs nothing.
        weight: factor of this term.

    Raises:
        ValueError: for arguments out of range; when asked, for a target without a prior.
    """

    def __init__(self, reach: int = 3, alike: float = 0.01, slack: float = 1e-4, weight: float = 0.1) -> None:
        super().__init__(reach, weight)
        _expect_share("DepthContinuity", "alike", alike)
        _expect_share("DepthContinuity", "slack", slack)
        self.alike, self.slack = alike, slack

    def _cost(self, rendered: Tensor, prior: Tensor) -> Tensor:
        return torch.where(prior.abs() <= self.alike, (rendered.abs() - self.slack).clamp(min=0), 0)


def _expect_share(loss: str, name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{loss}: {name} is {value}, expected 0 or more and less than 1")


def _offset(reach: int, like: Tensor) -> tuple[int, int]:
    """Rows and columns to the other pixel, drawn from all within reach but none at all."""
    side = 2 * reach + 1
    place = int(torch.randint(side * side // 2, (), device=like.device)) + side * side // 2 + 1
    return place // side - reach, place % side - reach


def _pair(values: Tensor, dy: int, dx: int) -> tuple[Tensor, Tensor]:
    """[H', W'] the pixels that have another one ``dy`` >= 0 rows below and ``dx`` columns aside, and those others."""
    height, width = values.shape
    left, right = max(-dx, 0), max(dx, 0)
    return values[: max(height - dy, 0), left : max(width - right, left)], values[dy:, right : max(width - left, right)]
