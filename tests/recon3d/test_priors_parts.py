"""What guides the flow: filling, landmarks, planes, and which views are compared."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.types import Cameras, View
from recon3d.priors.epipolar import Pair
from recon3d.priors.filling import fill_sloping, fill_smoothly
from recon3d.priors.landmarks import Features, Landmarks, detect, find_landmarks, match
from recon3d.priors.measured_depth import MeasuredDepth
from recon3d.priors.planes import find_planes, plane_inverse_depth
from recon3d.priors.speckles import without_chance, without_speckles
from recon3d.priors.types import DepthEstimate
from recon3d.priors.view_selection import candidate_pairs, choose_targets, depth_ranges
from recon3d.views import TrainingViews

NO_LANDMARKS = Landmarks(np.zeros((0, 3)), np.zeros((0, 2), np.int64))


def ring(angles: list[float], radius: float = 4.0) -> Cameras:
    """Cameras on a circle around the origin, looking at it; degrees."""
    poses = []
    for angle in np.radians(angles):
        backward = np.array([np.sin(angle), 0, -np.cos(angle)])
        pose = np.eye(4)
        pose[:3, :3] = np.stack([np.cross([0.0, 1, 0], -backward), [0.0, 1, 0], -backward])
        pose[:3, 3] = -pose[:3, :3] @ (radius * backward)
        poses.append(pose)
    intrinsics = torch.tensor([[120.0, 0, 80], [0, 120, 60], [0, 0, 1]]).repeat(len(poses), 1, 1)
    return Cameras(torch.from_numpy(np.stack(poses)).float(), intrinsics, torch.tensor([[160, 120]] * len(poses)))


def test_filling_keeps_what_is_known_and_continues_a_plane() -> None:
    y, x = np.mgrid[:60, :81]
    plane = 0.2 + 0.001 * x + 0.002 * y
    known = np.random.default_rng(0).random(plane.shape) < 0.2
    known[20:32, 30:45] = False
    filled = fill_smoothly(np.where(known, plane, np.nan), known)
    np.testing.assert_array_equal(filled[known], plane[known])
    assert np.abs(filled - plane).max() < 0.03
    assert np.abs(filled - plane).mean() < 0.004


def test_filling_stays_within_the_known_values() -> None:
    values, known = np.zeros((33, 50)), np.zeros((33, 50), bool)
    values[5, 7], values[30, 45] = 2.0, 5.0
    known[5, 7] = known[30, 45] = True
    filled = fill_smoothly(values, known)
    assert filled.min() >= 2
    assert filled.max() <= 5
    assert filled[6, 8] < 3 < 3.5 < filled[29, 44]
    np.testing.assert_allclose(fill_smoothly(np.full((1, 1), 3.0), np.ones((1, 1), bool)), 3)
    with pytest.raises(ValueError, match="nothing to fill from"):
        fill_smoothly(values, np.zeros_like(known))


def test_sloping_filling_continues_a_falling_plane_beyond_what_is_known() -> None:
    plane = np.repeat(np.linspace(2.0, 1.0, 96)[None], 64, axis=0)
    known = np.zeros(plane.shape, bool)
    known[:, :64] = True
    sloping, level = (fill(np.where(known, plane, np.nan), known) for fill in (fill_sloping, fill_smoothly))
    np.testing.assert_array_equal(sloping[known], plane[known])
    assert np.abs(sloping - plane)[~known].mean() < 0.5 * np.abs(level - plane)[~known].mean()


def test_sloping_filling_rises_no_higher_than_what_is_known() -> None:
    plane = np.repeat(np.linspace(1.0, 2.0, 96)[None], 64, axis=0)
    known = np.zeros(plane.shape, bool)
    known[:, :64] = True
    sloping, level = fill_sloping(plane, known), fill_smoothly(plane, known)
    assert sloping.max() == plane[known].max()
    assert (sloping[:, -8:] > level[:, -8:]).all()


def test_sloping_filling_of_a_plane_with_holes_is_that_plane() -> None:
    y, x = np.mgrid[:60, :81]
    plane = 0.2 + 0.001 * x + 0.002 * y
    known = np.random.default_rng(0).random(plane.shape) < 0.2
    known[20:32, 30:45] = False
    possible = np.minimum(plane, plane[known].max())
    assert np.abs(fill_sloping(plane, known) - possible).max() < 0.002


@pytest.mark.parametrize("seed", range(5))
def test_sloping_filling_is_bounded_and_finite_whatever_is_known(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.uniform(0.1, 3, (37, 53))
    known = random.random(values.shape) < [0.001, 0.01, 0.1, 0.6, 1][seed]
    known[3, 4] = True
    filled = fill_sloping(np.where(known, values, np.inf), known)
    assert (filled >= 0.1 * values[known].min()).all()
    assert (filled <= values[known].max()).all()
    np.testing.assert_array_equal(filled[known], values[known])
    with pytest.raises(ValueError, match="nothing to fill from"):
        fill_sloping(values, np.zeros_like(known))


def test_small_patches_go_and_slanted_surfaces_stay() -> None:
    surface = np.zeros((40, 60))
    surface[:, :50] = np.linspace(2, 6, 40)[:, None]
    patches = surface.copy()
    patches[10:13, 52:55], patches[20:23, 20:23] = 3.0, 9.0
    expected = surface.copy()
    expected[20:23, 20:23] = 0
    np.testing.assert_array_equal(without_speckles(patches, 10, step=0.06), expected)
    np.testing.assert_array_equal(without_speckles(patches, 9, step=0.06), patches)
    np.testing.assert_array_equal(without_speckles(np.zeros((4, 5)), 3), np.zeros((4, 5)))


def test_small_patches_stay_among_large_ones_and_go_where_there_are_no_others() -> None:
    depth = np.zeros((40, 60))
    depth[5:8, 50:53] = 3.0
    np.testing.assert_array_equal(without_chance(depth, 20), np.zeros_like(depth))
    depth[:, :20] = 2.0
    np.testing.assert_array_equal(without_chance(depth, 20), depth)


def test_landmarks_lie_on_the_surface_that_was_photographed() -> None:
    """A textured plane, photographed by rendering it through its homographies."""
    cameras = ring([-8, 8])
    texture = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 255, (400, 400)).astype(np.float32), (0, 0), 2)
    texture = ((texture - texture.min()) / np.ptp(texture) * 255).astype(np.uint8)
    greys = []
    for view in range(2):  # the plane z = 0, [-2, 2] squared
        pose, intrinsics = cameras.world_to_camera[view].double().numpy(), cameras.intrinsics[view].double().numpy()
        to_pixel = intrinsics @ pose[:3, [0, 1, 3]] @ np.array([[0.01, 0, -1.995], [0, 0.01, -1.995], [0, 0, 1]])
        to_index = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]]) @ to_pixel
        greys.append(cv2.warpPerspective(texture, to_index, (160, 120)))
    landmarks = find_landmarks(greys, cameras, [(0, 1)])
    assert len(landmarks) > 50
    assert np.median(np.abs(landmarks.xyz[:, 2])) < 0.03
    assert (np.abs(landmarks.xyz[:, 2]) < 0.2).mean() > 0.9
    assert set(map(tuple, landmarks.views)) == {(0, 1)}
    assert len(landmarks.seen_by(1)) == len(landmarks)
    ranges = depth_ranges(cameras, None, landmarks)
    assert (ranges[:, 0] < 3.5).all()
    assert (ranges[:, 1] > 4.5).all()
    np.testing.assert_array_equal(find_landmarks(greys, cameras, [(0, 1)]).xyz, landmarks.xyz)


def test_images_without_features_have_no_landmarks() -> None:
    flat = np.full((120, 160), 90, np.uint8)
    cameras = ring([-5, 5])
    assert len(detect(flat, 100).points) == 0
    assert len(find_landmarks([flat, flat], cameras, [(0, 1)])) == 0
    some = Features(np.array([[80.0, 60.0]]), np.full((1, 128), 128**-0.5, np.float32))
    assert match(Pair.of(cameras, 0, 1), some, detect(flat, 100)).shape == (0, 2)


def test_an_ambiguous_feature_matches_nothing() -> None:
    """Two equal descriptors on one epipolar line: either could be it."""
    draw = np.random.default_rng(0)
    pose = torch.eye(4).repeat(2, 1, 1)
    pose[1, 0, 3] = -1
    cameras = Cameras(pose, ring([0, 1]).intrinsics, torch.tensor([[160, 120]] * 2))
    pair = Pair.of(cameras, 0, 1)
    descriptor = draw.random((2, 128)).astype(np.float32)
    descriptor /= np.linalg.norm(descriptor, axis=1, keepdims=True)
    source = Features(np.array([[80.0, 60.0], [30.0, 20.0]]), descriptor)
    once = Features(np.array([[60.0, 60.0], [20.0, 20.0]]), descriptor)
    np.testing.assert_array_equal(match(pair, source, once), [[0, 0], [1, 1]])
    twice = Features(np.array([[60.0, 60.0], [20.0, 20.0], [40.0, 60.0]]), descriptor[[0, 1, 0]])
    np.testing.assert_array_equal(match(pair, source, twice), [[1, 1]])
    off_line = Features(np.array([[60.0, 70.0]]), descriptor[:1])
    assert len(match(pair, source, off_line)) == 0


def test_landmarks_by_chance_stand_alone() -> None:
    draw = np.random.default_rng(0)
    cameras = ring([0, 10])
    right = draw.uniform([-1, -0.7, -0.1], [1, 0.7, 0.1], (200, 3))  # on a wall
    pose = cameras.camera_to_world[0].double().numpy()
    rays = np.column_stack([draw.uniform(-0.4, 0.4, (60, 2)), np.ones(60)])
    wrong = rays * np.exp(draw.uniform(-1, 4, 60))[:, None] @ pose[:3, :3].T + pose[:3, 3]
    everything = Landmarks(np.concatenate([right, wrong]), np.tile([0, 1], (260, 1)))
    kept = everything.supported(cameras)
    assert np.isin(right, kept.xyz).all(axis=1).mean() > 0.9
    assert np.isin(wrong, kept.xyz).all(axis=1).mean() < 0.2
    alone = Landmarks(wrong, np.tile([0, 1], (60, 1)))
    assert len(alone.supported(cameras)) < 0.25 * len(alone)
    assert len(NO_LANDMARKS.supported(cameras)) == 0


def test_planes_are_found_one_after_the_other() -> None:
    draw = np.random.default_rng(0)
    floor = np.column_stack([draw.uniform(-3, 3, 600), np.full(600, 1.0), draw.uniform(2, 8, 600)])
    wall = np.column_stack([draw.uniform(-3, 3, 300), draw.uniform(-2, 1, 300), np.full(300, 8.0)])
    clutter = draw.uniform([-3, -2, 2], [3, 1, 8], (150, 3))
    points = np.concatenate([floor, wall, clutter]) + draw.normal(0, 0.005, (1050, 3))
    planes = find_planes(points, np.full(len(points), 0.03), 2, np.random.default_rng(1))
    assert planes.shape == (2, 4)
    for plane, expected in zip(planes, ([0, 1, 0, -1], [0, 0, 1, -8]), strict=True):
        np.testing.assert_allclose(plane * np.sign(plane[:3] @ np.array(expected)[:3]), expected, atol=0.05)
    again = find_planes(points, np.full(len(points), 0.03), 2, np.random.default_rng(1))
    np.testing.assert_array_equal(again, planes)


def test_few_or_degenerate_points_have_no_plane() -> None:
    random = np.random.default_rng(0)
    assert find_planes(np.zeros((0, 3)), np.zeros(0), 3, random).shape == (0, 4)
    assert find_planes(random.normal(size=(20, 3)), np.full(20, 9.0), 3, random).shape == (0, 4)
    assert find_planes(np.zeros((100, 3)), np.full(100, 0.1), 3, random).shape == (0, 4)


def test_inverse_depth_of_a_plane() -> None:
    cameras = ring([10])
    inverse = plane_inverse_depth(np.array([0, 0, 1.0, 0]), cameras, 0)
    assert inverse.shape == (120, 160)
    pose = cameras.camera_to_world[0].double().numpy()
    ray = np.linalg.inv(cameras.intrinsics[0].double().numpy()) @ [33.5, 70.5, 1]
    hit = pose[:3, :3] @ (ray / inverse[70, 33]) + pose[:3, 3]
    assert abs(hit[2]) < 1e-5


def test_targets_are_views_that_see_the_same() -> None:
    cameras = ring([0, 10, 25, 180, 0])
    ranges = np.tile([2.5, 6.0], (5, 1))
    targets = choose_targets(cameras, ranges, 2)
    assert set(targets[0]) == {1, 2}, "neither the view from behind nor the one at the same place"
    assert 4 not in targets[0]
    assert all(3 not in others for others in targets)
    assert targets[3] == []
    assert (0, 1) in candidate_pairs(cameras, 2)
    assert not any(3 in pair for pair in candidate_pairs(cameras, 4))
    assert (0, 4) not in candidate_pairs(cameras, 4)


def test_depth_range_without_landmarks() -> None:
    inward = depth_ranges(ring([-30, 0, 30]), None, NO_LANDMARKS)
    assert (inward[:, 0] < 4).all(), "the cameras look at a place four units away"
    assert (inward[:, 1] > 4).all()
    parallel = Cameras(torch.eye(4).repeat(2, 1, 1), ring([0, 0]).intrinsics, torch.tensor([[160, 120]] * 2))
    parallel.world_to_camera[1, 0, 3] = -0.5
    aside = depth_ranges(parallel, None, NO_LANDMARKS)
    np.testing.assert_allclose(aside, [[1.25, 50], [1.25, 50]])
    stated = np.array([[2.0, 10.0], [np.nan, 10.0]])
    np.testing.assert_allclose(depth_ranges(parallel, stated, NO_LANDMARKS), [[1.4, 20], [1.25, 50]])


def test_an_estimate_is_checked() -> None:
    good = np.ones((4, 5), np.float32)
    assert DepthEstimate(good, good).known.all()
    for depth, confidence, words in (
        (good, good[:3], "shape"),
        (-good, good, "negative"),
        (np.full((4, 5), np.nan), good, "not finite"),
        (good, 2 * good, "outside"),
        (good, np.full((4, 5), np.nan), "outside"),
    ):
        with pytest.raises(ValueError, match=words):
            DepthEstimate(depth, confidence)


def test_measured_depth_is_handed_on() -> None:
    depth = np.array([[0.0, 1.5], [np.nan, 2.0]], np.float32)
    image = np.zeros((2, 2, 3), np.float32)
    views = TrainingViews(ring([0, 10]), (View(image, depth=depth), View(image)))
    first, second = MeasuredDepth()(views)
    np.testing.assert_array_equal(first.depth, [[0, 1.5], [0, 2]])
    np.testing.assert_array_equal(first.confidence, [[0, 1], [0, 1]])
    assert not second.known.any()
    with pytest.raises(InputError, match="EpipolarFlow"):
        MeasuredDepth()(TrainingViews(ring([0]), (View(image),)))
