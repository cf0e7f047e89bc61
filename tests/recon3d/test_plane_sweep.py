"""A sweep of planes on photos whose depth is known, and on photos that tell nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.scenes import builtin
from datasets.types import View
from recon3d.priors.plane_sweep import PlaneSweep
from recon3d.priors.types import DepthEstimate
from recon3d.views import TrainingViews


@pytest.fixture(scope="module")
def still_life() -> TrainingViews:
    return TrainingViews.load(builtin.generate((240, 180), views=3))


def errors(view: View, estimate: DepthEstimate) -> np.ndarray:
    """Relative errors of the depth where it and the truth are known."""
    assert view.depth is not None
    both = estimate.known & (view.depth > 0)
    return np.abs(estimate.depth[both] / view.depth[both] - 1)


def test_depth_of_the_still_life(still_life: TrainingViews) -> None:
    for view, estimate in zip(still_life.views, PlaneSweep()(still_life), strict=True):
        found = errors(view, estimate)
        assert estimate.depth.dtype == estimate.confidence.dtype == np.float32
        assert len(found) > 0.6 * estimate.depth.size
        assert np.median(found) < 0.006
        assert (found < 0.03).mean() > 0.8
        assert ((estimate.confidence >= 0.5) == estimate.known).all()
        assert (estimate.confidence[~estimate.known] == 0).all()


def test_large_photos_are_reduced_and_depth_comes_at_their_size(still_life: TrainingViews) -> None:
    for view, estimate in zip(still_life.views, PlaneSweep(pixels=12_000)(still_life), strict=True):
        assert estimate.depth.shape == view.image.shape[:2]
        assert np.median(errors(view, estimate)) < 0.02


def test_the_same_twice(still_life: TrainingViews) -> None:
    first, second = PlaneSweep()(still_life), PlaneSweep()(still_life)
    assert all(np.array_equal(a.depth, b.depth) for a, b in zip(first, second, strict=True))


def test_masked_pixels_are_holes(still_life: TrainingViews) -> None:
    mask = np.ones(still_life.views[0].image.shape[:2], bool)
    mask[:60] = False
    masked = replace(still_life, views=(replace(still_life.views[0], mask=mask), *still_life.views[1:]))
    assert not PlaneSweep()(masked)[0].known[:60].any()


def test_photos_without_texture_do_no_harm(still_life: TrainingViews) -> None:
    flat = tuple(replace(view, image=np.full_like(view.image, 0.5)) for view in still_life.views)
    for estimate in PlaneSweep()(replace(still_life, views=flat)):
        assert estimate.known.mean() < 0.05


def test_photos_of_different_things_give_next_to_nothing(still_life: TrainingViews) -> None:
    random = np.random.default_rng(0)
    other = tuple(
        replace(view, image=random.random(view.image.shape, np.float32), mask=None) for view in still_life.views
    )
    found = [estimate.known.mean() for estimate in PlaneSweep()(replace(still_life, views=other))]
    assert max(found) < 0.05


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_finds_what_the_processor_finds(still_life: TrainingViews) -> None:
    for a, b in zip(PlaneSweep(device="cpu")(still_life), PlaneSweep(device="cuda")(still_life), strict=True):
        both = a.known & b.known
        assert both.sum() > 0.95 * a.known.sum()
        assert (np.abs(a.depth[both] / b.depth[both] - 1) < 0.01).mean() > 0.95


def test_one_view_is_not_enough(still_life: TrainingViews) -> None:
    alone = replace(still_life, cameras=still_life.cameras[:1], views=still_life.views[:1])
    with pytest.raises(InputError, match="at least two train views, got 1"):
        PlaneSweep()(alone)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"targets": 0}, "targets is 0"),
        ({"pixels": 0}, "pixels is 0"),
        ({"depths": 3}, "depths is 3, expected at least 48"),
        ({"tolerance": 0}, "expected a positive number of pixels"),
    ],
)
def test_arguments_out_of_range(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlaneSweep(**options)
