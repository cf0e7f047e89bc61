"""The first Gaussians of a fit, from the train views alone."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from datasets.geometry import project
from datasets.pictures import to_bytes
from datasets.types import Points, expect_shape
from recon3d.gaussians import Gaussians
from recon3d.initialisation.clouds import Cloud, back_project, footprint, neighbour_distance
from recon3d.initialisation.density import density_of, scaled_to
from recon3d.initialisation.far_layer import far_layer
from recon3d.initialisation.surfaces import Surface, complete_surfaces
from recon3d.initialisation.ways import Ways
from recon3d.priors.epipolar import pixel_centres
from recon3d.priors.landmarks import Landmarks
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.priors.view_selection import depth_ranges, shared_landmarks
from recon3d.views import TrainingViews

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """Where a fit starts.

    Attributes:
        gaussians: the first Gaussians.
        background: [3] colour behind them.
        extent: the scene's scale in world units, by which the learning rate of the means is multiplied.
        estimates: what a depth prior said of each train view, or None where none was asked.
        origins: [N, 3] centre of the camera whose pixel each Gaussian is, or None where some are nobody's.

    Raises:
        ValueError: for a wrong shape, or an extent that is not positive.
    """

    gaussians: Gaussians
    background: Tensor
    extent: float
    estimates: tuple[DepthEstimate, ...] | None = None
    origins: Tensor | None = None

    def __post_init__(self) -> None:
        expect_shape("background", self.background, (3,))
        if self.origins is not None:
            expect_shape("origins", self.origins, (len(self.gaussians), 3))
        if not 0 < self.extent < float("inf"):
            raise ValueError(f"the extent of the first Gaussians is {self.extent}, expected a positive number")


class Initialiser(ABC):
    """Makes the first Gaussians of a fit."""

    @abstractmethod
    def __call__(self, views: TrainingViews, seed: int) -> Start:
        """The start of a fit on ``views``; the same for the same ``seed``."""

    def several(self, views: TrainingViews, seeds: Sequence[int]) -> list[Start]:
        """The start for each of ``seeds``."""
        return [self(views, seed) for seed in seeds]

    def forget(self) -> None:  # noqa: B027 (most keep nothing)
        """Free what is kept for another start from the same photos."""


class SparseInitialiser(Initialiser):
    """The source's sparse points, or random ones where it has too few: what 3DGS starts from.

    Args:
        count: random points that are drawn where there are fewer than ``least`` sparse ones.
        least: fewest sparse points that are used.
        opacity: of every Gaussian at the start.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(self, count: int = 30_000, least: int = 100, opacity: float = 0.1) -> None:
        if count < 1 or least < 2:
            raise ValueError(f"SparseInitialiser: count is {count} and least {least}, expected at least 1 and 2")
        _expect_opacity("SparseInitialiser: opacity", opacity)
        self.count, self.least, self.opacity = count, least, opacity

    def __call__(self, views: TrainingViews, seed: int) -> Start:
        if views.points is not None and len(views.points) >= self.least:
            positions = views.points.xyz.astype(np.float64)
            sizes = np.maximum(neighbour_distance(positions), 1e-9)
            count = len(positions)
            cloud = Cloud(positions, views.points.rgb, sizes, np.full(count, self.opacity), np.full(count, -1))
        else:
            cloud = random_cloud(views, self.count, self.opacity, np.random.default_rng(seed))
        return _start(cloud, views)


class TriangulatedInitialiser(Initialiser):
    """Points triangulated from features that match between the train photos, or random ones where they are too few:
    what structure from motion would find, given the poses.

    Args:
        count: random points that are drawn where there are fewer than ``least``.
        least: fewest points that are used.
        opacity: of every Gaussian at the start.
        features: most features per photo.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(self, count: int = 30_000, least: int = 100, opacity: float = 0.1, features: int = 3000) -> None:
        if features < 1:
            raise ValueError(f"TriangulatedInitialiser: features is {features}, expected at least 1")
        self.sparse, self.features = SparseInitialiser(count, least, opacity), features

    def __call__(self, views: TrainingViews, seed: int) -> Start:
        greys = [cv2.cvtColor(to_bytes(view.image), cv2.COLOR_RGB2GRAY) for view in views.views]
        landmarks = shared_landmarks(views.cameras, greys, self.features)
        colours = np.zeros((len(landmarks), 3), np.float32)
        pixels, _ = project(torch.from_numpy(landmarks.xyz), views.cameras.to(dtype=torch.float64))
        for i, view in enumerate(views.views):
            seen = np.flatnonzero(landmarks.views[:, 0] == i)
            x, y = pixels[i, seen].long().numpy().T
            colours[seen] = view.image[y.clip(0, view.image.shape[0] - 1), x.clip(0, view.image.shape[1] - 1)]
        return self.sparse(replace(views, points=Points(landmarks.xyz.astype(np.float32), colours)), seed)


@dataclass(frozen=True)
class _Prepared:
    """Photos, their estimated depth, the surfaces and densities of Gaussians made of it, and what lies behind."""

    views: TrainingViews
    estimates: list[DepthEstimate]
    surfaces: list[Surface]
    densities: list[np.ndarray]
    behind: list[Cloud]


class DenseInitialiser(Initialiser):
    """Pixels back-projected by a depth prior and thinned by detail to a budget, one Gaussian each (after NexusGS).

    Holes of the prior are filled by what other views know, then along the slope of what is around them, with a lower
    opacity and fewer, larger Gaussians, but not where that would stand in the way of views between the photos. Behind
    and beyond the photos lies a coarse far layer, unless the background is known. Where the prior knows nothing at
    all, points are random.

    Args:
        prior: gives the depth of the train views.
        budget: how many pixels become Gaussians, over all views.
        further: share of it that each start after the first has: fields of fewer, larger Gaussians err elsewhere.
        opacity: at the start, where the prior knows the depth.
        hole_opacity: at the start, where it does not.
        hole_density: of Gaussians where it does not, as a share of their density elsewhere: a guess needs no detail.
        detail: how many times as dense, or sparse, as on the average Gaussians are by the photo's detail; 1 for alike.
        far_layer: whether to put a layer behind everything.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        prior: DepthPrior,
        budget: int = 100_000,
        further: float = 0.6,
        opacity: float = 0.3,
        hole_opacity: float = 0.15,
        hole_density: float = 0.25,
        detail: float = 2.0,
        far_layer: bool = True,
    ) -> None:
        if budget < 1:
            raise ValueError(f"DenseInitialiser: budget is {budget}, expected at least 1")
        for name, share in (("further", further), ("hole_density", hole_density)):
            if not 0 < share <= 1:
                raise ValueError(f"DenseInitialiser: {name} is {share}, expected more than 0 and at most 1")
        if not 1 <= detail < float("inf"):
            raise ValueError(f"DenseInitialiser: detail is {detail}, expected a number of at least 1")
        _expect_opacity("DenseInitialiser: opacity", opacity)
        _expect_opacity("DenseInitialiser: hole_opacity", hole_opacity)
        self.prior, self.budget, self.further = prior, budget, further
        self.opacity, self.hole_opacity, self.hole_density = opacity, hole_opacity, hole_density
        self.detail, self.far_layer = detail, far_layer
        self._prepared: list[_Prepared] = []

    def __call__(self, views: TrainingViews, seed: int) -> Start:
        return self.several(views, [seed])[0]

    def several(self, views: TrainingViews, seeds: Sequence[int]) -> list[Start]:
        """The start for each of ``seeds``, from the prior's opinions in turn."""
        opinions = self.prior.opinions(views, len(seeds))
        if not any((estimate.depth > 0).any() for estimate in opinions[0]):
            logger.warning("%s found no depth in these views: starting from random points", type(self.prior).__name__)
            count = min(self.budget, 30_000)
            clouds = [random_cloud(views, count, self.opacity, np.random.default_rng(seed)) for seed in seeds]
            return [_start(cloud, views, opinions[0]) for cloud in clouds]
        self._prepared = [self._prepare(views, estimates) for estimates in opinions]
        starts = []
        for i, seed in enumerate(seeds):
            found, budget = self._prepared[i % len(opinions)], self.budget if i == 0 else self.further * self.budget
            scaled = scaled_to(budget, found.densities)
            thinned = self._thinned(views, found.surfaces, scaled, np.random.default_rng(seed))
            starts.append(_start(Cloud.concatenate([thinned, *found.behind]), views, found.estimates))
        return starts

    def forget(self) -> None:
        """Free the surfaces of all photos."""
        self._prepared = []

    def _prepare(self, views: TrainingViews, estimates: list[DepthEstimate]) -> _Prepared:
        """What starts from one depth share; for the same photos and depth as at the last call it is not made again."""
        for made in self._prepared:
            if made.views is views and made.estimates is estimates:
                return made
        surfaces = complete_surfaces(views, estimates)
        ways = Ways(views.cameras, surfaces)
        densities = [
            density_of(view.image, surface, self.hole_density, self.detail) * ~ways.obstructed_by_guesses(i)
            for i, (view, surface) in enumerate(zip(views.views, surfaces, strict=True))
        ]
        with_layer = self.far_layer and views.background is None
        return _Prepared(
            views, estimates, surfaces, densities, [far_layer(views, surfaces, ways)] if with_layer else []
        )

    def _thinned(
        self,
        views: TrainingViews,
        surfaces: Sequence[Surface],
        densities: Sequence[np.ndarray],
        random: np.random.Generator,
    ) -> Cloud:
        """Of the pixels of each view as many as its density [H, W], 0..1, says, drawn by chance."""
        clouds = []
        for i, (surface, density) in enumerate(zip(surfaces, densities, strict=True)):
            y, x = np.nonzero(random.random(density.shape) < density)
            inverse_depth = surface.inverse_depth[y, x]
            pixels = np.stack([x, y], axis=1) + 0.5
            clouds.append(
                Cloud(
                    positions=back_project(views.cameras, i, pixels, inverse_depth),
                    colours=views.views[i].image[y, x],
                    sizes=footprint(views.cameras, i, inverse_depth) / np.sqrt(density[y, x]),
                    opacities=np.where(surface.known[y, x], self.opacity, self.hole_opacity),
                    views=np.full(len(x), i),
                )
            )
        return Cloud.concatenate(clouds).sized_by_neighbours()


def random_cloud(views: TrainingViews, count: int, opacity: float, random: np.random.Generator) -> Cloud:
    """Points drawn uniformly over the pixels of all views and over inverse depth within the scene's depth range."""
    nothing = Landmarks(np.zeros((0, 3)), np.zeros((0, 2), np.int64))
    ranges = depth_ranges(views.cameras, views.bounds, nothing)
    clouds = []
    for i, view in enumerate(views.views):
        width, height = views.cameras.sizes[i].tolist()
        share = count // len(views) + (i < count % len(views))
        grid = pixel_centres(width, height).reshape(-1, 2)
        chosen = random.integers(len(grid), size=share)
        inverse_depth = random.uniform(1 / ranges[i, 1], 1 / ranges[i, 0], share)
        clouds.append(
            Cloud(
                positions=back_project(views.cameras, i, grid[chosen], inverse_depth),
                colours=view.image.reshape(-1, 3)[chosen],
                sizes=footprint(views.cameras, i, inverse_depth) * np.sqrt(len(grid) / max(share, 1)),
                opacities=np.full(share, opacity),
                views=np.full(share, i),
            )
        )
    return Cloud.concatenate(clouds).sized_by_neighbours()


def _start(cloud: Cloud, views: TrainingViews, estimates: Sequence[DepthEstimate] | None = None) -> Start:
    if views.background is not None:
        background = np.array(views.background)
    else:
        background = np.concatenate([view.colours for view in views.views]).mean(axis=0, dtype=np.float64)
    return Start(
        cloud.gaussians(),
        torch.from_numpy(background.astype(np.float32)),
        max(cloud.extent, 1e-6),
        None if estimates is None else tuple(estimates),
        views.cameras.centres[torch.from_numpy(cloud.views)].float() if (cloud.views >= 0).all() else None,
    )


def _expect_opacity(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} is {value}, expected a number between 0 and 1")
