"""Viewpoints: their cameras, and what mouse and keys do to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets.errors import InputError
from datasets.geometry import project
from viewer import viewpoint
from viewer.viewpoint import Viewpoint, framing, from_above, from_json, of_camera

small = st.floats(-0.5, 0.5)
UP = np.array([0.0, 0, 1])


@st.composite
def viewpoints(draw: st.DrawFn) -> Viewpoint:
    eye = np.array([draw(st.floats(2, 5)), draw(st.floats(-5, 5)), draw(st.floats(-2, 2))])
    return Viewpoint(eye, np.array([draw(small), draw(small), draw(small)]), UP, draw(st.floats(20, 90)))


@given(viewpoints())
def test_the_target_is_in_the_middle_and_up_is_up(view: Viewpoint) -> None:
    camera = view.camera(640, 480)
    points = torch.tensor(np.stack([view.target, view.target + 0.1 * UP, view.target + 0.1 * view.axes[0]])).float()
    pixels, depth = project(points, camera)
    assert pixels[0, 0].tolist() == pytest.approx([320, 240], abs=0.01)
    assert float(depth[0, 0]) == pytest.approx(view.distance, rel=1e-4)
    assert pixels[0, 1, 1] < 240
    assert pixels[0, 2, 0] > 320
    rotation = camera.world_to_camera[0, :3, :3].double()
    assert torch.allclose(rotation @ rotation.T, torch.eye(3).double(), atol=1e-5)
    assert float(torch.linalg.det(rotation)) == pytest.approx(1, abs=1e-5)


@given(viewpoints(), small, small)
def test_an_orbit_keeps_distance_and_target(view: Viewpoint, right: float, down: float) -> None:
    turned = view.turned(right, down)
    assert turned.distance == pytest.approx(view.distance)
    assert np.allclose(turned.target, view.target)
    assert abs((turned.eye - turned.target) @ UP) < turned.distance


@given(viewpoints(), st.floats(0.01, 0.3), st.floats(0.01, 0.3))
def test_dragging_right_and_down_shows_what_was_left_and_above(view: Viewpoint, right: float, down: float) -> None:
    turned = view.turned(right, down)
    assert (turned.eye - view.eye) @ view.axes[0] < 0
    assert (turned.eye - view.eye) @ UP > 0
    looked = view.looked(right, down)
    assert (looked.target - view.target) @ view.axes[0] > 0
    assert (looked.target - view.target) @ UP < 0
    assert np.allclose(looked.eye, view.eye)


def test_an_orbit_stops_before_the_pole() -> None:
    view = Viewpoint(np.array([3.0, 0, 0]), np.zeros(3), UP)
    for _ in range(30):
        view = view.turned(0, 0.3)
    assert np.isfinite(view.axes).all()
    assert view.eye[2] == pytest.approx(3 * np.sin(viewpoint.STEEPEST))


@given(viewpoints(), small, small, small)
def test_moving_keeps_the_direction(view: Viewpoint, right: float, down: float, forward: float) -> None:
    moved = view.moved(right, down, forward)
    assert np.allclose(moved.axes, view.axes)
    assert np.allclose((moved.eye - view.eye) @ view.axes.T, view.distance * np.array([right, down, forward]))


@given(viewpoints())
def test_json_and_cameras_there_and_back(view: Viewpoint) -> None:
    import json

    again = from_json(json.dumps(view.to_json()), np.array([1.0, 0, 0]))
    assert np.allclose(again.eye, view.eye)
    assert again.fov == view.fov
    same = of_camera(view.camera(640, 480), view.distance, UP)
    assert np.allclose(same.eye, view.eye, atol=1e-4)
    assert np.allclose(same.target, view.target, atol=1e-4)
    assert same.fov == pytest.approx(view.fov, abs=1e-3)


@given(st.lists(st.floats(-9, 9), min_size=3, max_size=3), st.floats(0.1, 5))
def test_all_of_an_extent_is_in_the_picture(middle: list[float], half: float) -> None:
    extent = np.array([np.array(middle) - half, np.array(middle) + half])
    corners = torch.tensor(np.stack(np.meshgrid(*extent.T), axis=-1).reshape(-1, 3)).float()
    for view in (framing(extent, np.array([1.0, 0.2, -0.3]), UP), from_above(extent, UP)):
        pixels, depth = project(corners, view.camera(400, 400))
        assert (depth > 0).all()
        assert (pixels > -1).all()
        assert (pixels < 401).all()


def test_from_above_x_is_upwards() -> None:
    view = from_above(np.array([[-1.0] * 3, [1.0] * 3]), UP)
    pixels, _ = project(torch.tensor([[0.5, 0, 0], [0, 0.5, 0]]), view.camera(100, 100))
    assert pixels[0, 0, 1] < 49
    assert pixels[0, 1, 0] < 49  # y is left


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{", "not readable JSON"),
        ("[1]", "is no object"),
        ('{"eye": [0, 0, 1]}', "holds eye"),
        ('{"eye": [0, 0, 1], "target": [0, 0, 0], "colour": 1}', "colour"),
        ('{"eye": [0, 0], "target": [0, 0, 0]}', "eye"),
        ('{"eye": [0, 0, NaN], "target": [0, 0, 0]}', "eye"),
        ('{"eye": [0, 0, 1e300], "target": [0, 0, 0]}', "eye"),
        ('{"eye": [0, "a", 1], "target": [0, 0, 0]}', "eye"),
        ('{"eye": [0, 0, 1], "target": [0, 0, 1]}', "looks nowhere"),
        ('{"eye": [0, 0, 1], "target": [0, 0, 0]}', "looks nowhere"),
        ('{"eye": [0, 1, 1], "target": [0, 0, 0], "fov": 0}', "fov"),
        ('{"eye": [0, 1, 1], "target": [0, 0, 0], "fov": "wide"}', "fov"),
        ("[" * 100_000, "not readable JSON"),
    ],
)
def test_views_that_are_none(text: str, found: str) -> None:
    with pytest.raises(InputError, match=found):
        from_json(text, UP)


@pytest.mark.parametrize("up", [np.array([0.0, 0, 1]), np.array([0.0, -1, 0])])
def test_from_above_one_goes_around_the_vertical(up: np.ndarray) -> None:
    view = from_above(np.array([[-3.0, -2, -1], [5, 4, 3]]), up)
    stood = view.upright(up)
    assert np.allclose(stood.axes, view.axes, atol=0.03)
    turned = stood.turned(0.6, -0.5)
    assert np.allclose(turned.up, up)
    assert abs(turned.axes[0] @ up) < 1e-9, "the horizon is level"
    assert np.isclose(turned.distance, view.distance)
    assert turned.upright(up) is turned
