"""Two-view geometry of the depth prior: exact flow gives exact depth, whatever the poses."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets.types import Cameras
from recon3d.priors import flow_kernels, guided_flow
from recon3d.priors.agreement import project_known, round_trip_error
from recon3d.priors.epipolar import Pair, pixel_centres
from recon3d.priors.epipolar_flow import least_sensitive
from recon3d.priors.guided_flow import NOWHERE, Matches, Texture, keep_better, triangulate

WIDTH, HEIGHT = 40, 30


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def cameras_at(*poses: tuple[np.ndarray, list[float]], focal: float = 35.0) -> Cameras:
    """Cameras with the given world-to-camera rotations and centres."""
    matrices = np.tile(np.eye(4), (len(poses), 1, 1))
    for matrix, (turn, centre) in zip(matrices, poses, strict=True):
        matrix[:3, :3], matrix[:3, 3] = turn, -turn @ np.array(centre)
    intrinsics = torch.tensor([[focal, 0, 19.2], [0, 1.1 * focal, 15.7], [0, 0, 1]], dtype=torch.float64)
    sizes = torch.tensor([[WIDTH, HEIGHT]]).repeat(len(poses), 1)
    return Cameras(torch.from_numpy(matrices), intrinsics.repeat(len(poses), 1, 1), sizes)


def random_cameras(seed: int) -> Cameras:
    draw = np.random.default_rng(seed)
    return cameras_at(*((rotation(draw.normal(size=3), draw.uniform(0, 0.4)), draw.normal(size=3)) for _ in range(2)))


def seen(cameras: Cameras, view: int, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and z-depth of world points by the textbook."""
    pose, intrinsics = cameras.world_to_camera[view].numpy(), cameras.intrinsics[view].numpy()
    inside = points @ pose[:3, :3].T + pose[:3, 3]
    pixels = inside @ intrinsics.T
    return pixels[:, :2] / pixels[:, 2:], inside[:, 2]


def points_before(cameras: Cameras, seed: int) -> np.ndarray:
    """World points in front of both cameras."""
    points = np.random.default_rng(seed + 1).uniform((-6, -6, 0), (6, 6, 12), (300, 3))
    return points[(seen(cameras, 0, points)[1] > 0.2) & (seen(cameras, 1, points)[1] > 0.2)]


@given(st.integers(0, 10_000))
def test_exact_flow_gives_exact_depth(seed: int) -> None:
    cameras = random_cameras(seed)
    points = points_before(cameras, seed)
    source, depth = seen(cameras, 0, points)
    target, other_depth = seen(cameras, 1, points)
    pair = Pair.of(cameras, 0, 1)
    far = pair.far_points(source)
    foot, distance = pair.epipolar_foot(far, target)
    scale = 1 + np.abs(target).max(axis=1)
    np.testing.assert_allclose(distance / scale, 0, atol=1e-7)
    np.testing.assert_allclose(foot / scale[:, None], target / scale[:, None], atol=1e-7)
    wide = pair.parallax(far, 1 / depth) / depth > 1e-3  # elsewhere no flow tells the depth
    np.testing.assert_allclose(pair.inverse_depth(far, foot)[wide] * depth[wide], 1, rtol=1e-5)
    landed, ratio = pair.project(far, 1 / depth)
    np.testing.assert_allclose(landed / scale[:, None], target / scale[:, None], atol=1e-8)
    np.testing.assert_allclose(ratio, other_depth / depth, rtol=1e-9)


@given(st.integers(0, 10_000), st.floats(-3, 3))
def test_the_foot_is_the_nearest_point_of_the_epipolar_line(seed: int, off: float) -> None:
    cameras = random_cameras(seed)
    source, depth = seen(cameras, 0, points_before(cameras, seed))
    pair = Pair.of(cameras, 0, 1)
    far = pair.far_points(source)
    on_line, _ = pair.project(far, 1 / depth)
    further, _ = pair.project(far, 0.9 / depth)
    along = further - on_line
    length = np.linalg.norm(along, axis=1)
    good = (length > 1e-4) & (np.abs(on_line).max(axis=1) < 1e4)
    across = along[good, ::-1] * [-1, 1] / length[good, None]
    foot, distance = pair.epipolar_foot(far[good], on_line[good] + off * across)
    np.testing.assert_allclose(np.abs(distance), abs(off), atol=1e-5)
    np.testing.assert_allclose(foot, on_line[good], atol=1e-4)


def test_parallax_is_the_derivative_of_the_match() -> None:
    cameras = random_cameras(3)
    source, depth = seen(cameras, 0, points_before(cameras, 3))
    pair = Pair.of(cameras, 0, 1)
    far, step = pair.far_points(source), 1e-6 / depth
    moved = pair.project(far, 1 / depth + step)[0] - pair.project(far, 1 / depth - step)[0]
    np.testing.assert_allclose(pair.parallax(far, 1 / depth), np.linalg.norm(moved, axis=1) / (2 * step), rtol=1e-4)


@given(st.integers(0, 10_000))
def test_compiled_projection_is_the_pairs(seed: int) -> None:
    pair = Pair.of(random_cameras(seed), 0, 1)
    guess = np.random.default_rng(seed).uniform(-0.5, 2, (HEIGHT, WIDTH)).astype(np.float32)
    expected, ratio = pair.project(pair.far_points(pixel_centres(WIDTH, HEIGHT)), guess.astype(np.float64))
    points, visible = flow_kernels.project(pair.infinity, pair.epipole, guess, 33, 21)
    before = ratio > 1e-6  # nearer to the target's plane, rounding decides
    np.testing.assert_allclose(points[before], expected[before], rtol=1e-5, atol=1e-4)
    assert (points[ratio < -1e-6] == NOWHERE).all()
    inside = ((expected > 0) & (expected < [33, 21])).all(axis=-1) & before
    clear = np.minimum(np.abs(expected), np.abs(expected - [33, 21])).min(axis=-1) > 1e-6
    np.testing.assert_array_equal(visible[clear & before], inside[clear & before])
    assert not visible[ratio < -1e-6].any()


@given(st.integers(0, 10_000))
def test_compiled_triangulation_is_the_pairs(seed: int) -> None:
    """Also for matches that do not exist, and for pixels that see the epipole."""
    draw = np.random.default_rng(seed)
    pair, limits = Pair.of(random_cameras(seed), 0, 1), np.array([0.5, 20.0])
    far = pair.far_points(pixel_centres(WIDTH, HEIGHT))
    matches = draw.uniform((-5, -5), (WIDTH + 5, HEIGHT + 5), (HEIGHT, WIDTH, 2)).astype(np.float32)
    matches[draw.random((HEIGHT, WIDTH)) < 0.1] = NOWHERE
    found = triangulate(pair, matches, (WIDTH, HEIGHT), limits)
    foot, distance = pair.epipolar_foot(far, matches.astype(np.float64))
    raw = pair.inverse_depth(far, foot)
    nearest = np.clip(raw, 1 / 20, 1 / 0.5)
    there = (matches > NOWHERE).all(axis=-1)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.foot[there], foot[there], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.inverse_depth[there], nearest[there], rtol=1e-4)
    parallax = pair.parallax(far, nearest)
    np.testing.assert_allclose(found.parallax[there], parallax[there], rtol=1e-3)
    pixel = 1 / np.maximum(parallax, 1e-12)
    inside = ((matches > 0) & (matches < [WIDTH, HEIGHT])).all(axis=-1)
    in_range = (raw > 1 / 20 - pixel) & (raw < 2 + pixel) & (pixel < 2 - 1 / 20)
    possible = inside & in_range & (pair.project(far, nearest)[1] > 0)
    assert (found.possible == possible).mean() > 0.999, "they differ where rounding decides, if at all"


def test_a_view_from_the_same_place_says_nothing() -> None:
    cameras = cameras_at((np.eye(3), [0, 0, 0]), (rotation(np.array([0, 1.0, 0]), 0.1), [0, 0, 0]))
    pair = Pair.of(cameras, 0, 1)
    far = pair.far_points(pixel_centres(WIDTH, HEIGHT))
    found = triangulate(pair, pair.project(far, np.array(0.5))[0], (WIDTH, HEIGHT), np.array([1.0, 10.0]))
    assert not found.possible.any()
    assert np.isfinite(found.inverse_depth).all()


def test_the_epipole_says_nothing_and_breaks_nothing() -> None:
    """A camera that moved forward sees the epipole in the middle of its image."""
    cameras = cameras_at((np.eye(3), [0, 0, 0]), (np.eye(3), [0, 0, 1.0]))
    pair = Pair.of(cameras, 0, 1)
    far = pair.far_points(pixel_centres(WIDTH, HEIGHT))
    matches, _ = pair.project(far, np.full((HEIGHT, WIDTH), 0.25))
    found = triangulate(pair, matches, (WIDTH, HEIGHT), np.array([2.0, 8.0]))
    beside = np.hypot(*np.moveaxis(pixel_centres(WIDTH, HEIGHT) - [19.2, 15.7], -1, 0)) < 0.8
    assert beside.sum() >= 2
    assert not found.possible[beside].any(), "next to the epipole nothing moves by a pixel over the whole range"
    assert found.possible.mean() > 0.4
    np.testing.assert_allclose(found.inverse_depth[found.possible], 0.25, rtol=1e-6)
    exactly = pair.far_points(np.array([[19.2, 15.7]]))
    assert np.isinf(pair.epipolar_foot(exactly, np.array([[3.0, 4.0]]))[1]).all()
    assert np.isnan(pair.inverse_depth(exactly, np.array([[19.2, 15.7]]))).all()


def test_depth_out_of_range_or_behind_is_not_possible() -> None:
    cameras = cameras_at((np.eye(3), [0, 0, 0]), (np.eye(3), [1.0, 0, 0]))
    pair = Pair.of(cameras, 0, 1)
    far = pair.far_points(pixel_centres(WIDTH, HEIGHT))
    size, limits = (WIDTH, HEIGHT), np.array([2.0, 35.0])  # parallax is 35 px per unit of inverse depth

    def share_possible(inverse_depth: float) -> float:
        matches, _ = pair.project(far, np.array(inverse_depth))
        in_image = (matches > 0).all(axis=-1) & (matches < size).all(axis=-1)
        return float(triangulate(pair, matches, size, limits).possible[in_image].mean())

    assert share_possible(0.3) == 1
    assert share_possible(0.6) == 0, "too near"
    assert share_possible(-0.1) == 0, "behind infinity by more than a pixel"
    assert share_possible(0.01) == 1, "beyond the far end by less than a pixel: taken for the far end"
    matches, _ = pair.project(far, np.array(0.01))
    found = triangulate(pair, matches, size, limits)
    np.testing.assert_allclose(found.inverse_depth[found.possible], 1 / 35)


def test_blending_takes_the_least_sensitive_target_at_every_pixel() -> None:
    draw = np.random.default_rng(0)
    depths = draw.uniform(1, 9, (4, 12, 17))
    sensitivities = draw.uniform(0, 1, depths.shape)
    sensitivities[draw.random(depths.shape) < 0.5] = np.inf
    expected = np.zeros((12, 17))
    for y in range(12):
        for x in range(17):
            best = np.inf
            for depth, sensitivity in zip(depths, sensitivities, strict=True):
                if sensitivity[y, x] < best:
                    best, expected[y, x] = sensitivity[y, x], depth[y, x]
    np.testing.assert_array_equal(least_sensitive(list(depths), list(sensitivities)), expected)
    assert (expected == 0).any()
    assert len(np.unique(expected)) > 100


def test_better_matches_replace_worse_ones_and_impossible_ones_never() -> None:
    cameras = cameras_at((np.eye(3), [0, 0, 0]), (np.eye(3), [1.0, 0, 0]))
    pair = Pair.of(cameras, 0, 1)
    far = pair.far_points(pixel_centres(WIDTH, HEIGHT))
    source = np.random.default_rng(1).integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8)
    target = np.roll(source, -7, axis=1)  # depth 5: 35 px / 5 to the left
    matches = Matches.none(HEIGHT, WIDTH)

    def offer(inverse_depth: float) -> None:
        found, _ = pair.project(far, np.array(inverse_depth))
        there = triangulate(pair, found, (WIDTH, HEIGHT), np.array([2.0, 20.0]))
        keep_better(matches, found.astype(np.float32), there, Texture.of(source), target, tolerance=1.0)

    offer(0.1)
    wrong = matches.points.copy()
    offer(0.2)
    middle = np.s_[5:-5, 13:-5]
    assert (matches.points[middle] != wrong[middle]).any(axis=-1).all()
    assert matches.similarity[middle].min() > 0.9
    right = matches.points.copy()
    offer(0.3)
    np.testing.assert_array_equal(matches.points[middle], right[middle])
    assert (matches.points[:, 0] == NOWHERE).all(), "what leaves the target has no match"


def test_flow_follows_a_guess_where_it_is_wanted() -> None:
    """A small object in a large photo: a fiftieth of its pixels."""
    cameras = cameras_at((np.eye(3), [0, 0, 0]), (np.eye(3), [1.0, 0, 0]), focal=60)
    pair = Pair.of(cameras, 0, 1)
    source = cv2.GaussianBlur(np.random.default_rng(1).integers(0, 255, (240, 320), dtype=np.uint8), (0, 0), 2)
    target = np.roll(source, -12, axis=1)  # depth 5
    guess = np.full(source.shape, 0.17, np.float32)  # 10.2 pixels
    wanted = np.zeros(source.shape, np.bool_)
    wanted[100:140, 150:185] = True
    flow = guided_flow.fine_flow()
    found = guided_flow.follow_guess(pair, source, target, guess, flow, wanted)
    assert found is not None
    moved = found - pixel_centres(320, 240)
    np.testing.assert_allclose(moved[wanted], np.tile([-12.0, 0.0], (wanted.sum(), 1)), atol=0.1)
    np.testing.assert_allclose(moved[:60], np.tile([-10.2, 0.0], (60, 320, 1)), atol=1e-3)
    everywhere = guided_flow.follow_guess(pair, source, target, guess, flow)
    assert everywhere is not None
    np.testing.assert_allclose((everywhere - found)[wanted], 0, atol=0.1)
    assert guided_flow.follow_guess(pair, source, target, guess, flow, np.zeros_like(wanted)) is None
    assert guided_flow.follow_guess(pair, source, target, np.full_like(guess, 10), flow, wanted) is None


def test_round_trip_and_projection_between_views_of_a_plane() -> None:
    cameras = cameras_at((np.eye(3), [0, 0, 0]), (rotation(np.array([0, 1.0, 0]), -0.1), [0.5, 0, 0]))
    rays = [np.linalg.inv(k) for k in cameras.intrinsics.numpy()]
    depths = []
    for view in range(2):  # the wall z = 4 of the world
        pose = cameras.camera_to_world[view].numpy()
        ray = np.concatenate([pixel_centres(WIDTH, HEIGHT), np.ones((HEIGHT, WIDTH, 1))], axis=-1) @ rays[view].T
        depths.append((4 - pose[2, 3]) / (ray @ pose[2, :3]))
    error = round_trip_error(cameras, depths, 0, 1)
    assert np.isinf(error).any(), "some of the wall is outside the other view"
    assert np.isfinite(error).mean() > 0.5
    assert error[np.isfinite(error)].max() < 0.2
    other = [depths[0], 1.3 * depths[1]]
    wrong = round_trip_error(cameras, other, 0, 1)
    assert np.median(wrong[np.isfinite(wrong)]) > 0.7
    there = project_known(cameras, [np.zeros((HEIGHT, WIDTH)), depths[1]], 0)
    assert (there > 0).mean() > 0.4
    np.testing.assert_allclose(there[there > 0], depths[0][there > 0], rtol=0.01)


def test_projection_keeps_the_nearest() -> None:
    cameras = cameras_at((np.eye(3), [0, 0, 0]), (np.eye(3), [0, 0, 0.001]), (np.eye(3), [0, 0, -0.001]))
    near, far = np.full((HEIGHT, WIDTH), 2.0), np.full((HEIGHT, WIDTH), 9.0)
    there = project_known(cameras, [np.zeros((HEIGHT, WIDTH)), far, near], 0)
    np.testing.assert_allclose(there[there > 0], 2, atol=0.01)


@pytest.mark.parametrize("view", [0, 1])
def test_nothing_known_projects_to_nothing(view: int) -> None:
    cameras = random_cameras(5)
    nothing = [np.zeros((HEIGHT, WIDTH))] * 2
    assert not project_known(cameras, nothing, view).any()
    assert np.isinf(round_trip_error(cameras, nothing, view, 1 - view)).all()
