"""The first Gaussians: on the surface, within the budget, the right size, and the same for a seed."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.geometry import inside, project
from datasets.scenes import builtin
from datasets.types import Points
from recon3d.gaussians import SH_C0
from recon3d.initialisation.clouds import Cloud, back_project, neighbour_distance
from recon3d.initialisation.surfaces import Surface, complete_surfaces
from recon3d.initialisation.ways import Ways
from recon3d.initialise import DenseInitialiser, SparseInitialiser, Start, TriangulatedInitialiser
from recon3d.priors.types import DepthEstimate, DepthPrior
from recon3d.render import render
from recon3d.views import TrainingViews

SIZE = (120, 90)


class Truth(DepthPrior):
    """The scene's own depth, known only where ``known`` says."""

    def __init__(self, known: np.ndarray | None = None) -> None:
        self.known = np.ones(SIZE[::-1], bool) if known is None else known

    def __call__(self, views: TrainingViews) -> list[DepthEstimate]:
        depths = [np.where(self.known, view.depth, 0).astype(np.float32) for view in views.views]
        return [DepthEstimate(depth, (depth > 0).astype(np.float32)) for depth in depths]


@pytest.fixture(scope="module")
def still_life() -> TrainingViews:
    return TrainingViews.load(builtin.generate(SIZE, views=3))


def where_seen(views: TrainingViews, view: int, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels [P, 2], z-depth [P], and whether in the image [P], of world positions in one view."""
    camera = views.cameras[view].to(dtype=torch.float64)
    pixels, depth = project(torch.from_numpy(positions), camera)
    return pixels[0].numpy(), depth[0].numpy(), inside(pixels, depth, camera)[0].numpy()


def covered(views: TrainingViews, start: Start) -> np.ndarray:
    with torch.no_grad():
        return render(start.gaussians, views.cameras, background=start.background).alpha.numpy()


def test_gaussians_lie_on_the_surface_in_its_colour(still_life: TrainingViews) -> None:
    start = DenseInitialiser(Truth(), budget=5000, far_layer=False)(still_life, seed=0)
    assert 4700 < len(start.gaussians) < 5300
    means, matched = start.gaussians.means.double().numpy(), 0
    colours = 0.5 + SH_C0 * start.gaussians.sh0[:, 0].numpy()
    for i, view in enumerate(still_life.views):
        pixels, depth, within = where_seen(still_life, i, means)
        x, y = np.floor(pixels[within]).astype(int).T
        assert view.depth is not None
        same = np.abs(depth[within] / view.depth[y, x] - 1) < 1e-3
        matched += (same & (np.abs(colours[within] - view.image[y, x]).max(axis=1) < 1e-3)).sum()
    assert matched >= len(means), "each Gaussian is a pixel of some view"
    torch.testing.assert_close(torch.sigmoid(start.gaussians.opacities), torch.full((len(means),), 0.3))
    expected = np.mean([view.image.mean((0, 1)) for view in still_life.views], axis=0)
    np.testing.assert_allclose(start.background.numpy(), expected, atol=1e-4)


def test_a_start_is_the_same_for_a_seed_and_another_for_another(still_life: TrainingViews) -> None:
    initialiser = DenseInitialiser(Truth(), budget=3000)
    first, second, other = (initialiser(still_life, seed) for seed in (1, 1, 2))
    for name, value in first.gaussians.parameters().items():
        assert torch.equal(value, second.gaussians.parameters()[name]), name
    assert first.extent == second.extent
    assert len(first.gaussians) != len(other.gaussians) or not torch.equal(first.gaussians.means, other.gaussians.means)


def test_a_budget_beyond_all_pixels_takes_each_once(still_life: TrainingViews) -> None:
    start = DenseInitialiser(Truth(), budget=10**9, far_layer=False)(still_life, seed=0)
    assert len(start.gaussians) == 3 * SIZE[0] * SIZE[1]


def test_the_photos_are_covered_at_any_budget(still_life: TrainingViews) -> None:
    for budget in (2000, 30_000):
        start = DenseInitialiser(Truth(), budget=budget, opacity=0.9)(still_life, seed=0)
        assert covered(still_life, start).mean() > 0.9


def test_holes_are_filled_with_fainter_gaussians(still_life: TrainingViews) -> None:
    known = np.ones(SIZE[::-1], bool)
    known[30:60, 40:80] = False
    start = DenseInitialiser(Truth(known), budget=10**9, hole_opacity=0.1, far_layer=False)(still_life, seed=0)
    opacity = torch.sigmoid(start.gaussians.opacities)
    torch.testing.assert_close(opacity.unique(), torch.tensor([0.1, 0.3]), atol=1e-6, rtol=0)
    surfaces = complete_surfaces(still_life, Truth(known)(still_life))
    in_the_way = sum(int(Ways(still_life.cameras, surfaces).obstructed_by_guesses(i).sum()) for i in range(3))
    assert 0 < in_the_way < 0.3 * 3 * 30 * 40
    assert (opacity < 0.2).sum() == 3 * 30 * 40 - in_the_way
    for surface, view in zip(surfaces, still_life.views, strict=True):
        assert view.depth is not None
        np.testing.assert_array_equal(surface.known, known)
        error = np.abs(surface.inverse_depth * view.depth - 1)
        assert error[known].max() < 1e-5
        assert np.median(error[~known]) < 0.1


def test_holes_have_fewer_and_larger_gaussians(still_life: TrainingViews) -> None:
    known = np.zeros(SIZE[::-1], bool)
    known[:, : SIZE[0] // 2] = True
    budget = 9000
    start = DenseInitialiser(Truth(known), budget, hole_density=0.25, far_layer=False)(still_life, seed=0)
    opacity = torch.sigmoid(start.gaussians.opacities)
    sure, guessed = (opacity > 0.2).sum(), (opacity < 0.2).sum()
    assert sure + guessed == pytest.approx(budget, rel=0.05)
    assert sure / guessed == pytest.approx(known.mean() / (1 - known.mean()) / 0.25, rel=0.1)
    size = torch.exp(start.gaussians.scales[:, 0]) / start.gaussians.means.norm(dim=1)
    assert size[opacity < 0.2].median() > 1.5 * size[opacity > 0.2].median()


def test_starts_after_the_first_have_fewer_gaussians(still_life: TrainingViews) -> None:
    initialiser = DenseInitialiser(Truth(), budget=5000, further=0.5, far_layer=False)
    counts = [len(start.gaussians) for start in initialiser.several(still_life, [1, 2, 3])]
    assert counts == pytest.approx([5000, 2500, 2500], rel=0.1)


def test_the_same_depth_makes_no_surfaces_twice(still_life: TrainingViews, monkeypatch: pytest.MonkeyPatch) -> None:
    class Kept(Truth):
        def opinions(self, views: TrainingViews, count: int) -> list[list[DepthEstimate]]:
            return one[:count]

    made = []

    def counted(views: TrainingViews, estimates: list[DepthEstimate]) -> list[Surface]:
        made.append(estimates)
        return complete_surfaces(views, estimates)

    monkeypatch.setattr("recon3d.initialise.complete_surfaces", counted)
    one = [Truth()(still_life), [replace(found, depth=2 * found.depth) for found in Truth()(still_life)]]
    initialiser = DenseInitialiser(Kept(), budget=1000)
    for budget in (1000, 3000):
        initialiser.budget = budget
        for start, fresh in zip(
            initialiser.several(still_life, [0, 1, 2]),
            DenseInitialiser(Kept(), budget).several(still_life, [0, 1, 2]),
            strict=True,
        ):
            assert torch.equal(start.gaussians.means, fresh.gaussians.means)
    assert len(made) == 2 + 2 * 2, "two once, two for each of the others"
    one.pop(0)
    initialiser(still_life, seed=0)
    assert len(made) == 6
    initialiser(replace(still_life), seed=0)
    assert len(made) == 7, "other photos"


def test_a_chance_match_does_not_fill_the_hole_around_it(still_life: TrainingViews) -> None:
    known = np.ones(SIZE[::-1], bool)
    known[30:60, 40:80] = False
    estimates = []
    for estimate in Truth(known)(still_life):
        depth = estimate.depth.copy()
        depth[44:46, 58:60] = 0.2 * depth[known].min()
        estimates.append(DepthEstimate(depth, (depth > 0).astype(np.float32)))
    for surface, view in zip(complete_surfaces(still_life, estimates), still_life.views, strict=True):
        assert view.depth is not None
        patch = np.zeros_like(known)
        patch[44:46, 58:60] = True
        error = np.abs(surface.inverse_depth * view.depth - 1)
        assert surface.known[patch].all()
        assert error[patch].min() > 1
        assert np.median(error[~known & ~patch]) < 0.1
        assert error[~known & ~patch].max() < 1


@pytest.mark.parametrize(
    ("side", "nearness", "confidence", "believed"),
    [
        (2, 3.0, 0.45, False),
        (2, 3.0, 0.55, True),
        (2, 0.3, 0.7, False),
        (2, 0.3, 0.8, True),
        (2, 1.1, 0.2, True),
        (20, 3.0, 0.2, True),
    ],
)
def test_doubtful_small_patches_far_from_their_surroundings_are_holes(
    still_life: TrainingViews, side: int, nearness: float, confidence: float, believed: bool
) -> None:
    patch = np.zeros(SIZE[::-1], bool)
    patch[40 : 40 + side, 50 : 50 + side] = True
    depth = np.where(patch, 4 / nearness, 4).astype(np.float32)
    estimate = DepthEstimate(depth, np.where(patch, confidence, 1).astype(np.float32))
    for surface in complete_surfaces(still_life, [estimate] * 3):
        assert surface.known[~patch].all()
        assert (surface.known[patch] == believed).all()
        if believed:
            np.testing.assert_allclose(surface.inverse_depth, 1 / depth, rtol=1e-5)
        else:
            np.testing.assert_allclose(surface.inverse_depth, 1 / 4, rtol=0.2)


def test_a_view_without_depth_takes_over_what_others_know(still_life: TrainingViews) -> None:
    estimates = Truth()(still_life)
    nothing = np.zeros(SIZE[::-1], np.float32)
    surfaces = complete_surfaces(still_life, [DepthEstimate(nothing, nothing), *estimates[1:]])
    assert not surfaces[0].known.any()
    assert still_life.views[0].depth is not None
    assert np.median(np.abs(surfaces[0].inverse_depth * still_life.views[0].depth - 1)) < 0.02
    with pytest.raises(InputError, match="knows no depth where the photos count"):
        complete_surfaces(still_life, [DepthEstimate(nothing, nothing)] * 3)


def test_the_far_layer_hides_nothing_and_reaches_beyond_the_photos(still_life: TrainingViews) -> None:
    without = DenseInitialiser(Truth(), budget=4000, far_layer=False)(still_life, seed=0)
    count = len(without.gaussians)
    start = DenseInitialiser(Truth(), budget=4000)(still_life, seed=0)
    layer = start.gaussians[count:]
    assert len(layer) > 100
    outside = np.ones(len(layer), bool)
    for i, view in enumerate(still_life.views):
        pixels, depth, within = where_seen(still_life, i, layer.means.double().numpy())
        x, y = np.floor(pixels[within]).astype(int).T
        assert view.depth is not None
        assert (depth[within] > 0.999 * view.depth[y, x]).all()
        outside &= ~within
    assert outside.sum() > 50


def test_a_known_background_gets_no_gaussians(still_life: TrainingViews) -> None:
    views = []
    for view in still_life.views:
        image = view.image.copy()
        image[:, :40] = 1
        views.append(replace(view, image=image))
    on_white = replace(still_life, views=tuple(views), background=(1.0, 1.0, 1.0))
    start = DenseInitialiser(Truth(), budget=10**9)(on_white, seed=0)
    assert start.background.tolist() == [1, 1, 1]
    assert len(start.gaussians) <= 3 * 80 * 90


def test_masked_pixels_get_no_gaussians(still_life: TrainingViews) -> None:
    mask = np.zeros(SIZE[::-1], bool)
    mask[20:70, 30:90] = True
    masked = replace(still_life, views=tuple(replace(view, mask=mask) for view in still_life.views))
    start = DenseInitialiser(Truth(), budget=10**9, far_layer=False)(masked, seed=0)
    assert len(start.gaussians) == 3 * mask.sum()


def test_a_prior_that_knows_nothing_leads_to_random_points(
    still_life: TrainingViews, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        start = DenseInitialiser(Truth(np.zeros(SIZE[::-1], bool)), budget=2000)(still_life, seed=0)
    assert "no depth" in caplog.text
    assert len(start.gaussians) == 2000


def test_sparse_points_are_used_where_there_are_enough(still_life: TrainingViews) -> None:
    random = np.random.default_rng(0)
    points = Points(random.normal(size=(500, 3)).astype(np.float32), random.random((500, 3)).astype(np.float32))
    start = SparseInitialiser(opacity=0.2)(replace(still_life, points=points), seed=0)
    torch.testing.assert_close(start.gaussians.means, torch.from_numpy(points.xyz))
    distance = neighbour_distance(points.xyz.astype(np.float64))
    np.testing.assert_allclose(start.gaussians.scales[:, 0].exp().numpy(), distance, rtol=1e-4)
    few = replace(still_life, points=Points(points.xyz[:9], points.rgb[:9]))
    assert len(SparseInitialiser(count=1234)(few, seed=0).gaussians) == 1234


def test_triangulated_points_lie_on_the_surface_in_its_colour() -> None:
    views = TrainingViews.load(builtin.generate((240, 180), views=3))
    start = TriangulatedInitialiser(least=20)(replace(views, points=None), seed=0)
    assert 20 <= len(start.gaussians) < 5000
    colours, errors, differences = 0.5 + SH_C0 * start.gaussians.sh0[:, 0].numpy(), [], []
    for i, view in enumerate(views.views):
        pixels, depth, within = where_seen(views, i, start.gaussians.means.double().numpy())
        x, y = pixels[within].astype(int).T
        assert view.depth is not None
        errors.append(np.abs(depth[within] / view.depth[y, x] - 1))
        differences.append(np.abs(colours[within] - view.image[y, x]).max(axis=1))
    assert np.median(np.concatenate(errors)) < 0.01
    assert np.median(np.concatenate(differences)) < 0.1
    assert len(TriangulatedInitialiser(count=77, least=10_000)(views, seed=0).gaussians) == 77


def test_random_points_lie_where_the_photos_look(still_life: TrainingViews) -> None:
    start = SparseInitialiser(count=3000)(still_life, seed=5)
    means = start.gaussians.means.double().numpy()
    within = np.stack([where_seen(still_life, i, means)[2] for i in range(3)])
    assert within.any(axis=0).all()
    assert torch.equal(start.gaussians.means, SparseInitialiser(count=3000)(still_life, seed=5).gaussians.means)
    assert not torch.equal(start.gaussians.means, SparseInitialiser(count=3000)(still_life, seed=6).gaussians.means)


def test_back_projection_and_projection_are_inverse(still_life: TrainingViews) -> None:
    random = np.random.default_rng(0)
    pixels, inverse_depth = random.uniform(0, 90, (50, 2)), random.uniform(0.1, 2, 50)
    there, depth, within = where_seen(still_life, 1, back_project(still_life.cameras, 1, pixels, inverse_depth))
    np.testing.assert_allclose(there, pixels, atol=1e-4)
    np.testing.assert_allclose(depth, 1 / inverse_depth, rtol=1e-6)
    assert within.all()


def test_sizes_are_limited_and_few_points_work() -> None:
    def deviations(positions: list[list[float]]) -> np.ndarray:
        count = len(positions)
        cloud = Cloud(
            np.array(positions), np.zeros((count, 3)), np.ones(count), np.full(count, 0.5), np.zeros(count, int)
        )
        return cloud.sized_by_neighbours().gaussians().scales.exp().numpy()

    np.testing.assert_allclose(deviations([[0, 0, 0]]), 2.5, rtol=1e-5)
    np.testing.assert_allclose(deviations([[0, 0, 0], [0, 0, 0]]), 0.3, rtol=1e-5)
    np.testing.assert_allclose(deviations([[0, 0, 0], [1.5, 0, 0]]), 1.5, rtol=1e-5)


def test_arguments_out_of_range() -> None:
    with pytest.raises(ValueError, match="budget"):
        DenseInitialiser(Truth(), budget=0)
    with pytest.raises(ValueError, match="hole_opacity"):
        DenseInitialiser(Truth(), hole_opacity=1.0)
    with pytest.raises(ValueError, match="hole_density is 0"):
        DenseInitialiser(Truth(), hole_density=0)
    with pytest.raises(ValueError, match=r"further is 1\.5"):
        DenseInitialiser(Truth(), further=1.5)
    with pytest.raises(ValueError, match="detail is nan"):
        DenseInitialiser(Truth(), detail=float("nan"))
    with pytest.raises(ValueError, match="count"):
        SparseInitialiser(count=0)
    with pytest.raises(ValueError, match="opacity"):
        SparseInitialiser(opacity=float("nan"))
    with pytest.raises(ValueError, match="extent"):
        Start(SparseInitialiser, torch.zeros(3), extent=0.0)  # type: ignore[arg-type]
