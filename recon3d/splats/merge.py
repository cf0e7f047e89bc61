"""Several fits of one scene as one splat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.nn.functional import logsigmoid

from recon3d.gaussians import Gaussians
from recon3d.splats.splat import Splat


def merged(splats: Sequence[Splat]) -> Splat:
    """About the mean of several splats of one scene: their union, each part more transparent.

    Fits from other seeds agree on what the photos tell and guess the rest differently, so that their mean is nearer to
    the truth than each. Light that crosses a surface of all K is to be dimmed as by one: an opacity o becomes
    ``1 - (1 - o)^(1 / K)``. The background is the mean.

    Raises:
        ValueError: for no splats, or where they differ in harmonics, in anti-aliasing or in their world.
    """
    if not splats:
        raise ValueError("there are no splats to merge")
    first = splats[0]
    for other in splats[1:]:
        if other.gaussians.sh_degree != first.gaussians.sh_degree:
            raise ValueError(f"harmonics up to degree {first.gaussians.sh_degree} and {other.gaussians.sh_degree}")
        if other.antialiased != first.antialiased:
            raise ValueError("one was fitted with anti-aliasing and another without")
        if not np.allclose(other.scene_to_source, first.scene_to_source, rtol=1e-5, atol=1e-6):
            raise ValueError("they lie in different worlds (scene_to_source differs)")
    backgrounds = np.mean([splat.background for splat in splats], axis=0).tolist()
    background = (backgrounds[0], backgrounds[1], backgrounds[2])
    union = mean_of([splat.gaussians for splat in splats])
    return Splat(union, background, first.antialiased, first.scene_to_source)


def mean_of(fields: Sequence[Gaussians]) -> Gaussians:
    """The union of K sets of Gaussians with harmonics of one degree, dimmed as :func:`merged` says."""
    parameters = [field.parameters() for field in fields]
    union = {name: torch.cat([one[name] for one in parameters]) for name in parameters[0]}
    # log(1 - sigmoid(x)) is logsigmoid(-x); a K-th of it, and back to a logit, also where opacities are 0 or 1.
    transmittance = logsigmoid(-union["opacities"].double()) / len(fields)
    union["opacities"] = (torch.log(-torch.expm1(transmittance)) - transmittance).to(union["opacities"])
    return Gaussians.from_parameters(union)


def separated(gaussians: Gaussians, field: torch.Tensor) -> list[Gaussians]:
    """Sets of Gaussians that lie in one, by ``field`` [N] int64, whose each is."""
    return [gaussians[field == one] for one in range(int(field.max()) + 1)]
