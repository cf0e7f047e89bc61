"""One depth from several priors, each believed as far as photos, views and the other priors agree with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.errors import InputError
from recon3d.priors.epipolar_flow import EpipolarFlow
from recon3d.priors.evidence import AGREES, Evidence, gather, least_error, probability, share_around
from recon3d.priors.landmarks import Landmarks
from recon3d.priors.luminance import luminance
from recon3d.priors.multi_view_stereo import MultiViewStereo
from recon3d.priors.speckles import without_speckles
from recon3d.priors.stereo.level import Level, Neighbours, inverse_depth_per_pixel
from recon3d.priors.types import DepthEstimate, DepthPrior, SeveralOpinions, inverse_of
from recon3d.priors.view_selection import choose_targets, depth_ranges
from recon3d.priors.visual_hull import VisualHull
from recon3d.views import TrainingViews

TARGETS = 4  # other views that each view's depth is held against
# A prior with less confidence in the mean is wrong about most of what it says, and is believed only where the evidence
# is as good as PROVEN. (Mirrored depth of real scenes has .09 to .15; flow where photos hardly overlap .28, a plane
# sweep of facades .41, and without these fits are worse.)
WRONG, PROVEN = 0.2, 0.75
MOSTLY_WRONG = 0.5  # mean confidence up to which a prior has nothing to say about others
# Nor is one believed more readily that is mostly wrong by its own evidence and agrees with fewer of the pixels of a
# prior with a mean confidence of PROVEN. (Flow and plane sweep agree on .34 to .8; depth that is 5 or 15 % too far, or
# mirrored beside real scenes' own, on 0 to .19, though its mean confidence may be .4 where photos are alike everywhere;
# mirrored depth of a scene that is nearly symmetric agrees on more.)
REFUTED = 0.2
MISSCALED = 0.03  # share by which a prior as a whole, like a sensor, may be off without being refuted for it
SURE = 0.5  # confidence of a prior alone, from which on an opinion of its own differs from the blend
NO_LANDMARKS = Landmarks(np.zeros((0, 3)), np.zeros((0, 2), np.int64))
# A logistic regression, as in evidence, for a prior beside another one, both trusted fully: the share of its own score
# that it loses, and what is added anyway, where the other agrees, and by the share of the pixels around that agree.
OWN, ANYWAY, HERE, AROUND = 0.63, 0.13, 1.5, 2.0


class Fusion(SeveralOpinions):
    """Blends the depth of several priors by what speaks for each, pixel by pixel.

    What a prior says of its own confidence does not count: it is measured for all alike (how alike the photos look
    along the depth, whether they would like another depth better, whether the views agree; see
    :mod:`recon3d.priors.evidence`). Then priors are held against one another, in the view itself and by way of other
    views: what one claims alone needs more evidence than what two say independently, the more so the better founded
    both are over all. At each pixel the depth with the highest confidence is taken, averaged with those that lie
    within a pixel of parallax; where no confidence is high enough there is a hole. A prior that disagrees with the
    photos therefore loses its weight; one that does so nearly everywhere, or mostly while a well-founded prior
    contradicts it, has to prove each pixel, however low ``least`` is, since chance alone would give it some.

    Args:
        priors: the priors, at least one; None for flow and stereo. One that cannot work on these views raises.
        least: confidence, 0..1, below which a depth is not believed.
        smallest: pixels of the smallest patch of depth that is kept; 1 for sparse depth.

    Raises:
        ValueError: for no prior, or arguments out of range.
    """

    def __init__(self, priors: list[DepthPrior] | None = None, least: float = 0.75, smallest: int = 60) -> None:
        if priors is None:
            priors = [EpipolarFlow(), MultiViewStereo()]
        if not priors:
            raise ValueError("Fusion: priors is empty, expected at least one")
        if not 0 < least < 1:
            raise ValueError(f"Fusion: least is {least}, expected a confidence between 0 and 1")
        if smallest < 1:
            raise ValueError(f"Fusion: smallest is {smallest}, expected at least 1")
        self.priors, self.least, self.smallest = priors, least, smallest

    def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
        """The blended depth, then what each prior is sure of by itself, the rest blended.

        A prior that by its own evidence is mostly wrong has no opinion.

        Raises:
            InputError: for fewer than two views, or where one of the priors raises it.
        """
        if len(views) < 2:
            raise InputError(f"fusion holds views against one another: it needs at least two, got {len(views)}")
        candidates = [prior(views) for prior in self.priors]
        examined = self._examined(views, candidates)
        blended = self._fused(examined, range(len(candidates)))
        trusted = [k for k, mean in enumerate(examined.means) if mean > MOSTLY_WRONG and len(candidates) > 1]
        opinions = [blended]
        for k in trusted[: count - 1]:
            alone = self._fused(examined, [k])
            opinions.append([one.else_from(other, SURE) for one, other in zip(alone, blended, strict=True)])
        return opinions

    def in_less_time(self) -> DepthPrior | None:
        """The quick ones among its priors, where there are others."""
        quick = [prior for prior in self.priors if prior.is_quick]
        return Fusion(quick, self.least, self.smallest) if 0 < len(quick) < len(self.priors) else None

    def fuse(self, views: TrainingViews, candidates: Sequence[Sequence[DepthEstimate]]) -> list[DepthEstimate]:
        """Blend ``candidates``, for each prior an estimate per view."""
        return self._fused(self._examined(views, candidates), range(len(candidates)))

    def _examined(self, views: TrainingViews, candidates: Sequence[Sequence[DepthEstimate]]) -> _Examined:
        greys = [luminance(view.image) for view in views.views]
        level = Level.of(views.cameras, greys, [view.mask for view in views.views], 1.0)
        targets = choose_targets(views.cameras, _ranges(views, candidates), TARGETS)
        near = [Neighbours.of(views.cameras, i, targets[i]) for i in range(len(views))]
        depths = _possible(views, level, candidates)
        evidence = [[gather(level, n, prior) for n in near] for prior in depths]
        means = [_mean_confidence(prior, found) for prior, found in zip(depths, evidence, strict=True)]
        founded = [prior for prior, mean in zip(depths, means, strict=True) if mean >= PROVEN]
        wrong = [
            mean < WRONG
            or (mean < MOSTLY_WRONG and any(_shared(level, near, prior, other) < REFUTED for other in founded))
            for prior, mean in zip(depths, means, strict=True)
        ]
        return _Examined(level, near, depths, evidence, means, wrong)

    def _fused(self, examined: _Examined, which: Sequence[int]) -> list[DepthEstimate]:
        """The blend of those of the priors that ``which`` names."""
        level, depths, means = examined.level, examined.depths, examined.means
        # What a prior has to say about others: nothing where by its own evidence it is mostly wrong.
        trust = [max((mean - MOSTLY_WRONG) / (1 - MOSTLY_WRONG), 0.0) for mean in means]
        least = [max(self.least, PROVEN) if wrong else self.least for wrong in examined.wrong]
        fused = []
        for i, n in enumerate(examined.near):
            confidences = []
            for k in which:
                prior, own = depths[k], examined.evidence[k][i]
                others = [(np.sqrt(trust[k] * trust[j]), depths[j]) for j in which if j != k]
                score, agrees = _held_against(level, n, prior, own.score(), others)
                # Nothing speaks for what comes back from no view and no other prior knows.
                confidence = probability(score)
                believed = (prior[i] > 0) & (np.isfinite(own.error) | agrees) & (confidence >= least[k])
                confidences.append(np.where(believed, confidence, np.float32(0)))
            fused.append(self._blend(level, n, [depths[k][i] for k in which], confidences))
        return fused

    def _blend(
        self, level: Level, near: Neighbours, depths: Sequence[np.ndarray], confidences: Sequence[np.ndarray]
    ) -> DepthEstimate:
        confidence = np.stack(confidences)
        inverse = np.stack([inverse_of(depth) for depth in depths])
        most = confidence.max(axis=0)
        best = np.take_along_axis(inverse, confidence.argmax(axis=0)[None], axis=0)[0]
        known = most > 0
        if not known.any():
            return DepthEstimate(np.zeros(most.shape, np.float32), np.zeros(most.shape, np.float32))
        pixel = inverse_depth_per_pixel(level.cameras, near.view, near.targets.tolist(), best)
        weight = np.where(np.abs(inverse - best) <= pixel, confidence**2, 0)
        mean = (weight * inverse).sum(axis=0) / np.maximum(weight.sum(axis=0), 1e-12)
        depth = without_speckles(np.where(known, 1 / np.where(known, mean, 1), 0), self.smallest)
        return DepthEstimate(depth.astype(np.float32), np.where(depth > 0, most, np.float32(0)))


@dataclass(frozen=True)
class _Examined:
    """Depths [H, W] of each prior and view where a surface can be, what speaks for them, and of each prior the mean
    confidence and whether it is wrong about most of what it says."""

    level: Level
    near: list[Neighbours]
    depths: list[list[np.ndarray]]
    evidence: list[list[Evidence]]
    means: list[float]
    wrong: list[bool]


def _possible(
    views: TrainingViews, level: Level, candidates: Sequence[Sequence[DepthEstimate]]
) -> list[list[np.ndarray]]:
    """[H, W] depth of each prior and view where the photo counts and a surface can be."""
    hull = VisualHull.of(views)
    depths = []
    for estimates in candidates:
        kept = []
        for i, estimate in enumerate(estimates):
            possible = level.map_of(level.counts, i) > 0
            if hull is not None:
                possible = possible & hull.contains(i, inverse_of(estimate.depth))
            kept.append(np.where(possible, estimate.depth, np.float32(0)))
        depths.append(kept)
    return depths


def _mean_confidence(depths: Sequence[np.ndarray], evidence: Sequence[Evidence]) -> float:
    """How far a prior, 0..1, is right by its own evidence; 0 where it knows nothing."""
    every = np.concatenate([e.confidence()[depth > 0] for depth, e in zip(depths, evidence, strict=True)])
    return float(every.mean()) if len(every) else 0.0


def _shared(
    level: Level, near: Sequence[Neighbours], depths: Sequence[np.ndarray], others: Sequence[np.ndarray]
) -> float:
    """Share of the pixels that two priors know on which they agree, up to a common scale; 1 where there are none."""
    views = [n.view for n in near if len(n.targets)]
    known = {i: (depths[i] > 0) & (others[i] > 0) for i in views}
    ratios = np.concatenate([np.zeros(0), *(others[i][known[i]] / depths[i][known[i]] for i in views)])
    if not len(ratios):
        return 1.0
    ratio = np.median(ratios)
    scale = ratio if abs(ratio - 1) < MISSCALED else 1.0
    agreed = sum(int(_alike(level, near[i], scale * depths[i], others[i])[known[i]].sum()) for i in views)
    return agreed / len(ratios)


def _alike(level: Level, near: Neighbours, depth: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[H, W] bool, whether two depths of a view lie within a pixel of parallax; nowhere without another view."""
    if not len(near.targets):
        return np.zeros(depth.shape, bool)
    inverse = inverse_of(depth)
    pixel = inverse_depth_per_pixel(level.cameras, near.view, near.targets.tolist(), inverse)
    return np.abs(inverse - inverse_of(other)) < pixel


def _held_against(
    level: Level,
    near: Neighbours,
    depths: Sequence[np.ndarray],
    score: np.ndarray,
    others: Sequence[tuple[float, Sequence[np.ndarray]]],
) -> tuple[np.ndarray, np.ndarray]:
    """What other priors make of the score of one.

    Args:
        level, near: the view and its targets.
        depths: [H, W] of each view, by the prior.
        score: [H, W] logarithm of the odds that its depth of this view is right, by its own evidence.
        others: of each other prior, how far it and this one are trusted, 0..1, and its depths.

    Returns:
        The score [H, W]; and [H, W] bool, whether some other prior agrees.
    """
    depth = depths[near.view]
    trust, here, around = 0.0, np.zeros(depth.shape), np.zeros(depth.shape)
    for trusted, theirs in others:
        mixed = list(theirs)
        mixed[near.view] = depth
        agrees = least_error(level.cameras, near, mixed) < AGREES
        both = (depth > 0) & (theirs[near.view] > 0)
        if both.any():
            agrees |= both & _alike(level, near, depth, theirs[near.view])
        trust = max(trust, trusted)
        here = np.maximum(here, trusted * agrees)
        around = np.maximum(around, trusted * share_around(agrees, depth > 0))
    return score * (1 - OWN * trust) + ANYWAY * trust + HERE * here + AROUND * around, here > 0


def _ranges(views: TrainingViews, candidates: Sequence[Sequence[DepthEstimate]]) -> np.ndarray:
    """[V, 2] near and far depth of each view, from what all priors know of it, else from the cameras."""
    ranges = depth_ranges(views.cameras, views.bounds, NO_LANDMARKS)
    for i in range(len(views)):
        known = np.concatenate([estimates[i].depth[estimates[i].known] for estimates in candidates])
        if len(known):
            near, far = np.percentile(known, [2, 98])
            ranges[i] = near * 0.8, far * 1.2
    return ranges
