"""Depth that came with the photos."""

from __future__ import annotations

import numpy as np

from datasets.errors import InputError
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews


class MeasuredDepth(DepthPrior):
    """The depth of an RGB-D camera's sensor, fully trusted where it measured something."""

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """Depth of each view.

        Raises:
            InputError: where no train view has measured depth.
        """
        if all(view.depth is None for view in views.views):
            raise InputError(
                "model.initialiser.prior is MeasuredDepth, but no train view of this scene has measured depth: "
                "choose recon3d.priors.epipolar_flow.EpipolarFlow"
            )
        estimates = []
        for view in views.views:
            depth = np.zeros(view.image.shape[:2], np.float32) if view.depth is None else view.depth.astype(np.float32)
            depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))
            estimates.append(DepthEstimate(depth, (depth > 0).astype(np.float32)))
        return estimates
