"""The shape of the prior's depth, whatever its scale and shift: differences of what is normalised in patches."""

from __future__ import annotations

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.losses.base import Loss, Target
from recon3d.losses.surface import Comparison, Space, check_space, weighted_mean
from recon3d.render import Render

FLAT = 0.01  # of the view's standard deviation, added to that of a patch


class NormalisedDepth(Loss):
    """Mean squared difference of rendered and prior z-depth after each was normalised within small patches.

    Global-local depth normalisation (Li et al., DNGaussian, 2024), weighted by the prior's confidence: less the mean of
    its patch, a depth is divided by the standard deviation of the patch (local) and by that of the view (global). The
    patches' side is drawn at each step. The source's split into frozen opacities and frozen centres is left out.

    Args:
        smallest, largest: range of the patches' side in pixels, at least 2.
        whole: factor of the global part.
        space: whether depth or inverse depth is compared.
        weight: factor of this term.

    Raises:
        ValueError: for arguments out of range; when asked, for a target without a prior.
    """

    uses_prior = True

    def __init__(
        self,
        smallest: int = 5,
        largest: int = 17,
        whole: float = 0.1,
        space: Space = "depth",
        weight: float = 0.01,
    ) -> None:
        super().__init__(weight)
        if not 2 <= smallest <= largest:
            raise ValueError(
                f"NormalisedDepth: smallest is {smallest} and largest {largest}, expected 2 <= smallest <= largest"
            )
        if not 0 <= whole < float("inf"):
            raise ValueError(f"NormalisedDepth: whole is {whole}, expected a finite number >= 0")
        check_space("NormalisedDepth", space)
        self.smallest, self.largest, self.whole, self.space = smallest, largest, whole, space

    def value(self, render: Render, target: Target, gaussians: Gaussians) -> Tensor:
        view = Comparison.of(render, target, self.space)
        side = int(torch.randint(self.smallest, self.largest + 1, (), device=view.belief.device))
        patches, whole = view.in_patches(side), view.in_one_patch()
        rendered, rendered_local = _normalised(patches.rendered, patches.belief, whole.rendered, whole.belief)
        prior, prior_local = _normalised(patches.prior, patches.belief, whole.prior, whole.belief)
        error = (rendered_local - prior_local).square() + self.whole * (rendered - prior).square()
        return (patches.belief * error).sum() / patches.belief.sum().clamp(min=1e-12)


def _normalised(patches: Tensor, weight: Tensor, whole: Tensor, whole_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Deviations from the patches' means [P, K]: over the view's standard deviation, and over each patch's."""
    away = patches - weighted_mean(patches, weight)
    view = _deviation(whole - weighted_mean(whole, whole_weight), whole_weight)
    return away / view, away / (_deviation(away, weight) + FLAT * view)


def _deviation(away: Tensor, weight: Tensor) -> Tensor:
    return weighted_mean(away * away, weight).clamp(min=1e-16).sqrt()
