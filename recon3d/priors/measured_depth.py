"""Depth that came with the photos."""

from __future__ import annotations

import numpy as np

from datasets.errors import InputError
from recon3d.priors.alignment import fully_trusted
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews


class MeasuredDepth(DepthPrior):
    """The depth of an RGB-D camera's sensor, with confidence 1 where it measured something.

    Inside :class:`~recon3d.priors.fusion.Fusion` confidence is measured instead.

    Args:
        aligned: whether sensor and cameras have one unit; else scale and shift are found from the scene's points and
            from sparse matches.
    """

    def __init__(self, aligned: bool = True) -> None:
        self.aligned = aligned

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
        maps = []
        for view in views.views:
            depth = np.zeros(view.image.shape[:2]) if view.depth is None else view.depth
            maps.append(np.where(np.isfinite(depth) & (depth > 0), depth, np.nan))
        return fully_trusted(maps, views, aligned=self.aligned)
