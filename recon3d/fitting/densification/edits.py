"""Edits of all Gaussians' parameters together with the moments of their optimisers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.nn.functional import normalize

from recon3d.fitting.densification.base import Optimizers, Parameters


def rotation_matrices(quats: Tensor) -> Tensor:
    """[N, 3, 3] rotations of [N, 4] quaternions wxyz of any non-zero length."""
    w, x, y, z = normalize(quats, dim=-1).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


@torch.no_grad()
def replace(
    params: Parameters,
    optimizers: Optimizers,
    edit: Callable[[str, Tensor], Tensor],
    edit_moment: Callable[[Tensor], Tensor],
    names: tuple[str, ...] | None = None,
) -> None:
    """Replace each parameter by ``edit(name, value)`` and its per-Gaussian moments by ``edit_moment(moment)``."""
    for name in names or tuple(params):
        old = params[name]
        new = Parameter(edit(name, old.detach()).contiguous(), requires_grad=old.requires_grad)
        params[name] = new
        optimizer = optimizers[name]
        optimizer.param_groups[0]["params"] = [new]
        moments = optimizer.state.pop(old, None)
        if moments is not None:
            # Adam's "step" is one number for the whole tensor: it stays.
            optimizer.state[new] = {
                key: edit_moment(value) if isinstance(value, Tensor) and value.shape == old.shape else value
                for key, value in moments.items()
            }


def _edit_state(state: dict[str, Any], count: int, edit: Callable[[Tensor], Tensor]) -> None:
    for key, value in state.items():
        if isinstance(value, Tensor) and value.ndim > 0 and len(value) == count:
            state[key] = edit(value)


def append_copies(
    params: Parameters, optimizers: Optimizers, state: dict[str, Any], source: Tensor, changed: dict[str, Tensor]
) -> None:
    """Append copies of Gaussians ``source`` ([M] indices) with zero moments; ``changed`` gives some other values."""
    count = len(params["means"])

    def edit(name: str, value: Tensor) -> Tensor:
        return torch.cat([value, changed.get(name, value[source])])

    def edit_moment(value: Tensor) -> Tensor:
        return torch.cat([value, value.new_zeros(len(source), *value.shape[1:])])

    replace(params, optimizers, edit, edit_moment)
    _edit_state(state, count, lambda value: torch.cat([value, value[source]]))


def keep(params: Parameters, optimizers: Optimizers, state: dict[str, Any], mask: Tensor) -> None:
    """Keep the Gaussians where ``mask`` ([N] bool) is set and drop the others."""
    count = len(params["means"])
    replace(params, optimizers, lambda _, value: value[mask], lambda value: value[mask])
    _edit_state(state, count, lambda value: value[mask])


def split(
    params: Parameters, optimizers: Optimizers, state: dict[str, Any], mask: Tensor, revised_opacity: bool
) -> None:
    """Replace each Gaussian in ``mask`` by two drawn from it, 1.6 times smaller (Kerbl et al., 2023, section 5.2).

    ``revised_opacity`` keeps the opacity of the pair what it was (Rota Bulò et al., Revising Densification, 2024).
    """
    source = mask.nonzero()[:, 0].repeat(2)
    scales = params["scales"].detach()[source]
    offsets = torch.randn(len(source), 3, device=mask.device) * scales.exp()
    rotated = torch.einsum("nij,nj->ni", rotation_matrices(params["quats"].detach()[source]), offsets)
    changed = {
        "means": params["means"].detach()[source] + rotated,
        "scales": scales - math.log(1.6),
    }
    if revised_opacity:
        opacity = torch.sigmoid(params["opacities"].detach()[source])
        changed["opacities"] = torch.logit(1 - torch.sqrt(1 - opacity))
    append_copies(params, optimizers, state, source, changed)
    keep(params, optimizers, state, torch.cat([~mask, mask.new_ones(len(source))]))


def cap_opacity(params: Parameters, optimizers: Optimizers, value: float) -> None:
    """Lower every opacity to at most ``value`` and forget the moments of the opacities."""
    limit = float(torch.logit(torch.tensor(value)))
    replace(params, optimizers, lambda _, logits: logits.clamp(max=limit), torch.zeros_like, names=("opacities",))
