"""Suggested photos: the pose that tells most, in words, pictures and a file that other commands take."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from datasets.errors import InputError, SceneError
from datasets.pictures import read_picture
from datasets.types import Cameras, Scene, View
from recon3d import paths
from recon3d.__main__ import main
from recon3d.camera_map import SUGGESTED, USED, camera_map
from recon3d.novel_views import render
from recon3d.report import write_report
from recon3d.runs import open_scene_of
from recon3d.splats import Splat
from recon3d.suggest import suggest
from recon3d.suggestion import suggest_views
from recon3d.uncertainty import Evidence, contributions, predict, sight, told_by_all, visible_share
from tests.recon3d.conftest import FittedRun, cameras_around, coloured_blobs


def test_the_view_from_another_side_beats_one_more_of_the_same() -> None:
    cameras, splat = cameras_around(9), Splat(coloured_blobs())
    candidates = cameras[[0, 1, 5, 8]]
    found = suggest_views(splat, cameras[[0, 1]], candidates, 4, further=cameras[[2, 3, 4, 6, 7]])
    assert found[0].index in (2, 3)
    assert sorted(suggestion.index for suggestion in found) == [0, 1, 2, 3]
    gains = [suggestion.after - suggestion.before for suggestion in found]
    assert gains == sorted(gains, reverse=True)
    assert min(gains) >= 0
    assert [s.before for s in found[1:]] == [s.after for s in found[:-1]]


def covered(splat: Splat, photos: Cameras, view: Cameras) -> float:
    """Gaussian by Gaussian, what :func:`suggest_views` counts: the share of a view that photos show from its side."""
    weight = contributions(splat, view).numpy()
    poses = [pose.double().numpy() for pose in (*photos.world_to_camera, view.world_to_camera[0])]
    centres = [-pose[:3, :3].T @ pose[:3, 3] for pose in poses]
    seen = [(sight(splat.gaussians.means, photos[i]), contributions(splat, photos[i])) for i in range(len(photos))]
    shares = [visible_share(splat, *one) for one in seen]
    total = 0.0
    for n, mean in enumerate(splat.gaussians.means.double().numpy()):
        ways = [(mean - centre) / np.linalg.norm(mean - centre) for centre in centres]
        angles = [np.degrees(np.arccos(min(1.0, float(way @ ways[-1])))) for way in ways[:-1]]
        total += weight[n] * max(float(s[n]) * np.exp(-((a / 10) ** 2)) for s, a in zip(shares, angles, strict=True))
    return total / weight.sum()


def test_shares_before_and_after_are_those_of_the_gaussians() -> None:
    cameras, splat = cameras_around(9), Splat(coloured_blobs())
    used, candidates, further = cameras[[0, 8]], cameras[[2, 5]], cameras[[4, 6]]
    best = suggest_views(splat, used, candidates, 1, further)[0]
    views = [cameras[i] for i in (2, 5, 4, 6)]
    assert best.before == pytest.approx(np.mean([covered(splat, used, view) for view in views]), abs=0.01)
    more = cameras[[0, 8, (2, 5)[best.index]]]
    assert best.after == pytest.approx(np.mean([covered(splat, more, view) for view in views]), abs=0.01)
    assert best.after > best.before + 0.1


def test_places_to_look_from_decide() -> None:
    cameras, splat = cameras_around(9), Splat(coloured_blobs())
    used, candidates = cameras[[0]], cameras[[3, 8]]
    beside_first, beside_last = (suggest_views(splat, used, candidates, 1, cameras[[i]])[0].index for i in (4, 7))
    assert (beside_first, beside_last) == (0, 1)


def test_what_a_photo_shows_of_its_own_view_does_not_count() -> None:
    """The second candidate is farther from the photo, the first helps the second more than the other way round."""
    cameras, splat = cameras_around(9), Splat(coloured_blobs())
    numbers = [1, 2, 6]
    gains = np.array(
        [
            [covered(splat, cameras[[0, i]], cameras[v]) - covered(splat, cameras[[0]], cameras[v]) for v in numbers]
            for i in numbers
        ]
    )
    assert gains.mean(axis=1).argmax() == 1
    elsewhere = [np.delete(gain, i).mean() for i, gain in enumerate(gains)]
    assert suggest_views(splat, cameras[[0]], cameras[numbers], 1)[0].index == np.argmax(elsewhere) == 0


def test_as_many_suggestions_as_candidates_at_most() -> None:
    splat, cameras = Splat(coloured_blobs()), cameras_around(2)
    with pytest.raises(InputError, match="2 candidates"):
        suggest_views(splat, cameras, cameras, 3)


def test_candidates_around_look_at_the_focus_from_beside_and_beyond() -> None:
    used, focus = cameras_around(3), np.zeros(3)
    found = paths.around(used, focus, 5, 3)
    poses = found.world_to_camera.double().numpy()
    assert len(found) == 15
    seen = poses[:, :3, 3]  # the focus, which is the origin, from each camera
    assert np.allclose(seen[:, :2], 0, atol=1e-4)
    assert (seen[:, 2] > 0).all()
    centres = -np.einsum("cji,cj->ci", poses[:, :3, :3], poses[:, :3, 3])
    azimuths = np.degrees(np.arctan2(centres[:, 0], -centres[:, 2])).reshape(3, 5)
    assert np.allclose(np.abs(azimuths).max(axis=1), 67.5, atol=0.1)  # photos reach 45 degrees to either side
    assert np.allclose(azimuths[:, 2], 0, atol=0.1)
    assert np.ptp(centres[:, 1]) == pytest.approx(4 / 3, rel=0.03)
    with pytest.raises(InputError):
        paths.around(used, focus, 0, 3)


@pytest.fixture
def spared_run(fitted_run: FittedRun) -> FittedRun:
    """The run, of whose photos the second and fourth are left out of fit and test."""
    path = fitted_run.folder / "config.yaml"
    config = yaml.safe_load(path.read_text())
    config["data"] |= {"train": [0, 4], "test": [2]}
    path.write_text(yaml.safe_dump(config))
    return fitted_run


@pytest.mark.parametrize("pool", ["around", "photos", "file"])
def test_the_command_writes_words_pictures_and_cameras(
    spared_run: FittedRun, tmp_path: Path, capsys: pytest.CaptureFixture[str], pool: str
) -> None:
    run = spared_run.folder
    if pool == "file":
        suggest(run, candidates="around", count=3, report=False)
        (run / "suggestions" / "cameras.json").rename(tmp_path / "places.json")
        capsys.readouterr()
        pool = str(tmp_path / "places.json")
    suggest(run, candidates=pool, count=2)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("1. ")
    assert printed[1].startswith("2. ")
    assert (
        ("photo_1.png:" in printed[0] or "photo_3.png:" in printed[0])
        if pool == "photos"
        else "from photo_" in printed[0]
    )

    folder = run / "suggestions"
    frames = json.loads((folder / "cameras.json").read_text())["frames"]
    assert [frame["text"] for frame in frames] == printed[:2]
    assert 0 <= frames[0]["before"] < frames[0]["after"] <= 1
    for rank in (1, 2):
        picture = read_picture(folder / f"{rank}.png")
        assert picture is not None
        assert picture.shape == (54, 144, 3)
        assert picture.std() > 3
    page = (run / "report.html").read_text()
    assert "Next photos" in page
    assert printed[0] in page
    render(run, path=str(folder / "cameras.json"), report=False)
    seen = read_picture(run / "renders" / "cameras" / "images" / "00000.png")
    first = read_picture(folder / "1.png")
    assert seen is not None
    assert first is not None
    assert np.abs(seen.astype(int) - first[:, :72]).max() <= 1


def test_only_train_photos_are_opened(spared_run: FittedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> View:
        raise AssertionError("a photo was opened")

    def closed(run: Path, root: Path | None = None) -> Scene:
        scene = open_scene_of(run, root)
        photos = (photo if i in scene.train else replace(photo, load=never) for i, photo in enumerate(scene.photos))
        return replace(scene, photos=tuple(photos))

    monkeypatch.setattr("recon3d.suggest.open_scene_of", closed)
    suggest(spared_run.folder, candidates="photos", count=1, report=False)
    assert (spared_run.folder / "suggestions" / "1.png").is_file()


def test_the_map_shows_cameras_in_their_colours() -> None:
    used, pool = cameras_around(3), cameras_around(7)
    picture = camera_map(Splat(coloured_blobs()), used, pool, [6, 0])
    for colour in (USED, SUGGESTED):
        assert (np.abs(picture.astype(int) - colour).max(axis=-1) < 40).sum() > 20
    empty = Splat(coloured_blobs()[torch.zeros(150, dtype=torch.bool)])
    assert camera_map(empty, used, pool, [0]).shape == picture.shape


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--candidates", "everywhere"], "there are no candidates 'everywhere'"),
        (["--candidates", "nowhere.json"], "nowhere.json"),
        (["--count", "0"], "0 suggestions"),
        (["--candidates", "photos", "--count", "3"], "2 candidates"),
    ],
)
def test_what_cannot_be_suggested_is_one_clear_error(
    spared_run: FittedRun, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["suggest", str(spared_run.folder), *options]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (spared_run.folder / "suggestions").exists()


def test_test_photos_are_no_candidates(fitted_run: FittedRun) -> None:
    with pytest.raises(InputError, match="no photos beside those of fit and test"):
        suggest(fitted_run.folder, candidates="photos", report=False)


@pytest.mark.parametrize("content", ["[]", '{"frames": 3}', '{"frames": [{"text": 1}]}'])
def test_a_spoiled_listing_is_named(spared_run: FittedRun, content: str) -> None:
    (spared_run.folder / "suggestions").mkdir()
    (spared_run.folder / "suggestions" / "cameras.json").write_text(content)
    with pytest.raises(SceneError, match="does not hold suggestions"):
        write_report(spared_run.folder)


def test_colours_behind_objects_are_known(spared_run: FittedRun) -> None:
    """Nothing is gained by looking at a background that is known."""
    nothing = replace(spared_run.truth, gaussians=spared_run.truth.gaussians[torch.zeros(150, dtype=torch.bool)])
    told = told_by_all(nothing, spared_run.cameras)
    assert predict(nothing, spared_run.cameras[0], Evidence(told, known_background=True)).error.max() == 0
    assert predict(nothing, spared_run.cameras[0], Evidence(told)).error.min() > 0
