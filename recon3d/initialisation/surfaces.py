"""From a prior's depth, which has holes, to one surface per view without."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.errors import InputError
from recon3d.priors.agreement import project_known
from recon3d.priors.filling import fill_sloping
from recon3d.priors.speckles import without_speckles
from recon3d.priors.types import DepthEstimate, inverse_of
from recon3d.priors.visual_hull import VisualHull
from recon3d.views import TrainingViews

LARGE = 0.0006  # of the photo's pixels, from which on a patch of depth fills the holes around it
# Small patches are left out where their depth is further than OFF (of its logarithm) from that of the surface around
# them, and their confidence below one of these. Thin things make true ones, in front of what is around: they need less.
OFF, UNSURE_BEFORE, UNSURE_BEHIND = 0.25, 0.5, 0.75
LEAST_ALPHA = 0.02
SAME_COLOUR = 0.02  # largest difference of a channel between a pixel and the known background


@dataclass(frozen=True)
class Surface:
    """One view's surface: inverse_depth [H, W] everywhere; known [H, W] bool, where the prior measured it and is
    believed; counts [H, W] bool, where the photo shows a surface at all (neither masked out nor the known background).
    """

    inverse_depth: np.ndarray
    known: np.ndarray
    counts: np.ndarray


def complete_surfaces(views: TrainingViews, estimates: Sequence[DepthEstimate]) -> list[Surface]:
    """Fill each view's holes with what other views know to be there, then along slopes, within the visual hull if any.

    Holes are filled from large patches of depth alone, where there are any: a chance match is a small mistake where it
    is, but would fill all the emptiness around it. Small patches that are doubtful and far from what is around them
    are holes as well: floaters begin there.

    Raises:
        InputError: where no view has any depth.
    """
    counts = [_shows_surface(views, i) for i in range(len(views))]
    depths = [np.where(count, estimate.depth, 0) for estimate, count in zip(estimates, counts, strict=True)]
    everything = np.concatenate([depth[depth > 0] for depth in depths])
    if not len(everything):
        raise InputError("the depth prior knows no depth where the photos count: look at their masks")
    hull = VisualHull.of(views)
    limits = 1 / (1.2 * float(everything.max())), 1 / (0.8 * float(everything.min()))
    large = [without_speckles(depth.astype(np.float32), max(round(LARGE * depth.size), 1)) for depth in depths]
    if not any((depth > 0).any() for depth in large):
        large = depths
    surfaces = []
    for i, depth in enumerate(depths):
        sure_depth = np.where(large[i] > 0, large[i], project_known(views.cameras, large, i))
        sure = sure_depth > 0
        known = depth > 0
        if sure.any():
            inverse = fill_sloping(1 / np.where(sure, sure_depth, 1), sure)
            known &= (large[i] > 0) | ~_by_chance(depth, inverse, estimates[i].confidence)
        else:
            inverse = np.full(depth.shape, 1 / np.median(everything))
        if hull is not None:
            allowed = hull.nearest(i, inverse, limits)
            inverse = np.where(allowed == 0, inverse, allowed)
        inverse = np.where(known, inverse_of(depth), inverse)
        surfaces.append(Surface(inverse, known, counts[i]))
    return surfaces


def _by_chance(depth: np.ndarray, inverse: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """[H, W] bool: which of the known depths differ from a surface's inverse depth as chance matches do."""
    behind = np.log(np.where(depth > 0, depth, 1) * np.maximum(inverse, 1e-12))
    unsure = confidence < np.where(behind > 0, UNSURE_BEHIND, UNSURE_BEFORE)
    return unsure & (np.abs(behind) > OFF)


def _shows_surface(views: TrainingViews, view: int) -> np.ndarray:
    photo = views.views[view]
    counts = np.ones(photo.image.shape[:2], bool) if photo.mask is None else photo.mask.copy()
    if photo.alpha is not None:
        counts &= photo.alpha > LEAST_ALPHA
    elif views.background is not None:
        counts &= (np.abs(photo.image - np.array(views.background)) > SAME_COLOUR).any(axis=-1)
    return counts
