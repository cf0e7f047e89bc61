"""Depth from photos larger than those of the fit, where there are any."""

from __future__ import annotations

from dataclasses import replace

from recon3d.priors.resizing import halved
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews


class FinerPhotos(DepthPrior):
    """Another prior, asked on photos of twice the size too: they show thin things that those of the fit blur.

    What it is confident of on the larger photos is taken from there; elsewhere, and where a scene has no larger
    photos, stands what it says of the photos of the fit. On those it knows more: what blur hides need not match.

    Args:
        prior: the other prior.
        least: confidence, 0..1, from which on depth is taken from the larger photos.

    Raises:
        ValueError: for ``least`` out of range.
    """

    uses_finer = True

    def __init__(self, prior: DepthPrior, least: float = 0.5) -> None:
        if not 0 < least <= 1:
            raise ValueError(f"FinerPhotos: least is {least}, expected a confidence above 0 and at most 1")
        self.prior, self.least = prior, least

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """The prior's estimates; raises what it raises."""
        return self.opinions(views, 1)[0]

    def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
        """Those of the prior, each on both sizes; where it has fewer on one, they come in turn there."""
        coarse = self.prior.opinions(replace(views, finer=None), count)
        larger = None if views.finer is None else views.finer()
        if larger is None:
            return coarse
        fine, sizes = self.prior.opinions(larger, count), views.cameras.sizes.tolist()
        pairs = [(fine[k % len(fine)], coarse[k % len(coarse)]) for k in range(max(len(fine), len(coarse)))]
        return [
            [halved(one, *size).else_from(other, self.least) for one, other, size in zip(*both, sizes, strict=True)]
            for both in pairs
        ]
