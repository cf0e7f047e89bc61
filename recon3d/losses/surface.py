"""Rendered depth beside the prior's, for losses that compare them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from recon3d.losses.base import Target
from recon3d.render import Render

Space = Literal["depth", "inverse"]
LEAST_ALPHA = 0.5  # below it the expected depth says little of where the surface is


def check_space(name: str, space: str) -> None:
    """Raise ValueError unless ``space`` is one."""
    if space not in get_args(Space):
        raise ValueError(f"{name}: space is {space!r}, expected one of {', '.join(get_args(Space))}")


def shows_surface(render: Render, target: Target) -> Tensor:
    """[H, W] bool, where the render is more opaque than not and the photo counts."""
    shown = render.alpha[0].detach() > LEAST_ALPHA
    return shown if target.mask is None else shown & target.mask


def surface_depth(render: Render, shown: Tensor, space: Space = "depth") -> Tensor:
    """[H, W] expected z-depth, or its inverse; 1 and without gradient where it is not ``shown``."""
    depth_sum, alpha = (torch.where(shown, values[0], 1) for values in (render.depth_sum, render.alpha))
    return depth_sum / alpha if space == "depth" else alpha / depth_sum


@dataclass(frozen=True)
class Comparison:
    """What the render and the prior say of one view, each [H, W].

    Attributes:
        rendered: z-depth or its inverse, with gradients.
        prior: the same as the prior has it; 1 where ``belief`` is 0.
        belief: the prior's confidence, 0 where it knows nothing, the render shows no surface or the photo does not
            count.
    """

    rendered: Tensor
    prior: Tensor
    belief: Tensor

    @staticmethod
    def of(render: Render, target: Target, space: Space = "depth") -> Comparison:
        """Raises ValueError where the target carries no prior."""
        if target.prior is None:
            raise ValueError("this loss holds the render against a prior's depth, but the target carries none")
        known = shows_surface(render, target) & (target.prior.depth > 0)
        depth = torch.where(known, target.prior.depth, 1)
        return Comparison(
            surface_depth(render, known, space),
            depth if space == "depth" else 1 / depth,
            torch.where(known, target.prior.confidence, 0),
        )

    def in_patches(self, side: int) -> Comparison:
        """[P, side * side] the same in square patches, on a grid whose place is drawn from the global generator.

        Pixels at the borders that fill no patch are left out; where the image is smaller, patches are.
        """
        height, width = self.belief.shape
        side = min(side, height, width)
        first = torch.randint(side, (2,), device=self.belief.device).tolist()
        y, x = (min(offset, size - side) for offset, size in zip(first, (height, width), strict=True))
        rows, columns = (height - y) // side, (width - x) // side

        def cut(values: Tensor) -> Tensor:
            inner = values[y : y + rows * side, x : x + columns * side]
            return inner.reshape(rows, side, columns, side).transpose(1, 2).reshape(rows * columns, side * side)

        return Comparison(cut(self.rendered), cut(self.prior), cut(self.belief))

    def in_one_patch(self) -> Comparison:
        """[1, H * W] the same, with the whole image for a patch."""
        return Comparison(self.rendered.reshape(1, -1), self.prior.reshape(1, -1), self.belief.reshape(1, -1))


def channel_mean(image: Tensor) -> Tensor:
    """[H, W] mean of the three channels of [H, W, 3]: as a product, which is several times as fast as ``mean(-1)``."""
    return image @ image.new_full((3,), 1 / 3)


def weighted_mean(values: Tensor, weight: Tensor) -> Tensor:
    """[P, 1] means of each row of ``values`` [P, K]; 0 where all weights are."""
    return (weight * values).sum(1, keepdim=True) / weight.sum(1, keepdim=True).clamp(min=1e-12)
