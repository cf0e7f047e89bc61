"""What a prior found is kept in a file, for the next fit of the same photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from datasets.errors import SceneError
from datasets.files import replacing
from recon3d.priors.types import DepthEstimate, DepthPrior, SeveralOpinions
from recon3d.views import TrainingViews

MEND = "Delete it, and the prior works anew"


class KeptDepth(SeveralOpinions):
    """Another prior, which works the first time only; then its depth and confidence come from a file, bit for bit.

    For several fits of the same photos with other settings. The file is known by its name: give another one for other
    photos, or another prior.

    Args:
        prior: the other prior.
        file: ``.safetensors``, written where it does not exist.
        kept: how many opinions of the other prior are kept, where it has them, for fits of so many fields.

    Raises:
        ValueError: for ``kept`` below 1.
    """

    has_one_size = True

    def __init__(self, prior: DepthPrior, file: Path, kept: int = 3) -> None:
        if kept < 1:
            raise ValueError(f"KeptDepth: kept is {kept}, expected at least 1")
        self.prior, self.file, self.kept = prior, Path(file), kept
        self.uses_finer = prior.uses_finer

    def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
        """Those that the file holds.

        Raises:
            SceneError: for a file that cannot be used, or was made of views of other sizes.
        """
        if not self.file.is_file():
            self._write(self.prior.opinions(views, self.kept))
        try:
            maps = load_file(self.file)
        except SafetensorError as error:
            raise SceneError(self.file, f"is not a whole safetensors file ({error})", MEND) from error
        found = {name: (values.shape, str(values.dtype)) for name, values in maps.items()}
        shapes = [(height, width) for width, height in views.cameras.sizes.tolist()]
        kept = max(len(maps) // (2 * len(shapes)), 1)
        expected = {
            _name(kind, i, k): (s, "float32")
            for kind in ("depth", "confidence")
            for i, s in enumerate(shapes)
            for k in range(kept)
        }
        if found != expected:
            raise SceneError(
                self.file, f"holds {len(found)} maps, which are not those of these {len(views)} views", MEND
            )
        try:
            return [
                [DepthEstimate(maps[_name("depth", i, k)], maps[_name("confidence", i, k)]) for i in range(len(views))]
                for k in range(min(kept, count))
            ]
        except ValueError as error:
            raise SceneError(self.file, str(error), MEND) from error

    def _write(self, opinions: list[list[DepthEstimate]]) -> None:
        maps = {}
        for k, estimates in enumerate(opinions):
            for i, one in enumerate(estimates):
                maps[_name("depth", i, k)] = np.ascontiguousarray(one.depth, np.float32)
                maps[_name("confidence", i, k)] = np.ascontiguousarray(one.confidence, np.float32)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.file) as temporary:
            save_file(maps, temporary)


def _name(kind: str, view: int, opinion: int) -> str:
    return f"{kind}_{view}" if opinion == 0 else f"{kind}_{view}_{opinion}"
