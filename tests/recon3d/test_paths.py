"""Camera paths: rigid, smooth, looking where they should, meeting the cameras; files of cameras that are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from datasets.errors import InputError, SceneError
from datasets.geometry import up_direction
from datasets.types import Cameras
from recon3d import paths

UP = np.array([0.0, -1.0, 0.0])


def cameras_at(eyes: np.ndarray, targets: np.ndarray, up: np.ndarray = UP) -> Cameras:
    poses = np.stack([paths.look_at(eye, target, up) for eye, target in zip(eyes, targets, strict=True)])
    intrinsics = torch.tensor([[70.0, 0, 32], [0, 70, 24], [0, 0, 1]]).expand(len(eyes), 3, 3)
    return Cameras(torch.from_numpy(poses).float(), intrinsics, torch.tensor([[64, 48]]).expand(len(eyes), 2))


def forward_facing(count: int = 3, seed: int = 0) -> Cameras:
    """Side by side, looking about along z at something 5 away."""
    random = np.random.default_rng(seed)
    eyes = np.stack([np.linspace(-1, 1, count), *random.uniform(-0.3, 0.3, (2, count))], axis=1)
    return cameras_at(eyes, eyes * [0.5, 0.2, 0] + [0, 0, 5])


def ring(count: int = 8, turn: float = 360.0, height: float = 0.6, middle: tuple[float, ...] = (1, 2, 3)) -> Cameras:
    """On an arc of radius 2 around ``middle``, from above."""
    angle = np.radians(np.linspace(0, turn, count, endpoint=turn < 360))
    eyes = np.stack([2 * np.cos(angle), np.full(count, -height), 2 * np.sin(angle)], axis=1) + middle
    return cameras_at(eyes, np.broadcast_to(np.array(middle, dtype=float), eyes.shape))


def centres(cameras: Cameras) -> np.ndarray:
    return cameras.centres.double().numpy()


def expect_rigid(cameras: Cameras) -> None:
    rotation = cameras.world_to_camera[:, :3, :3].double()
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).double().expand_as(rotation), atol=1e-5, rtol=0)
    assert bool((torch.linalg.det(rotation) > 0.99).all())
    assert bool((cameras.world_to_camera[:, 3] == torch.tensor([0.0, 0, 0, 1])).all())


def pixels(cameras: Cameras, point: np.ndarray) -> np.ndarray:
    """[F, 2] where a point appears."""
    seen = cameras.world_to_camera @ torch.tensor([*point, 1.0]).float()
    assert bool((seen[:, 2] > 0).all())
    projected = (cameras.intrinsics @ seen[:, :3, None])[:, :, 0]
    return (projected[:, :2] / projected[:, 2:]).double().numpy()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-5, 5), min_size=9, max_size=9))
def test_look_at(numbers: list[float]) -> None:
    eye, target, up = np.array(numbers).reshape(3, 3)
    forward = target - eye
    if np.linalg.norm(forward) < 1e-3 or np.linalg.norm(np.cross(forward, up)) < 1e-2:
        return
    pose = paths.look_at(eye, target, up)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(pose[:3, :3] @ eye + pose[:3, 3], 0, atol=1e-9)
    np.testing.assert_allclose((pose[:3, :3] @ target + pose[:3, 3])[:2], 0, atol=1e-9)
    assert (pose[:3, :3] @ up)[1] < 0  # up is upwards in the image
    assert abs((pose[:3, :3] @ up)[0]) < 1e-9


def test_look_at_refuses_what_has_no_answer() -> None:
    with pytest.raises(ValueError, match="at its target"):
        paths.look_at(np.zeros(3), np.zeros(3), UP)
    with pytest.raises(ValueError, match="along the up"):
        paths.look_at(np.zeros(3), 2 * UP, UP)


@pytest.mark.parametrize("turn", [60, 150, 360])
def test_up_is_found_though_the_cameras_are_tilted(turn: float) -> None:
    tilted = ring(6, turn, height=1.5)
    assert up_direction(tilted) @ UP > 0.99
    away = cameras_at(centres(tilted), 2 * centres(tilted) - np.array([1, 2, 3]))
    assert up_direction(away) @ UP > 0.99


def test_focus_is_where_the_axes_meet_or_else_where_they_hit() -> None:
    np.testing.assert_allclose(paths.focus_point(ring(), np.full(8, 1.8)), [1, 2, 3], atol=0.05)
    parallel = cameras_at(np.array([[0, 0, 0], [1, 0, 0.0]]), np.array([[0, 0, 9], [1, 0, 9.0]]))
    np.testing.assert_allclose(paths.focus_point(parallel, np.array([4.0, 6.0])), [0.5, 0, 5], atol=1e-6)


def test_orbit_goes_around_when_the_cameras_do() -> None:
    cameras, focus = ring(8), np.array([1.0, 2, 3])
    path = paths.orbit(cameras, focus, 90)
    expect_rigid(path)
    np.testing.assert_allclose(pixels(path, focus), np.broadcast_to([32, 24], (90, 2)), atol=0.01)
    offsets = centres(path) - focus
    np.testing.assert_allclose(np.linalg.norm(offsets, axis=1), np.hypot(2, 0.6), rtol=1e-3)
    np.testing.assert_allclose(offsets[:, 1], -0.6, atol=0.02)
    steps = np.linalg.norm(np.diff(centres(path), axis=0, append=centres(path)[:1]), axis=1)
    np.testing.assert_allclose(steps, steps.mean(), rtol=1e-3)  # closed, at even speed
    assert path.size == (64, 48)


@pytest.mark.parametrize("turn", [40.0, 100.0, 200.0])
def test_orbit_swings_where_the_cameras_leave_a_gap(turn: float) -> None:
    cameras, focus = ring(5, turn), np.array([1.0, 2, 3])
    path = paths.orbit(cameras, focus, 80)
    offsets = (centres(path) - focus)[:, [0, 2]]
    angles = np.degrees(np.unwrap(np.arctan2(offsets[:, 1], offsets[:, 0])))
    expected = np.linspace(0, turn, 5, endpoint=turn < 360)
    assert angles.min() == pytest.approx(expected.min(), abs=0.5)
    assert angles.max() == pytest.approx(expected.max(), abs=0.5)
    assert np.ptp(np.degrees(np.unwrap(np.radians(angles)))) <= turn + 0.5


def test_orbit_takes_the_sweep_it_is_given() -> None:
    focus = np.array([1.0, 2, 3])
    path = paths.orbit(ring(5, 40), focus, 64, sweep=90)
    offsets = (centres(path) - focus)[:, [0, 2]]
    assert np.ptp(np.degrees(np.unwrap(np.arctan2(offsets[:, 1], offsets[:, 0])))) == pytest.approx(90, abs=2)
    for sweep in (0, -1, 361, float("nan")):
        with pytest.raises(InputError, match="sweep is"):
            paths.orbit(ring(), focus, 10, sweep=sweep)


def test_orbit_from_right_above_says_so() -> None:
    """Two headings tell that the vertical is the axis, and on it there is no radius."""
    eyes, down = np.array([[0, -3.0, 0], [0, -4.0, 0]]), np.zeros((2, 3))
    first, second = (cameras_at(eyes, down, np.array(up)) for up in ([0, 0, 1.0], [1.0, 0, 0]))
    with pytest.raises(InputError, match="straight down"):
        paths.orbit(Cameras.concatenate([first[0], second[1]]), np.zeros(3), 5)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), turns=st.integers(1, 3))
def test_spiral_is_closed_smooth_and_looks_at_the_focus(seed: int, turns: int) -> None:
    cameras, focus = forward_facing(5, seed), np.array([0.0, 0, 5])
    path = paths.spiral(cameras, focus, 120, turns)
    expect_rigid(path)
    eyes = centres(path)
    steps = np.linalg.norm(np.diff(eyes, axis=0, append=eyes[:1]), axis=1)
    assert steps.max() < 6 * steps.mean()
    spread = np.abs(centres(cameras) - centres(cameras).mean(0)).max(0)
    assert (np.abs(eyes - centres(cameras).mean(0)).max(0) <= 1.05 * spread.max()).all()
    mean = cameras.world_to_camera[:, 2, :3].double().numpy().mean(0)
    forward = mean / np.linalg.norm(mean)
    middle = centres(cameras).mean(0)
    target = middle + ((focus - middle) @ forward) * forward
    np.testing.assert_allclose(pixels(path, target), np.broadcast_to([32, 24], (120, 2)), atol=0.01)


def test_spiral_needs_cameras_that_look_the_same_way() -> None:
    with pytest.raises(InputError, match="take an orbit"):
        paths.spiral(ring(), np.array([1.0, 2, 3]), 10)
    with pytest.raises(InputError, match="at least one turn"):
        paths.spiral(forward_facing(), np.array([0.0, 0, 5]), 10, turns=0)


def test_spiral_about_a_single_place_still_moves() -> None:
    one = forward_facing(1)
    path = paths.spiral(one, np.array([0.0, 0, 5]), 20)
    assert np.ptp(centres(path), axis=0).max() > 0.1


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 9), more=st.integers(0, 60), seed=st.integers(0, 999), around=st.booleans())
def test_between_meets_every_camera(count: int, more: int, seed: int, around: bool) -> None:
    cameras = ring(count, 200.0) if around else forward_facing(count, seed)
    focus = np.array([1.0, 2, 3]) if around else np.array([0.0, 0, 5])
    order = np.random.default_rng(seed).permutation(count).tolist()
    path = paths.between(cameras[order], focus, count + more)
    expect_rigid(path)
    assert len(path) == count + more
    apart = (path.world_to_camera[:, None] - cameras.world_to_camera[None]).abs().amax(dim=(2, 3))
    assert float(apart.amin(dim=0).max()) < 1e-4
    if around:  # in the order of the way, not as listed
        found = apart.argmin(dim=0).tolist()
        assert found in (sorted(found), sorted(found, reverse=True))


def test_between_bends_around_what_is_looked_at() -> None:
    cameras, focus = ring(4, 180.0), np.array([1.0, 2, 3])
    path = paths.between(cameras, focus, 61)
    distances = np.linalg.norm(centres(path) - focus, axis=1)
    np.testing.assert_allclose(distances, np.hypot(2, 0.6), rtol=0.02)
    np.testing.assert_allclose(pixels(path, focus), np.broadcast_to([32, 24], (61, 2)), atol=0.5)
    steps = np.linalg.norm(np.diff(centres(path), axis=0), axis=1)
    assert steps.max() < 2.5 * steps.min()


def test_between_of_cameras_that_look_outwards_does_not_fold() -> None:
    eyes = np.array([[0.0, 0, 0], [0.4, 0, 0], [0.4, 0, 0.4]])
    path = paths.between(cameras_at(eyes, eyes * [9, 0, 9] + [1, 0, -1]), np.array([2.0, 0, 0]), 40)
    assert (centres(path).min(0) > -0.3).all()
    assert (centres(path).max(0) < 0.7).all()


def test_between_is_smooth() -> None:
    """Halving the time between frames halves the steps: no jump hides between the cameras."""
    cameras, focus = forward_facing(5, 3), np.array([0.0, 0, 5])
    widest = [
        float((p.world_to_camera[1:] - p.world_to_camera[:-1]).abs().amax())
        for p in (paths.between(cameras, focus, n) for n in (81, 161, 321))
    ]
    assert widest[1] < 0.6 * widest[0]
    assert widest[2] < 0.6 * widest[1]


def test_between_needs_cameras_and_frames() -> None:
    with pytest.raises(InputError, match="at least two"):
        paths.between(forward_facing(1), np.array([0.0, 0, 5]), 10)
    with pytest.raises(InputError, match="needs at least 4"):
        paths.between(forward_facing(4), np.array([0.0, 0, 5]), 3)
    with pytest.raises(InputError, match="needs at least 1"):
        paths.orbit(ring(), np.array([1.0, 2, 3]), 0)


# Files of cameras


def frame(**changes: Any) -> dict[str, Any]:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_rotvec([0.1, 0.2, 0.3]).as_matrix()
    pose[:3, 3] = [1, 2, 3]
    values: dict[str, Any] = {"width": 64, "height": 48, "fx": 70, "fy": 71, "cx": 32, "cy": 24, "w2c": pose.tolist()}
    return {**values, **changes}


def write(tmp_path: Path, content: object) -> Path:
    path = tmp_path / "path.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_cameras_of_a_file(tmp_path: Path) -> None:
    path = paths.from_json(write(tmp_path, {"frames": [frame(), frame(fx=80, file="ignored.png")]}))
    assert len(path) == 2
    assert path.size == (64, 48)
    np.testing.assert_allclose(path.world_to_camera[0], np.array(frame()["w2c"]), atol=1e-6)
    assert float(path.intrinsics[1, 0, 0]) == 80


def test_cameras_of_a_file_are_brought_to_the_splats_world(tmp_path: Path) -> None:
    """A point of the splat's world is seen by the moved camera where its source point is by the stated one."""
    to_source = np.eye(4)
    to_source[:3, :3] = 2.5 * Rotation.from_rotvec([0.3, -0.2, 0.5]).as_matrix()
    to_source[:3, 3] = [4, 5, 6]
    file = write(tmp_path, {"frames": [frame()]})
    stated, moved = paths.from_json(file), paths.from_json(file, to_source)
    expect_rigid(moved)
    point = np.array([-3.0, 1.0, 9.0])
    source = to_source[:3, :3] @ point + to_source[:3, 3]
    np.testing.assert_allclose(pixels(moved, point), pixels(stated, source), rtol=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not readable JSON"),
        ("[1]", "holds a JSON list"),
        ({}, "has no list of frames"),
        ({"frames": []}, "has no list of frames"),
        ({"frames": ["x"]}, "has no list of frames"),
        ({"frames": [{}]}, "width is missing"),
        ({"frames": [frame(width=64.5)]}, "size 64.5x48"),
        ({"frames": [frame(height=0)]}, "size 64x0"),
        ({"frames": [frame(width=1e9)]}, "size 1e"),
        ({"frames": [frame(fx=-1)]}, "focal lengths -1, 71"),
        ({"frames": [frame(fx="70")]}, "fx is '70'"),
        ('{"frames": [{"width": NaN}]}', "width is nan"),
        ({"frames": [frame(w2c=[[1, 0], [0, 1]])]}, "w2c is not a 4x4 matrix"),
        ({"frames": [frame(w2c=(2 * np.eye(4)).tolist())]}, "w2c of frame 0 is not rigid"),
        ({"frames": [frame(w2c=np.diag([1, 1, -1, 1]).tolist())]}, "is not rigid"),
        ({"frames": [frame(w2c=np.full((4, 4), np.nan).tolist())]}, "is not rigid"),
        ({"frames": [frame(), frame(width=32)]}, "differ in size"),
    ],
)
def test_files_of_cameras_that_cannot_be_used(tmp_path: Path, content: object, message: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(SceneError, match=message) as caught:
        paths.from_json(path)
    assert str(path) in str(caught.value)


def test_a_file_of_cameras_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SceneError, match="no such file"):
        paths.from_json(tmp_path / "nothing.json")
