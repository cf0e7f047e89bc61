"""Depth from flow on photos whose depth is known, and on photos that tell nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.scenes import builtin
from datasets.types import Cameras, View
from recon3d.priors.epipolar_flow import EpipolarFlow
from recon3d.views import TrainingViews


@pytest.fixture(scope="module")
def still_life() -> TrainingViews:
    return TrainingViews.load(builtin.generate((240, 180), views=3))


def blank(cameras: Cameras, value: float = 0.5) -> TrainingViews:
    width, height = cameras.size
    return TrainingViews(cameras, tuple(View(np.full((height, width, 3), value, np.float32)) for _ in cameras.sizes))


def test_depth_of_the_still_life(still_life: TrainingViews) -> None:
    estimates = EpipolarFlow()(still_life)
    assert len(estimates) == 3
    for estimate, view in zip(estimates, still_life.views, strict=True):
        assert estimate.depth.dtype == estimate.confidence.dtype == np.float32
        assert view.depth is not None
        both = estimate.known & (view.depth > 0)
        error = np.abs(estimate.depth[both] / view.depth[both] - 1)
        assert both.mean() > 0.6
        assert np.median(error) < 0.01
        assert (error < 0.05).mean() > 0.85
        sure = error[estimate.confidence[both] > 0.9]
        assert (sure < 0.05).mean() > (error < 0.05).mean(), "confidence means something"
        assert (estimate.confidence[~estimate.known] == 0).all()


def test_guides_and_rounds_find_more_than_flow_alone(still_life: TrainingViews) -> None:
    def right(estimates: list) -> float:
        shares = [
            (estimate.known & (np.abs(estimate.depth / view.depth - 1) < 0.03)).mean()
            for estimate, view in zip(estimates, still_life.views, strict=True)
        ]
        return float(np.mean(shares))

    assert right(EpipolarFlow()(still_life)) > right(EpipolarFlow(planes=0, rounds=0)(still_life)) + 0.02


def test_the_same_twice(still_life: TrainingViews) -> None:
    prior = EpipolarFlow(rounds=1)
    for first, second in zip(prior(still_life), prior(still_life), strict=True):
        np.testing.assert_array_equal(first.depth, second.depth)
        np.testing.assert_array_equal(first.confidence, second.confidence)


def test_what_a_mask_leaves_out_has_no_depth(still_life: TrainingViews) -> None:
    mask = np.ones((180, 240), bool)
    mask[40:120, 60:200] = False
    first, *others = still_life.views
    estimate = EpipolarFlow(rounds=0)(replace(still_life, views=(replace(first, mask=mask), *others)))[0]
    assert not estimate.known[50:110, 70:190].any()
    assert estimate.known[mask].mean() > 0.4


def test_views_of_different_size(still_life: TrainingViews) -> None:
    first, *others = still_life.views
    cut = replace(first, image=first.image[:150, :200].copy(), depth=None)
    sizes = still_life.cameras.sizes.clone()
    sizes[0] = torch.tensor([200, 150])
    views = replace(still_life, views=(cut, *others), cameras=replace(still_life.cameras, sizes=sizes))
    estimates = EpipolarFlow(rounds=1)(views)
    assert [estimate.depth.shape for estimate in estimates] == [(150, 200), (180, 240), (180, 240)]
    assert first.depth is not None
    known = estimates[0].known
    assert known.mean() > 0.5
    assert np.median(np.abs(estimates[0].depth[known] / first.depth[:150, :200][known] - 1)) < 0.01


def test_textureless_photos_give_no_wrong_certainty(still_life: TrainingViews) -> None:
    for estimate in EpipolarFlow()(blank(still_life.cameras)):
        assert np.isfinite(estimate.depth).all()
        assert estimate.confidence.max() < 0.5


def test_views_at_one_place_and_views_without_overlap_have_no_depth(still_life: TrainingViews) -> None:
    same = still_life.cameras[[0, 0]]
    assert not any(e.known.any() for e in EpipolarFlow()(TrainingViews(same, still_life.views[:2])))
    apart = still_life.cameras.world_to_camera[:2].clone()
    apart[1, :3] = torch.diag(torch.tensor([-1.0, 1, -1])) @ apart[1, :3]  # looks the other way
    cameras = replace(still_life.cameras[:2], world_to_camera=apart)
    assert not any(e.known.any() for e in EpipolarFlow()(TrainingViews(cameras, still_life.views[:2])))


def test_photos_of_another_place_match_next_to_nothing(still_life: TrainingViews) -> None:
    random = np.random.default_rng(0)
    noise = View(random.random((180, 240, 3)).astype(np.float32))
    views = TrainingViews(still_life.cameras[:2], (still_life.views[0], noise))
    assert max(e.known.mean() for e in EpipolarFlow()(views)) < 0.05


@pytest.mark.parametrize("size", [(16, 16), (30, 8), (3, 40)])
def test_tiny_photos(size: tuple[int, int]) -> None:
    width, height = size
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[1, 0, 3] = -0.2
    intrinsics = torch.tensor([[20.0, 0, width / 2], [0, 20, height / 2], [0, 0, 1]]).repeat(2, 1, 1)
    cameras = Cameras(pose, intrinsics, torch.tensor([[width, height]] * 2))
    random = np.random.default_rng(0)
    views = tuple(View(random.random((height, width, 3)).astype(np.float32)) for _ in range(2))
    for estimate in EpipolarFlow()(TrainingViews(cameras, views)):
        assert estimate.depth.shape == (height, width)


def test_one_view_is_refused(still_life: TrainingViews) -> None:
    with pytest.raises(InputError, match="at least two"):
        EpipolarFlow()(TrainingViews(still_life.cameras[:1], still_life.views[:1]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("targets", 0), ("planes", -1), ("rounds", -1), ("features", 0), ("epipolar_tolerance", 0.0),
     ("round_trip_tolerance", float("nan"))],
)  # fmt: skip
def test_arguments_out_of_range(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=name):
        EpipolarFlow(**{name: value})  # type: ignore[arg-type]
