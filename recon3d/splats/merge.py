"""Several fits of one scene as one splat."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recon3d.splats.splat import Splat


def merged(splats: Sequence[Splat]) -> Splat:
    """The fields of several splats of one scene as one splat, with the mean of their backgrounds.

    Fits from other seeds agree on what the photos tell and guess the rest differently, so that their mean is nearer to
    the truth than each.

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
    red, green, blue = np.mean([splat.background for splat in splats], axis=0).tolist()
    fields = [field for splat in splats for field in splat.apart]
    return Splat.of_fields(fields, (red, green, blue), first.antialiased, first.scene_to_source)
