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

from recon3d.priors.epipolar import TINY, Pair

NOWHERE = -1e6  # coordinate of a match that does not exist
SMALLEST = 9  # DIS refuses images with a shorter side
LEAST_VISIBLE = 0.02  # share of the source that must see the target for a flow to be worth its time
NOISE = np.float32(2e-5)  # variance of a photo's luminance in 0..1 that is not texture
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
    position = (points - 0.5).astype(np.float32)
    return cv2.remap(
        image, position[..., 0], position[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=outside
    )


def correlation(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """[H, W] float32 normalised cross-correlation of the windows around each pixel of two 8-bit images.

    Windows without texture correlate with anything: a little noise is assumed, so that flat windows of the same
    brightness count as alike and of different brightness as unlike only where there is contrast to tell.
    """
    a, b = first.astype(np.float32) / 255, second.astype(np.float32) / 255
    (mean_a, variance_a), (mean_b, variance_b) = _moments(a), _moments(b)
    covariance = _mean(a * b) - mean_a * mean_b
    return (covariance + NOISE) / np.sqrt((variance_a + NOISE) * (variance_b + NOISE))


def contrast(image: np.ndarray) -> np.ndarray:
    """[H, W] float32 in 0..1: share of the variance of the window around each pixel that noise does not explain."""
    variance = _moments(image.astype(np.float32) / 255)[1]
    return variance / (variance + NOISE)


def _mean(values: np.ndarray) -> np.ndarray:
    return cv2.boxFilter(values, -1, (WINDOW, WINDOW))


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the window around each pixel."""
    mean = _mean(values)
    return mean, np.maximum(_mean(values * values) - mean**2, 0)


def follow_guess(
    pair: Pair,
    far: np.ndarray,
    source: np.ndarray,
    target: np.ndarray,
    inverse_depth: np.ndarray,
    flow: cv2.DISOpticalFlow,
) -> np.ndarray | None:
    """Matches that the flow finds when it starts from a guess.

    Args:
        pair: geometry from source to target.
        far: [H, W, 3] the source's pixels, see :meth:`Pair.far_points`.
        source, target: 8-bit images.
        inverse_depth: [H, W] guess of 1 / z-depth in the source.
        flow: the dense flow to use.

    Returns:
        [H, W, 2] float32 positions in the target, or None where the guess puts next to nothing into the target.
    """
    guess, ratio = pair.project(far, inverse_depth)
    guess = np.where((ratio > 0)[..., None], guess, NOWHERE).astype(np.float32)
    height, width = target.shape
    visible = ((guess > 0) & (guess < [width, height])).all(axis=-1)
    if visible.mean() < LEAST_VISIBLE or min(source.shape) < SMALLEST:
        return None
    # Where the target shows nothing, the source itself is the target: there the flow rests.
    warped = np.where(visible, sample(target, guess), source)
    x, y = np.meshgrid(np.arange(source.shape[1], dtype=np.float32), np.arange(source.shape[0], dtype=np.float32))
    moved = flow.calc(source, warped, np.zeros((*source.shape, 2), np.float32))
    return cv2.remap(guess, x + moved[..., 0], y + moved[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@dataclass(frozen=True)
class Triangulated:
    """What matches say about the source: inverse_depth [H, W] within the range asked for, distance [H, W] of the
    match from its epipolar line in pixels, foot [H, W, 2] of the perpendicular on it, parallax [H, W] pixels per unit
    of inverse depth, possible [H, W] bool: in front of both cameras, inside the target and within the range."""

    inverse_depth: np.ndarray
    distance: np.ndarray
    foot: np.ndarray
    parallax: np.ndarray
    possible: np.ndarray


def triangulate(
    pair: Pair, far: np.ndarray, matches: np.ndarray, target_size: tuple[int, int], depth_range: np.ndarray
) -> Triangulated:
    """Depth from matches [H, W, 2] of the source pixels ``far`` [H, W, 3] (see :meth:`Pair.far_points`).

    A depth that leaves ``depth_range`` (near, far) by less than a pixel of parallax is brought to its end: far away, a
    pixel's error puts points behind infinity. A pixel whose match moves less than a pixel over the whole range, as at
    the epipole, says nothing about depth and is not possible.
    """
    foot, distance = pair.epipolar_foot(far, matches)
    least, most = 1 / depth_range[1], 1 / depth_range[0]
    raw = np.nan_to_num(pair.inverse_depth(far, foot), nan=-np.inf)
    inverse_depth = np.clip(raw, least, most)
    _, ratio = pair.project(far, inverse_depth)
    parallax = pair.parallax(far, inverse_depth)
    pixel = 1 / np.maximum(parallax, TINY)
    possible = (raw > least - pixel) & (raw < most + pixel) & (pixel < most - least) & (ratio > 0)
    possible &= np.isfinite(distance) & ((matches > 0) & (matches < target_size)).all(axis=-1)
    return Triangulated(inverse_depth, distance, foot, parallax, possible)


def keep_better(
    matches: Matches,
    found: np.ndarray,
    triangulated: Triangulated,
    source: np.ndarray,
    target: np.ndarray,
    tolerance: float,
) -> None:
    """Put ``found`` [H, W, 2] into ``matches`` where it is possible, lies within ``tolerance`` pixels of its epipolar
    line, and looks more alike than what is there."""
    distance = np.abs(triangulated.distance)
    similarity = correlation(source, sample(target, triangulated.foot)) - EPIPOLAR_WEIGHT * distance
    better = triangulated.possible & (distance < tolerance) & (similarity > matches.similarity)
    matches.points[better] = found[better]
    matches.similarity[better] = similarity[better]
