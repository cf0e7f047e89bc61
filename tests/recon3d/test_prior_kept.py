"""A prior that works once, and a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from datasets.errors import SceneError
from datasets.scenes import builtin
from recon3d.priors.kept_depth import KeptDepth
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews


class Random(DepthPrior):
    """Something else at each call."""

    def __init__(self) -> None:
        self.random, self.calls = np.random.default_rng(0), 0

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        self.calls += 1
        sizes = views.cameras.sizes.tolist()
        return [DepthEstimate(*self.random.random((2, h, w), np.float32)) for w, h in sizes]


@pytest.fixture(scope="module")
def views() -> TrainingViews:
    return TrainingViews.load(builtin.generate((32, 24), views=2))


def test_works_once_and_gives_the_same_bits(views: TrainingViews, tmp_path: Path) -> None:
    file, prior = tmp_path / "new" / "prior.safetensors", Random()
    first, again = KeptDepth(prior, file)(views), KeptDepth(Random(), file)(views)
    assert prior.calls == 1
    assert len(first) == len(again) == 2
    for one, other, original in zip(first, again, Random()(views), strict=True):
        for name in ("depth", "confidence"):
            np.testing.assert_array_equal(getattr(one, name), getattr(original, name), strict=True)
            np.testing.assert_array_equal(getattr(other, name), getattr(original, name), strict=True)
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_opinions_are_kept(views: TrainingViews, tmp_path: Path) -> None:
    class Several(Random):
        def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
            return [self(views) for _ in range(count)]

    prior, file = Several(), tmp_path / "prior.safetensors"
    first = KeptDepth(prior, file)(views)
    assert prior.calls == 3
    again = KeptDepth(Random(), file).opinions(views, 5)
    original = Several().opinions(views, 3)
    assert len(again) == 3
    for k, estimates in enumerate(again):
        for one, other in zip(estimates, original[k], strict=True):
            np.testing.assert_array_equal(one.depth, other.depth)
    np.testing.assert_array_equal(first[1].depth, original[0][1].depth)
    with pytest.raises(ValueError, match="kept is 0"):
        KeptDepth(prior, file, kept=0)


@pytest.mark.parametrize("damage", ["empty", "truncated", "text", "other size", "a view less", "negative", "dtype"])
def test_a_file_that_cannot_be_used_is_named(views: TrainingViews, tmp_path: Path, damage: str) -> None:
    file = tmp_path / "prior.safetensors"
    KeptDepth(Random(), file)(views)
    maps, data = load_file(file), file.read_bytes()
    if damage in ("empty", "truncated", "text"):
        file.write_bytes({"empty": b"", "truncated": data[:-7], "text": b"depth, depth, depth"}[damage])
    elif damage == "other size":
        save_file({name: values[1:].copy() for name, values in maps.items()}, file)
    elif damage == "a view less":
        save_file({name: values for name, values in maps.items() if name.endswith("_0")}, file)
    elif damage == "negative":
        save_file(maps | {"depth_0": -maps["depth_0"]}, file)
    else:
        save_file(maps | {"depth_0": maps["depth_0"].astype(np.float64)}, file)
    with pytest.raises(SceneError, match=r"prior\.safetensors.*Delete it"):
        KeptDepth(Random(), file)(views)
