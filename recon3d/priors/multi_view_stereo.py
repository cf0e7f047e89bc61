"""Depth from multi-view stereo: plane sweep, semi-global aggregation, then slanted planes by PatchMatch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from tqdm import tqdm

from datasets.errors import InputError
from datasets.programs.devices import Device, torch_device
from recon3d.priors import torch_stereo, view_selection
from recon3d.priors.evidence import gather, least_error
from recon3d.priors.luminance import luminance
from recon3d.priors.plane_sweep import FEWEST_DEPTHS, check_arguments, first_depth, ranges_of
from recon3d.priors.planes import find_planes
from recon3d.priors.speckles import without_speckles
from recon3d.priors.stereo.level import Level, Neighbours, inverse_depth_per_pixel, pack, plane_coefficients
from recon3d.priors.stereo.patch_match import Planes, Weights, improve, patch_pattern
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.priors.visual_hull import VisualHull
from recon3d.views import TrainingViews

LARGEST_ZOOM = 3.0  # between two scales at which planes are improved
# Rounds of propagation by the photos alone, then also by the other views' depth. More of them change next to nothing.
ROUNDS = (1, 1)  # at the first scale
LATER_ROUNDS = (0, 1)  # at every other scale
PHOTOS_ALONE = Weights(geometric=0.0, prior=0.08)
WITH_GEOMETRY = Weights(geometric=0.2, prior=0.08)
ROUGHLY = 2.0  # pixels of agreement with another view from which on a depth may vote while planes are improved
SCENE_PLANES = 6
ON_PLANE = 0.005  # of the depth, up to which a point lies on a plane of the scene
VOTES = 1500  # points per view that look for those planes


class MultiViewStereo(DepthPrior):
    """Dense depth from the photos alone, on any baseline, from two views on.

    Each view is compared with several targets, chosen by overlap and angle. A sweep of planes on reduced photos, with
    semi-global aggregation, finds a first depth; PatchMatch then turns it into slanted planes per pixel, from coarse to
    fine, by bilaterally weighted NCC and by agreement with the depth of the targets. What does not find its way to
    another view and back is a hole, and so is what does among pixels most of which do not: it does by chance.
    Confidence is measured, see :mod:`recon3d.priors.evidence`. Where alpha channels tell the background, only depth in
    the visual hull is kept. Deterministic.

    Accurate where views overlap much; between views that share little, large chance matches remain, and flow errs less.

    Args:
        targets: most other views that a view is compared with.
        sweep_pixels: size of the photos for the sweep.
        depths: most planes of the sweep.
        reach: half side of the patches that are compared, pixels.
        tolerance: pixels by which a pixel may miss itself when it goes to another view and comes back by its depth.
        agreement: share of the pixels around one that must find back for it to be believed.
        smallest: pixels of the smallest patch of depth that is kept.
        device: where to compute: compiled kernels on the CPU, or torch on CUDA; "auto" is CUDA where there is one.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        targets: int = 4,
        sweep_pixels: int = 100_000,
        depths: int = 192,
        reach: int = 4,
        tolerance: float = 1.0,
        agreement: float = 0.65,
        smallest: int = 60,
        device: Device = "auto",
    ) -> None:
        bounds = (
            ("targets", targets, 1),
            ("sweep_pixels", sweep_pixels, 1),
            ("depths", depths, FEWEST_DEPTHS),
            ("reach", reach, 1),
            ("smallest", smallest, 1),
        )
        check_arguments("MultiViewStereo", bounds, tolerance)
        if not 0 <= agreement < 1:
            raise ValueError(f"MultiViewStereo: agreement is {agreement}, expected a share from 0 to below 1")
        self.targets, self.sweep_pixels, self.depths, self.reach = targets, sweep_pixels, depths, reach
        self.tolerance, self.agreement, self.smallest = tolerance, agreement, smallest
        self.device: Device = device

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """Depth of each view; all unknown for a view that shares nothing with another.

        Raises:
            InputError: for fewer than two views, or the device "cuda" where there is none.
        """
        if len(views) < 2:
            raise InputError(f"stereo needs at least two train views, got {len(views)}: choose more views")
        device = torch_device(self.device)
        greys = [luminance(view.image) for view in views.views]
        masks = [view.mask for view in views.views]
        ranges = ranges_of(views, greys)
        targets = view_selection.choose_targets(views.cameras, ranges, self.targets)
        limits = [(1 / far, 1 / near) for near, far in ranges.tolist()]
        planes: list[Planes] = []
        sizes = scales(max(grey.size for grey in greys), self.sweep_pixels)
        for number, scale in enumerate(tqdm(sizes, desc="stereo", unit="size")):
            level = Level.of(views.cameras, greys, masks, scale)
            near = [Neighbours.of(level.cameras, i, targets[i]) for i in range(len(views))]
            if number == 0:
                planes = [Planes.through(first_depth(level, n, limits[n.view], self.depths, device)) for n in near]
                self._improve(level, near, planes, limits, _scene_planes(level, near, planes), ROUNDS, device)
            else:
                planes = [p.enlarged(*size) for p, size in zip(planes, level.sizes.tolist(), strict=True)]
                self._improve(level, near, planes, limits, np.zeros((0, 4)), LATER_ROUNDS, device)
        hull = VisualHull.of(views)
        depths = [1 / p.inverse_depth for p in planes]
        if hull is not None:
            depths = [np.where(hull.contains(i, p.inverse_depth), depths[i], 0) for i, p in enumerate(planes)]
        return [self._estimate(level, near[i], depths) for i in range(len(views))]

    def _improve(
        self,
        level: Level,
        near: Sequence[Neighbours],
        planes: Sequence[Planes],
        limits: Sequence[tuple[float, float]],
        scene_planes: np.ndarray,
        rounds: Sequence[int],
        device: torch.device,
    ) -> None:
        """Improve the planes of all views in place: by the photos, then also by one another's depth."""
        pattern = patch_pattern(self.reach)
        guesses = [p.inverse_depth.copy() for p in planes]
        for weights, count in zip((PHOTOS_ALONE, WITH_GEOMETRY), rounds, strict=True):
            if not count:
                continue
            known = pack(_agreeing(level, near, planes))
            for i, p in enumerate(planes):
                if len(near[i].targets):
                    step = inverse_depth_per_pixel(level.cameras, i, near[i].targets.tolist(), p.inverse_depth)
                    common = plane_coefficients(scene_planes, level.cameras, i)
                    arguments = (level, near[i], p, guesses[i], step, limits[i], known, weights, pattern, common, count)
                    if device.type == "cpu":
                        improve(*arguments, seed=i)
                    else:
                        torch_stereo.improve(*arguments, seed=i, device=device)

    def _estimate(self, level: Level, near: Neighbours, depths: Sequence[np.ndarray]) -> DepthEstimate:
        depth = depths[near.view]
        evidence = gather(level, near, depths)
        good = (evidence.error < self.tolerance) & (level.map_of(level.counts, near.view) > 0)
        good &= evidence.agreement > self.agreement
        depth = without_speckles(np.where(good, depth, 0), self.smallest).astype(np.float32)
        return DepthEstimate(depth, np.where(depth > 0, evidence.confidence(), np.float32(0)))


def scales(pixels: int, sweep_pixels: int) -> list[float]:
    """The scales of photos of ``pixels`` at which depth is found: the sweep's first, the full one last."""
    first = min(1.0, math.sqrt(sweep_pixels / pixels))
    steps = math.ceil(math.log(1 / first) / math.log(LARGEST_ZOOM) - 1e-9)
    return [first ** (1 - k / steps) for k in range(steps + 1)] if steps else [1.0]


def _agreeing(level: Level, near: Sequence[Neighbours], planes: Sequence[Planes]) -> list[np.ndarray]:
    """[H, W] inverse depth of each view where another one roughly agrees, else 0."""
    depths = [1 / p.inverse_depth for p in planes]
    maps = []
    for i, p in enumerate(planes):
        agrees = least_error(level.cameras, near[i], depths) < ROUGHLY
        maps.append(np.where(agrees, p.inverse_depth, 0).astype(np.float32))
    return maps


def _scene_planes(level: Level, near: Sequence[Neighbours], planes: Sequence[Planes]) -> np.ndarray:
    """[Q, 4] large planes of the scene in world units, from what the views agree on."""
    points, depths = [np.zeros((0, 3))], [np.zeros(0)]
    poses = level.cameras.camera_to_world.double().numpy()
    inverse_intrinsics = np.linalg.inv(level.cameras.intrinsics.double().numpy())
    for i, inverse in enumerate(_agreeing(level, near, planes)):
        y, x = np.nonzero(inverse)
        every = max(1, len(x) // VOTES)
        y, x = y[::every], x[::every]
        depth = 1 / inverse[y, x].astype(np.float64)
        rays = np.stack([x + 0.5, y + 0.5, np.ones(len(x))], axis=1) @ inverse_intrinsics[i].T
        points.append((rays * depth[:, None]) @ poses[i, :3, :3].T + poses[i, :3, 3])
        depths.append(depth)
    tolerance = ON_PLANE * np.concatenate(depths)
    return find_planes(np.concatenate(points), tolerance, SCENE_PLANES, np.random.default_rng(0))
