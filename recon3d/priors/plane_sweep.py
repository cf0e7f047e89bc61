"""Depth from a sweep of planes alone, at the size of the photos."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
import torch
from tqdm import tqdm

from datasets.errors import InputError
from datasets.programs.devices import Device, torch_device
from recon3d.priors import torch_stereo, view_selection
from recon3d.priors.evidence import least_error
from recon3d.priors.landmarks import Landmarks
from recon3d.priors.luminance import luminance
from recon3d.priors.speckles import without_chance
from recon3d.priors.stereo.aggregation import aggregate, best_planes
from recon3d.priors.stereo.level import Level, Neighbours, inverse_depth_per_pixel
from recon3d.priors.stereo.sweep import sweep
from recon3d.priors.types import DepthEstimate, DepthPrior, inverse_of
from recon3d.priors.visual_hull import VisualHull
from recon3d.views import TrainingViews

FEWEST_DEPTHS = 48
# Of what is found between views that share nothing, up to a tenth lies in patches of so many pixels; where views share
# anything, from a fifth to nearly all.
PATCH, CHANCE = 60, 0.15


class PlaneSweep(DepthPrior):
    """Plane sweep and semi-global aggregation (Hirschmüller, 2008): what a pixel of every photo matches best.

    Whatever finds its way to another view and back is kept, chance matches among it, unless next to nothing else is
    found: meant for :class:`recon3d.priors.fusion.Fusion`, which tells them apart. On thin structures it knows more
    than flow and than patches of planes, in less time. Where alpha channels tell the background, only depth in the
    visual hull is kept. Deterministic.

    Args:
        targets: most other views that a view is compared with.
        pixels: size of the photos to which larger ones are reduced.
        depths: most planes.
        tolerance: pixels by which a pixel may miss itself when it goes to another view and comes back by its depth.
        device: where to compute: compiled kernels on the CPU, or torch on CUDA; "auto" is CUDA where there is one.

    Raises:
        ValueError: for arguments out of range.
    """

    is_quick = True

    def __init__(
        self,
        targets: int = 4,
        pixels: int = 800_000,
        depths: int = 192,
        tolerance: float = 1.0,
        device: Device = "auto",
    ) -> None:
        bounds = ("targets", targets, 1), ("pixels", pixels, 1), ("depths", depths, FEWEST_DEPTHS)
        check_arguments("PlaneSweep", bounds, tolerance)
        self.targets, self.pixels, self.depths, self.tolerance = targets, pixels, depths, tolerance
        self.device: Device = device

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """Depth of each view; confidence falls from 1 to one half as the way there and back errs up to the tolerance.

        Raises:
            InputError: for fewer than two views, or the device "cuda" where there is none.
        """
        if len(views) < 2:
            raise InputError(f"a plane sweep needs at least two train views, got {len(views)}: choose more views")
        device = torch_device(self.device)
        greys = [luminance(view.image) for view in views.views]
        ranges = ranges_of(views, greys)
        targets = view_selection.choose_targets(views.cameras, ranges, self.targets)
        limits = [(1 / far, 1 / near) for near, far in ranges.tolist()]
        scale = min(1.0, (self.pixels / max(grey.size for grey in greys)) ** 0.5)
        level = Level.of(views.cameras, greys, [view.mask for view in views.views], scale)
        near = [Neighbours.of(level.cameras, i, targets[i]) for i in range(len(views))]
        bar = tqdm(near, desc="plane sweep", unit="photo")
        inverse = [first_depth(level, n, limits[n.view], self.depths, device) for n in bar]
        depths = [np.where(level.map_of(level.counts, i) > 0, 1 / inverse[i], 0) for i in range(len(views))]
        hull = VisualHull.of(views)
        estimates = []
        for i, n in enumerate(near):
            error = least_error(level.cameras, n, depths)
            found = without_chance(np.where(error < self.tolerance, depths[i], 0).astype(np.float32), PATCH, CHANCE)
            estimates.append(self._estimate(views, i, found, error, hull))
        return estimates

    def _estimate(
        self, views: TrainingViews, view: int, depth: np.ndarray, error: np.ndarray, hull: VisualHull | None
    ) -> DepthEstimate:
        """At the size of the photo, within the hull."""
        confidence = np.where(depth > 0, 1 - 0.5 * np.minimum(error / self.tolerance, 1), 0)
        size = tuple(views.cameras.sizes[view].tolist())
        depth, confidence = (
            cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_NEAREST_EXACT)
            for values in (depth, confidence)
        )
        if hull is not None:
            possible = hull.contains(view, inverse_of(depth))
            depth, confidence = np.where(possible, depth, 0), np.where(possible, confidence, 0)
        return DepthEstimate(depth.astype(np.float32), confidence.astype(np.float32))


def first_depth(
    level: Level, near: Neighbours, limits: tuple[float, float], most: int, device: torch.device
) -> np.ndarray:
    """[H, W] float32 inverse depth that the photos like best; the middle of the range where there is no other view.

    Args:
        level, near: the photos, the view and its targets.
        limits: least and greatest inverse depth.
        most: planes; fewer where they would be less than a pixel apart.
    """
    middle = np.full(level.sizes[near.view][::-1], 0.7 * limits[0] + 0.3 * limits[1], np.float32)
    if not len(near.targets):
        return middle
    step = np.median(inverse_depth_per_pixel(level.cameras, near.view, near.targets.tolist(), middle))
    count = int(np.clip((limits[1] - limits[0]) / step, FEWEST_DEPTHS, most))
    inverse_depths = np.linspace(*limits, count, dtype=np.float32)
    if device.type == "cpu":
        position = best_planes(aggregate(sweep(level, near, inverse_depths), level.grey(near.view)))
    else:
        position = torch_stereo.first_depth(level, near, inverse_depths, device)
    return np.interp(position, np.arange(count), inverse_depths).astype(np.float32)


def check_arguments(prior: str, bounds: Iterable[tuple[str, int, int]], tolerance: float) -> None:
    """ValueError where a number of ``bounds`` (name, value, least) or the tolerance is out of range."""
    for name, value, least in bounds:
        if value < least:
            raise ValueError(f"{prior}: {name} is {value}, expected at least {least}")
    if not tolerance > 0:
        raise ValueError(f"{prior}: tolerance is {tolerance}, expected a positive number of pixels")


def ranges_of(views: TrainingViews, greys: Sequence[np.ndarray]) -> np.ndarray:
    """[V, 2] nearest and farthest depth; landmarks are looked for only where the source does not state the range."""
    landmarks = Landmarks(np.zeros((0, 3)), np.zeros((0, 2), np.int64))
    if views.bounds is None:
        bytes_ = [np.rint(grey * 255).astype(np.uint8) for grey in greys]
        landmarks = view_selection.shared_landmarks(views.cameras, bytes_)
    return view_selection.depth_ranges(views.cameras, views.bounds, landmarks)
