"""The calling convention of gsplat's strategies, which ours share, so that a configuration can name either kind."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import MutableMapping
from typing import Any

from torch import Tensor
from torch.nn import Parameter, ParameterDict
from torch.optim import Optimizer

Parameters = dict[str, Parameter] | ParameterDict
Optimizers = MutableMapping[str, Optimizer]


class DensificationStrategy(ABC):
    """Edits Gaussians and the moments of their optimisers between steps.

    Any class with these methods counts as a subclass, so gsplat's own strategies are accepted where it is installed.
    ``info`` holds ``means2d`` ([C, N, 2], with ``.grad`` and where asked for ``.absgrad`` after the backward pass, in
    pixels), ``radii`` ([C, N, 2] pixels, 0 where not drawn), ``width``, ``height``, ``n_cameras``, and ``cameras``: of
    all train photos. Noise comes from torch's global generator, which the fit seeds anew at every step.
    """

    absgrad: bool = False

    @abstractmethod
    def initialize_state(self, scene_scale: float = 1.0) -> dict[str, Any]:
        """Running state: plain numbers and tensors, stored in checkpoints. ``scene_scale`` is in world units."""

    @abstractmethod
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
        """Edit after the optimisers stepped; ``lr`` is the means' learning rate of this step."""

    def step_pre_backward(
        self, params: Parameters, optimizers: Optimizers, state: dict[str, Any], step: int, info: dict[str, Any]
    ) -> None:
        """Keep the screen-space gradient of this step's render."""
        means2d: Tensor = info["means2d"]
        if not means2d.is_leaf:
            means2d.retain_grad()

    @classmethod
    def __subclasshook__(cls, other: type) -> Any:
        if cls is not DensificationStrategy:
            return NotImplemented
        names = ("initialize_state", "step_post_backward")
        return all(callable(getattr(other, name, None)) for name in names) or NotImplemented


def edit_gaussians(
    strategy: DensificationStrategy,
    params: Parameters,
    optimizers: Optimizers,
    state: dict[str, Any],
    step: int,
    info: dict[str, Any],
    lr: float,
) -> None:
    """Ask a strategy of either kind for its edits after a step."""
    edit = strategy.step_post_backward
    # gsplat's DefaultStrategy, unlike its MCMCStrategy and ours, takes no learning rate.
    more = {"lr": lr} if "lr" in inspect.signature(edit).parameters else {}
    edit(params, optimizers, state, step, info, **more)
