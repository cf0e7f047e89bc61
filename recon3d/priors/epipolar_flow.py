"""Depth from dense optical flow between photos with known poses (Zheng et al., NexusGS, 2025)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
from tqdm import tqdm

from datasets.errors import InputError
from recon3d.priors import guided_flow, view_selection
from recon3d.priors.agreement import project_known, round_trip_error
from recon3d.priors.epipolar import Pair, pixel_centres
from recon3d.priors.filling import fill_smoothly
from recon3d.priors.guided_flow import Matches, Texture
from recon3d.priors.landmarks import Landmarks, find_landmarks
from recon3d.priors.luminance import luminance_bytes
from recon3d.priors.planes import find_planes, plane_inverse_depth
from recon3d.priors.speckles import without_chance
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.priors.visual_hull import VisualHull
from recon3d.views import TrainingViews

SMALLEST_PATCH = 2e-4  # of a photo's pixels; smaller patches of depth may be chance matches
FRONTAL_GUESSES = (2, *range(10, 91, 10), 98)  # percentiles of the landmarks' inverse depth


class EpipolarFlow(DepthPrior):
    """NexusGS's depth prior: flow, foot of the perpendicular on the epipolar line, triangulation, and of several target
    views the one whose flow errors matter least.

    Each ordered pair of views that see the same is matched by OpenCV's DIS flow. A match survives if the flow back
    returns to its pixel and if it lies near its epipolar line; the rays through the pixel and the foot of the
    perpendicular give the depth. Per pixel, the target with the smallest \\|d depth / d flow\\| is believed.

    Beyond the paper, so that wide baselines work: sparse landmarks give planes and a coarse surface along which the
    target is warped before the flow (:mod:`recon3d.priors.guided_flow`); the blended depth, and planes found in it,
    are then guesses for further rounds. Where alpha channels tell the background, guesses and depth stay within the
    visual hull. Deterministic.

    Args:
        targets: most other views that a view is matched with.
        epipolar_tolerance: pixels from the epipolar line up to which a match is kept.
        round_trip_tolerance: pixels by which flow there and back may miss.
        planes: most planes to warp along, from landmarks and again from the first depth.
        rounds: how often flow starts anew from the depth found so far.
        features: most features per photo for the landmarks.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        targets: int = 4,
        epipolar_tolerance: float = 1.0,
        round_trip_tolerance: float = 1.5,
        planes: int = 4,
        rounds: int = 2,
        features: int = 3000,
    ) -> None:
        for name, value, least in (("targets", targets, 1), ("planes", planes, 0), ("rounds", rounds, 0)):
            if value < least:
                raise ValueError(f"EpipolarFlow: {name} is {value}, expected at least {least}")
        for name, tolerance in (("epipolar", epipolar_tolerance), ("round_trip", round_trip_tolerance)):
            if not tolerance > 0:
                raise ValueError(f"EpipolarFlow: {name}_tolerance is {tolerance}, expected a positive number of pixels")
        if features < 1:
            raise ValueError(f"EpipolarFlow: features is {features}, expected at least 1")
        self.targets, self.planes, self.rounds, self.features = targets, planes, rounds, features
        self.epipolar_tolerance, self.round_trip_tolerance = epipolar_tolerance, round_trip_tolerance

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """Depth of each view; all unknown for a view that shares nothing with another.

        Raises:
            InputError: for fewer than two views.
        """
        if len(views) < 2:
            raise InputError(f"depth from flow needs at least two train views, got {len(views)}: choose more views")
        return _Search(self, views).run()


class _Search:
    """One run of the prior: the images, the pairs, and the best matches so far."""

    def __init__(self, prior: EpipolarFlow, views: TrainingViews) -> None:
        self.prior, self.views, self.cameras = prior, views, views.cameras
        self.greys = [luminance_bytes(view.image) for view in views.views]
        pairs = view_selection.candidate_pairs(self.cameras)
        self.landmarks: Landmarks = find_landmarks(self.greys, self.cameras, pairs, prior.features)
        self.ranges = view_selection.depth_ranges(self.cameras, views.bounds, self.landmarks)
        targets = view_selection.choose_targets(self.cameras, self.ranges, prior.targets)
        chosen = {(i, j) for i, others in enumerate(targets) for j in others}
        self.pairs = {(i, j): Pair.of(self.cameras, i, j) for i, j in sorted(chosen | {(j, i) for i, j in chosen})}
        self.grids = [pixel_centres(*size).astype(np.float32) for size in self.cameras.sizes.tolist()]
        self.textures = [Texture.of(grey) for grey in self.greys]
        self.matches = {(i, j): Matches.none(*self.greys[i].shape) for i, j in self.pairs}
        self.hull = VisualHull.of(views)
        self.wanted = [self._may_be_solid(i) for i in range(len(views))]
        self.random = np.random.default_rng(0)

    def run(self) -> list[DepthEstimate]:
        centres = self.cameras.centres.double().numpy()
        away = np.linalg.norm(self.landmarks.xyz - centres[self.landmarks.views[:, 0]], axis=1)
        planes = find_planes(self.landmarks.xyz, 0.01 * away, self.prior.planes, self.random)
        follows = 1 + (self.prior.rounds > 0) + self.prior.rounds
        with tqdm(total=follows * len(self.pairs), desc="flow", unit="pair") as bar:
            self._follow([self._first_guesses(i, planes) for i in range(len(self.views))], bar, fine=False)
            depths = self._blend()
            for number in range(self.prior.rounds):
                if number == 0:
                    self._follow(self._planes_of(depths), bar, fine=False)
                self._follow([self._surface(depths, i) for i in range(len(self.views))], bar, fine=True)
                depths = self._blend()
        return [self._estimate(depths, i) for i in range(len(self.views))]

    def _first_guesses(self, view: int, planes: np.ndarray) -> list[np.ndarray]:
        """Inverse depths [H, W] to start from: frontal planes, the scene's planes, a surface through the landmarks."""
        height, width = self.greys[view].shape
        least, most = 1 / self.ranges[view][1], 1 / self.ranges[view][0]
        pose = self.cameras.world_to_camera[view].double().numpy()
        points = self.landmarks.seen_by(view) @ pose[:3, :3].T + pose[:3, 3]
        inverse = 1 / points[:, 2]
        points, inverse = points[(inverse > least) & (inverse < most)], inverse[(inverse > least) & (inverse < most)]
        if len(points) < view_selection.ENOUGH_LANDMARKS:
            frontal = np.linspace(least, most, 6)[:-1]
            return [np.full((height, width), value, np.float32) for value in frontal] + self._along(planes, view)
        guesses = [np.full((height, width), value, np.float32) for value in np.percentile(inverse, FRONTAL_GUESSES)]
        pixel = points @ self.cameras.intrinsics[view].double().numpy().T
        x, y = np.floor(pixel[:, :2] / pixel[:, 2:]).astype(np.int64).T
        x, y = x.clip(0, width - 1), y.clip(0, height - 1)
        sparse = np.zeros((height, width))
        sparse[y, x] = inverse
        return [*guesses, fill_smoothly(sparse, sparse > 0).astype(np.float32), *self._along(planes, view)]

    def _along(self, planes: Iterable[np.ndarray], view: int) -> list[np.ndarray]:
        """Inverse depth [H, W] of planes, within the view's range; without planes that it does not see."""
        near, far = self.ranges[view]
        maps = [plane_inverse_depth(plane, self.cameras, view) for plane in planes]
        seen = [((inverse > 1 / far) & (inverse < 1 / near)).mean() for inverse in maps]
        return [
            np.clip(m, 1 / far, 1 / near).astype(np.float32)
            for m, share in zip(maps, seen, strict=True)
            if share > 0.05
        ]

    def _planes_of(self, depths: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
        """Guesses [H, W] along planes found in the depth of all views together."""
        points, away = [np.zeros((0, 3))], [np.zeros(0)]
        poses = self.cameras.camera_to_world.double().numpy()
        for i, depth in enumerate(depths):
            known = np.flatnonzero(depth)
            known = known[:: max(1, len(known) // 1000)]
            pixels = self.grids[i].reshape(-1, 2)[known]
            rays = np.column_stack([pixels, np.ones(len(known))])
            rays = rays @ np.linalg.inv(self.cameras.intrinsics[i].double().numpy()).T
            seen = rays * depth.reshape(-1)[known, None]
            points.append(seen @ poses[i, :3, :3].T + poses[i, :3, 3])
            away.append(seen[:, 2])
        planes = find_planes(np.concatenate(points), 0.01 * np.concatenate(away), self.prior.planes, self.random)
        return [self._along(planes, i) for i in range(len(depths))]

    def _surface(self, depths: Sequence[np.ndarray], view: int) -> list[np.ndarray]:
        """The depth found so far, completed by what other views know and then smoothly, as the one guess of a view."""
        depth = np.where(depths[view] > 0, depths[view], project_known(self.cameras, depths, view))
        known = depth > 0
        return [fill_smoothly(1 / np.where(known, depth, 1), known).astype(np.float32)] if known.any() else []

    def _follow(self, guesses: Sequence[list[np.ndarray]], bar: tqdm[Any], fine: bool) -> None:
        """Offer every pair the matches that flow finds from every guess of its source; ``bar`` counts the pairs."""
        guesses = [[self._drawn_to_hull(i, guess) for guess in several] for i, several in enumerate(guesses)]

        def work(key: tuple[int, int]) -> None:
            i, j = key
            flow = guided_flow.fine_flow() if fine else guided_flow.coarse_flow()
            for guess in guesses[i]:
                found = guided_flow.follow_guess(
                    self.pairs[key], self.greys[i], self.greys[j], guess, flow, self.wanted[i]
                )
                if found is not None:
                    triangulated = self._triangulate(key, found)
                    tolerance = 1.5 * self.prior.epipolar_tolerance  # the next round may bring it nearer
                    guided_flow.keep_better(
                        self.matches[key], found, triangulated, self.textures[i], self.greys[j], tolerance
                    )

        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as threads:
            for _ in threads.map(work, self.pairs):
                bar.update()

    def _triangulate(self, key: tuple[int, int], matches: np.ndarray) -> guided_flow.Triangulated:
        """What the matches [H, W, 2] of a pair say; what lies outside the hull is not possible."""
        i, j = key
        width, height = self.cameras.sizes[j].tolist()
        found = guided_flow.triangulate(self.pairs[key], matches, (width, height), self.ranges[i])
        if self.hull is None:
            return found
        return replace(found, possible=found.possible & self.hull.contains(i, found.inverse_depth))

    def _may_be_solid(self, view: int) -> np.ndarray | None:
        """[H, W] bool, whether the ray of a pixel meets the hull; None for all."""
        if self.hull is None:
            return None
        near, far = self.ranges[view]
        start = np.full(self.greys[view].shape, 1 / far, np.float32)
        return self.hull.nearest(view, start, (1 / far, 1 / near)) > 0

    def _drawn_to_hull(self, view: int, guess: np.ndarray) -> np.ndarray:
        """A guess [H, W] of inverse depth, brought to the nearest that the hull allows, where it allows any."""
        if self.hull is None:
            return guess
        near, far = self.ranges[view]
        allowed = self.hull.nearest(view, guess, (1 / far, 1 / near))
        return np.where(allowed > 0, allowed, guess)

    def _blend(self) -> list[np.ndarray]:
        """[H, W] depth of each view, 0 where no target's match survives."""
        depths = []
        for i, grid in enumerate(self.grids):
            candidates, sensitivities = [], []
            for key in (key for key in self.pairs if key[0] == i):
                found = self.matches[key].points
                there = self._triangulate(key, found)
                back = guided_flow.sample(self.matches[key[1], i].points, found, outside=guided_flow.NOWHERE)
                valid = there.possible & (np.abs(there.distance) < self.prior.epipolar_tolerance)
                valid &= np.hypot(*np.moveaxis(back - grid, -1, 0)) < self.prior.round_trip_tolerance
                valid &= self._counts(i, grid) & self._counts(key[1], found)
                depth = 1 / there.inverse_depth
                candidates.append(depth)
                sensitivities.append(np.where(valid, depth**2 / np.maximum(there.parallax, 1e-12), np.inf))
            blended = least_sensitive(candidates, sensitivities) if candidates else np.zeros(grid.shape[:2])
            depths.append(without_chance(blended, max(2, round(SMALLEST_PATCH * blended.size))))
        return depths

    def _counts(self, view: int, points: np.ndarray) -> np.ndarray | bool:
        """[H, W] bool, whether ``points`` lie where the photo's mask says that it counts."""
        mask = self.views.views[view].mask
        return True if mask is None else guided_flow.sample(mask.astype(np.float32), points) > 0.5

    def _estimate(self, depths: Sequence[np.ndarray], view: int) -> DepthEstimate:
        """The depth of a view with its confidence: how alike the photos look there, if there is anything to tell apart,
        times how well the depth of the view that agrees best agrees."""
        known = depths[view] > 0
        alike, agree = np.zeros(known.shape), np.zeros(known.shape)
        for i, j in self.pairs:
            if i == view:
                alike = np.maximum(alike, self.matches[i, j].similarity)
                error = round_trip_error(self.cameras, depths, view, j)
                agree = np.maximum(agree, np.exp(-0.5 * np.minimum(error, 10.0) ** 2))
        confidence = np.where(known, self.textures[view].contrast * np.clip(alike, 0, 1) * (0.5 + 0.5 * agree), 0)
        return DepthEstimate(depths[view].astype(np.float32), confidence.astype(np.float32))


def least_sensitive(depths: Sequence[np.ndarray], sensitivities: Sequence[np.ndarray]) -> np.ndarray:
    """Blend the depths that several targets give one view: per pixel that of the target with the smallest sensitivity.

    Args:
        depths: T maps [H, W].
        sensitivities: T maps [H, W] of |d depth / d flow|, infinite where the target's match did not survive.

    Returns:
        [H, W] the chosen depth, 0 where none survived.
    """
    stack = np.stack(sensitivities)
    best = stack.argmin(axis=0)[None]
    chosen = np.take_along_axis(np.stack(depths), best, axis=0)[0]
    return np.where(np.isfinite(np.take_along_axis(stack, best, axis=0)[0]), chosen, 0)
