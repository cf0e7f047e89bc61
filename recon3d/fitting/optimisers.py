"""One Adam per Gaussian parameter, as gsplat's densification strategies expect, and the decay of the means' rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from torch.nn import Parameter
from torch.optim import Adam


@dataclass(frozen=True)
class LearningRates:
    """Adam's learning rate of each parameter at the start of a fit.

    Args:
        means: times the scene's extent.
        scales: of the logarithm of the standard deviations.
        quats: of the quaternions.
        opacities: of the logits.
        sh0: of the constant harmonic.
        shN: of the higher harmonics.
        uncertainty: of what softplus makes each Gaussian's uncertainty of, where a loss lets them learn one.
        means_decay: the means' rate falls exponentially to this share at the last step.
    """

    means: float = 1.6e-4
    scales: float = 5e-3
    quats: float = 1e-3
    opacities: float = 5e-2
    sh0: float = 2.5e-3
    shN: float = 2.5e-3 / 20
    uncertainty: float = 2e-2
    means_decay: float = 0.01

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value >= 0 or (name == "means_decay" and value == 0):
                raise ValueError(f"model.learning_rates.{name} is {value}, expected a positive number")

    def of_means(self, extent: float, progress: float) -> float:
        """Rate of the means where ``progress`` (0 to 1) of the fit is done."""
        return self.means * extent * self.means_decay**progress

    def at(self, extent: float, progress: float, haste: float) -> dict[str, float]:
        """Rate of every parameter; ``haste`` is a factor on all but that of the means."""
        values = {name: value * haste for name, value in asdict(self).items() if name != "means_decay"}
        return values | {"means": self.of_means(extent, progress)}


def make_optimisers(params: Mapping[str, Parameter], rates: LearningRates, extent: float) -> dict[str, Adam]:
    """One fused Adam for each parameter, by the parameter's name."""
    values = rates.at(extent, progress=0, haste=1)
    return {
        name: Adam([{"params": [param], "name": name}], lr=values[name], eps=1e-15, fused=True)
        for name, param in params.items()
    }
