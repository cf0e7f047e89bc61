"""How densely the pixels of a photo become Gaussians: more where there is detail, fewer where depth is a guess."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recon3d.initialisation.surfaces import Surface
from recon3d.priors.luminance import contrast

AROUND = 2.0  # pixels, standard deviation of the window in which detail counts


def density_of(image: np.ndarray, surface: Surface, in_holes: float, detail: float) -> np.ndarray:
    """Relative density [H, W] of Gaussians, 0 where the photo shows no surface.

    It grows with the square root of the luminance's gradient, which did better on fern than the gradient itself.

    Args:
        image: [H, W, 3] colour in 0..1.
        surface: of the same photo.
        in_holes: density where the prior does not know the depth, as a share of what it would be there.
        detail: at least 1; how many times as dense, or sparse, as on the average it gets by detail alone.
    """
    amount = np.sqrt(contrast(image, smooth=0, around=AROUND))
    mean = float(amount[surface.counts].mean()) if surface.counts.any() else 0.0
    by_detail = np.clip(amount / mean, 1 / detail, detail) if mean > 0 else np.ones(amount.shape)
    density: np.ndarray = by_detail * np.where(surface.known, 1.0, in_holes) * surface.counts
    return density


def scaled_to(budget: float, densities: Sequence[np.ndarray]) -> list[np.ndarray]:
    """``densities`` times a common factor, at most 1 each, so that their sum is ``budget`` or all that there is."""
    values = np.sort(np.concatenate([density[density > 0] for density in densities]))[::-1]
    if budget >= len(values):
        return [(density > 0).astype(np.float64) for density in densities]
    # If the k largest are at 1, the factor is what the budget leaves for the rest; the fewest that fit are taken.
    rest = np.cumsum(values[::-1])[::-1]
    factors = (budget - np.arange(len(values))) / rest
    factor = factors[np.argmax(factors * values <= 1)]
    return [np.minimum(factor * density, 1) for density in densities]
