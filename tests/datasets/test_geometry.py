"""Projection: round trips, and agreement with OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.geometry import inside, project, unproject
from datasets.types import Cameras


def camera(turn: tuple[float, ...], place: tuple[float, ...], size: tuple[int, int] = (7, 5)) -> Cameras:
    pose = np.eye(4)
    pose[:3, :3] = cv2.Rodrigues(np.array(turn, dtype=float))[0]
    pose[:3, 3] = place
    intrinsics = [[9.0, 0, 3.2], [0, 8.0, 2.9], [0, 0, 1]]
    return Cameras(torch.tensor(pose)[None], torch.tensor([intrinsics]).double(), torch.tensor([size]))


number = st.floats(-3, 3)


@settings(max_examples=50, deadline=None)
@given(turn=st.tuples(number, number, number), place=st.tuples(number, number, number), seed=st.integers(0, 1000))
def test_unprojected_pixels_project_onto_themselves(turn, place, seed: int) -> None:
    view = camera(turn, place)
    depth = torch.tensor(np.random.default_rng(seed).uniform(0.1, 50, (5, 7)))
    pixels, z = project(unproject(depth, view).reshape(-1, 3), view)
    x, y = np.meshgrid(np.arange(7) + 0.5, np.arange(5) + 0.5)
    np.testing.assert_allclose(pixels[0].numpy(), np.stack([x, y], -1).reshape(-1, 2), atol=1e-8)
    np.testing.assert_allclose(z[0].numpy(), depth.ravel().numpy(), rtol=1e-9)
    assert inside(pixels, z, view).all()


def test_projection_is_opencvs_half_a_pixel_on() -> None:
    view = camera((0.3, -0.2, 0.5), (0.1, 0.2, 4.0))
    points = np.random.default_rng(0).uniform(-1, 1, (20, 3))
    matrix = view.intrinsics[0].numpy() - [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]]
    theirs, _ = cv2.projectPoints(points, np.array([0.3, -0.2, 0.5]), np.array([0.1, 0.2, 4.0]), matrix, None)
    ours, _ = project(torch.from_numpy(points), view)
    np.testing.assert_allclose(ours[0].numpy(), theirs[:, 0] + 0.5, atol=1e-9)


def test_inside_is_the_image_in_front() -> None:
    view = camera((0, 0, 0), (0, 0, 0))
    points = torch.tensor([[0.0, 0, 1], [0, 0, -1], [9, 0, 1], [0, -9, 1]]).double()
    assert inside(*project(points, view), view).tolist() == [[True, False, False, False]]


def test_shapes_are_checked() -> None:
    view = camera((0, 0, 0), (0, 0, 0))
    with pytest.raises(ValueError, match="points has shape"):
        project(torch.zeros(3, 2), view)
    with pytest.raises(ValueError, match="depth has shape"):
        unproject(torch.zeros(7, 5), view)
