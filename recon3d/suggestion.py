"""Which next photo would help most: the one that shows most of what no photo shows from nearly the same side.

A novel view is good where some photo shows its surfaces from about its own direction, however well they are known from
others (Buehler et al., Unstructured Lumigraph Rendering, 2001). Which surfaces a photo will show, and from where,
follows from its pose and the splat, without its pixels and without fitting again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from datasets.errors import InputError
from datasets.types import Cameras
from recon3d.splats import Splat
from recon3d.uncertainty import contributions, sight, visible_share

NEARLY = math.radians(10)  # between two lines of sight; what a photo shows from this far counts 1 / e
MOST_VIEWS = 32  # of interest that are looked at
LEAST_SHARE = 1e-3  # of the largest contribution: who gives less to every view of interest is left out


@dataclass(frozen=True)
class Suggestion:
    """One photo to take.

    Attributes:
        index: its place among the candidates.
        before: share (0 to 1) of what the views of interest show that photos show from nearly the same side, without
            it.
        after: and with it (and all suggested before it).
    """

    index: int
    before: float
    after: float


@dataclass(frozen=True)
class _Photo:
    """What a photo shows of N Gaussians: how much of each, 0 to 1, and the unit vectors [N, 3] towards them."""

    share: Tensor
    toward: Tensor


@dataclass(frozen=True)
class _Interest:
    """V views of interest: what each Gaussian contributes to them [V, N], summing up to 1, and the unit vectors
    [V, N, 3] towards it."""

    weight: Tensor
    toward: Tensor

    def covered(self, photo: _Photo) -> Tensor:
        """[V, N] how far a photo shows what each view shows from its side, 0 to 1."""
        cosine = (self.toward * photo.toward).sum(-1)
        return photo.share * (-2 * (1 - cosine) / NEARLY**2).exp()  # 2 - 2 cos a is the square of a small angle a

    def total(self, covered: Tensor) -> Tensor:
        """[V] the covered share of each view."""
        return (self.weight * covered).sum(1)


def suggest_views(
    splat: Splat, used: Cameras, candidates: Cameras, count: int, further: Cameras | None = None
) -> list[Suggestion]:
    """The best ``count`` of the candidates, each chosen after those before it.

    The views of interest are the candidates themselves and ``further`` ones: the places that one might look from. What
    a photo does for its own view does not count: nobody needs a render of what a photo shows, and one far from all
    others would win.

    Args:
        splat: on the device to compute on.
        used: of the photos that there are.
        candidates: C cameras.
        count: how many to choose, at most C.
        further: more places that one might look from.

    Raises:
        InputError: for more suggestions than candidates.
    """
    total = len(candidates)
    if not 1 <= count <= total:
        raise InputError(f"{count} suggestions are asked for, but there are {total} candidates")
    places = [candidates[i] for i in range(total)]
    shown = [contributions(splat, place) for place in tqdm(places, desc="candidates", unit="view")]
    views = places + ([] if further is None else [further[i] for i in range(len(further))])
    chosen = sorted({round(i) for i in torch.linspace(0, len(views) - 1, min(len(views), MOST_VIEWS)).tolist()})
    weights = torch.stack([shown[i] if i < total else contributions(splat, views[i]) for i in chosen])
    matter = (weights > LEAST_SHARE * weights.amax()).any(0)
    interest = _interest(splat, [views[i] for i in chosen], weights, matter)
    covered = torch.zeros_like(interest.weight)
    for i in range(len(used)):
        photo = _photo(splat, used[i], contributions(splat, used[i]), matter)
        covered = torch.maximum(covered, interest.covered(photo))
    photos = [_photo(splat, place, its, matter) for place, its in zip(places, shown, strict=True)]

    own = {candidate: place for place, candidate in enumerate(chosen)}
    found: list[Suggestion] = []
    before = interest.total(covered)
    bar = tqdm(total=sum(total - k for k in range(count)), desc="suggest", unit="view")
    for _ in range(count):
        shares: dict[int, Tensor] = {}
        for i in sorted(set(range(total)) - {suggestion.index for suggestion in found}):
            shares[i] = interest.total(torch.maximum(covered, interest.covered(photos[i])))
            bar.update()
        gains = {i: _gain_elsewhere(after - before, own.get(i)) for i, after in shares.items()}
        best = max(gains, key=lambda i: (gains[i], -i))
        covered = torch.maximum(covered, interest.covered(photos[best]))
        found.append(Suggestion(best, float(before.mean()), float(shares[best].mean())))
        before = shares[best]
    bar.close()
    return found


def _interest(splat: Splat, views: list[Cameras], weights: Tensor, matter: Tensor) -> _Interest:
    """The views of interest, from what each Gaussian contributes to them [V, N] and which matter, [N] bool."""
    weights, means = weights[:, matter], splat.gaussians.means[matter]
    toward = torch.stack([sight(means, view).toward.float() for view in views])
    return _Interest((weights / weights.sum(1, keepdim=True).clamp(min=1e-12)).float(), toward)


def _photo(splat: Splat, camera: Cameras, contributed: Tensor, matter: Tensor) -> _Photo:
    seen = sight(splat.gaussians.means, camera)
    return _Photo(visible_share(splat, seen, contributed)[matter].float(), seen.toward[matter].float())


def _gain_elsewhere(gains: Tensor, own: int | None) -> float:
    """Mean of the gains [V] of the views of interest, but for the place ``own`` where there is one."""
    if own is None:
        return float(gains.mean())
    return float(gains.sum() - gains[own]) / max(1, len(gains) - 1)
