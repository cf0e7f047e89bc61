"""The command ``view3d``: pictures and videos without a display, and one line for what cannot be used."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from datasets.errors import SceneError
from datasets.geometry import project
from datasets.programs.shots import photographer
from datasets.types import Cameras
from recon3d.gaussians import SH_C0, Gaussians
from recon3d.splats import Splat, load_splat, save_splat
from recon3d.splats.mean import mean_of
from recon3d.viewing import open_for_viewing
from tests.recon3d.conftest import FittedRun, coloured_blobs, fitted_run
from viewer.__main__ import main
from viewer.drawing import draw
from viewer.layers import SplatLayer
from viewer.reading import open_all
from viewer.shots import around
from viewer.splats import installed_openers
from viewer.views import named_camera, named_viewpoint

__all__ = ["fitted_run"]
BOX_COLOUR = [0, 158, 224]  # of a label file's first class


def shot(out: Path, *arguments: object) -> np.ndarray:
    """RGB of the picture that a command writes."""
    assert main([*map(str, arguments), "--shot", str(out)]) == 0
    return cv2.cvtColor(cv2.imread(str(out)), cv2.COLOR_BGR2RGB)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a command prints where it cannot go on."""
    assert main([*map(str, arguments)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("view3d: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_the_opener_is_found_by_its_entry_point() -> None:
    assert open_for_viewing in installed_openers()


def test_a_run_from_a_photos_place_is_the_splats_own_render(fitted_run: FittedRun, tmp_path: Path) -> None:
    image = shot(tmp_path / "shot.png", fitted_run.folder, "--view", "photo:3", "--size", "288x216")
    assert image.shape == (216, 288, 3)
    photo = cv2.cvtColor(cv2.imread(str(fitted_run.scene / "photo_3.png")), cv2.COLOR_BGR2RGB)
    small = cv2.resize(image, photo.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - photo).mean() < 6  # the run's colours are a little off


def test_from_behind_all_photos_are_in_the_picture(fitted_run: FittedRun, tmp_path: Path) -> None:
    contents = open_all([fitted_run.folder], installed_openers())
    camera = named_camera(contents, "behind", 320, 200)
    poses = fitted_run.cameras.world_to_camera
    places = -torch.einsum("nji,nj->ni", poses[:, :3, :3], poses[:, :3, 3])
    pixels, depth = project(places, camera)
    assert (depth > 0).all()
    assert ((pixels > 0) & (pixels < torch.tensor([320.0, 200.0]))).all()
    eye = -camera.world_to_camera[0, :3, :3].T @ camera.world_to_camera[0, :3, 3]
    assert eye[1] < places[:, 1].min()  # y is down: it looks from above them
    image = shot(tmp_path / "behind.png", fitted_run.folder, "--view", "behind", "--size", "320x200")
    photograph = photographer()
    assert photograph is not None
    found = photograph([fitted_run.folder], (320, 200), "behind")
    assert contents.cameras is not None
    assert contents.cameras.photos == "shown"
    np.testing.assert_array_equal(draw(contents.layers, camera), image)
    contents.cameras.photos = "train"
    np.testing.assert_array_equal(found, draw(contents.layers, camera))
    assert 0 < (found != image).any(axis=2).mean() < 0.1, "test photos are left out"


def test_behind_what_photos(sweep: Callable[..., Path], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "no photos are open" in refused(
        capsys, sweep(np.ones((5, 4))), "--shot", tmp_path / "a.png", "--view", "behind"
    )


def test_a_sweep_with_boxes_from_above(sweep: Callable[..., Path], tmp_path: Path) -> None:
    ground = np.stack(np.meshgrid(np.linspace(-20, 20, 200), np.linspace(-20, 20, 200)), -1).reshape(-1, 2)
    points = np.concatenate([ground, np.zeros((len(ground), 2))], axis=1)
    label = tmp_path / "label.txt"
    label.write_text("Car 0 0 0 0 0 50 50 1.5 2.0 6.0 5.0 0.5 10.0 -1.5708\n")
    paths = (sweep(points, "000.bin"), label, "--view", "bev", "--size", "200x200")
    image = shot(tmp_path / "bev.png", *paths)
    box = (np.abs(image.astype(int) - BOX_COLOUR).sum(axis=2) < 60).nonzero()
    # 10 m ahead is up in the picture, 5 m to the right is right of the middle; about 5 pixels a metre
    assert np.median(box[0]) < 85
    assert np.median(box[1]) > 115
    tall, wide = np.ptp(box[0]), np.ptp(box[1])
    assert 2 < tall / wide < 4.5  # 6 m along, 2 m across


def test_boxes_of_a_lower_score_begin_hidden(sweep: Callable[..., Path], tmp_path: Path) -> None:
    cloud = sweep(np.array([[-20.0, -20, 0, 0], [20, 20, 0, 0]]), "000.bin")
    boxes = tmp_path / "found.json"
    found = {"class_names": ["Car"], "labels": [0, 0], "scores": [0.9, 0.2]}
    boxes.write_text(json.dumps(found | {"boxes": [[10, 5, 0, 5, 2, 1.5, 0], [10, -5, 0, 5, 2, 1.5, 0]]}))
    arguments = (cloud, boxes, "--view", "bev", "--size", "200x200")
    sides = []
    for score in (0, 0.5, 0.95):
        image = shot(tmp_path / "bev.png", *arguments, "--score", score)
        box = np.abs(image.astype(int) - BOX_COLOUR).sum(axis=2) < 60
        sides.append([bool(box[:, :100].any()), bool(box[:, 100:].any())])  # left of the sensor, and right of it
    assert sides == [[True, True], [True, False], [False, False]]


def test_a_turntable_goes_around(fitted_run: FittedRun, tmp_path: Path) -> None:
    out = tmp_path / "turn.mp4"
    path = fitted_run.folder / "splat.safetensors"
    assert main([str(path), "--turntable", str(out), "--size", "97x64", "--frames", "8", "--fps", "12"]) == 0
    with av.open(str(out)) as video:
        assert video.streams.video[0].average_rate == 12
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in video.decode(video=0)]
    assert len(frames) == 8
    assert frames[0].shape == (64, 96, 3)
    assert all(np.abs(a - b).mean() > 2 for a, b in itertools.pairwise(frames))


@pytest.mark.parametrize("view", [None, "top", "bev", "photo:1", '{"eye": [1, 2, -3], "target": [0, 0, 1]}'])
def test_every_view_is_gone_around(scene_folder: Path, view: str | None) -> None:
    contents = open_all([scene_folder], [])
    start = named_viewpoint(contents, view, 1.0)
    cameras = Cameras.concatenate(around(contents, view, (80, 80), 8))
    middle = torch.from_numpy(start.target).float()[None]
    pixels, depth = project(middle, cameras)
    assert torch.allclose(pixels, torch.tensor(40.0), atol=0.05)
    assert torch.allclose(depth, torch.tensor(start.distance).float(), rtol=1e-3)
    assert torch.allclose(cameras[0].world_to_camera, start.camera(80, 80).world_to_camera)
    heights = cameras.centres.double().numpy() @ contents.up
    assert np.allclose(heights, heights[0], atol=1e-3 * start.distance)
    turned = cameras.world_to_camera[1, :3, :3] @ cameras.world_to_camera[0, :3, :3].T
    assert float(turned.trace()) == pytest.approx(1 + 2 * np.cos(np.pi / 4), abs=1e-3)


def test_a_file_written_again_is_shown_again(tmp_path: Path) -> None:
    path = tmp_path / "splat.ply"
    save_splat(path, Splat(coloured_blobs(20)))
    layer = open_all([path], installed_openers()).layers[0]
    assert isinstance(layer, SplatLayer)
    assert not layer.refresh()
    save_splat(path, Splat(coloured_blobs(30)))
    assert layer.refresh()
    assert len(layer.splat.parameters()["means"]) == 30
    assert not layer.refresh()
    path.unlink()
    assert not layer.refresh()


def test_a_run_that_is_going_on_shows_its_checkpoint(fitted_run: FittedRun, capsys: pytest.CaptureFixture[str]) -> None:
    result, checkpoint = fitted_run.folder / "splat.safetensors", fitted_run.folder / "checkpoints" / "last.ckpt"
    whole = load_splat(result)
    result.unlink()
    assert "has written no checkpoint yet" in refused(capsys, fitted_run.folder, "--shot", "a.png")

    def write(count: int, when: int, **state: torch.Tensor) -> None:
        checkpoint.parent.mkdir(exist_ok=True)
        parameters = {f"params.{name}": value for name, value in whole.gaussians[:count].parameters().items()}
        state_dict = {**parameters, "background": torch.tensor([0.5, 0.25, 0])}
        torch.save({"state_dict": state_dict, "fit": {"densification": state}}, checkpoint)
        os.utime(checkpoint, (when, when))

    write(50, 10)
    layer, cameras = open_all([fitted_run.folder], installed_openers()).layers
    assert isinstance(layer, SplatLayer)
    assert cameras.visible
    assert not layer.refresh()
    assert layer.splat.background == (0.5, 0.25, 0)
    extent = layer.extent()
    write(100, 20)
    assert layer.refresh()
    assert len(layer.splat.parameters()["means"]) == 100
    assert not np.array_equal(layer.extent(), extent)
    write(100, 30, field=torch.arange(100) % 2)
    assert layer.refresh()
    halves = mean_of([whole.gaussians[:100:2], whole.gaussians[1:100:2]])
    np.testing.assert_allclose(layer.splat.parameters()["opacities"], halves.opacities, rtol=1e-6)
    checkpoint.write_bytes(b"half a checkpoint")
    with pytest.raises(SceneError, match="cannot be read as a checkpoint"):
        layer.refresh()
    assert not layer.refresh()  # said once
    assert len(layer.splat.parameters()["means"]) == 100
    save_splat(result, whole)  # the fit ends
    assert layer.refresh()
    assert len(layer.splat.parameters()["means"]) == len(whole)
    checkpoint.unlink()
    assert layer.refresh()
    result.unlink()  # a new fit begins
    assert not layer.refresh()


def test_a_run_whose_photos_are_gone_still_shows_its_splat(fitted_run: FittedRun) -> None:
    for photo in fitted_run.scene.iterdir():
        photo.unlink()
    layers = open_all([fitted_run.folder], installed_openers()).layers
    assert [type(layer) for layer in layers] == [SplatLayer]


def test_a_run_tells_where_it_is_uncertain(fitted_run: FittedRun, tmp_path: Path) -> None:
    layer = open_all([fitted_run.folder], installed_openers()).layers[0]
    assert isinstance(layer, SplatLayer)
    assert layer.settings[0].options[-1] == "uncertainty"  # type: ignore[union-attr]
    beside, behind = fitted_run.cameras[0], fitted_run.cameras[0].to(dtype=torch.float64)
    turn = torch.diag(torch.tensor([-1.0, 1, -1, 1], dtype=torch.float64))  # half a turn about the vertical axis
    behind = Cameras((behind.world_to_camera @ turn).float(), beside.intrinsics, beside.sizes)
    near, far = (layer.splat.error(camera, 72, 54)[20:34, 28:44].mean() for camera in (beside, behind))
    assert 0 < near < 0.8 * far
    alone = tmp_path / "alone.ply"
    save_splat(alone, load_splat(fitted_run.folder / "splat.safetensors"))
    (lone,) = open_all([alone], installed_openers()).layers
    assert lone.settings[0].options == ("colour", "depth", "normals")  # type: ignore[union-attr]


def test_render_takes_any_size_of_the_same_view(fitted_run: FittedRun) -> None:
    one = Gaussians(
        torch.tensor([[0.3, 0.1, 0.0]]),
        torch.full((1, 3), -2.5),
        torch.tensor([[1.0, 0, 0, 0]]),
        torch.tensor([9.0]),
        torch.full((1, 1, 3), 0.5 / SH_C0),
        torch.zeros(1, 0, 3),
    )
    path = fitted_run.folder / "one.ply"
    save_splat(path, Splat(one))
    splat = open_for_viewing(path)
    assert splat is not None
    centres = []
    for scale in (1, 4):
        seen = splat.render(fitted_run.cameras[2], 72 * scale, 54 * scale)
        assert seen.image.shape == (54 * scale, 72 * scale, 3)
        weight = seen.image[..., 0] / seen.image[..., 0].sum()
        centres.append([(weight.sum(0) * (np.arange(72 * scale) + 0.5)).sum() / scale])
    assert centres[0] == pytest.approx(centres[1], abs=0.1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.ply", "--shot", "a.png"), "nowhere.ply"),
        (("SCENE", "--shot", "a.gif"), "written as .png"),
        (("SCENE", "--shot", "a.png", "--view", "photo:3"), "photos 0 to 2"),
        (("SCENE", "--shot", "a.png", "--view", "below"), "no view 'below'"),
        (("SCENE", "--shot", "a.png", "--view", "{"), "not readable JSON"),
        (("SCENE", "--shot", "a.png", "--frame", "1"), "frames 0 to 0"),
        (("SCENE", "--turntable", "a.avi"), "written as .mp4"),
        (("SCENE", "--turntable", "a.mp4", "--frames", "0"), "at least one frame"),
        (("SCENE", "--shot", "nowhere/a.png"), "there is no folder nowhere"),
        (("SCENE", "--turntable", "nowhere/a.mp4"), "there is no folder nowhere"),
        (("SCENE", "--html", "nowhere/a.html"), "there is no folder nowhere"),
    ],
)
def test_mistakes_are_one_line(
    scene_folder: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(scene_folder.parent)
    assert message in refused(capsys, *(str(scene_folder) if a == "SCENE" else a for a in arguments))


def test_damaged_splats_and_clouds_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = "ply\nformat binary_little_endian 1.0\nelement vertex 833333333\nproperty float x\nproperty float f_dc_0\n"
    for name, content in {"a.spz": b"junk", "a.splat": b"xyz", "b.ply": (header + "end_header\n").encode()}.items():
        (tmp_path / name).write_bytes(content)
        assert name in refused(capsys, tmp_path / name, "--shot", tmp_path / "x.png")
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("score", ["inf", "nan"])
def test_scores_that_are_none(score: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["a.ply", f"--score={score}"])
    assert stop.value.code == 2
    assert f"--score is {score}" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["1280", "0x5", "99999x5", "-1x5"])
def test_sizes_that_are_none(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["a.ply", f"--size={size}"])
    assert stop.value.code == 2
    assert "give it as 1280x720" in capsys.readouterr().err


def test_help_loads_nothing_heavy() -> None:
    heavy = ("torch", "numpy", "open3d", "cv2", "numba", "scipy")
    code = (
        "import sys\nfrom viewer.__main__ import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n"
        f"    print('loaded', [name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "loaded []" in done.stdout
    for option in ("--shot", "--turntable", "--html", "--web", "--view"):
        assert option in done.stdout
