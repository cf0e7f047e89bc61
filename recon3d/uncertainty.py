"""Where a splat is guessed: how far its surfaces could lie elsewhere without the train photos telling.

A photo that shows a Gaussian fixes it across the line of sight, to about a pixel, and says nothing along it; photos
from other sides do. Adding up what all train photos tell gives the covariance of every Gaussian's place (a Gauss-Newton
approximation as in Goli et al., Bayes' Rays, 2024, and Jiang et al., FisherRF, 2024, reduced to places, which needs
one gradient per photo and no fit). Seen from a new camera this is a displacement in pixels: small beside the train
cameras and where many photos agree, large for what one photo saw from another side, or none.

A displaced surface is wrong by the change of colour over that way, so the predicted error of a pixel grows with the
displacement and with the contrast of the render around it. What could lie anywhere may have any colour of the scene:
its error is that of a guess. The constants below were chosen once over real scenes (LLFF, Strecha, a phone's photos,
NeRF's Lego, an RGB-D camera's room) and hold for any; the report of a run shows how well they fit it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datasets.types import Cameras, Scene, expect_shape
from recon3d.pictures import Picture, draw
from recon3d.priors.luminance import contrast
from recon3d.render import render
from recon3d.splats import Splat

SEEN_TO = 1.0  # pixels: what a photo leaves open of a place across its line of sight
KNOWN_TO = 0.1  # of the distance: what is taken for known about a place beforehand
WORST = 20.0  # pixels: whoever is off by more is not more wrong for it
FLAT = 0.03  # contrast (per pixel) that counts even where the render has none
ERROR = 0.6  # mean absolute error per contrast and square root of pixels
ANYWHERE = 8  # power of the displacement, as a share of the worst, with which an error becomes that of a guess
GUESS = 0.9  # error of a guess, as a share of what photos deviate from their mean colour
ANY_COLOUR = 0.25  # what colours deviate where all are as likely
COLOURS_OF_A_PHOTO = 50_000  # are looked at
LEAST_SEEN = 0.05  # pixels of a photo below which it does not count as showing a Gaussian


@dataclass(frozen=True)
class Prediction:
    """What one camera sees, and how wrong it may be.

    Attributes:
        picture: colour and depth.
        error: [H, W] float32 predicted mean absolute error of the colour.
        displacement: [H, W] float32 root of the displacement in pixels (0 to sqrt(20)), composited like a colour.
    """

    picture: Picture
    error: np.ndarray
    displacement: np.ndarray


@dataclass(frozen=True)
class Sight:
    """Lines of sight from one camera to N places.

    Attributes:
        toward: [N, 3] float64 unit vectors from the camera.
        distance: [N] float64 from the camera, world units.
        scale: [N] float64 pixels per world unit there.
    """

    toward: Tensor
    distance: Tensor
    scale: Tensor

    @property
    def across(self) -> Tensor:
        """[N, 3, 3] projectors onto the plane square to the line of sight."""
        eye = torch.eye(3, dtype=torch.float64, device=self.toward.device)
        return eye - self.toward[:, :, None] * self.toward[:, None, :]


def sight(means: Tensor, camera: Cameras) -> Sight:
    """Lines of sight from ``camera`` (a batch of one) to ``means`` [N, 3]."""
    pose = camera.world_to_camera[0].detach().to(means.device, torch.float64)
    fx, fy = camera.intrinsics[0].detach().double().diagonal()[:2].tolist()
    offset = means.detach().double() + pose[:3, :3].T @ pose[:3, 3]
    distance = offset.norm(dim=1).clamp(min=1e-9)
    return Sight(offset / distance[:, None], distance, math.sqrt(fx * fy) / distance)


def contributions(splat: Splat, camera: Cameras) -> Tensor:
    """[N] float64 what each Gaussian contributes to the picture of ``camera`` (a batch of one), summed over pixels."""
    gaussians = splat.gaussians.detach()
    with torch.enable_grad():
        channel = gaussians.means.new_ones(len(gaussians), 1).requires_grad_()
        camera = camera.to(device=gaussians.means.device, dtype=torch.float32)
        drawn = render(gaussians, camera, features=channel, antialiased=splat.antialiased).features
        assert drawn is not None
        (gradient,) = torch.autograd.grad(drawn.sum(), channel)
    return gradient[:, 0].double()


def told_by(splat: Splat, camera: Cameras) -> Tensor:
    """[N, 3, 3] float64 what a photo taken by ``camera`` tells of each place: an inverse covariance, world units^-2."""
    seen = sight(splat.gaussians.means, camera)
    share = visible_share(splat, seen, contributions(splat, camera))
    return (share * (seen.scale / SEEN_TO) ** 2)[:, None, None] * seen.across


def told_by_all(splat: Splat, cameras: Cameras) -> Tensor:
    """[N, 3, 3] the sum of :func:`told_by` over ``cameras``: what the train photos tell."""
    total = torch.zeros(len(splat), 3, 3, dtype=torch.float64, device=splat.gaussians.means.device)
    for i in range(len(cameras)):
        total += told_by(splat, cameras[i])
    return total


def visible_share(splat: Splat, seen: Sight, contributed: Tensor) -> Tensor:
    """[N] float64 how much of each Gaussian is neither hidden from a camera nor outside its image, 0 to 1.

    Args:
        splat: on the device to compute on.
        seen: the camera's lines of sight to the means.
        contributed: [N] see :func:`contributions`, of the same camera.
    """
    gaussians = splat.gaussians.detach()
    extents = gaussians.scales.double().exp().sort(dim=1).values
    area = 2 * math.pi * (extents[:, 1] * extents[:, 2] * seen.scale**2 + 0.3)
    unhidden = area * torch.sigmoid(gaussians.opacities.double())
    return torch.where(contributed > LEAST_SEEN, (contributed / unhidden.clamp(min=1e-12)).clamp(max=1), 0)


def root_displacement(seen: Sight, told: Tensor) -> Tensor:
    """[N] float64 square root of the standard deviation of each place on the screen, in pixels, at most WORST.

    Args:
        seen: the camera that looks.
        told: [N, 3, 3] what photos tell, see :func:`told_by_all`.
    """
    expect_shape("told", told, (len(seen.scale), 3, 3))
    beforehand = (KNOWN_TO * seen.distance) ** -2
    covariance = torch.linalg.inv(told + beforehand[:, None, None] * torch.eye(3, dtype=told.dtype, device=told.device))
    variance = (covariance * seen.across).sum((1, 2)) * seen.scale**2
    return variance.clamp(0, WORST**2) ** 0.25


@dataclass(frozen=True)
class Evidence:
    """What the train photos tell of a splat.

    Attributes:
        told: [N, 3, 3] float64 of each Gaussian's place, see :func:`told_by_all`.
        guess: mean absolute error of a colour that nothing is known of.
        known_background: where the splat ends, its background is the truth (as for objects on white), not a guess.
    """

    told: Tensor
    guess: float = ANY_COLOUR
    known_background: bool = False

    @classmethod
    def of(cls, splat: Splat, scene: Scene) -> Evidence:
        """What the train photos of ``scene`` tell of ``splat``, on whose device it is computed.

        Raises:
            SceneError: for a photo that cannot be used.
        """
        train = list(scene.train)
        guess = error_of_a_guess(scene.photos[i].load().colours for i in train)
        return cls(told_by_all(splat, scene.cameras[train]), guess, scene.background is not None)


def error_of_a_guess(photos: Iterable[np.ndarray]) -> float:
    """Mean absolute error of a colour of the scene that nothing is known of.

    Args:
        photos: colours [N, 3] in 0..1 of each; of many, some, evenly spread.
    """
    some = [colours[:: 1 + len(colours) // COLOURS_OF_A_PHOTO] for colours in photos]
    colours = np.concatenate(some).astype(np.float64)
    return GUESS * float(np.abs(colours - colours.mean(axis=0)).mean()) if len(colours) else ANY_COLOUR


@torch.no_grad()
def predict(splat: Splat, camera: Cameras, evidence: Evidence) -> Prediction:
    """What ``camera`` (a batch of one) sees of ``splat``, and how wrong it may be.

    Args:
        splat: on the device to render on.
        camera: where to look from.
        evidence: what the train photos tell of it.

    Raises:
        ValueError: for shapes that disagree.
    """
    features = root_displacement(sight(splat.gaussians.means, camera), evidence.told).float()[:, None]
    picture = draw(splat, camera, features)
    assert picture.features is not None
    displacement = picture.features[..., 0]
    if not evidence.known_background:
        displacement = displacement + (1 - picture.alpha) * math.sqrt(WORST)
    root = displacement.cpu().numpy()
    moved = ERROR * root * (contrast(picture.colour.cpu().numpy(), smooth=1, around=3) + FLAT)
    anywhere = np.minimum(root / math.sqrt(WORST), 1) ** ANYWHERE
    return Prediction(picture, moved * (1 - anywhere) + evidence.guess * anywhere, root)
