"""Views that nobody photographed have to agree with the photos next to them."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from datasets.types import Cameras
from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.losses.elsewhere import camera_between
from recon3d.losses.surface import LEAST_ALPHA, channel_mean, shows_surface, surface_depth
from recon3d.losses.warping import sample, warp, within
from recon3d.render import Render

Place = Literal["beside", "between"]


class WarpedView(Loss):
    """Difference between the photo and a render from elsewhere, brought back by the rendered depth.

    Self-supervision by warping (Han et al., Binocular3DGS, 2024): the pixels of the photo go to a second camera by the
    depth rendered for them, and the colour rendered there has to be theirs. Pixels whose place is hidden there by
    something nearer, or lies outside, do not count. Gradients reach both the second picture and the depth.

    Asking costs a second render: see :class:`recon3d.losses.Scheduled` for asking in some steps only.

    Args:
        place: of the second camera. "beside" moves the photo's sideways as in the source; "between" takes one on the
            way to another train camera, drawn at random.
        pixels: beside, the largest shift in the image at the scene's median depth; it is drawn evenly to both sides.
        tolerance: relative depth by which something has to be nearer to hide a pixel.
        weight: factor of this term.

    Raises:
        ValueError: for arguments out of range; when asked, for a target without a step.
        InputError: when asked for a place between cameras where there is only one.
    """

    def __init__(
        self, place: Place = "beside", pixels: float = 16.0, tolerance: float = 0.02, weight: float = 0.3
    ) -> None:
        super().__init__(weight)
        if place not in get_args(Place):
            raise ValueError(f"WarpedView: place is {place!r}, expected one of {', '.join(get_args(Place))}")
        if not 0 < pixels < float("inf"):
            raise ValueError(f"WarpedView: pixels is {pixels}, expected a positive number")
        if not 0 < tolerance < 1:
            raise ValueError(f"WarpedView: tolerance is {tolerance}, expected more than 0 and less than 1")
        self.place, self.pixels, self.tolerance = place, pixels, tolerance

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        step = target.required_step
        shown = shows_surface(render, target)
        few = render.depth[0].detach()[::8, ::8][shown[::8, ::8]]
        if not len(few):
            return render.alpha.new_zeros(())
        if self.place == "beside":
            other = self._beside(step.camera, float(few.median()))
        else:
            other = camera_between(step, float(few.median()))
        look = step.look(other)
        pixels, depth = warp(surface_depth(render, shown), step.camera, other)
        there = sample(torch.stack([look.depth[0].detach(), look.alpha[0].detach()], dim=-1), pixels.detach())
        hidden = there[..., 0] < (1 - self.tolerance) * depth.detach()
        counts = shown & (depth.detach() > 0) & within(pixels, other) & (there[..., 1] > LEAST_ALPHA) & ~hidden
        error = channel_mean((sample(look.colour[0], pixels) - target.image).abs())
        return torch.where(counts, error, 0).sum() / counts.numel()

    def _beside(self, camera: Cameras, depth: float) -> Cameras:
        """``camera`` moved sideways so that what lies at ``depth`` moves by up to ``pixels``."""
        shift = (2 * float(torch.rand((), device=camera.intrinsics.device)) - 1) * self.pixels
        pose = camera.world_to_camera.clone()
        pose[0, 0, 3] += shift * depth / camera.intrinsics[0, 0, 0]
        return Cameras(pose, camera.intrinsics, camera.sizes)
