"""Depth from photos of twice the size."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from datasets.scenes import builtin
from datasets.scenes.images import read_pixels
from recon3d.fitting.data import SceneData
from recon3d.priors.epipolar_flow import EpipolarFlow
from recon3d.priors.finer_photos import SOONER, FinerPhotos
from recon3d.priors.fusion import Fusion
from recon3d.priors.plane_sweep import PlaneSweep
from recon3d.priors.resizing import reduced
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews


class Knows(DepthPrior):
    """Depth and confidence by the width of the photos; ``asked`` are the widths that it was asked for."""

    def __init__(self, **by_width: tuple[float, np.ndarray | float]) -> None:
        self.by_width = {int(name.removeprefix("w")): value for name, value in by_width.items()}
        self.asked: list[int] = []

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        width, height = views.cameras.size
        assert views.finer is None, "the size is chosen already"
        self.asked.append(width)
        depth, confidence = self.by_width[width]
        confidence = np.broadcast_to(np.float32(confidence), (height, width))
        return [DepthEstimate(np.where(confidence > 0, np.float32(depth), np.float32(0)), confidence)] * len(views)


@pytest.fixture(scope="module")
def photos() -> TrainingViews:
    small, large = (TrainingViews.load(builtin.generate(size, views=2)) for size in ((40, 30), (80, 60)))
    return replace(small, finer=lambda: large)


@pytest.mark.parametrize("size", [(80, 60), (81, 60), (80, 59), (79, 61)])
def test_a_slanted_plane_stays_where_it_is(size: tuple[int, int]) -> None:
    def plane(width: int, height: int) -> np.ndarray:
        y, x = np.mgrid[:height, :width] + 0.5
        return 1 / (0.5 + 0.2 * x / width + 0.1 * y / height)

    large = plane(*size).astype(np.float32)
    found = reduced(DepthEstimate(large, np.full_like(large, 0.6)), 40, 30)
    half_a_pixel = (0.2 * 0.5 / size[0] + 0.1 * 0.5 / size[1]) / 0.5  # what nearest samples miss by
    np.testing.assert_allclose(found.depth, plane(40, 30), rtol=1e-6 if size == (80, 60) else half_a_pixel)
    np.testing.assert_allclose(found.confidence, 0.6, rtol=1e-6)


def test_between_surfaces_the_more_confident_one_is_taken_whole() -> None:
    random = np.random.default_rng(0)
    depth = random.choice(np.array([0, 1, 3], np.float32), (24, 32))
    confidence = np.where(depth > 0, random.uniform(0.1, 1, depth.shape), 0).astype(np.float32)
    found = reduced(DepthEstimate(depth, confidence), 16, 12)
    for y in range(12):
        for x in range(16):
            four = np.s_[2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
            best = confidence[four].argmax()
            assert found.depth[y, x] == pytest.approx(depth[four].flat[best], rel=1e-6)
            assert found.confidence[y, x] == confidence[four].max()


def test_confident_depth_of_the_larger_photos_is_taken(photos: TrainingViews) -> None:
    sure = np.where(np.arange(80) < 40, 0.9, 0.3)
    prior = Knows(w40=(2.0, 0.7), w80=(1.0, sure))
    for found in FinerPhotos(prior, least=0.5)(photos):
        np.testing.assert_array_equal(found.depth, np.tile(np.where(np.arange(40) < 20, 1.0, 2.0), (30, 1)))
        np.testing.assert_allclose(found.confidence, np.tile(np.where(np.arange(40) < 20, 0.9, 0.7), (30, 1)))
    assert prior.asked == [40, 80]


def test_holes_stay_where_neither_knows(photos: TrainingViews) -> None:
    left, right = np.where(np.arange(40) < 10, 0.8, 0), np.where(np.arange(80) < 60, 0, 0.8)
    for found in FinerPhotos(Knows(w40=(2.0, left), w80=(1.0, right)))(photos):
        np.testing.assert_array_equal(
            found.known, np.tile((np.arange(40) < 10) | (np.arange(40) >= 30), (30, 1)), strict=True
        )


@pytest.mark.parametrize("finer", [None, lambda: None])
def test_without_larger_photos_it_is_the_other_prior(photos: TrainingViews, finer) -> None:
    prior = Knows(w40=(2.0, 0.7))
    found = FinerPhotos(prior)(replace(photos, finer=finer))
    assert all((estimate.depth == 2).all() for estimate in found)
    assert prior.asked == [40]


def test_every_opinion_is_of_both_sizes(photos: TrainingViews) -> None:
    class Two(Knows):
        def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
            return [
                [replace(e, depth=e.depth * (k + 1)) for e in estimates]
                for k, estimates in enumerate([self(views)] * count)
            ]

    sure = np.where(np.arange(80) < 40, 0.9, 0.3)
    first, second = FinerPhotos(Two(w40=(2.0, 0.7), w80=(1.0, sure))).opinions(photos, 2)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.depth, np.tile(np.where(np.arange(40) < 20, 1.0, 2.0), (30, 1)))
        np.testing.assert_array_equal(other.depth, 2 * one.depth)


def test_opinions_come_in_turn_on_the_size_that_has_fewer(photos: TrainingViews) -> None:
    class Fewer(Knows):
        def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
            estimates = self(views)
            few = 1 if views.cameras.size == (80, 60) else 2
            return [[replace(e, depth=e.depth * (k + 1)) for e in estimates] for k in range(min(few, count))]

    sure = np.where(np.arange(80) < 40, 0.9, 0.3)
    first, second = FinerPhotos(Fewer(w40=(2.0, 0.7), w80=(1.0, sure))).opinions(photos, 3)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.depth, np.tile(np.where(np.arange(40) < 20, 1.0, 2.0), (30, 1)))
        np.testing.assert_array_equal(other.depth, np.tile(np.where(np.arange(40) < 20, 1.0, 4.0), (30, 1)))


def test_the_larger_photos_may_be_for_another_prior_and_somewhat_smaller(photos: TrainingViews) -> None:
    sure = np.where(np.arange(56) < 28, 0.9, 0.3)
    prior, other = Knows(w40=(2.0, 0.7)), Knows(w56=(1.0, sure))
    for found in FinerPhotos(prior, on_larger=other, size=1.4)(photos):
        np.testing.assert_array_equal(found.depth, np.tile(np.where(np.arange(40) < 20, 1.0, 2.0), (30, 1)))
    assert (prior.asked, other.asked) == ([40], [56])


def test_in_less_time_quick_priors_alone_see_the_larger_photos() -> None:
    flow, sweep = EpipolarFlow(), PlaneSweep()
    slow = FinerPhotos(Fusion([flow, sweep], least=0.15, smallest=1), least=0.4)
    quick = slow.in_less_time()
    assert isinstance(quick, FinerPhotos)
    assert (quick.prior, quick.least, quick.size) == (slow.prior, 0.4, SOONER)
    assert isinstance(quick.on_larger, Fusion)
    assert (quick.on_larger.priors, quick.on_larger.least, quick.on_larger.smallest) == ([sweep], 0.15, 1)


@pytest.mark.parametrize("priors", [[EpipolarFlow()], [PlaneSweep()]])
def test_where_all_are_alike_nothing_takes_less_time(priors: list[DepthPrior]) -> None:
    assert Fusion(priors).in_less_time() is None
    assert FinerPhotos(Fusion(priors)).in_less_time() is None


@pytest.mark.parametrize("size", [1.0, 0.5, 2.1, float("nan")])
def test_larger_is_up_to_twice_the_size(size: float) -> None:
    with pytest.raises(ValueError, match=r"FinerPhotos: size is .* more than 1 and at most 2"):
        FinerPhotos(Knows(), size=size)


@pytest.mark.parametrize("least", [0.0, -0.1, 1.1, float("nan")])
def test_least_is_a_confidence(least: float) -> None:
    with pytest.raises(ValueError, match=r"FinerPhotos: least is .* expected a confidence"):
        FinerPhotos(Knows(), least)


def test_reduced_photos_know_their_originals(capture: Path) -> None:
    data = SceneData(capture, downscale=2)
    assert data.views.finer is not None
    larger = data.views.finer()
    assert larger is not None
    assert larger.cameras.size == (80, 60)
    np.testing.assert_array_equal(larger.cameras.sizes, 2 * data.views.cameras.sizes)
    np.testing.assert_array_equal(larger.cameras.world_to_camera, data.views.cameras.world_to_camera)
    np.testing.assert_allclose(larger.cameras.intrinsics[:, :2], 2 * data.views.cameras.intrinsics[:, :2])
    assert larger.names == data.views.names
    assert SceneData(capture).views.finer is None, "already as large as they are"
    assert SceneData(capture, downscale=3).views.finer is None, "not by two"


def test_where_the_larger_photos_are_gone_a_warning_says_so(capture: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.move(capture / "images", capture / "images_2")
    for path in (capture / "images_2").iterdir():
        cv2.imwrite(str(path), read_pixels(path)[::2, ::2])
    views = SceneData(capture, downscale=2).views
    assert views.finer is not None
    with caplog.at_level(logging.WARNING):
        assert views.finer() is None
    assert "there is no images: it holds images_2" in caplog.text


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """Three noisy photos of 80x60 in LLFF's layout, looking along -z from places in a row."""
    random = np.random.default_rng(0)
    rows = []
    (tmp_path / "images").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), random.integers(0, 255, (60, 80, 3), np.uint8))
        matrix = np.column_stack([[0, -1, 0], [1, 0, 0], [0, 0, 1], [0.1 * i, 0, 0], [60, 80, 70]])
        rows.append([*matrix.ravel(), 1.0, 5.0])
    np.save(tmp_path / "poses_bounds.npy", np.array(rows, np.float64))
    return tmp_path
