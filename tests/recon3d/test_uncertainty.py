"""How far places are open, and how well the error predicted from it fits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.types import Cameras, Photo, View
from recon3d import paths
from recon3d.calibration import Calibration, local_error, measured_over_predicted
from recon3d.gaussians import Gaussians
from recon3d.pictures import draw
from recon3d.render import render
from recon3d.runs import open_scene_of
from recon3d.splats import Splat
from recon3d.uncertainty import (
    ANY_COLOUR,
    GUESS,
    KNOWN_TO,
    WORST,
    Evidence,
    contributions,
    error_of_a_guess,
    predict,
    root_displacement,
    sight,
    told_by,
    told_by_all,
)
from tests.recon3d.conftest import FittedRun, cameras_around, coloured_blobs

FOCAL = 80.0


def looking(*eyes: tuple[float, float, float]) -> Cameras:
    """Cameras at ``eyes`` that look at the origin."""
    poses = np.stack([paths.look_at(np.array(eye, float), np.zeros(3), np.array([0.0, -1, 0.01])) for eye in eyes])
    intrinsics = torch.tensor([[FOCAL, 0, 36], [0, FOCAL, 27], [0, 0, 1]]).repeat(len(eyes), 1, 1)
    return Cameras(torch.from_numpy(poses).float(), intrinsics, torch.tensor([[72, 54]]).repeat(len(eyes), 1))


def balls(*places: tuple[float, float, float], size: float = 0.1, opacity: float = 0.99) -> Splat:
    count = len(places)
    return Splat(
        Gaussians(
            means=torch.tensor(places),
            scales=torch.full((count, 3), math.log(size)),
            quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
            opacities=torch.full((count,), math.log(opacity / (1 - opacity))),
            sh0=torch.ones(count, 1, 3),
            shN=torch.zeros(count, 0, 3),
        )
    )


def test_contributions_are_the_blending_weights() -> None:
    splat, camera = Splat(coloured_blobs(20)), cameras_around(1)
    found = contributions(splat, camera)
    for i in range(20):
        channel = torch.zeros(20, 1)
        channel[i] = 1
        with torch.no_grad():
            alone = render(splat.gaussians, camera, features=channel).features
        assert alone is not None
        assert float(found[i]) == pytest.approx(float(alone.double().sum()), rel=1e-4, abs=1e-5)


def test_one_photo_fixes_a_place_across_its_line_of_sight_alone() -> None:
    splat, camera = balls((0.0, 0, 0)), looking((0, 0, -4))
    told = told_by(splat, camera)[0]
    pixels_per_unit = FOCAL / 4
    assert float(told[0, 0]) == pytest.approx(pixels_per_unit**2, rel=0.1)  # nearly all of it is visible
    assert float(told[1, 1]) == pytest.approx(float(told[0, 0]))
    assert torch.allclose(told[2], torch.zeros(3, dtype=torch.float64), atol=1e-6)

    same = root_displacement(sight(splat.gaussians.means, camera), told[None])
    assert float(same**2) == pytest.approx(math.sqrt(2), rel=0.1)  # a pixel each way
    square = looking((4, 0, 0))
    aside = root_displacement(sight(splat.gaussians.means, square), told[None])
    along = KNOWN_TO * 4 * pixels_per_unit
    assert float(aside**2) == pytest.approx(math.hypot(along, 1), rel=0.05)
    both = root_displacement(sight(splat.gaussians.means, square), told[None] + told_by(splat, square))
    assert float(both**2) < 1.6


def test_what_is_hidden_or_outside_is_not_told() -> None:
    camera = looking((0, 0, -4))
    hidden = balls((0.0, 0, 0), (0.0, 0, 1), (9.0, 0, 0), (0.0, 0, -9))
    wall = hidden.gaussians.scales.clone()
    wall[0] = math.log(0.5)
    told = told_by(Splat(Gaussians.from_parameters(hidden.gaussians.parameters() | {"scales": wall})), camera)
    strength = told.diagonal(dim1=1, dim2=2).sum(1)
    assert strength[0] > 100
    assert strength[1] < 0.05 * strength[0]
    assert strength[2] == strength[3] == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.01, 100))
def test_more_photos_never_open_a_place_and_units_do_not_matter(seed: int, unit: float) -> None:
    splat, cameras = Splat(coloured_blobs(30, seed)), cameras_around(4)
    fewer, more = told_by_all(splat, cameras[[0, 3]]), told_by_all(splat, cameras[[0, 1, 3]])
    seen = sight(splat.gaussians.means, cameras[2])
    assert (root_displacement(seen, more) <= root_displacement(seen, fewer) + 1e-9).all()
    assert (root_displacement(seen, fewer) <= math.sqrt(WORST) + 1e-9).all()

    parameters = splat.gaussians.parameters()
    larger = {"means": parameters["means"] * unit, "scales": parameters["scales"] + math.log(unit)}
    scaled = Splat(Gaussians.from_parameters(parameters | larger))
    poses = cameras.world_to_camera.clone()
    poses[:, :3, 3] *= unit
    moved = Cameras(poses, cameras.intrinsics, cameras.sizes)
    told = told_by_all(scaled, moved[[0, 3]]) * unit**2
    assert torch.allclose(told, fewer, rtol=1e-2, atol=1e-2 * float(fewer.max()))


def test_prediction_shows_the_splat_and_grows_away_from_the_photos() -> None:
    cameras = cameras_around(9)
    splat = Splat(coloured_blobs(), (0.2, 0.3, 0.4))
    told = told_by_all(splat, cameras[[4]])
    errors = []
    for i in (4, 6, 8):
        seen = predict(splat, cameras[i], Evidence(told, known_background=True))
        alone = draw(splat, cameras[i])
        assert torch.equal(seen.picture.colour, alone.colour)
        assert np.array_equal(seen.picture.depth, alone.depth)
        assert seen.error.dtype == np.float32
        errors.append(float(seen.error.mean()))
    assert errors[0] < errors[1] < errors[2]
    guessed = predict(splat, cameras[4], Evidence(told, guess=0.3))
    assert guessed.displacement[0, 0] == pytest.approx(math.sqrt(WORST), rel=1e-3)  # a corner that nothing covers
    assert guessed.error[0, 0] == pytest.approx(0.3, rel=1e-2)


def test_a_guess_is_as_wrong_as_photos_are_colourful() -> None:
    grey, halves = np.full((24, 3), 0.5, np.float32), np.zeros((24, 3), np.float32)
    halves[:12] = 1
    assert error_of_a_guess([grey, grey]) == 0
    assert error_of_a_guess([halves, 1 - halves]) == pytest.approx(0.5 * GUESS)
    assert error_of_a_guess([halves[:0], halves]) == pytest.approx(0.5 * GUESS)
    assert error_of_a_guess([grey[:0]]) == ANY_COLOUR
    many = np.full((30_000_000, 3), 0.8, np.float32)
    many[::3] = 0.2
    assert error_of_a_guess([many]) == pytest.approx(GUESS * 4 / 9 * 0.6, rel=1e-2)


def test_what_masks_hide_does_not_count_for_a_guess(fitted_run: FittedRun) -> None:
    scene = open_scene_of(fitted_run.folder, None)
    guesses = []
    for hidden in (0.0, 1.0):
        view = scene.photos[0].load()
        mask = np.ones(view.image.shape[:2], bool)
        mask[:9] = False
        image = np.where(mask[..., None], view.image, np.float32(hidden))
        masked = Photo(scene.photos[0].path, lambda image=image, mask=mask: View(image, mask))
        photos = tuple(masked for _ in scene.photos)
        guesses.append(Evidence.of(fitted_run.truth, replace(scene, photos=photos)).guess)
    assert guesses[0] == guesses[1] > 0


def test_evidence_of_a_scene(fitted_run: FittedRun) -> None:
    scene = open_scene_of(fitted_run.folder, None)
    evidence = Evidence.of(fitted_run.truth, scene)
    assert torch.equal(evidence.told, told_by_all(fitted_run.truth, scene.cameras[list(scene.train)]))
    assert evidence.guess == error_of_a_guess([scene.photos[i].load().colours for i in scene.train])
    assert evidence.known_background == (scene.background is not None)


def test_no_gaussian_at_all() -> None:
    nothing = Splat(coloured_blobs()[torch.zeros(150, dtype=torch.bool)])
    seen = predict(nothing, cameras_around(1), Evidence(told_by_all(nothing, cameras_around(2))))
    assert np.allclose(seen.displacement, math.sqrt(WORST))


def test_told_of_other_gaussians_is_refused() -> None:
    splat = balls((0.0, 0, 0))
    with pytest.raises(ValueError, match="told"):
        predict(splat, looking((0, 0, -4)), Evidence(torch.zeros(2, 3, 3, dtype=torch.float64)))


def test_it_tells_where_a_displaced_splat_is_wrong(fitted_run: FittedRun) -> None:
    """Places moved as far as the photos leave them open: the errors are those that were predicted."""
    cameras, truth = fitted_run.cameras, fitted_run.truth
    told = told_by_all(truth, cameras[[1, 2]])
    generator = torch.Generator().manual_seed(0)
    seen = sight(truth.gaussians.means, cameras[1])
    beforehand = (KNOWN_TO * seen.distance) ** -2
    covariance = torch.linalg.inv(told + beforehand[:, None, None] * torch.eye(3, dtype=torch.float64))
    step = torch.randn(len(truth), 3, 1, generator=generator, dtype=torch.float64)
    moved = truth.gaussians.means + (torch.linalg.cholesky(covariance) @ step)[..., 0].float()
    wrong = Splat(Gaussians.from_parameters(truth.gaussians.parameters() | {"means": moved}), truth.background)
    calibration = Calibration()
    for i in (0, 3, 4):
        photo = draw(truth, cameras[i]).colour.numpy()
        evidence = Evidence(told_by_all(wrong, cameras[[1, 2]]), known_background=True)
        prediction = predict(wrong, cameras[i], evidence)
        calibration.add(prediction.error, prediction.picture.colour.numpy(), photo)
    summary = calibration.summary()
    assert summary is not None
    assert summary["ause"] < 0.6 * summary["ause_of_chance"]
    assert 0.4 < sum(summary["measured"]) / sum(summary["predicted"]) < 2.5


def test_calibration_of_known_cases() -> None:
    random = np.random.default_rng(0)
    photo = random.random((60, 80, 3)).astype(np.float32)
    colour = np.clip(photo + random.normal(0, np.linspace(0, 0.4, 80)[:, None], (60, 80, 3)), 0, 1).astype(np.float32)
    truth = local_error(colour, photo)
    perfect, reverse, nothing = Calibration(), Calibration(), Calibration()
    perfect.add(truth, colour, photo)
    reverse.add(1 - truth, colour, photo)
    nothing.add(np.zeros_like(truth), colour, photo)
    best, worst, chance = perfect.summary(), reverse.summary(), nothing.summary()
    assert best is not None
    assert worst is not None
    assert chance is not None
    assert best["ause"] == pytest.approx(0, abs=1e-6)
    assert best["predicted"] == best["measured"] == sorted(best["measured"])
    assert best["measured_over_predicted"] == 1
    assert worst["ause"] > best["ause_of_chance"] > 0.2
    assert worst["measured"] == sorted(worst["measured"], reverse=True)
    errors = np.sort(truth.astype(np.float64).ravel())[::-1]
    left = [errors[len(errors) * k // 20 :].mean() for k in range(20)]
    assert best["ause_of_chance"] == pytest.approx((errors.mean() - np.mean(left)) / errors.mean(), abs=2e-3)


def test_the_ratio_is_of_the_mean_errors_and_an_old_summary_has_it_by_its_curve() -> None:
    random = np.random.default_rng(0)
    photo, colour = random.random((2, 61, 83, 3)).astype(np.float32)
    truth = local_error(colour, photo)
    calibration = Calibration()
    calibration.add(0.5 * truth + 0.1, colour, photo)
    summary = calibration.summary()
    assert summary is not None
    ratio = float(truth.mean() / (0.5 * truth + 0.1).mean())
    assert measured_over_predicted(summary) == summary["measured_over_predicted"] == pytest.approx(ratio, abs=1e-4)
    del summary["measured_over_predicted"]
    assert measured_over_predicted(summary) == pytest.approx(ratio, rel=1e-3)


def test_calibration_keeps_to_the_mask_and_needs_pixels() -> None:
    colour, photo = np.zeros((40, 40, 3), np.float32), np.zeros((40, 40, 3), np.float32)
    photo[:, 20:] = 1
    calibration = Calibration()
    assert calibration.summary() is None
    calibration.add(np.zeros((40, 40), np.float32), colour, photo, np.zeros((40, 40), bool))
    assert calibration.summary() is None
    calibration.add(np.zeros((40, 40), np.float32), colour, photo, np.arange(40)[None].repeat(40, 0) < 8)
    summary = calibration.summary()
    assert summary is not None
    assert max(summary["measured"]) < 0.01
