"""Depth from photos larger than those of the fit, where there are any."""

from __future__ import annotations

from dataclasses import replace

from recon3d.priors.resizing import reduced
from recon3d.priors.types import DepthEstimate, DepthPrior, SeveralOpinions
from recon3d.views import TrainingViews

TWICE, SOONER = 2.0, 1.4  # times the size of the fit's photos: as far as it goes, and where time is short


class FinerPhotos(SeveralOpinions):
    """Another prior, asked on photos of twice the size too: they show thin things that those of the fit blur.

    What it is confident of on the larger photos is taken from there; elsewhere, and where a scene has no larger
    photos, stands what it says of the photos of the fit. On those it knows more: what blur hides need not match.

    Args:
        prior: the other prior.
        least: confidence, 0..1, from which on depth is taken from the larger photos.
        on_larger: who is asked on the larger photos; None for the same prior.
        size: of the larger photos, as a multiple of those of the fit: 2, or less.

    Raises:
        ValueError: for arguments out of range.
    """

    uses_finer = True

    def __init__(
        self, prior: DepthPrior, least: float = 0.5, on_larger: DepthPrior | None = None, size: float = TWICE
    ) -> None:
        if not 0 < least <= 1:
            raise ValueError(f"FinerPhotos: least is {least}, expected a confidence above 0 and at most 1")
        if not 1 < size <= TWICE:
            raise ValueError(f"FinerPhotos: size is {size}, expected more than 1 and at most 2")
        self.prior, self.least, self.size = prior, least, size
        self.on_larger = prior if on_larger is None else on_larger

    def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
        """Those of the priors, each on both sizes; where there are fewer on one, they come in turn there."""
        coarse = self.prior.opinions(replace(views, finer=None), count)
        larger = None if views.finer is None else views.finer()
        if larger is None:
            return coarse
        if self.size < TWICE:
            larger = larger.reduced(self.size / TWICE)
        fine, sizes = self.on_larger.opinions(larger, count), views.cameras.sizes.tolist()
        pairs = [(fine[k % len(fine)], coarse[k % len(coarse)]) for k in range(max(len(fine), len(coarse)))]
        return [
            [reduced(one, *size).else_from(other, self.least) for one, other, size in zip(*both, sizes, strict=True)]
            for both in pairs
        ]

    def in_less_time(self) -> DepthPrior | None:
        """The larger photos, somewhat smaller, for those alone that are quick, where there are such."""
        quick = self.on_larger.in_less_time()
        return None if quick is None else FinerPhotos(self.prior, self.least, quick, SOONER)
