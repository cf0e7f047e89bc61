"""The Gaussians of a splat, in gsplat's names and storage (Kerbl et al., 3D Gaussian Splatting, 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from datasets.types import expect_shape

SH_C0 = 0.28209479177387814  # the constant spherical harmonic


@dataclass(frozen=True)
class Gaussians:
    """N anisotropic 3D Gaussians with view-dependent colour.

    Attributes:
        means: [N, 3] centres, world units.
        scales: [N, 3] natural logarithm of the standard deviation along each own axis, world units.
        quats: [N, 4] rotation from own axes to the world, wxyz, of any non-zero length.
        opacities: [N] logit of the opacity.
        sh0: [N, 1, 3] constant spherical harmonic; colour = 0.5 + 0.2821 sh0 + view-dependent part, clamped at 0.
        shN: [N, K, 3] higher harmonics, K = 0, 3, 8 or 15 for degree 0 to 3.

    Raises:
        ValueError: for shapes that disagree.
    """

    means: Tensor
    scales: Tensor
    quats: Tensor
    opacities: Tensor
    sh0: Tensor
    shN: Tensor

    def __post_init__(self) -> None:
        count = len(self.means)
        expect_shape("means", self.means, (count, 3))
        expect_shape("scales", self.scales, (count, 3))
        expect_shape("quats", self.quats, (count, 4))
        expect_shape("opacities", self.opacities, (count,))
        expect_shape("sh0", self.sh0, (count, 1, 3))
        expect_shape("shN", self.shN, (count, None, 3))
        if self.shN.shape[1] not in (0, 3, 8, 15):
            raise ValueError(f"shN holds {self.shN.shape[1]} harmonics, expected 0, 3, 8 or 15 (degree 0 to 3)")

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: Tensor | slice) -> Gaussians:
        return Gaussians(**{name: value[index] for name, value in self.parameters().items()})

    @property
    def sh_degree(self) -> int:
        """Highest spherical harmonic degree stored, 0 to 3."""
        return {0: 0, 3: 1, 8: 2, 15: 3}[self.shN.shape[1]]

    def parameters(self) -> dict[str, Tensor]:
        """The six tensors by name, as gsplat's strategies and exporter expect them."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @staticmethod
    def from_parameters(parameters: Mapping[str, Tensor]) -> Gaussians:
        """The inverse of :meth:`parameters`; KeyError names a tensor that is missing."""
        return Gaussians(**{f.name: parameters[f.name] for f in fields(Gaussians)})

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Gaussians:
        """Move or convert every tensor."""
        return Gaussians(**{k: v.to(device=device, dtype=dtype) for k, v in self.parameters().items()})

    def detach(self) -> Gaussians:
        """The same values without gradient history."""
        return Gaussians(**{name: value.detach() for name, value in self.parameters().items()})
