"""Densification as sampling (Kheradmand et al., 3D Gaussian Splatting as Markov Chain Monte Carlo, 2024)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recon3d.fitting.densification.base import DensificationStrategy, Optimizers, Parameters
from recon3d.fitting.densification.edits import append_copies, replace, rotation_matrices

MAX_COPIES = 51


def relocated(opacities: Tensor, scales: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Opacity and scales with which ``copies`` equal Gaussians in one place look like the one they replace (eq. 9).

    Args:
        opacities: [M] in 0..1, of the one.
        scales: [M, 3] standard deviations of the one.
        copies: [M] number of Gaussians afterwards, at least 1; more than 51 count as 51.

    Returns:
        opacities [M] and scales [M, 3] of each of the copies.
    """
    # The paper's double sum over i and k, with the binomials over i added up: sum_{i > k} C(i-1, k) = C(n, k+1).
    # In double precision, as the terms alternate and cancel.
    table = torch.zeros(MAX_COPIES + 1, MAX_COPIES, dtype=torch.float64)
    for n in range(1, MAX_COPIES + 1):
        for k in range(n):
            table[n, k] = (-1) ** k * math.comb(n, k + 1) / math.sqrt(k + 1)
    copies = copies.clamp(1, MAX_COPIES)
    opacity = opacities.double()
    new_opacity = 1 - (1 - opacity) ** (1 / copies)
    powers = new_opacity[:, None] ** torch.arange(1, MAX_COPIES + 1, device=opacity.device)
    denominator = (table.to(opacity.device)[copies] * powers).sum(1)
    new_scales = scales * (opacity / denominator).to(scales.dtype)[:, None]
    return new_opacity.to(opacities.dtype), new_scales


@dataclass
class MCMCStrategy(DensificationStrategy):
    """Move faded Gaussians onto opaque ones, add a few, and jitter all positions.

    Args:
        cap_max: Gaussians are added up to this many.
        noise_lr: strength of the jitter, times the means' learning rate.
        refine_start_iter: relocation and growth begin after this step.
        refine_stop_iter: and end before this one; the jitter goes on.
        refine_every: steps between two rounds.
        min_opacity: Gaussians at most this opaque are moved.
        growth: share by which a round adds Gaussians.
    """

    cap_max: int = 1_000_000
    noise_lr: float = 5e5
    refine_start_iter: int = 500
    refine_stop_iter: int = 25_000
    refine_every: int = 100
    min_opacity: float = 0.005
    growth: float = 0.05

    def initialize_state(self, scene_scale: float = 1.0) -> dict[str, Any]:
        return {}

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
        if self.refine_start_iter < step < self.refine_stop_iter and step % self.refine_every == 0:
            self._relocate(params, optimizers)
            self._add(params, optimizers, state)
        self._jitter(params, lr * self.noise_lr)

    def _share(self, params: Parameters, chosen: Tensor) -> dict[str, Tensor]:
        """Raw opacities and scales of the Gaussians ``chosen`` ([M] indices), each to be shared with its new copies."""
        copies = torch.bincount(chosen, minlength=len(params["means"]))[chosen] + 1
        opacity, scales = relocated(torch.sigmoid(params["opacities"][chosen]), params["scales"][chosen].exp(), copies)
        opacity = opacity.clamp(self.min_opacity, 1 - torch.finfo(opacity.dtype).eps)
        return {"opacities": torch.logit(opacity), "scales": scales.log()}

    def _relocate(self, params: Parameters, optimizers: Optimizers) -> None:
        opacities = torch.sigmoid(params["opacities"])
        dead = (opacities <= self.min_opacity).nonzero()[:, 0]
        alive = (opacities > self.min_opacity).nonzero()[:, 0]
        if len(dead) == 0 or len(alive) == 0:
            return
        chosen = alive[torch.multinomial(opacities[alive], len(dead), replacement=True)]
        shared = self._share(params, chosen)

        def edit(name: str, value: Tensor) -> Tensor:
            value = value.clone()
            if name in shared:
                value[chosen] = shared[name]
            value[dead] = value[chosen]
            return value

        def edit_moment(value: Tensor) -> Tensor:
            value = value.clone()
            value[chosen] = 0
            value[dead] = 0
            return value

        replace(params, optimizers, edit, edit_moment)

    def _add(self, params: Parameters, optimizers: Optimizers, state: dict[str, Any]) -> None:
        count = len(params["means"])
        extra = min(self.cap_max, int((1 + self.growth) * count)) - count
        if extra <= 0:
            return
        chosen = torch.multinomial(torch.sigmoid(params["opacities"]), extra, replacement=True)
        shared = self._share(params, chosen)

        def edit(name: str, value: Tensor) -> Tensor:
            value = value.clone()
            value[chosen] = shared[name]
            return value

        # gsplat keeps the moments of the Gaussians that are shared here, and so do we.
        replace(params, optimizers, edit, lambda moment: moment, names=("opacities", "scales"))
        append_copies(params, optimizers, state, chosen, {})

    @staticmethod
    def _jitter(params: Parameters, strength: float) -> None:
        """Add noise shaped by each Gaussian's covariance, fading out as it turns opaque (eq. 8)."""
        rotation = rotation_matrices(params["quats"])
        axes = rotation * params["scales"].exp()[:, None, :]
        fade = torch.sigmoid(-100 * (torch.sigmoid(params["opacities"]) - 0.005))
        noise = torch.randn_like(params["means"]) * (fade * strength)[:, None]
        params["means"].add_(torch.einsum("nij,nkj,nk->ni", axes, axes, noise))
