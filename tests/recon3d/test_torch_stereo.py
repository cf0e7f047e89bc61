"""Stereo in torch against the compiled kernels: the same planes from the same photos."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.scenes import builtin
from recon3d.priors import multi_view_stereo, torch_stereo
from recon3d.priors.multi_view_stereo import MultiViewStereo
from recon3d.priors.stereo import aggregation, patch_match, sweep
from recon3d.priors.stereo.level import Level, Neighbours, inverse_depth_per_pixel
from recon3d.views import TrainingViews

WIDTH, HEIGHT = 80, 60

CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
each_device = pytest.mark.parametrize("device", [torch.device("cpu"), pytest.param(torch.device("cuda"), marks=CUDA)])


@pytest.fixture(scope="module")
def still_life() -> TrainingViews:
    return TrainingViews.load(builtin.generate((WIDTH, HEIGHT), views=3))


def level_of(views: TrainingViews, masked: bool) -> Level:
    greys = [view.image.mean(axis=2) for view in views.views]
    random = np.random.default_rng(0)
    masks = [random.random((HEIGHT, WIDTH)) < 0.9 if masked else None for _ in greys]
    return Level.of(views.cameras, greys, masks, 1.0)


@each_device
@pytest.mark.parametrize("masked", [False, True])
def test_sweep(still_life: TrainingViews, device: torch.device, masked: bool) -> None:
    level = level_of(still_life, masked)
    near = Neighbours.of(level.cameras, 1, [0, 2])
    inverse_depths = np.linspace(0.05, 3, 37, dtype=np.float32)  # from behind infinity's neighbourhood to out of sight
    expected = sweep.sweep(level, near, inverse_depths).astype(int)
    found = torch_stereo.sweep(level, near, inverse_depths, device).cpu().numpy().astype(int)
    wrong = np.abs(found - expected) > 1
    assert wrong.mean() < 2e-4, "but for places on a border between pixels"
    assert (expected == sweep.UNSEEN).any()


@each_device
def test_aggregation(device: torch.device) -> None:
    random = np.random.default_rng(0)
    volume = random.integers(0, 201, (19, 23, 9)).astype(np.uint8)
    grey = random.uniform(0, 255, (19, 23)).astype(np.float32)
    expected = aggregation.aggregate(volume, grey)
    found = torch_stereo.aggregate(torch.from_numpy(volume).to(device), torch.from_numpy(grey).to(device))
    np.testing.assert_array_equal(found.cpu().numpy(), expected)
    best = torch_stereo.best_planes(found).cpu().numpy()
    np.testing.assert_allclose(best, aggregation.best_planes(expected), atol=1e-5)


def test_the_first_of_equal_planes_is_the_best() -> None:
    sums = torch.full((4, 5, 12), 7.0)
    np.testing.assert_array_equal(torch_stereo.best_planes(sums), aggregation.best_planes(sums.numpy()))


@each_device
@pytest.mark.parametrize("geometric", [0.0, 0.2])
@pytest.mark.parametrize("rounds", [0, 2])
def test_improvement(still_life: TrainingViews, device: torch.device, geometric: float, rounds: int) -> None:
    level = level_of(still_life, masked=True)
    near = Neighbours.of(level.cameras, 1, [0, 2])
    random = np.random.default_rng(0)
    truth = [1 / np.where(v.depth > 0, v.depth, 3) for v in still_life.views if v.depth is not None]
    known = np.concatenate([np.where(random.random(t.shape) < 0.8, t, 0).reshape(-1) for t in truth]).astype(np.float32)
    start = (truth[1] * (1 + 0.05 * random.standard_normal(truth[1].shape))).astype(np.float32)
    step = inverse_depth_per_pixel(level.cameras, 1, [0, 2], start)
    ours, theirs = (patch_match.Planes.through(start.copy()) for _ in range(2))
    common = np.array([[1e-4, 2e-3, 0.3], [0, 0, 0.4]], np.float32)
    weights = patch_match.Weights(geometric, 0.08)
    arguments = (start, step, (0.1, 2.0), known, weights, patch_match.patch_pattern(4), common, rounds, 5)
    patch_match.improve(level, near, ours, *arguments)
    torch_stereo.improve(level, near, theirs, *arguments, device=device)
    if rounds == 0:
        wrong = np.abs(theirs.cost - ours.cost) > 2e-3
        assert wrong.mean() < 2e-3, "but for places on a border between pixels"
        np.testing.assert_array_equal(theirs.inverse_depth, start)
        return
    # A choice between planes that cost the same turns on the last digit, and neighbours follow it.
    same = np.abs(theirs.inverse_depth - ours.inverse_depth) < 0.1 * step
    assert same.mean() > 0.99
    assert theirs.cost.mean() == pytest.approx(ours.cost.mean(), rel=1e-4)


def test_pixels_in_several_helpings(still_life: TrainingViews, monkeypatch: pytest.MonkeyPatch) -> None:
    level = level_of(still_life, masked=False)
    near = Neighbours.of(level.cameras, 0, [1])
    start = np.full((HEIGHT, WIDTH), 0.4, np.float32)
    results = []
    for helping in (1 << 17, 700):
        monkeypatch.setattr(torch_stereo, "PIXELS_AT_ONCE", helping)
        planes = patch_match.Planes.through(start.copy())
        torch_stereo.improve(
            level, near, planes, start, np.full_like(start, 0.01), (0.1, 2.0), np.zeros(level.quads.size, np.float32),
            patch_match.Weights(0.0, 0.08), patch_match.patch_pattern(3), np.zeros((0, 3)), 1, 0, torch.device("cpu"),
        )  # fmt: skip
        results.append(planes.inverse_depth)
    np.testing.assert_allclose(results[0], results[1], rtol=1e-6)


@each_device
def test_whole_prior(device: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    views = TrainingViews.load(builtin.generate((96, 72), views=3))
    expected = MultiViewStereo(device="cpu")(views)
    if device.type == "cpu":  # a device that is none: the prior turns to torch, which then computes on the CPU
        first_depth, improve = torch_stereo.first_depth, torch_stereo.improve
        monkeypatch.setattr(multi_view_stereo, "torch_device", lambda _: torch.device("meta"))
        monkeypatch.setattr(torch_stereo, "first_depth", lambda *given: first_depth(*given[:-1], device))
        monkeypatch.setattr(
            torch_stereo, "improve", lambda *given, **named: improve(*given, **named | {"device": device})
        )
        found = MultiViewStereo()(views)
    else:
        found = MultiViewStereo(device="cuda")(views)
    for one, other in zip(expected, found, strict=True):
        both = one.known & other.known
        assert both.sum() > 0.97 * max(one.known.sum(), other.known.sum())
        assert (np.abs(one.depth[both] / other.depth[both] - 1) < 0.01).mean() > 0.97
