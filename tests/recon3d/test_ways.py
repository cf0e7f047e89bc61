"""Which points would stand in the way of novel views: a wall at z = 4 and cameras that look at it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.types import Cameras
from recon3d.initialisation.surfaces import Surface
from recon3d.initialisation.ways import PARTNERS, Ways, _pairs

WALL, SIZE, FOCAL = 4.0, (80, 60), 60.0


def cameras(*places: float, backwards: tuple[int, ...] = ()) -> Cameras:
    """Cameras at (x, 0, 0) that look along z, or where ``backwards`` says against it."""
    poses = torch.eye(4, dtype=torch.float64).repeat(len(places), 1, 1)
    for i, x in enumerate(places):
        if i in backwards:
            poses[i, 0, 0] = poses[i, 2, 2] = -1
        poses[i, :3, 3] = -poses[i, :3, :3] @ torch.tensor([x, 0, 0], dtype=torch.float64)
    intrinsics = torch.tensor([[FOCAL, 0, SIZE[0] / 2], [0, FOCAL, SIZE[1] / 2], [0, 0, 1]], dtype=torch.float64)
    return Cameras(poses, intrinsics.repeat(len(places), 1, 1), torch.tensor([SIZE] * len(places)))


def wall(known: bool = True, depth: float = WALL) -> Surface:
    shape = SIZE[::-1]
    return Surface(np.full(shape, 1 / depth), np.full(shape, known), np.ones(shape, bool))


def test_points_before_the_wall_are_in_the_way_and_those_behind_are_not() -> None:
    """The wall as the two photos know it reaches from x = -3.6 to 3.6 and from y = -2 to 2."""
    draw = np.random.default_rng(0)
    points = draw.uniform([-2, -1, 0.5], [2, 1, 8], (4000, 3))
    found = Ways(cameras(-1.0, 1.0), [wall(), wall()]).obstructed_by(points)
    from_between = np.abs(points[:, 0]) < 0.5 * points[:, 2]  # of which half the photo's width is more than seen
    assert found[from_between & (points[:, 2] < 0.96 * WALL)].all()
    assert not found[points[:, 2] > np.hypot(WALL, 0.5)].any()


def test_the_way_itself_is_kept_clear_whatever_was_measured() -> None:
    points = np.array([[0.0, 0, 0.5], [0, 3.9, 0], [0, 4.1, 0], [4.9, 0, 0], [5.1, 0, 0], [0, 0, -3.9], [0, 0, -4.1]])
    found = Ways(cameras(-1.0, 1.0), [wall(known=False), wall(known=False)]).obstructed_by(points)
    assert found.tolist() == [True, True, False, True, False, True, False]


def test_the_way_is_as_wide_as_what_its_cameras_see_is_far() -> None:
    places = np.array(
        [[-4.0, y, 0] for y in (1.9, 2.1)] + [[0, y, 0] for y in (2.9, 3.1)] + [[4, y, 0] for y in (3.9, 4.1)]
    )
    found = Ways(cameras(-4.0, 4.0), [wall(known=False, depth=WALL / 2), wall(known=False)]).obstructed_by(places)
    assert found.tolist() == [True, False] * 3


@pytest.mark.parametrize("views", [cameras(0.0), cameras(-1.0, 1.0, backwards=(1,))], ids=["one", "back to back"])
def test_no_way_leads_between_cameras_that_see_different_things(views: Cameras) -> None:
    points = np.random.default_rng(1).uniform(-3, 3, (100, 3))
    assert not Ways(views, [wall()] * len(views)).obstructed_by(points).any()


def test_ways_lead_to_the_nearest_cameras_alone() -> None:
    many = list(_pairs(cameras(*map(float, range(30)))))
    assert len(many) == len(set(many)) <= 30 * PARTNERS
    assert all(0 < j - i <= PARTNERS for i, j in many)
    assert {(0, PARTNERS), (14, 15), (29 - PARTNERS, 29)} <= set(many)
    assert len(list(_pairs(cameras(*map(float, range(PARTNERS + 1)))))) == PARTNERS * (PARTNERS + 1) // 2


def test_photos_that_show_no_surface_and_no_points() -> None:
    nothing = Surface(np.full(SIZE[::-1], 0.25), np.zeros(SIZE[::-1], bool), np.zeros(SIZE[::-1], bool))
    points = np.random.default_rng(2).uniform(1, 3, (50, 3))
    assert not Ways(cameras(-1.0, 1.0), [nothing, nothing]).obstructed_by(points).any()
    assert Ways(cameras(-1.0, 1.0), [wall(), wall()]).obstructed_by(np.zeros((0, 3))).shape == (0,)


def test_only_guesses_are_in_the_way_and_only_those_before_what_was_measured() -> None:
    """One photo guesses its left half: a strip of it before the wall that the other measured, the rest on the wall."""
    inverse, known = np.full(SIZE[::-1], 1 / WALL), np.ones(SIZE[::-1], bool)
    known[:, :40] = False
    inverse[:, 20:60] = 2 / WALL
    guessing = Surface(inverse, known, np.ones_like(known))
    found = Ways(cameras(0.0, 0.5), [guessing, wall()]).obstructed_by_guesses(0)
    assert found.shape == known.shape
    assert found[:, 20:40].all()
    assert not found[:, :20].any()
    assert not found[known].any()
    assert not Ways(cameras(0.0, 0.5), [guessing, wall()]).obstructed_by_guesses(1).any()


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (9, 10)])
def test_guesses_of_photos_whose_size_is_no_multiple_of_a_block(shape: tuple[int, int]) -> None:
    places = cameras(0.0)
    small = Cameras(places.world_to_camera, places.intrinsics, torch.tensor([shape[::-1]]))
    surface = Surface(np.full(shape, 0.25), np.zeros(shape, bool), np.ones(shape, bool))
    assert Ways(small, [surface]).obstructed_by_guesses(0).shape == shape
