"""``recon3d render``: frames, depth, cameras and video along a path; going on after an interruption; mistakes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datasets.errors import InputError, SceneError
from datasets.pictures import read_picture, save_picture, to_bytes
from datasets.scenes import open_scene
from recon3d import novel_views, paths
from recon3d.novel_views import focus_of, render
from recon3d.pictures import draw, heat
from recon3d.runs import open_scene_of
from recon3d.splats import Splat, SplatError, load_splat, save_splat
from recon3d.uncertainty import Evidence, predict
from recon3d.video import read_video


def frame_count(path: Path) -> int:
    return len(list(read_video(path)[0]))


def test_an_orbit_of_a_run(fitted_run: Any) -> None:
    render(fitted_run.folder, frames=6, fps=12, report=False)
    folder = fitted_run.folder / "renders" / "orbit"
    assert frame_count(folder / "video.mp4") == frame_count(folder / "depth.mp4") == 6
    assert read_video(folder / "video.mp4")[1] == 12
    assert (fitted_run.folder / "video.mp4").read_bytes() == (folder / "video.mp4").read_bytes()
    assert sorted(path.name for path in (folder / "images").iterdir()) == [f"{i:05d}.png" for i in range(6)]
    assert len(list((folder / "depth").iterdir())) == 12


def test_what_comes_out_is_a_scene_with_the_same_views(fitted_run: Any) -> None:
    """Cameras, pictures and depth agree, whatever world the photos' source has."""
    splat = load_splat(fitted_run.folder / "splat.safetensors")
    to_source = np.diag([2.0, 2.0, 2.0, 1.0])
    to_source[:3, 3] = [5, -3, 7]
    save_splat(
        fitted_run.folder / "splat.safetensors", Splat(splat.gaussians, splat.background, scene_to_source=to_source)
    )
    render(fitted_run.folder, path="between", frames=5, report=False)
    folder = fitted_run.folder / "renders" / "between"
    scene = open_scene(folder)
    view = scene.photos[2].load()
    camera = paths.from_json(folder / "cameras.json", to_source)[2]
    seen = draw(splat, camera)
    np.testing.assert_array_equal(to_bytes(view.image), to_bytes(seen.colour.numpy()))
    assert view.depth is not None
    np.testing.assert_allclose(view.depth, 2 * seen.depth, rtol=1e-3)
    # the third of five frames between three cameras is the middle camera
    np.testing.assert_allclose(camera.world_to_camera[0], fitted_run.cameras.world_to_camera[2], atol=1e-4)


def test_a_folder_of_something_else_is_left_alone(fitted_run: Any, tmp_path: Path) -> None:
    out = tmp_path / "holidays"
    (out / "images").mkdir(parents=True)
    (out / "images" / "beach.png").write_bytes(b"dear")
    for name in ("notes.txt", "cameras.json"):
        (out / name).write_text('{"frames": []}')
        with pytest.raises(InputError, match="holds something else"):
            render(fitted_run.folder, frames=2, out=out, report=False)
        assert (out / "images" / "beach.png").read_bytes() == b"dear"
    render(fitted_run.folder, frames=2, out=tmp_path / "new", report=False)
    render(fitted_run.folder, path="between", frames=3, out=tmp_path / "new", report=False)
    assert len(list((tmp_path / "new" / "images").iterdir())) == 3


def test_a_file_of_cameras(fitted_run: Any) -> None:
    """The cameras of the photos themselves, at half the size: the renders are the photos reduced, about."""
    render(fitted_run.folder, path=str(fitted_run.scene / "cameras.json"), scale=0.5, report=False)
    folder = fitted_run.folder / "renders" / "cameras"
    assert frame_count(folder / "video.mp4") == 5
    for i in range(5):
        got, photo = read_picture(folder / "images" / f"{i:05d}.png"), read_picture(fitted_run.scene / f"photo_{i}.png")
        assert got is not None
        assert photo is not None
        assert got.shape == (27, 36, 3)
        reduced = photo.reshape(27, 2, 36, 2, 3).mean(axis=(1, 3))
        assert np.abs(got - reduced).mean() < 8


def test_an_interrupted_call_goes_on_where_it_was(fitted_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fitted_run.folder / "renders" / "orbit"
    real, calls = novel_views.save_picture, []

    def counting(path: Path, image: np.ndarray) -> None:
        if path.parent.name == "images":
            calls.append(path.name)
            if len(calls) == 3:
                raise KeyboardInterrupt
        real(path, image)

    monkeypatch.setattr(novel_views, "save_picture", counting)
    with pytest.raises(KeyboardInterrupt):
        render(fitted_run.folder, frames=5, report=False)
    assert sorted(path.name for path in (folder / "images").iterdir()) == ["00000.png", "00001.png"]
    assert not (folder / "video.mp4").exists()
    before = (folder / "images" / "00000.png").stat().st_mtime_ns
    (folder / "images" / "00001.png").write_bytes(b"damaged")

    render(fitted_run.folder, frames=5, report=False)
    assert calls[3:] == ["00001.png", "00002.png", "00003.png", "00004.png"]
    assert (folder / "images" / "00000.png").stat().st_mtime_ns == before
    assert frame_count(folder / "video.mp4") == 5

    render(fitted_run.folder, frames=4, report=False)  # another path: all of it anew
    assert calls[7:] == [f"{i:05d}.png" for i in range(4)]
    splat = load_splat(fitted_run.folder / "splat.safetensors")
    save_splat(fitted_run.folder / "splat.safetensors", Splat(splat.gaussians, (0.9, 0.1, 0.1)))
    render(fitted_run.folder, frames=4, report=False)  # another splat likewise
    assert len(calls) == 15
    assert not [path for path in fitted_run.folder.rglob(".*")]


def test_predicted_errors_are_those_of_the_train_cameras(fitted_run: Any) -> None:
    render(fitted_run.folder, path="between", frames=4, uncertainty=True, report=False)
    folder = fitted_run.folder / "renders" / "between"
    splat = load_splat(fitted_run.folder / "splat.safetensors")
    evidence = Evidence.of(splat, open_scene_of(fitted_run.folder, None))
    cameras = paths.from_json(folder / "cameras.json", splat.scene_to_source)
    for i in range(4):
        expected = predict(splat, cameras[i], evidence)
        got = read_picture(folder / "predicted" / f"{i:05d}_predicted.png")
        assert got is not None
        # the poses come back from text: a step of the colours may differ
        np.testing.assert_allclose(got.astype(int), heat(expected.error).astype(int), atol=2)
        picture = read_picture(folder / "images" / f"{i:05d}.png")
        assert picture is not None
        np.testing.assert_allclose(picture.astype(int), to_bytes(expected.picture.colour.numpy()).astype(int), atol=2)
    assert frame_count(folder / "predicted.mp4") == frame_count(folder / "depth.mp4") == 4


def test_predicted_errors_go_on_where_they_were(fitted_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, made = novel_views.save_picture, []

    def counting(path: Path, image: np.ndarray) -> None:
        if path.parent.name == "predicted":
            made.append(path.name)
        real(path, image)

    monkeypatch.setattr(novel_views, "save_picture", counting)
    folder = fitted_run.folder / "renders" / "orbit"
    render(fitted_run.folder, frames=3, report=False)
    assert not made
    pictures = {path.name: path.read_bytes() for path in (folder / "images").iterdir()}
    render(fitted_run.folder, frames=3, uncertainty=True, report=False)
    names = [f"{i:05d}_predicted.png" for i in range(3)]
    assert made == names
    assert {path.name: path.read_bytes() for path in (folder / "images").iterdir()} == pictures

    (folder / "predicted" / names[1]).write_bytes(b"damaged")
    (folder / "predicted" / names[2]).unlink()
    render(fitted_run.folder, frames=3, uncertainty=True, report=False)
    assert made[3:] == names[1:]

    render(fitted_run.folder, frames=2, report=False)  # another path
    assert not (folder / "predicted").exists()
    assert not (folder / "predicted.mp4").exists()


def test_predicted_errors_of_a_splat_file_need_cameras(fitted_run: Any, tmp_path: Path) -> None:
    path, out = fitted_run.folder / "splat.safetensors", tmp_path / "out"
    with pytest.raises(InputError, match=r"splat.safetensors: .* for its uncertainty give --root SCENE"):
        render(path, frames=2, out=out, uncertainty=True)
    assert not out.exists()

    listing = str(fitted_run.scene / "cameras.json")
    render(path, path=listing, root=fitted_run.scene, out=out, uncertainty=True)
    before = read_picture(out / "predicted" / "00004_predicted.png")
    fewer = shutil.copytree(fitted_run.scene, tmp_path / "fewer")
    told = json.loads((fewer / "cameras.json").read_text())
    for i, frame in enumerate(told["frames"]):
        frame["split"] = "train" if i < 2 else "test"
    (fewer / "cameras.json").write_text(json.dumps(told))
    render(path, path=listing, root=fewer, out=out, uncertainty=True)
    after = read_picture(out / "predicted" / "00004_predicted.png")
    assert before is not None
    assert after is not None
    assert after.mean() > before.mean() + 5  # far from both photos that are left

    for photo in fewer.glob("*.png"):
        save_picture(photo, np.full_like(read_picture(photo), 128))
    render(path, path=listing, root=fewer, out=out, uncertainty=True)
    grey = read_picture(out / "predicted" / "00004_predicted.png")
    assert grey is not None
    assert grey.mean() < after.mean() - 5  # a guess among photos of one colour is right


def test_a_splat_file_alone_is_orbited(fitted_run: Any, tmp_path: Path) -> None:
    path = tmp_path / "ball.ply"
    save_splat(path, fitted_run.truth)
    render(path, frames=4, scale=0.1)
    folder = tmp_path / "ball_orbit"
    assert frame_count(folder / "video.mp4") == 4
    for i in range(4):
        picture = read_picture(folder / "images" / f"{i:05d}.png")
        assert picture is not None
        assert picture.shape == (54, 96, 3)
        away = np.abs(picture.astype(int) - np.array([51, 77, 102])).sum(axis=2) > 30
        assert 0.1 < away.mean() < 0.9  # all of the ball, with background around it
        assert not away[:, 0].any()
        assert not away[:, -1].any()
    with pytest.raises(InputError, match="for between give --root"):
        render(path, path="between", frames=4)
    render(path, path="between", frames=7, root=fitted_run.scene, out=tmp_path / "chosen")
    assert frame_count(tmp_path / "chosen" / "video.mp4") == 7


def test_focus_is_in_the_ball(fitted_run: Any) -> None:
    assert np.linalg.norm(focus_of(fitted_run.truth, fitted_run.cameras)) < 0.4


def test_cameras_that_see_nothing(fitted_run: Any) -> None:
    far = fitted_run.truth.gaussians.parameters()
    far["means"] = far["means"] - torch.tensor([0.0, 0, 1000])  # behind them
    with pytest.raises(InputError, match="see nothing of the splat"):
        focus_of(Splat(type(fitted_run.truth.gaussians).from_parameters(far)), fitted_run.cameras)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "spirall"}, "there is no path 'spirall': give one of orbit, spiral, between, or FILE.json"),
        ({"path": "nothing.json"}, "nothing.json: there is no such file"),
        ({"frames": 0}, "0 frames"),
        ({"frames": 2, "path": "between"}, "2 frames: this path needs at least 3"),
        ({"scale": 0.0}, "scale is 0.0"),
        ({"fps": 0}, "fps 0"),
        ({"sweep": 400.0}, "sweep is 400"),
    ],
)
def test_options_that_are_refused(fitted_run: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        render(fitted_run.folder, **options)
    assert not (fitted_run.folder / "video.mp4").exists()


def test_splats_that_cannot_be_rendered(fitted_run: Any, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no such folder"):
        render(tmp_path / "nothing")
    bad = tmp_path / "bad.ply"
    bad.write_bytes(b"ply\n")
    with pytest.raises(SplatError, match=r"bad.ply"):
        render(bad)
    listing = fitted_run.folder / "path.json"
    listing.write_text(json.dumps({"frames": [{"width": 64}]}))
    with pytest.raises(SceneError, match="height is missing"):
        render(fitted_run.folder, path=os.fspath(listing))
