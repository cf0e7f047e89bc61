"""What a prior found is kept in a file, for the next fit of the same photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from datasets.errors import SceneError
from datasets.files import replacing
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews

MEND = "Delete it, and the prior works anew"


class KeptDepth(DepthPrior):
    """Another prior, which works the first time only; then its depth and confidence come from a file, bit for bit.

    For several fits of the same photos with other settings. The file is known by its name: give another one for other
    photos, or another prior.

    Args:
        prior: the other prior.
        file: ``.safetensors``, written where it does not exist.
    """

    has_one_size = True

    def __init__(self, prior: DepthPrior, file: Path) -> None:
        self.prior, self.file = prior, Path(file)
        self.uses_finer = prior.uses_finer

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        """The other prior's estimates.

        Raises:
            SceneError: for a file that cannot be used, or was made of views of other sizes.
        """
        if not self.file.is_file():
            self._write(self.prior(views))
        try:
            maps = load_file(self.file)
        except SafetensorError as error:
            raise SceneError(self.file, f"is not a whole safetensors file ({error})", MEND) from error
        found = {name: (values.shape, str(values.dtype)) for name, values in maps.items()}
        shapes = [(height, width) for width, height in views.cameras.sizes.tolist()]
        expected = {f"{kind}_{i}": (s, "float32") for kind in ("depth", "confidence") for i, s in enumerate(shapes)}
        if found != expected:
            raise SceneError(
                self.file, f"holds {len(found)} maps, which are not those of these {len(views)} views", MEND
            )
        try:
            return [DepthEstimate(maps[f"depth_{i}"], maps[f"confidence_{i}"]) for i in range(len(views))]
        except ValueError as error:
            raise SceneError(self.file, str(error), MEND) from error

    def _write(self, estimates: list[DepthEstimate]) -> None:
        maps = {f"depth_{i}": np.ascontiguousarray(e.depth, np.float32) for i, e in enumerate(estimates)}
        maps |= {f"confidence_{i}": np.ascontiguousarray(e.confidence, np.float32) for i, e in enumerate(estimates)}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.file) as temporary:
            save_file(maps, temporary)
