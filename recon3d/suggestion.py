"""Which next photo would help most: the one that takes most of the predicted error away.

What a photo tells of places adds up (see :mod:`recon3d.uncertainty`), so what a further one would tell is known from
its pose alone, without its pixels and without fitting again: the predicted error of all views of interest is computed
as if it had been taken (after Jiang et al., FisherRF, 2024).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from datasets.errors import InputError
from datasets.types import Cameras
from recon3d.splats import Splat
from recon3d.uncertainty import ERROR, FLAT, Sight, contrast, contributions, predict, root_displacement, sight, told_by

MOST_TARGETS = 16
LEAST_SHARE = 1e-3  # of the largest contribution: who gives less to every view of interest is left out


@dataclass(frozen=True)
class Suggestion:
    """One photo to take.

    Attributes:
        index: its place among the candidates.
        before: predicted mean absolute error of the views of interest without it.
        after: and with it (and all suggested before it).
    """

    index: int
    before: float
    after: float


@dataclass(frozen=True)
class _Interest:
    """One view of interest: how it sees the Gaussians that matter, and what each adds to its error."""

    seen: Sight
    weight: Tensor


def suggest_views(
    splat: Splat, told: Tensor, candidates: Cameras, count: int, known_background: bool = False
) -> list[Suggestion]:
    """The best ``count`` of the candidates, each chosen after those before it.

    The views of interest are the candidates themselves: the places that one might look from. What a photo does for
    its own view does not count: nobody needs a render of what a photo shows, and one far from all others would win.

    Args:
        splat: on the device to compute on.
        told: [N, 3, 3] what the train photos tell, see :func:`recon3d.uncertainty.told_by_all`.
        candidates: C cameras.
        count: how many to choose, at most C.
        known_background: see :func:`recon3d.uncertainty.predict`.

    Raises:
        InputError: for more suggestions than candidates.
    """
    total = len(candidates)
    if not 1 <= count <= total:
        raise InputError(f"{count} suggestions are asked for, but there are {total} candidates")
    chosen = sorted({round(i) for i in torch.linspace(0, total - 1, min(total, MOST_TARGETS)).tolist()})
    weights = torch.stack([_weights(splat, candidates[i], told, known_background) for i in chosen])
    matter = (weights > LEAST_SHARE * weights.amax()).any(0)
    means, left = splat.gaussians.means[matter], told[matter]
    interests = [_Interest(sight(means, candidates[i]), w[matter]) for i, w in zip(chosen, weights, strict=True)]
    further = [told_by(splat, candidates[i])[matter] for i in tqdm(range(total), desc="candidates", unit="view")]

    own = {candidate: place for place, candidate in enumerate(chosen)}
    found: list[Suggestion] = []
    before = _errors(interests, left)
    bar = tqdm(total=sum(total - k for k in range(count)), desc="suggest", unit="view")
    for _ in range(count):
        errors: dict[int, Tensor] = {}
        for i in sorted(set(range(total)) - {suggestion.index for suggestion in found}):
            errors[i] = _errors(interests, left + further[i])
            bar.update()
        gains = {i: _gain_elsewhere(before - after, own.get(i)) for i, after in errors.items()}
        best = max(gains, key=lambda i: (gains[i], -i))
        left = left + further[best]
        found.append(Suggestion(best, float(before.mean()), float(errors[best].mean())))
        before = errors[best]
    bar.close()
    return found


def _weights(splat: Splat, camera: Cameras, told: Tensor, known_background: bool) -> Tensor:
    """[N] by how much a root of a pixel's displacement of each Gaussian raises the mean error of one view."""
    seen = predict(splat, camera, told, known_background)
    factors = torch.from_numpy(ERROR * (contrast(seen.colour) + FLAT) / seen.error.size)
    return contributions(splat, camera, factors.to(splat.gaussians.means))


def _errors(interests: list[_Interest], told: Tensor) -> Tensor:
    """[V] predicted mean absolute error of every view of interest."""
    return torch.stack([(view.weight * root_displacement(view.seen, told)).sum() for view in interests])


def _gain_elsewhere(gains: Tensor, own: int | None) -> float:
    """Mean of the gains [V] of the views of interest, but for the place ``own`` where there is one."""
    if own is None:
        return float(gains.mean())
    return float(gains.sum() - gains[own]) / max(1, len(gains) - 1)
