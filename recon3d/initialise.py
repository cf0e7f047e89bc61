"""The first Gaussians of a fit. A configuration names one of these classes by ``class_path``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from datasets.errors import InputError
from recon3d.far_layer import far_layer
from recon3d.gaussians import SH_C0, Gaussians
from recon3d.pixels import Surfels, unproject
from recon3d.priors.filling import fill_smoothly
from recon3d.priors.types import DepthEstimate
from recon3d.views import TrainingViews

# A Gaussian made from a pixel is as large as its distance to the neighbours, within these multiples of its footprint.
SMALLEST, LARGEST = 0.3, 2.5


@dataclass(frozen=True)
class Start:
    """Where a fit begins.

    Attributes:
        gaussians: the first Gaussians, of spherical harmonic degree 0.
        background: [3] colour behind everything.
        extent: size of the scene in its units, which scales the learning rate of the means.
    """

    gaussians: Gaussians
    background: Tensor
    extent: float


class Initialiser(ABC):
    """Makes the first Gaussians from the train views."""

    @abstractmethod
    def __call__(self, views: TrainingViews, seed: int) -> Start:
        """Deterministic for ``seed``.

        Raises:
            InputError: where the views do not hold what the class needs.
        """


class DepthPrior(Protocol):
    """Anything that gives every view a depth with its confidence."""

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]: ...


class DenseStart(Initialiser):
    """Gaussians on the surface that a depth prior sees: one a pixel, thinned to a budget.

    Pixels of unknown depth are filled smoothly in inverse depth, with fainter Gaussians; behind what no view sees into
    stands a coarse far layer.

    Args:
        prior: the depth prior.
        budget: about how many Gaussians to make, without the far layer.
        opacity: of Gaussians at known depth; filled ones have half of it.
        least_confidence: depth of less confidence counts as unknown.
        layer: whether to add the far layer; a scene with a known background colour never gets one.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        prior: DepthPrior,
        budget: int = 100_000,
        opacity: float = 0.3,
        least_confidence: float = 0.0,
        layer: bool = True,
    ) -> None:
        if budget < 1:
            raise ValueError(f"DenseStart: budget is {budget}, expected at least 1")
        if not 0 < opacity < 1:
            raise ValueError(f"DenseStart: opacity is {opacity}, expected a number between 0 and 1")
        if not 0 <= least_confidence < 1:
            raise ValueError(f"DenseStart: least_confidence is {least_confidence}, expected a number in 0..1")
        self.prior, self.budget, self.opacity = prior, budget, opacity
        self.least_confidence, self.layer = least_confidence, layer

    def __call__(self, views: TrainingViews, seed: int) -> Start:
        """See Initialiser; InputError where the prior knows no depth at all."""
        estimates = self.prior(views)
        known = [estimate.known & (estimate.confidence >= self.least_confidence) for estimate in estimates]
        if not any(mask.any() for mask in known):
            raise InputError(
                "the depth prior found no depth in any view: the photos share too little, or their poses are wrong. "
                "Choose views that overlap, or another start"
            )
        if views.background is None:
            wanted = [np.ones(mask.shape, bool) for mask in known]
        else:  # what is known to be background holds no surface
            wanted = [_differs(view.image, views.background) for view in views.views]
        wanted = [w if v.mask is None else w & v.mask for w, v in zip(wanted, views.views, strict=True)]
        # A view about which the prior knows nothing is filled with the others' median.
        typical = 1 / float(
            np.median(np.concatenate([e.depth[mask] for e, mask in zip(estimates, known, strict=True)]))
        )
        inverse = [
            _filled(estimate.depth, mask & inside, typical)
            for estimate, mask, inside in zip(estimates, known, wanted, strict=True)
        ]
        spacing = max(1.0, (sum(int(w.sum()) for w in wanted) / self.budget) ** 0.5)
        random = np.random.default_rng(seed)
        parts = []
        for i, (mask, inside) in enumerate(zip(known, wanted, strict=True)):
            keep = inside & (random.random(inside.shape) < spacing**-2)
            y, x = np.nonzero(keep)
            opacity = np.where(mask[y, x], self.opacity, 0.5 * self.opacity)
            parts.append(unproject(views, i, x + 0.5, y + 0.5, inverse[i][y, x], spacing, opacity))
        surface = Surfels.joined(parts)
        size = _neighbour_distance(surface.xyz).clip(SMALLEST * surface.size, LARGEST * surface.size)
        if self.layer and views.background is None:
            behind = far_layer(views, inverse)
            surface, size = Surfels.joined([surface, behind]), np.concatenate([size, 0.8 * behind.size])
        return Start(
            initial_gaussians(surface.xyz, surface.rgb, size, surface.opacity),
            background_colour(views),
            scene_extent(surface.xyz),
        )


class SparseStart(Initialiser):
    """Gaussians at the scene's sparse points, or at random in the views' frustums where it has none (3DGS's start).

    Args:
        count: how many random Gaussians to make where the scene has no points.
        opacity: of every Gaussian.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(self, count: int = 20_000, opacity: float = 0.1) -> None:
        if count < 1:
            raise ValueError(f"SparseStart: count is {count}, expected at least 1")
        if not 0 < opacity < 1:
            raise ValueError(f"SparseStart: opacity is {opacity}, expected a number between 0 and 1")
        self.count, self.opacity = count, opacity

    def __call__(self, views: TrainingViews, seed: int) -> Start:
        """See Initialiser."""
        if views.points is not None and len(views.points) > 3:
            xyz, rgb = views.points.xyz.astype(np.float64), views.points.rgb
            surfels = Surfels(xyz, rgb, np.ones(len(xyz)), np.full(len(xyz), self.opacity))
        else:
            surfels = self._random(views, np.random.default_rng(seed))
        size = _neighbour_distance(surfels.xyz)
        # Points that stand alone would cover the whole image.
        size = size.clip(max=10 * float(np.median(size)))
        return Start(
            initial_gaussians(surfels.xyz, surfels.rgb, size, surfels.opacity),
            background_colour(views),
            scene_extent(surfels.xyz),
        )

    def _random(self, views: TrainingViews, random: np.random.Generator) -> Surfels:
        """Uniform in the image and in inverse depth, over all views."""
        centres = views.cameras.centres.double().numpy()
        if views.bounds is not None:
            near, far = float(views.bounds.min()), float(views.bounds.max())
        else:
            apart = float(np.linalg.norm(centres - centres.mean(0), axis=1).max())
            near, far = 0.5 * apart, 20 * apart
        parts = []
        shares = np.bincount(random.integers(0, len(views), self.count), minlength=len(views))
        for i, share in enumerate(shares):
            width, height = views.cameras.sizes[i].tolist()
            x, y = random.uniform(0, width, share), random.uniform(0, height, share)
            inverse = random.uniform(1 / far, 1 / near, share)
            parts.append(unproject(views, i, x, y, inverse, 1.0, np.full(share, self.opacity)))
        return Surfels.joined(parts)


def background_colour(views: TrainingViews) -> Tensor:
    """[3] the known colour behind everything, else the photos' mean: what is seen through a hole then errs least."""
    if views.background is not None:
        return torch.tensor(views.background, dtype=torch.float32)
    return torch.from_numpy(np.mean([view.image.mean((0, 1)) for view in views.views], axis=0).astype(np.float32))


def scene_extent(xyz: np.ndarray) -> float:
    """Median absolute coordinate about the median point: a size that far outliers do not move."""
    return float(np.median(np.abs(xyz - np.median(xyz, axis=0))))


def _differs(image: np.ndarray, colour: Sequence[float]) -> np.ndarray:
    """[H, W] bool, where a photo is not exactly the background."""
    return np.abs(image - np.asarray(colour, np.float32)).max(2) > 1 / 255


def _filled(depth: np.ndarray, known: np.ndarray, typical: float) -> np.ndarray:
    """Inverse depth with its holes filled; ``typical`` everywhere where nothing is known."""
    if not known.any():
        return np.full(depth.shape, typical)
    return fill_smoothly(1 / np.where(known, depth, 1).astype(np.float64), known)


def _neighbour_distance(xyz: np.ndarray) -> np.ndarray:
    """[N] root mean square distance to the three nearest others."""
    count = min(4, len(xyz))
    if count < 2:
        return np.ones(len(xyz))
    distances, _ = cKDTree(xyz).query(xyz, k=count, workers=-1)
    return np.sqrt((distances[:, 1:] ** 2).mean(1)).clip(min=1e-9)


def initial_gaussians(xyz: np.ndarray, rgb: np.ndarray, size: np.ndarray, opacity: np.ndarray) -> Gaussians:
    """Round Gaussians: xyz [N, 3], rgb [N, 3] in 0..1, size [N] standard deviation in scene units, opacity [N]."""
    count = len(xyz)
    quats = torch.zeros(count, 4)
    quats[:, 0] = 1
    return Gaussians(
        means=torch.from_numpy(xyz.astype(np.float32)),
        scales=torch.from_numpy(np.log(size).astype(np.float32))[:, None].repeat(1, 3),
        quats=quats,
        opacities=torch.logit(torch.from_numpy(opacity.astype(np.float32))),
        sh0=((torch.from_numpy(rgb.astype(np.float32)) - 0.5) / SH_C0)[:, None],
        shN=torch.zeros(count, 0, 3),
    )
