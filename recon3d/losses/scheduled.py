"""A loss in a part of the fit only."""

from __future__ import annotations

from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.render import Render


class Scheduled(Loss):
    """Another loss from one time of the fit to another, where asked fading out, where asked in some steps only.

    A prior helps a fit most at its start, other views of it when it shows something: users report depth that hurts
    where its weight stays. In steps without the loss it costs nothing.

    Args:
        loss: the other loss.
        begin, end: share of the fit that is done, 0 to 1, between which the loss counts.
        fade: let its weight fall linearly to zero from ``begin`` to ``end``.
        every: ask for the loss in every ``every``-th step only; its weight is that of these steps.

    Raises:
        ValueError: for arguments out of range; when asked, for a target without a step.
    """

    def __init__(self, loss: Loss, begin: float = 0.0, end: float = 1.0, fade: bool = False, every: int = 1) -> None:
        super().__init__()
        if not 0 <= begin < end <= 1:
            raise ValueError(f"Scheduled: begin is {begin} and end {end}, expected 0 <= begin < end <= 1")
        if every < 1:
            raise ValueError(f"Scheduled: every is {every}, expected at least 1")
        self.loss, self.begin, self.end, self.fade, self.every = loss, begin, end, fade, every
        self.uses_prior, self.uses_uncertainty = loss.uses_prior, loss.uses_uncertainty
        self.uses_fields = loss.uses_fields

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        step = target.required_step
        if not self.begin <= step.progress <= self.end or step.number % self.every:
            return render.alpha.new_zeros(())
        factor = (self.end - step.progress) / (self.end - self.begin) if self.fade else 1.0
        return factor * self.loss(render, target, gaussians)
