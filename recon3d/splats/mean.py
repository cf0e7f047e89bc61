"""About the mean of several sets of Gaussians as one set, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from recon3d.gaussians import Gaussians


def mean_of(fields: Sequence[Gaussians]) -> Gaussians:
    """The union of K sets of Gaussians with harmonics of one degree, each Gaussian more transparent.

    Light that crosses a surface of all K is to be dimmed as by one: an opacity o becomes ``1 - (1 - o)^(1 / K)``.
    """
    parameters = [field.parameters() for field in fields]
    union = {name: torch.cat([one[name] for one in parameters]) for name in parameters[0]}
    union["opacities"] = _with_transmittance_to(union["opacities"], 1 / len(fields))
    return Gaussians.from_parameters(union)


def apart(gaussians: Gaussians, counts: Sequence[int]) -> tuple[Gaussians, ...]:
    """The sets that :func:`mean_of` joined, with their own opacities; ``counts`` says how many Gaussians each has."""
    own = replace(gaussians, opacities=_with_transmittance_to(gaussians.opacities, len(counts)))
    parts = {name: values.split(list(counts)) for name, values in own.parameters().items()}
    return tuple(Gaussians.from_parameters({name: parts[name][i] for name in parts}) for i in range(len(counts)))


def separated(gaussians: Gaussians, field: Tensor) -> list[Gaussians]:
    """Sets of Gaussians that lie in one, by ``field`` [N] int64, whose each is."""
    return [gaussians[field == one] for one in range(int(field.max()) + 1)]


def _with_transmittance_to(opacities: Tensor, power: float) -> Tensor:
    """Logits [N] of opacities that let through the ``power`` of what those of ``opacities`` do."""
    # log(1 - sigmoid(x)) is logsigmoid(-x); back to a logit, also where opacities are 0 or 1.
    transmittance = logsigmoid(-opacities.double()) * power
    return (torch.log(-torch.expm1(transmittance)) - transmittance).to(opacities)
