"""Bringing depth of unknown scale and shift to the scene's units, by points whose depth is trusted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from recon3d.priors.landmarks import Landmarks
from recon3d.priors.luminance import luminance_bytes
from recon3d.priors.scattered import in_photo, in_sight
from recon3d.priors.types import DepthEstimate
from recon3d.priors.view_selection import shared_landmarks
from recon3d.views import TrainingViews

Quantity = Literal["depth", "inverse_depth"]

FEWEST = 12  # points that a line is fitted to
TRIES = 500
INLIER = 0.05  # of the depth (or inverse depth)
LEAST_SHARE = 0.3  # of the points that must lie on the line
ROUNDS = 10  # of reweighting


class Line(NamedTuple):
    """``scale * value + shift``."""

    scale: float
    shift: float


class Anchors(NamedTuple):
    """Trusted points of one view: pixels [N, 2] (x, y) integers within the photo, depth [N] in the scene's units."""

    pixels: np.ndarray
    depth: np.ndarray


def find_anchors(views: TrainingViews) -> list[Anchors]:
    """Points of each view: what sparse matching with other views gives, and those of the scene that it sees.

    Matches that stand alone are left out. Of the scene's points, for example COLMAP's, readers leave only those that at
    least two train photos saw; of these, what others hide from a view is left out.
    """
    greys = [luminance_bytes(view.image) for view in views.views]
    landmarks = Landmarks(np.zeros((0, 3)), np.zeros((0, 2), np.int64))
    if len(views) > 1:
        landmarks = shared_landmarks(views.cameras, greys)
    anchors = []
    for i in range(len(views)):
        pixels, depth = in_photo(landmarks.seen_by(i), views.cameras[i])
        if views.points is not None:
            theirs, away = in_sight(views.points.xyz.astype(np.float64), views.cameras[i])
            pixels, depth = np.concatenate([pixels, theirs]), np.concatenate([depth, away])
        anchors.append(Anchors(np.floor(pixels).astype(np.int64), depth))
    return anchors


def fit_line(values: np.ndarray, target: np.ndarray) -> Line | None:
    """The line through most points: RANSAC (Fischler and Bolles, 1981), then reweighted least squares.

    Args:
        values: [N] what is to be brought to scale.
        target: [N] what it should be, positive.

    Returns:
        The line, rising; None where there are too few points or too few of them agree.
    """
    if len(values) < FEWEST:
        return None
    random = np.random.default_rng(0)
    tolerance = INLIER * target
    first, second = random.integers(len(values), size=(2, TRIES))
    apart = values[first] != values[second]
    first, second = first[apart], second[apart]
    scale = (target[second] - target[first]) / (values[second] - values[first])
    shift = target[first] - scale * values[first]
    scale, shift = scale[scale > 0], shift[scale > 0]
    if not len(scale):
        return None
    votes = (np.abs(np.outer(scale, values) + shift[:, None] - target) < tolerance).sum(axis=1)
    best = int(votes.argmax())
    if votes[best] < max(FEWEST, LEAST_SHARE * len(values)):
        return None
    line = Line(float(scale[best]), float(shift[best]))
    design = np.column_stack([values, np.ones(len(values))])
    for _ in range(ROUNDS):
        rest = (line.scale * values + line.shift - target) / tolerance
        weight = np.sqrt(np.where(np.abs(rest) < 3, 1 / (1 + rest**2) ** 2, 0)) / tolerance
        solution = np.linalg.lstsq(design * weight[:, None], target * weight, rcond=None)[0]
        if not solution[0] > 0:
            break
        line = Line(float(solution[0]), float(solution[1]))
    return line


def align(maps: Sequence[np.ndarray], anchors: Sequence[Anchors], quantity: Quantity) -> list[np.ndarray]:
    """Depth in the scene's units from maps that know it up to scale and shift.

    Each view has its own line. One whose points do not give it takes that of all points together, where they give one.

    Args:
        maps: [H, W] of each view; NaN where unknown.
        anchors: of each view.
        quantity: what the maps hold, up to scale and shift.

    Returns:
        [H, W] float32 z-depth of each view, 0 where unknown.
    """
    pairs = []
    for values, (pixels, depth) in zip(maps, anchors, strict=True):
        there = values[pixels[:, 1], pixels[:, 0]].astype(np.float64)
        known = np.isfinite(there)
        target = depth if quantity == "depth" else 1 / depth
        pairs.append((there[known], target[known]))
    common = fit_line(np.concatenate([v for v, _ in pairs]), np.concatenate([t for _, t in pairs]))
    depths = []
    for values, pair in zip(maps, pairs, strict=True):
        line = fit_line(*pair) or common
        if line is None:
            depths.append(np.zeros(values.shape, np.float32))
            continue
        moved = line.scale * np.nan_to_num(values.astype(np.float64)) + line.shift
        # What a line extrapolates to far behind all points, or behind infinity, is not known.
        least = 0.2 * pair[1].min() if len(pair[1]) else 1e-6
        good = np.isfinite(values) & (moved > least)
        moved = np.where(good, moved, 1)
        depths.append(np.where(good, moved if quantity == "depth" else 1 / moved, 0).astype(np.float32))
    return depths


def fully_trusted(
    maps: Sequence[np.ndarray], views: TrainingViews, quantity: Quantity = "depth", aligned: bool = True
) -> list[DepthEstimate]:
    """Estimates of confidence 1 wherever a map knows the depth.

    Args:
        maps: [H, W] positive values of each view; NaN where unknown.
        views: whose maps these are.
        quantity: what the maps hold.
        aligned: whether that is in the scene's units; else scale and shift are found by :func:`find_anchors`.
    """
    if not aligned:
        depths = align(maps, find_anchors(views), quantity)
    else:
        known = maps if quantity == "depth" else [1 / values for values in maps]
        depths = [np.nan_to_num(depth).astype(np.float32) for depth in known]
    return [DepthEstimate(depth, (depth > 0).astype(np.float32)) for depth in depths]
