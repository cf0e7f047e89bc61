"""Multi-view stereo on photos whose depth is known, and on photos that tell nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.scenes import builtin
from datasets.types import Cameras, View
from recon3d.priors.multi_view_stereo import MultiViewStereo, scales
from recon3d.priors.types import DepthEstimate
from recon3d.views import TrainingViews


@pytest.fixture(scope="module")
def still_life() -> TrainingViews:
    return TrainingViews.load(builtin.generate((240, 180), views=3))


@pytest.fixture(scope="module")
def estimates(still_life: TrainingViews) -> list[DepthEstimate]:
    return MultiViewStereo()(still_life)


def errors(view: View, estimate: DepthEstimate) -> np.ndarray:
    """Relative error of the depth, NaN where it or the truth is unknown."""
    assert view.depth is not None
    both = estimate.known & (view.depth > 0)
    return np.where(both, np.abs(estimate.depth / np.where(both, view.depth, 1) - 1), np.nan)


def test_depth_of_the_still_life(still_life: TrainingViews, estimates: list[DepthEstimate]) -> None:
    for view, estimate in zip(still_life.views, estimates, strict=True):
        error = errors(view, estimate)
        assert estimate.depth.dtype == estimate.confidence.dtype == np.float32
        assert np.isfinite(error).mean() > 0.6
        assert np.nanmedian(error) < 0.004
        assert np.nanmean(error < 0.03) * error.size / np.isfinite(error).sum() > 0.88


def test_confidence_is_about_the_share_that_is_right(still_life: TrainingViews, estimates: list[DepthEstimate]) -> None:
    error = np.concatenate([errors(v, e).ravel() for v, e in zip(still_life.views, estimates, strict=True)])
    confidence = np.concatenate([e.confidence.ravel() for e in estimates])
    shares = []
    for low, high in ((0.3, 0.7), (0.7, 0.9), (0.9, 1.01)):
        chosen = (confidence >= low) & (confidence < high) & np.isfinite(error)
        shares.append((error[chosen] < 0.03).mean())
    assert shares[0] < shares[1] < shares[2]
    assert shares[2] > 0.93
    assert all((e.confidence[~e.known] == 0).all() and (e.confidence[e.known] > 0).all() for e in estimates)


def test_two_views(still_life: TrainingViews) -> None:
    pair = replace(still_life, cameras=still_life.cameras[:2], views=still_life.views[:2])
    for view, estimate in zip(pair.views, MultiViewStereo()(pair), strict=True):
        error = errors(view, estimate)
        assert np.isfinite(error).mean() > 0.5
        assert np.nanmedian(error) < 0.004


def test_a_coarse_sweep_is_refined_at_full_size(still_life: TrainingViews) -> None:
    for view, estimate in zip(still_life.views, MultiViewStereo(sweep_pixels=6_000)(still_life), strict=True):
        error = errors(view, estimate)
        assert np.isfinite(error).mean() > 0.5
        assert np.nanmedian(error) < 0.004


def test_the_same_twice(still_life: TrainingViews, estimates: list[DepthEstimate]) -> None:
    for first, second in zip(estimates, MultiViewStereo()(still_life), strict=True):
        np.testing.assert_array_equal(first.depth, second.depth)
        np.testing.assert_array_equal(first.confidence, second.confidence)


def test_masks_and_different_sizes(still_life: TrainingViews) -> None:
    first, second, third = still_life.views
    mask = np.ones((180, 240), bool)
    mask[40:120, 60:200] = False
    cut = replace(third, image=third.image[:150, :200].copy(), depth=None)
    sizes = still_life.cameras.sizes.clone()
    sizes[2] = torch.tensor([200, 150])
    views = replace(
        still_life, views=(replace(first, mask=mask), second, cut), cameras=replace(still_life.cameras, sizes=sizes)
    )
    estimates = MultiViewStereo()(views)
    assert [e.depth.shape for e in estimates] == [(180, 240), (180, 240), (150, 200)]
    assert not estimates[0].known[~mask].any()
    assert estimates[0].known[mask].mean() > 0.4
    assert np.nanmedian(errors(second, estimates[1])) < 0.004
    assert np.nanmedian(errors(replace(cut, depth=third.depth[:150, :200]), estimates[2])) < 0.004  # type: ignore[index]


def test_textureless_photos_give_no_certainty(still_life: TrainingViews) -> None:
    grey = View(np.full((180, 240, 3), 0.5, np.float32))
    for estimate in MultiViewStereo()(TrainingViews(still_life.cameras, (grey,) * 3)):
        assert np.isfinite(estimate.depth).all()
        assert estimate.confidence.max() < 0.3


def test_views_at_one_place_and_views_without_overlap_have_no_depth(still_life: TrainingViews) -> None:
    same = still_life.cameras[[0, 0]]
    assert not any(e.known.any() for e in MultiViewStereo()(TrainingViews(same, still_life.views[:2])))
    apart = still_life.cameras.world_to_camera[:2].clone()
    apart[1, :3] = torch.diag(torch.tensor([-1.0, 1, -1])) @ apart[1, :3]  # looks the other way
    cameras = replace(still_life.cameras[:2], world_to_camera=apart)
    assert not any(e.known.any() for e in MultiViewStereo()(TrainingViews(cameras, still_life.views[:2])))


def test_photos_of_another_place_match_little(still_life: TrainingViews) -> None:
    noise = View(np.random.default_rng(0).random((180, 240, 3)).astype(np.float32))
    views = TrainingViews(still_life.cameras[:2], (still_life.views[0], noise))
    assert max(e.known.mean() for e in MultiViewStereo()(views)) < 0.03, "chance matches do not stand in regions"


@pytest.mark.parametrize("size", [(16, 16), (30, 8), (3, 40), (1, 1)])
def test_tiny_photos(size: tuple[int, int]) -> None:
    width, height = size
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[1, 0, 3] = -0.2
    intrinsics = torch.tensor([[20.0, 0, width / 2], [0, 20, height / 2], [0, 0, 1]]).repeat(2, 1, 1)
    cameras = Cameras(pose, intrinsics, torch.tensor([[width, height]] * 2))
    random = np.random.default_rng(0)
    views = tuple(View(random.random((height, width, 3)).astype(np.float32)) for _ in range(2))
    for estimate in MultiViewStereo()(TrainingViews(cameras, views)):
        assert estimate.depth.shape == (height, width)


def test_scales() -> None:
    assert scales(50_000, 100_000) == [1.0]
    assert scales(200_000, 100_000) == pytest.approx([0.5**0.5, 1])
    steps = scales(4_000_000, 100_000)
    assert steps[0] ** 2 * 4_000_000 == pytest.approx(100_000)
    assert steps[-1] == 1
    assert max(np.divide(steps[1:], steps[:-1])) <= 3


def test_one_view_is_refused(still_life: TrainingViews) -> None:
    with pytest.raises(InputError, match="at least two"):
        MultiViewStereo()(TrainingViews(still_life.cameras[:1], still_life.views[:1]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"targets": 0},
        {"sweep_pixels": 0},
        {"depths": 3},
        {"reach": 0},
        {"smallest": 0},
        {"tolerance": float("nan")},
        {"agreement": 1.0},
    ],
)
def test_arguments_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MultiViewStereo(**wrong)
