"""A depth prior on photos as large as the time allows."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

from datasets.errors import InputError
from recon3d.fitting.budget import Clock
from recon3d.priors.finer_photos import SOONER, TWICE
from recon3d.priors.resizing import enlarged
from recon3d.priors.types import DepthEstimate, DepthPrior, SeveralOpinions
from recon3d.views import TrainingViews

# Sizes of photos that come into question, the next with about half the pixels: a few, far apart, so that the same time
# gives the same result in spite of what else the machine does.
SCALES = (1.0, 0.7, 0.5, 0.35, 0.25)
# Times the size of the fit's photos of those that a prior looks at too, with all it does or what it does in less time,
# and how many times as long it takes then (18 s to 11.5 on fern for the latter).
COSTS = {TWICE: 5.0, SOONER: 1.6}
SMALLEST_SIDE = 64  # pixels of a photo that is worth trying


class AffordablePrior(SeveralOpinions):
    """Another prior, on the largest photos for which ``seconds`` suffice.

    How long it takes is found out on small photos, whose result serves where nothing larger is affordable; the time is
    taken to grow with the number of pixels.

    Args:
        prior: which one.
        seconds: for all of it.
        clock: seconds since whenever.
        count: how many of its opinions may be asked for.

    Attributes:
        scale: of the photos whose depth the last call returned; more than 1 where larger ones were used too.
        took: seconds of the last call.
    """

    def __init__(self, prior: DepthPrior, seconds: float, clock: Clock, count: int = 1) -> None:
        self.prior, self.seconds, self.clock, self.count = prior, seconds, clock, count
        self.on_larger = {TWICE: prior}
        if (sooner := prior.in_less_time()) is not None:
            self.on_larger[SOONER] = sooner
        self.scale, self.took = 1.0, 0.0
        self._found: tuple[TrainingViews, list[list[DepthEstimate]]] | None = None

    def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
        """Those of the prior at the full size of the photos; for the same ones again it is not asked again.

        They are as many as were announced, or one where only small photos are affordable.
        """
        if self._found is None or self._found[0] is not views:
            self._found = views, self._asked(views)
        return self._found[1][:count]

    def _asked(self, views: TrainingViews) -> list[list[DepthEstimate]]:
        began = self.clock()
        scales = self._scales(views)
        self.scale = scales[-1]
        if len(scales) > 1:
            with suppress(InputError):  # two views alone may be too few
                self._at(self.scale, _first_two(views), 1)  # loads kernels, which would count many times over
        warm = self.clock()
        estimates = self._at(self.scale, views, 1 if len(scales) > 1 else self.count)
        probed, left = self.clock() - warm, self.seconds - (self.clock() - began)
        larger = [s for s in scales[:-1] if probed * _cost(s) / _cost(self.scale) <= left]
        if larger:
            self.scale = larger[0]
            estimates = self._at(self.scale, views, self.count)
        self.took = self.clock() - began
        return estimates

    def _scales(self, views: TrainingViews) -> list[float]:
        """Those that come into question, largest first, at least one."""
        shortest = int(views.cameras.sizes.min())
        scales = [s for s in SCALES if s * shortest >= SMALLEST_SIDE] or [1.0]
        if self.prior.uses_finer and views.finer is not None:
            scales = [*self.on_larger, *scales]
        return scales[:1] if self.prior.has_one_size else scales

    def _at(self, scale: float, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
        if scale in self.on_larger:
            return self.on_larger[scale].opinions(views, count)
        views = replace(views, finer=None)
        if scale == 1:
            return self.prior.opinions(views, count)
        sizes = views.cameras.sizes.tolist()
        opinions = self.prior.opinions(views.reduced(scale), count)
        return [[enlarged(e, *size) for e, size in zip(one, sizes, strict=True)] for one in opinions]


def _cost(scale: float) -> float:
    """Time that a prior takes, as a share of what it takes on the photos of the fit alone."""
    return COSTS.get(scale, scale**2)


def _first_two(views: TrainingViews) -> TrainingViews:
    return replace(
        views,
        cameras=views.cameras[:2],
        views=views.views[:2],
        bounds=None if views.bounds is None else views.bounds[:2],
        names=None if views.names is None else views.names[:2],
    )
