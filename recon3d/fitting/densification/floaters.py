"""Removing what hovers before the surfaces (after Xiong et al., SparseGS, 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from datasets.geometry import inside, project
from datasets.types import Cameras
from recon3d.fitting.densification.base import DensificationStrategy, Optimizers, Parameters, edit_gaussians
from recon3d.fitting.densification.edits import keep
from recon3d.fitting.densification.rounds import Rounds
from recon3d.gaussians import Gaussians
from recon3d.render import render

LEAST_ALPHA = 0.5
LEAST_SEEN = 0.05  # pixels of a view below which it does not count as showing a Gaussian


class FloaterRemoval(DensificationStrategy):
    """Removes Gaussians that hover before a surface in some train view, now and then.

    Rays that hit one surface have their weight at one depth; those through a floater spread it over two. A Gaussian is
    removed if most of what it contributes to a view goes into rays that spread, and if it is nearer than their mean.
    The source compares the mean depth of a ray with its mode; the standard deviation needs no other kernel.

    Args:
        every: steps between two rounds, each of which costs about two steps for each train view.
        begin, end: steps between which rounds take place, ``end`` excluded; None goes on to the end.
        spread: standard deviation of a ray's depth, relative to its mean, above which it is taken for spread.
        front: relative depth by which a floater is nearer than the mean of its ray.
        other: a strategy that adds and removes for other reasons, asked first.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        every: int = 200,
        begin: int = 200,
        end: int | None = None,
        spread: float = 0.1,
        front: float = 0.1,
        other: DensificationStrategy | None = None,
    ) -> None:
        self.rounds = Rounds("FloaterRemoval", every, begin, end)
        if not (0 < spread < 1 and 0 < front < 1):
            raise ValueError(f"FloaterRemoval: spread is {spread} and front {front}, expected more than 0, less than 1")
        self.spread, self.front, self.other = spread, front, other
        self.absgrad = getattr(other, "absgrad", False)

    def initialize_state(self, scene_scale: float = 1.0) -> dict[str, Any]:
        return {} if self.other is None else self.other.initialize_state(scene_scale)

    def step_pre_backward(
        self, params: Parameters, optimizers: Optimizers, state: dict[str, Any], step: int, info: dict[str, Any]
    ) -> None:
        if self.other is not None:
            self.other.step_pre_backward(params, optimizers, state, step, info)

    def step_post_backward(
        self,
        params: Parameters,
        optimizers: Optimizers,
        state: dict[str, Any],
        step: int,
        info: dict[str, Any],
        *,
        lr: float,
    ) -> None:
        if self.other is not None:
            edit_gaussians(self.other, params, optimizers, state, step, info, lr)
        if not self.rounds.due(step):
            return
        gaussians = Gaussians.from_parameters(dict(params.items())).detach()
        cameras: Cameras = info["cameras"]
        floats = torch.zeros(len(gaussians), dtype=torch.bool, device=gaussians.means.device)
        for i in range(len(cameras)):
            floats |= floaters(gaussians, cameras[i], self.spread, self.front)
        if bool(floats.any()) and not bool(floats.all()):
            keep(params, optimizers, state, ~floats)


def floaters(gaussians: Gaussians, camera: Cameras, spread: float, front: float) -> Tensor:
    """[N] bool: seen by ``camera`` (a batch of one), which Gaussians float; see :class:`FloaterRemoval`."""
    pixels, depth = (values[0] for values in project(gaussians.means, camera))
    with torch.enable_grad():
        unit = torch.ones(len(gaussians), 2, device=depth.device, requires_grad=True)
        drawn = render(gaussians, camera, features=torch.cat([depth[:, None] ** 2, unit], dim=1))
        assert drawn.features is not None
        mean = drawn.depth[0].detach()
        variance = drawn.features[0, ..., 0].detach() / drawn.alpha[0].detach().clamp(min=1e-10) - mean**2
        spreads = (drawn.alpha[0].detach() > LEAST_ALPHA) & (variance > (spread * mean) ** 2)
        total = (drawn.features[0, ..., 1] * spreads).sum() + drawn.features[0, ..., 2].sum()
        into_spread, everywhere = torch.autograd.grad(total, unit)[0].unbind(1)
    seen = inside(pixels[None], depth[None], camera)[0] & (everywhere > LEAST_SEEN)
    x, y = torch.where(seen[:, None], pixels, 0).long().unbind(1)
    return seen & (into_spread > 0.5 * everywhere) & (depth < (1 - front) * mean[y, x])
