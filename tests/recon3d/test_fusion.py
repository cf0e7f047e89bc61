"""Blending priors by measured confidence, on photos whose depth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from datasets.errors import InputError
from datasets.scenes import builtin
from datasets.types import View
from recon3d.priors.evidence import gather
from recon3d.priors.fusion import Fusion
from recon3d.priors.measured_depth import MeasuredDepth
from recon3d.priors.stereo.level import Level, Neighbours
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.views import TrainingViews


class Given(DepthPrior):
    """A prior that knows its answer, and is sure of it."""

    def __init__(self, change: Callable[[np.ndarray, int], np.ndarray]) -> None:
        self.change = change

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        estimates = []
        for i, view in enumerate(views.views):
            assert view.depth is not None
            depth = self.change(view.depth, i).astype(np.float32)
            estimates.append(DepthEstimate(depth, (depth > 0).astype(np.float32)))
        return estimates


def good(depth: np.ndarray, view: int) -> np.ndarray:
    """The truth with half a per mille of noise, and holes where nothing is."""
    return depth * (1 + 5e-4 * np.random.default_rng(view).standard_normal(depth.shape))


WRONG: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "too far": lambda depth, view: 1.15 * depth,
    "flat": lambda depth, view: np.full_like(depth, np.median(depth[depth > 0])),
    "wavy": lambda depth, view: depth * (1 + 0.1 * np.sin(np.arange(depth.shape[1]) / 8)),
    "another view's": lambda depth, view: depth[:, ::-1],
    "noise": lambda depth, view: depth * np.exp(0.3 * np.random.default_rng(view).standard_normal(depth.shape)),
}


@pytest.fixture(scope="module")
def still_life() -> TrainingViews:
    return TrainingViews.load(builtin.generate((240, 180), views=3))


def shares(views: TrainingViews, estimates: list[DepthEstimate]) -> tuple[float, float]:
    """Share of the true pixels that are known, and share of those within 1 %."""
    known, right, total = 0, 0, 0
    for view, estimate in zip(views.views, estimates, strict=True):
        assert view.depth is not None
        both = estimate.known & (view.depth > 0)
        known, total = known + both.sum(), total + (view.depth > 0).sum()
        right += (np.abs(estimate.depth[both] / view.depth[both] - 1) < 0.01).sum()
    return float(known / total), float(right / max(known, 1))


def test_a_good_prior_is_kept(still_life: TrainingViews) -> None:
    coverage, right = shares(still_life, Fusion([Given(good)], least=0.4)(still_life))
    assert coverage > 0.75
    assert right > 0.999


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_prior_loses_its_weight(still_life: TrainingViews, kind: str) -> None:
    without = Fusion([Given(good)])(still_life)
    together = Fusion([Given(WRONG[kind]), Given(good)])(still_life)
    for a, b in zip(without, together, strict=True):
        assert (a.known & b.known).sum() > 0.99 * a.known.sum()
    (coverage, right), (more, still_right) = shares(still_life, without), shares(still_life, together)
    assert more >= coverage
    assert more * (1 - still_right) < coverage * (1 - right) + 0.01, "it adds next to nothing that is wrong"


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_prior_alone_is_hardly_believed(still_life: TrainingViews, kind: str) -> None:
    estimates = Given(WRONG[kind])(still_life)
    fused = Fusion([Given(WRONG[kind])], 0.5).fuse(still_life, [estimates])
    wrong, believed = 0, 0
    for view, before, after in zip(still_life.views, estimates, fused, strict=True):
        assert view.depth is not None
        far_off = (view.depth > 0) & (np.abs(before.depth / np.maximum(view.depth, 1e-6) - 1) > 0.03)
        wrong, believed = wrong + far_off.sum(), believed + (far_off & after.known).sum()
    assert believed < 0.15 * wrong


def test_a_sensor_of_another_unit_alone_is_believed_once_aligned(still_life: TrainingViews) -> None:
    too_far = Given(WRONG["too far"])(still_life)
    seen = tuple(replace(view, depth=one.depth) for view, one in zip(still_life.views, too_far, strict=True))
    far = replace(still_life, views=seen)
    as_it_is, aligned = Fusion([MeasuredDepth()])(far), Fusion([MeasuredDepth(aligned=False)])(far)
    assert shares(still_life, as_it_is)[0] < 0.05
    coverage, right = shares(still_life, aligned)
    assert coverage > 0.6
    assert right > 0.95


def test_halves_make_a_whole(still_life: TrainingViews) -> None:
    left = Given(lambda depth, view: np.where(np.arange(240) < 120, good(depth, view), 0))
    right = Given(lambda depth, view: np.where(np.arange(240) >= 120, good(depth, view), 0))
    whole, _ = shares(still_life, Fusion([left, right])(still_life))
    half, _ = shares(still_life, Fusion([left])(still_life))
    assert whole > 1.6 * half


def test_opinions_differ_where_a_prior_alone_is_sure(still_life: TrainingViews) -> None:
    """The second prior's depth is a little off, so that the blend tells whose depth was taken."""
    near = Given(lambda depth, view: good(depth, view) * 1.0005)
    half = Given(lambda depth, view: np.where(np.arange(240) < 120, good(depth, view), 0))
    fusion = Fusion([half, near])
    blended, first, second = fusion.opinions(still_life, 4)
    for one, other in zip(blended, fusion(still_life), strict=True):
        np.testing.assert_array_equal(one.depth, other.depth)
    for i, view in enumerate(still_life.views):
        assert view.depth is not None
        truth, known = good(view.depth, i), blended[i].known
        left = known & (first[i].confidence != blended[i].confidence)
        assert left[:, :120].sum() > 0.5 * known[:, :120].sum()
        assert not left[:, 120:].any(), "where it knows nothing, the blend stands"
        np.testing.assert_allclose(first[i].depth[left], truth[left], rtol=1e-6)
        alone = known & (second[i].confidence != blended[i].confidence)
        np.testing.assert_allclose(second[i].depth[alone], 1.0005 * truth[alone], rtol=1e-6)
        assert (first[i].known & known).sum() == known.sum(), "no opinion has more holes"
    assert len(fusion.opinions(still_life, 2)) == 2
    assert len(Fusion([near]).opinions(still_life, 2)) == 1, "a single prior has no other"


@pytest.mark.parametrize("kind", WRONG)
def test_the_opinion_of_a_wrong_prior_is_the_blend(still_life: TrainingViews, kind: str) -> None:
    blended, wrong = Fusion([Given(WRONG[kind]), Given(good)], least=0.15, smallest=1).opinions(still_life, 2)
    (coverage, right), (same, still_right) = shares(still_life, blended), shares(still_life, wrong)
    assert same * (1 - still_right) < coverage * (1 - right) + 0.03


def test_holes_stay_holes(still_life: TrainingViews) -> None:
    def holed(depth: np.ndarray, view: int) -> np.ndarray:
        depth = good(depth, view)
        depth[50:90, 60:140] = 0
        return depth

    for estimate in Fusion([Given(holed), Given(holed)])(still_life):
        assert not estimate.known[50:90, 60:140].any()
        assert estimate.known.any()
        assert (estimate.confidence[~estimate.known] == 0).all()
        assert (estimate.confidence[estimate.known] >= 0.75).all()


def test_masked_and_unseen_pixels_are_holes(still_life: TrainingViews) -> None:
    mask = np.ones((180, 240), bool)
    mask[:, :100] = False
    first, *others = still_life.views
    views = replace(still_life, views=(replace(first, mask=mask), *others))
    assert not Fusion([Given(good)])(views)[0].known[:, :100].any()
    alone = replace(still_life, cameras=still_life.cameras[[0, 0]], views=(first, first))
    assert not any(e.known.any() for e in Fusion([Given(good)])(alone)), "two photos from one place say nothing"


def test_photos_without_texture_speak_for_nothing(still_life: TrainingViews) -> None:
    grey = tuple(View(np.full((180, 240, 3), 0.5, np.float32), depth=view.depth) for view in still_life.views)
    assert not any(e.known.any() for e in Fusion([Given(good)])(replace(still_life, views=grey)))


def test_evidence_tells_right_from_wrong(still_life: TrainingViews) -> None:
    greys = [view.image.mean(axis=2) for view in still_life.views]
    level = Level.of(still_life.cameras, greys, [None] * 3, 1.0)
    near = Neighbours.of(still_life.cameras, 1, [0, 2])
    right, wrong = (
        gather(level, near, [e.depth for e in Given(change)(still_life)]) for change in (good, WRONG["too far"])
    )
    for name in ("similarity", "agreement", "preference"):
        assert getattr(right, name).mean() > getattr(wrong, name).mean()
        assert ((getattr(right, name) >= 0) & (getattr(right, name) <= 1 + 1e-5)).all()
    assert np.median(right.error) < 0.5


def test_flow_and_stereo_where_nothing_is_said() -> None:
    assert [type(prior).__name__ for prior in Fusion().priors] == ["EpipolarFlow", "MultiViewStereo"]


def test_arguments_out_of_range(still_life: TrainingViews) -> None:
    with pytest.raises(ValueError, match="priors"):
        Fusion([])
    for least in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="least"):
            Fusion([Given(good)], least)
    with pytest.raises(ValueError, match="smallest"):
        Fusion([Given(good)], smallest=0)
    with pytest.raises(InputError, match="at least two"):
        Fusion([Given(good)])(TrainingViews(still_life.cameras[:1], still_life.views[:1]))


@pytest.mark.parametrize("kind", ["too far", "flat", "wavy", "noise"])
def test_what_is_wrong_everywhere_fills_no_holes_however_lenient(still_life: TrainingViews, kind: str) -> None:
    def left_half(depth: np.ndarray, view: int) -> np.ndarray:
        return np.where(np.arange(depth.shape[1]) < depth.shape[1] // 2, good(depth, view), 0)

    without = Fusion([Given(left_half)], least=0.15, smallest=1)(still_life)
    together = Fusion([Given(left_half), Given(WRONG[kind])], least=0.15, smallest=1)(still_life)
    (coverage, right), (more, still_right) = shares(still_life, without), shares(still_life, together)
    assert more * (1 - still_right) < coverage * (1 - right) + 0.03
    assert more * still_right > 0.99 * coverage * right


@pytest.mark.parametrize("scale", [0.98, 1.01, 1.02])
def test_a_sensor_that_is_a_little_off_as_a_whole_still_fills_holes(still_life: TrainingViews, scale: float) -> None:
    def left_half(depth: np.ndarray, view: int) -> np.ndarray:
        return np.where(np.arange(depth.shape[1]) < depth.shape[1] // 2, good(depth, view), 0)

    sensor = Given(lambda depth, view: scale * depth)
    known, _ = shares(still_life, Fusion([Given(left_half)], least=0.15, smallest=1)(still_life))
    more, _ = shares(still_life, Fusion([Given(left_half), sensor], least=0.15, smallest=1)(still_life))
    assert known < 0.5
    assert more > 0.85
