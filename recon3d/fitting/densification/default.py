"""Adaptive density control (Kerbl et al., 3D Gaussian Splatting, 2023) with gsplat's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from recon3d.fitting.densification.base import DensificationStrategy, Optimizers, Parameters
from recon3d.fitting.densification.edits import append_copies, cap_opacity, keep, split


@dataclass
class DefaultStrategy(DensificationStrategy):
    """Grow where the screen-space gradient is large, prune what is transparent or huge, reset opacities now and then.

    Args:
        prune_opa: Gaussians less opaque are removed.
        grow_grad2d: mean norm of the screen-space gradient, in half images, above which a Gaussian grows.
        grow_scale3d: largest axis over the scene's scale up to which growing duplicates; above it splits.
        grow_scale2d: extent on the screen, over the image's longer side, above which growing splits.
        prune_scale3d: largest axis over the scene's scale above which a Gaussian is removed, after a reset.
        prune_scale2d: extent on the screen above which a Gaussian is removed, after a reset.
        refine_scale2d_stop_iter: step from which extents on the screen no longer count; 0 never counts them.
        refine_start_iter: growing and pruning begin after this step.
        refine_stop_iter: and end before this one.
        reset_every: opacities are reset to twice ``prune_opa`` at multiples of this.
        refine_every: steps between two rounds.
        absgrad: use absolute gradients (Ye et al., AbsGS, 2024); wants a larger ``grow_grad2d``, about 0.0008.
        revised_opacity: keep a split pair's joint opacity (Rota Bulò et al., 2024).
        cap_max: growing stops at this many Gaussians: those with the largest gradient grow first.
    """

    prune_opa: float = 0.005
    grow_grad2d: float = 0.0002
    grow_scale3d: float = 0.01
    grow_scale2d: float = 0.05
    prune_scale3d: float = 0.1
    prune_scale2d: float = 0.15
    refine_scale2d_stop_iter: int = 0
    refine_start_iter: int = 500
    refine_stop_iter: int = 15_000
    reset_every: int = 3000
    refine_every: int = 100
    absgrad: bool = False
    revised_opacity: bool = False
    cap_max: int = 1_000_000

    def initialize_state(self, scene_scale: float = 1.0) -> dict[str, Any]:
        return {"scene_scale": scene_scale}

    @torch.no_grad()
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
        if step >= self.refine_stop_iter:
            return
        self._observe(params, state, info)
        if step > self.refine_start_iter and step % self.refine_every == 0:
            self._grow(params, optimizers, state, step)
            self._prune(params, optimizers, state, step)
            for name in ("grad2d", "count", "radii"):
                state[name].zero_()
        if step > 0 and step % self.reset_every == 0:
            cap_opacity(params, optimizers, 2 * self.prune_opa)

    def _observe(self, params: Parameters, state: dict[str, Any], info: dict[str, Any]) -> None:
        """Gather gradient norms, in half images, and the largest extent of the Gaussians that were drawn."""
        if "grad2d" not in state:
            for name in ("grad2d", "count", "radii"):
                state[name] = torch.zeros(len(params["means"]), device=params["means"].device)
        gradient = info["means2d"].absgrad if self.absgrad else info["means2d"].grad
        half = gradient.new_tensor([info["width"] / 2, info["height"] / 2]) * info["n_cameras"]
        radii = info["radii"]
        drawn = (radii > 0).all(-1)
        state["grad2d"] += torch.where(drawn, (gradient * half).norm(dim=-1), 0).sum(0)
        state["count"] += drawn.sum(0)
        extent = radii.amax(-1) * drawn / max(info["width"], info["height"])
        torch.maximum(state["radii"], extent.amax(0), out=state["radii"])

    def _grow(self, params: Parameters, optimizers: Optimizers, state: dict[str, Any], step: int) -> None:
        gradient = state["grad2d"] / state["count"].clamp(min=1)
        grows = gradient > self.grow_grad2d
        room = max(self.cap_max - len(grows), 0)
        if int(grows.sum()) > room:
            chosen = torch.topk(gradient, room).indices
            grows = torch.zeros_like(grows).index_fill_(0, chosen, True)
        small = params["scales"].exp().amax(-1) <= self.grow_scale3d * state["scene_scale"]
        splits = ~small
        if step < self.refine_scale2d_stop_iter:
            splits |= state["radii"] > self.grow_scale2d
        copied = (grows & small).nonzero()[:, 0]
        splits &= grows
        append_copies(params, optimizers, state, copied, {})
        split(params, optimizers, state, torch.cat([splits, splits.new_zeros(len(copied))]), self.revised_opacity)

    def _prune(self, params: Parameters, optimizers: Optimizers, state: dict[str, Any], step: int) -> None:
        bad = torch.sigmoid(params["opacities"]) < self.prune_opa
        if step > self.reset_every:
            bad |= params["scales"].exp().amax(-1) > self.prune_scale3d * state["scene_scale"]
            if step < self.refine_scale2d_stop_iter:
                bad |= state["radii"] > self.prune_scale2d
        keep(params, optimizers, state, ~bad)
