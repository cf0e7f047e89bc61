"""Exposure and white balance are measured between photos, and taken back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from recon3d import exposure
from recon3d.exposure import equalised, exposure_gains
from recon3d.fitting.data import SceneData
from recon3d.views import TrainingViews


@pytest.fixture(scope="module")
def built_in() -> TrainingViews:
    return SceneData(Path("builtin"), views=4, downscale=2).views


def without_depth(views: TrainingViews) -> TrainingViews:
    return replace(views, views=tuple(replace(view, depth=None) for view in views.views))


def exposed(views: TrainingViews, gains: np.ndarray) -> TrainingViews:
    photos = (
        replace(view, image=np.clip(view.image * gain, 0, 1).astype(np.float32))
        for view, gain in zip(views.views, gains, strict=True)
    )
    return replace(views, views=tuple(photos))


def test_photos_at_one_exposure_stay(built_in: TrainingViews) -> None:
    np.testing.assert_allclose(exposure_gains(built_in), 1, atol=0.003)


@pytest.mark.parametrize("measured", [False, True])
def test_exposures_are_taken_back(built_in: TrainingViews, measured: bool) -> None:
    """By matched features alone, and better by measured depth."""
    assert all(view.depth is not None for view in built_in.views)
    views = built_in if measured else without_depth(built_in)
    truth = np.exp(np.random.default_rng(int(measured)).normal(0, 0.1, (4, 3)))
    gains = exposure_gains(exposed(views, truth))
    left = gains * truth
    np.testing.assert_allclose(left / left.mean(axis=0), np.ones((4, 3)), atol=0.005 if measured else 0.02)
    np.testing.assert_allclose(np.log(gains).mean(axis=0), 0, atol=1e-6)


def test_equalised_photos_agree_and_keep_the_mean(built_in: TrainingViews) -> None:
    mean = np.mean([view.image.mean() for view in built_in.views])
    gains = np.array([0.85, 0.95, 1.05, 1.15])[:, None] * np.ones(3)
    before = exposed(built_in, gains)
    after = equalised(before)
    brightness = [
        [view.image.mean() / was.image.mean() for view, was in zip(v.views, built_in.views, strict=True)]
        for v in (before, after)
    ]
    assert np.std(brightness[0]) > 0.08
    assert np.std(brightness[1]) < 0.012
    assert np.mean([view.image.mean() for view in after.views]) == pytest.approx(mean, rel=0.03)
    for view in after.views:
        assert view.image.dtype == np.float32
        assert 0 <= view.image.min() <= view.image.max() <= 1
    assert after.cameras is before.cameras


def test_photos_of_different_things_stay(built_in: TrainingViews) -> None:
    random = np.random.default_rng(0)
    noise = tuple(
        replace(view, image=random.random(view.image.shape, np.float32) * (i + 1) / 4)
        for i, view in enumerate(built_in.views)
    )
    gains = exposure_gains(without_depth(replace(built_in, views=noise)))
    assert np.isfinite(gains).all()
    np.testing.assert_allclose(gains, 1, atol=0.1)


def test_known_background_and_single_photos_are_left_alone(built_in: TrainingViews) -> None:
    white = replace(built_in, background=(1.0, 1.0, 1.0))
    assert equalised(white) is white
    one = replace(built_in, cameras=built_in.cameras[[0]], views=built_in.views[:1], names=None)
    assert equalised(one) is one


def test_black_photos_tell_nothing(built_in: TrainingViews) -> None:
    black = exposed(built_in, np.zeros((4, 3)))
    np.testing.assert_array_equal(exposure_gains(black), 1)


@pytest.mark.parametrize("seed", range(5))
def test_least_squares(seed: int) -> None:
    """Consistent differences along a chain are taken back but for what was thought usual beforehand; errors weigh."""
    random = np.random.default_rng(seed)
    truth = random.normal(0, 0.1, (5, 3))
    truth -= truth.mean(axis=0)
    pairs = np.array([[0, 1], [1, 2], [2, 3], [3, 4], [0, 4]])
    differences = truth[pairs[:, 1]] - truth[pairs[:, 0]]
    errors = np.full((5, 3), 1e-4)
    np.testing.assert_allclose(exposure._solve(5, pairs, differences, errors), np.exp(-truth), rtol=1e-4)
    wrong, unsure = differences.copy(), errors.copy()
    wrong[4] += 1.0
    unsure[4] = 10.0
    np.testing.assert_allclose(exposure._solve(5, pairs, wrong, unsure), np.exp(-truth), rtol=1e-4)
    everything_unsure = exposure._solve(5, pairs, wrong, np.full((5, 3), 100.0))
    np.testing.assert_allclose(everything_unsure, 1, atol=1e-3)


def test_fits_see_equalised_photos_where_asked(built_in: TrainingViews, monkeypatch: pytest.MonkeyPatch) -> None:
    from recon3d.fitting import data as under_test

    monkeypatch.setattr(under_test, "equalised", lambda views: exposed(views, np.full((len(views), 3), 0.5)))
    plain, changed = (
        SceneData(Path("builtin"), views=4, downscale=2, equalise=equalise).views for equalise in (False, True)
    )
    np.testing.assert_allclose(changed.views[0].image, plain.views[0].image / 2)
    np.testing.assert_array_equal(plain.views[0].image, built_in.views[0].image)
