"""Dense matches between two views at any baseline: optical flow after warping the target by a guess of the depth.

Optical flow follows small displacements of patches that keep their shape. Wide baselines break both, so the target is
first resampled into the source as a guess of the source's depth predicts (a plane, or an earlier estimate); only what
the guess got wrong is left to the flow. Of the matches that several guesses lead to, the one that looks most alike
and lies nearest its epipolar line is kept at each pixel.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from recon3d.priors import flow_kernels
from recon3d.priors.epipolar import Pair
from recon3d.priors.flow_kernels import NOWHERE

SMALLEST = 9  # DIS refuses images with a shorter side
LEAST_VISIBLE = 0.02  # share of the source that must see the target for a flow to be worth its time
MARGIN = 32  # pixels around what is followed that the flow sees too
NOISE = np.float32(2e-5)  # variance of a photo's luminance in 0..1 that is not texture
JOINT = np.empty(0, np.float32)  # tells OpenCV that x and y come in one array
WINDOW = 7  # pixels, side of the patches that are compared
EPIPOLAR_WEIGHT = 0.1  # correlation that one pixel from the epipolar line outweighs


@dataclass
class Matches:
    """The best matches so far: points [H, W, 2] float32 in the target, similarity [H, W] float32 (correlation -1..1
    less a penalty for the distance from the epipolar line)."""

    points: np.ndarray
    similarity: np.ndarray

    @staticmethod
    def none(height: int, width: int) -> Matches:
        """No match anywhere yet."""
        return Matches(np.full((height, width, 2), NOWHERE, np.float32), np.full((height, width), -np.inf, np.float32))


def coarse_flow() -> cv2.DISOpticalFlow:
    """Flow for many guesses: patches only, which takes half the time."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    flow.setGradientDescentIterations(12)
    flow.setVariationalRefinementIterations(0)
    return flow


def fine_flow() -> cv2.DISOpticalFlow:
    """Flow for the last pixels: patches, then variational refinement, at full resolution."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow.setFinestScale(0)
    return flow


def sample(image: np.ndarray, points: np.ndarray, outside: float = 0.0) -> np.ndarray:
    """Bilinear values of ``image`` [H, W] or [H, W, C] at ``points`` [..., 2] in pixels; ``outside`` beyond it."""
    position = (points - np.float32(0.5)).astype(np.float32, copy=False)
    return cv2.remap(image, position, JOINT, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=outside)


@dataclass(frozen=True)
class Texture:
    """A photo [H, W] float32 in 0..1 with mean and variance [H, W] float32 of the window around each pixel."""

    values: np.ndarray
    mean: np.ndarray
    variance: np.ndarray

    @staticmethod
    def of(image: np.ndarray) -> Texture:
        """The texture of an 8-bit image [H, W]."""
        values = image.astype(np.float32) * np.float32(1 / 255)
        mean = _mean(values)
        return Texture(values, mean, np.maximum(_mean(values * values) - mean * mean, 0))

    @property
    def contrast(self) -> np.ndarray:
        """[H, W] float32 in 0..1: share of the variance of the window around each pixel that noise does not explain."""
        return self.variance / (self.variance + NOISE)


def correlation(first: Texture, second: Texture) -> np.ndarray:
    """[H, W] float32 normalised cross-correlation of the windows around each pixel of two images.

    Windows without texture correlate with anything: a little noise is assumed, so that flat windows of the same
    brightness count as alike and of different brightness as unlike only where there is contrast to tell.
    """
    covariance = _mean(first.values * second.values) - first.mean * second.mean
    return (covariance + NOISE) / np.sqrt((first.variance + NOISE) * (second.variance + NOISE))


def _mean(values: np.ndarray) -> np.ndarray:
    return cv2.boxFilter(values, -1, (WINDOW, WINDOW))


def follow_guess(
    pair: Pair,
    source: np.ndarray,
    target: np.ndarray,
    inverse_depth: np.ndarray,
    flow: cv2.DISOpticalFlow,
    wanted: np.ndarray | None = None,
) -> np.ndarray | None:
    """Matches that the flow finds when it starts from a guess.

    Args:
        pair: geometry from source to target.
        source, target: 8-bit images.
        inverse_depth: [H, W] guess of 1 / z-depth in the source.
        flow: the dense flow to use.
        wanted: [H, W] bool, which pixels of the source matter; None for all.

    Returns:
        [H, W, 2] float32 positions in the target, as guessed where that is outside of it or not wanted; None where the
        guess puts next to nothing into the target.
    """
    height, width = target.shape
    guess, visible = flow_kernels.project(pair.infinity, pair.epipole, inverse_depth, width, height)
    followed = visible if wanted is None else visible & wanted
    part = _surrounding(followed)
    if visible.mean() < LEAST_VISIBLE or min(source[part].shape) < SMALLEST:
        return None
    # Where the target shows nothing, the source itself is the target: there the flow rests.
    warped = np.where(visible, sample(target, guess), source)
    moved = np.zeros((*source.shape, 2), np.float32)
    first, second = np.ascontiguousarray(source[part]), np.ascontiguousarray(warped[part])
    moved[part] = flow.calc(first, second, np.zeros((*first.shape, 2), np.float32))
    moved[..., 0] += np.arange(source.shape[1], dtype=np.float32)
    moved[..., 1] += np.arange(source.shape[0], dtype=np.float32)[:, None]
    return cv2.remap(guess, moved, JOINT, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _surrounding(pixels: np.ndarray) -> tuple[slice, slice]:
    """The rectangle around ``pixels`` [H, W] bool, wider by :data:`MARGIN` on every side."""
    rows, columns = (
        slice(max(int(places[0]) - MARGIN, 0), int(places[-1]) + MARGIN + 1) if len(places) else slice(0, 0)
        for places in (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    )
    return rows, columns


@dataclass(frozen=True)
class Triangulated:
    """What matches say about the source, float32 unless said otherwise: inverse_depth [H, W] within the range asked
    for, distance [H, W] of the match from its epipolar line in pixels, foot [H, W, 2] of the perpendicular on it,
    parallax [H, W] pixels per unit of inverse depth, possible [H, W] bool: in front of both cameras, inside the target
    and within the range."""

    inverse_depth: np.ndarray
    distance: np.ndarray
    foot: np.ndarray
    parallax: np.ndarray
    possible: np.ndarray


def triangulate(pair: Pair, matches: np.ndarray, target_size: tuple[int, int], depth_range: np.ndarray) -> Triangulated:
    """Depth from the match [H, W, 2] of each pixel of the source.

    A depth that leaves ``depth_range`` (near, far) by less than a pixel of parallax is brought to its end: far away, a
    pixel's error puts points behind infinity. A pixel whose match moves less than a pixel over the whole range, as at
    the epipole, says nothing about depth and is not possible.
    """
    least, most = float(1 / depth_range[1]), float(1 / depth_range[0])
    return Triangulated(*flow_kernels.triangulate(pair.infinity, pair.epipole, matches, *target_size, least, most))


def keep_better(
    matches: Matches,
    found: np.ndarray,
    triangulated: Triangulated,
    source: Texture,
    target: np.ndarray,
    tolerance: float,
) -> None:
    """Put ``found`` [H, W, 2] into ``matches`` where it is possible, lies within ``tolerance`` pixels of its epipolar
    line, and looks more alike than what is there."""
    distance = np.abs(triangulated.distance)
    alike = correlation(source, Texture.of(sample(target, triangulated.foot)))
    similarity = alike - np.float32(EPIPOLAR_WEIGHT) * distance
    better = triangulated.possible & (distance < tolerance) & (similarity > matches.similarity)
    np.copyto(matches.points, found, where=better[..., None])
    np.copyto(matches.similarity, similarity, where=better)
