"""The depth that the prior of the start estimated, taken by its value."""

from __future__ import annotations

from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.losses.surface import Comparison, Space, check_space
from recon3d.render import Render


class EstimatedDepth(Loss):
    """Mean error of the rendered z-depth against the prior's, weighted by the prior's confidence.

    As the L1 terms of LoopSparseGS (Bao et al., 2024) and others, but scale-free and by a confidence that is measured.

    Args:
        space: "depth" takes the error relative to the prior's depth; "inverse" takes that of the inverse depth over the
            view's mean inverse depth, so that a pixel of parallax costs the same near and far.
        weight: factor of this term.

    Raises:
        ValueError: for arguments out of range; when asked, for a target without a prior.
    """

    uses_prior = True

    def __init__(self, space: Space = "inverse", weight: float = 0.1) -> None:
        super().__init__(weight)
        check_space("EstimatedDepth", space)
        self.space = space

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        both = Comparison.of(render, target, self.space)
        unit = both.prior
        if self.space == "inverse":
            unit = (both.belief * both.prior).sum() / both.belief.sum().clamp(min=1e-12)
        error = (both.rendered - both.prior).abs() / unit.clamp(min=1e-12)
        return (both.belief * error).mean()
