"""What one does in a window, without the window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.geometry import project
from recon3d import paths
from tests.viewer.stand_ins import WallSplat
from viewer import stage as stages
from viewer.drawing import BACKGROUND, draw
from viewer.layers import SplatLayer
from viewer.reading import Contents, open_all
from viewer.stage import Stage


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def wall() -> Contents:
    return Contents([SplatLayer("wall", WallSplat(), lambda: None)])


def test_a_drag_is_drawn_smaller_where_that_takes_long_and_in_full_afterwards() -> None:
    clock = Clock()
    layer = SplatLayer("wall", WallSplat(), lambda: None)
    sizes = []

    def slow(camera: object, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        sizes.append((width, height))
        clock.now += 0.2 * width * height / (80 * 60)
        return np.zeros((height, width, 3), np.uint8), np.ones((height, width), np.float32)

    layer.image = slow  # type: ignore[method-assign, assignment]
    stage = Stage(Contents([layer]), clock=clock)
    assert stage.settle()
    assert stage.picture(80, 60).shape == (60, 80, 3)
    assert not stage.settle()
    for _ in range(4):
        stage.drag(0.1, 0, "orbit")
        assert stage.settle()
        assert stage.picture(80, 60).shape == (60, 80, 3)
    assert sizes == [(80, 60), (40, 30), (40, 30), (40, 30), (40, 30)]  # 0.05 s is quick enough
    clock.now += 1
    assert stage.settle()
    stage.picture(80, 60)
    assert sizes[-1] == (80, 60)
    assert not stage.settle()


@pytest.mark.parametrize("key", [*"wsadqertb"])
def test_keys_move_and_others_do_nothing(key: str) -> None:
    stage = Stage(wall())
    stage.view = stage.view.turned(0.2, 0.1)
    before, camera = stage.view, stage.camera(64, 48)
    assert stage.key(key)
    assert not np.allclose(camera.world_to_camera, stage.camera(64, 48).world_to_camera)
    if key in stages.FLIGHT:
        assert np.allclose(stage.view.axes, before.axes)
    assert not stage.key("z")
    assert not stage.key("]")  # there is one moment only


def test_ways_of_dragging() -> None:
    for way, kept in (("orbit", "target"), ("look", "eye")):
        stage = Stage(wall())
        before = stage.view
        stage.drag(0.1, 0.05, way)
        assert np.allclose(getattr(stage.view, kept), getattr(before, kept))
        assert not np.allclose(stage.view.axes, before.axes)
    stage = Stage(wall())
    under = torch.from_numpy(stage.view.target).float()[None]
    stage.drag(0.25, 0.1, "move")  # what is under the mouse goes with it
    pixels, _ = project(under, stage.camera(400, 400))
    assert pixels[0, 0].tolist() == pytest.approx([300, 240], abs=0.5)
    distance = stage.view.distance
    stage.wheel(2)
    assert stage.view.distance < distance


def test_picks_lie_where_they_were_seen(sweep: Callable[..., Path]) -> None:
    points = np.array([[0, 0, 0, 0], [3, 4, 0, 0], [9, 9, 0, 0], [-9, -9, 1, 0]])
    stage = Stage(open_all([sweep(points)], []))
    assert stage.pick(1, 1) is None
    stage.picture(400, 300)
    for point in points[:2]:
        pixels, _ = project(torch.tensor(point[None, :3]).float(), stage.camera(400, 300))
        found = stage.pick(*pixels[0, 0].tolist())
        assert found is not None
        assert np.allclose(found, point[:3], atol=0.3)
    assert float(stage.measured().split()[0]) == pytest.approx(5, abs=0.4)
    assert stage.pick(-50, 0) is None
    assert len(stage.picks) == 2


def test_through_a_photo_and_blended(scene_folder: Path) -> None:
    stage = Stage(open_all([scene_folder], []))
    stage.look_through(1)
    camera = stage.camera(128, 128)
    assert camera.intrinsics[0].tolist() == [[100, 0, 64], [0, 100, 64], [0, 0, 1]]
    stage.blend = 1.0
    picture = stage.picture(128, 128)
    assert (picture[20:108] == [0, 255, 0]).all()
    assert not (picture[:10] == [0, 255, 0]).all(axis=2).any()
    stage.compare = "difference"
    assert (stage.picture(128, 128)[64, 64] == np.abs(np.array([0, 255, 0]) - BACKGROUND)).all()
    stage.drag(0.1, 0, "orbit")
    assert stage.photo is None
    with pytest.raises(InputError, match="photos 0 to 2"):
        stage.look_through(3)


def test_a_kept_path_is_one_that_render_follows(scene_folder: Path, tmp_path: Path) -> None:
    contents = open_all([scene_folder], [])
    contents.scene_to_source = np.diag([2.0, 2, 2, 1])
    contents.scene_to_source[:3, 3] = [5e6, 4e6, 100]
    stage = Stage(contents)
    with pytest.raises(InputError, match="no view was kept"):
        stage.save_path(tmp_path / "path.json", 320, 200)
    kept = []
    for _ in range(3):
        stage.drag(0.1, 0.02, "orbit")
        stage.keep_view()
        kept.append(stage.camera(320, 200))
    stage.save_path(tmp_path / "path.json", 320, 200)
    cameras = paths.from_json(tmp_path / "path.json", contents.scene_to_source)
    assert cameras.size == (320, 200)
    assert len(cameras) == 2 * stages.FRAMES_BETWEEN + 1
    for i, camera in enumerate(kept):
        found = cameras[i * stages.FRAMES_BETWEEN]
        assert torch.allclose(found.world_to_camera, camera.world_to_camera, atol=1e-5)
        assert torch.allclose(found.intrinsics, camera.intrinsics)
    steps = cameras.centres.diff(dim=0).norm(dim=1)
    assert float(steps.max()) < 3 * float(steps.min())  # no jumps


def test_moments_and_the_picture_of_a_shot(tmp_path: Path) -> None:
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.random.default_rng(i).normal(size=(500, 3)))
    stage = Stage(open_all([tmp_path], []))
    assert stage.key("]")
    assert stage.frame == 1
    stage.key("[")
    stage.key("[")
    assert stage.frame == 2
    expected = draw(stage.contents.layers, stage.camera(90, 60), 2)
    assert np.array_equal(stage.picture(90, 60), expected)
