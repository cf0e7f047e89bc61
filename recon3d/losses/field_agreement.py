"""Fields that were fitted side by side have to agree where no photo was taken."""

from __future__ import annotations

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.losses.elsewhere import camera_between
from recon3d.losses.photometric import Photometric
from recon3d.losses.surface import shows_surface
from recon3d.render import Render


class FieldAgreement(Loss):
    """Difference between what two fields show from a place between train cameras (Zhang et al., CoR-GS, 2024).

    The other field's picture is taken as given: each field is drawn to the other in its own turn. Of more than two
    fields each is held against the next.

    Args:
        ssim: share of the structural term, 0 to 1.
        weight: factor of this term.

    Raises:
        ValueError: for arguments out of range; when asked, for a target without a step, or with a single field.
        InputError: when asked, where there is only one camera.
    """

    uses_fields = True

    def __init__(self, ssim: float = 0.2, weight: float = 1.0) -> None:
        super().__init__(weight)
        self.photometric = Photometric(ssim)

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        step = target.required_step
        if not step.others:
            raise ValueError("FieldAgreement compares fields, but there is only one: model.fields is 1")
        seen = render.depth[0].detach()[shows_surface(render, target)]
        if not len(seen):
            return render.alpha.new_zeros(())
        camera = camera_between(step, float(seen.median()))
        with torch.no_grad():
            theirs = step.others[0](camera).colour[0]
        return self.photometric.value(step.look(camera), Target(theirs), gaussians)
