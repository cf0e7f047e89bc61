"""Several fields of Gaussians in one set of parameters, to be fitted to the same photos side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recon3d.gaussians import Gaussians
from recon3d.initialise import Start


def beside_one_another(starts: Sequence[Start]) -> tuple[Start, Tensor]:
    """The Gaussians of all ``starts`` as one start, which is otherwise the first; and [N] int64 whose each is."""
    parameters = [start.gaussians.parameters() for start in starts]
    joined = {name: torch.cat([one[name] for one in parameters]) for name in parameters[0]}
    origins = [start.origins for start in starts if start.origins is not None]
    start = replace(
        starts[0],
        gaussians=Gaussians.from_parameters(joined),
        origins=torch.cat(origins) if len(origins) == len(starts) else None,
    )
    counts = torch.tensor([len(one.gaussians) for one in starts])
    return start, torch.arange(len(starts)).repeat_interleave(counts)
