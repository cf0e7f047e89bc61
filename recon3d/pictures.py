"""Pictures of splats: what a camera sees, colour maps of depth and error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from datasets.types import Cameras
from recon3d.render import render
from recon3d.splats.splat import Splat

ERROR_AT_FULL_COLOUR = 0.3  # mean absolute error of the three channels


def depth_range(depths: Iterable[np.ndarray]) -> tuple[float, float]:
    """Near and far depth that show nearly all of ``depths`` (0 is unknown): percentiles 1 and 99, slightly widened."""
    seen = np.concatenate([depth[depth > 0].ravel() for depth in depths] or [np.empty(0)])
    if len(seen) == 0:
        return 1.0, 2.0
    near, far = np.percentile(seen, [1, 99])
    return float(near * 0.97), float(far * 1.03)


def colour_depth(depth: np.ndarray, near: float, far: float) -> np.ndarray:
    """Depth [H, W] as colours, uint8 [H, W, 3]: from red (near) to blue (far), even in 1/depth; black where it is 0."""
    known = depth > 0
    inverse = 1 / np.where(known, depth, 1)
    share = (inverse - 1 / far) / (1 / near - 1 / far)
    coloured = cv2.applyColorMap(np.rint(np.clip(share, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_TURBO)
    return np.where(known[..., None], coloured[..., ::-1], 0).astype(np.uint8)


def colour_error(image: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean absolute error of the channels of two images [H, W, 3] in 0..1 as colours, uint8 [H, W, 3].

    Black is none, pale yellow :data:`ERROR_AT_FULL_COLOUR` or more.
    """
    return heat(np.abs(image - target).mean(axis=-1))


def heat(error: np.ndarray) -> np.ndarray:
    """Mean absolute error [H, W], measured or predicted, in the colours of :func:`colour_error`."""
    share = np.rint(np.clip(error / ERROR_AT_FULL_COLOUR, 0, 1) * 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(share, cv2.COLORMAP_INFERNO)[..., ::-1])


@dataclass(frozen=True)
class Picture:
    """What one camera sees of a splat.

    Attributes:
        colour: [H, W, 3] in 0..1 on the device of the Gaussians.
        depth: [H, W] float32 z-depth, 0 where less than half of the light comes from the Gaussians.
        alpha: [H, W] in 0..1, on the device.
        features: [H, W, E] further channels composited on zero, on the device, or None.
    """

    colour: Tensor
    depth: np.ndarray
    alpha: Tensor
    features: Tensor | None = None


@torch.no_grad()
def draw(splat: Splat, camera: Cameras, features: Tensor | None = None) -> Picture:
    """Render one camera (a batch of one) for people to look at: clamped colour, and depth where there is something.

    Of several fields it is the mean of their pictures, and their depth weighted by how opaque they are.

    Args:
        splat: on the device to render on.
        camera: where to look from.
        features: [N, E] further channels of the Gaussians.
    """
    device = splat.gaussians.means.device
    camera, fields = camera.to(device=device, dtype=torch.float32), splat.apart
    channels = (None,) * len(fields) if features is None else features.split([len(field) for field in fields])
    background = torch.tensor(splat.background, dtype=torch.float32, device=device)
    seen = [
        render(field, camera, background=background, features=channel, antialiased=splat.antialiased)
        for field, channel in zip(fields, channels, strict=True)
    ]
    colour, alpha = _mean([one.colour[0] for one in seen]), _mean([one.alpha[0] for one in seen])
    depth = _mean([one.depth[0] * one.alpha[0] for one in seen]) / alpha.clamp(min=1e-6)
    known = torch.where(alpha > 0.5, depth, 0).float().cpu().numpy()
    further = None if features is None else _mean([one.features[0] for one in seen if one.features is not None])
    return Picture(colour.clamp(0, 1), known, alpha, further)


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean(dim=0)
