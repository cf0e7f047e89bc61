"""The kernels of multi-view stereo against slow, clear versions of themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.types import Cameras
from recon3d.priors.epipolar import Pair
from recon3d.priors.planes import plane_inverse_depth
from recon3d.priors.stereo import aggregation, patch_match, sweep
from recon3d.priors.stereo.level import Level, Neighbours, inverse_depth_per_pixel, plane_coefficients
from recon3d.rasteriser import pool

WIDTH, HEIGHT = 40, 28


def rig(count: int = 3, seed: int = 0) -> Cameras:
    """Cameras side by side, each turned a little."""
    random = np.random.default_rng(seed)
    poses = torch.eye(4).repeat(count, 1, 1)
    for i in range(1, count):
        angle = 0.02 * random.standard_normal()
        poses[i, 0, 0] = poses[i, 2, 2] = float(np.cos(angle))
        poses[i, 0, 2], poses[i, 2, 0] = float(np.sin(angle)), -float(np.sin(angle))
        poses[i, :2, 3] = torch.tensor([-0.3 * i, 0.1 * random.standard_normal()])
    intrinsics = torch.tensor([[35.0, 0, WIDTH / 2], [0, 35, HEIGHT / 2], [0, 0, 1]]).repeat(count, 1, 1)
    return Cameras(poses, intrinsics, torch.tensor([[WIDTH, HEIGHT]] * count))


def noise_level(count: int = 3, seed: int = 0, masked: bool = False) -> Level:
    random = np.random.default_rng(seed)
    masks = [None] * count if not masked else [random.random((HEIGHT, WIDTH)) < 0.8 for _ in range(count)]
    return Level.of(rig(count), [random.random((HEIGHT, WIDTH)) for _ in range(count)], masks, 1.0)


def bilinear(image: np.ndarray, x: float, y: float) -> float:
    """With pixel centres at .5, beyond the border as at the border."""
    x, y = np.clip(x - 0.5, 0, image.shape[1] - 1), np.clip(y - 0.5, 0, image.shape[0] - 1)
    j, i = int(x), int(y)
    k, m = min(j + 1, image.shape[1] - 1), min(i + 1, image.shape[0] - 1)
    upper = image[i, j] * (1 - x + j) + image[i, k] * (x - j)
    lower = image[m, j] * (1 - x + j) + image[m, k] * (x - j)
    return float(upper * (1 - y + i) + lower * (y - i))


def slow_sweep_cost(level: Level, view: int, target: int, x: int, y: int, inverse_depth: float) -> float | None:
    photo, other = level.grey(view), level.grey(target)
    pair = Pair.of(level.cameras, view, target)

    def there(j: int, i: int) -> np.ndarray:
        return pair.project(pair.far_points(np.array([j + 0.5, i + 0.5])), np.array(inverse_depth))[0]

    u, v = there(x, y)
    inside = 0 <= u < WIDTH and 0 <= v < HEIGHT
    if not inside or not level.map_of(level.counts, target)[int(v), int(u)]:
        return None

    def window(reach: int) -> tuple[np.ndarray, np.ndarray]:
        offsets = range(-reach, reach + 1)
        ours = [photo[np.clip(y + i, 0, HEIGHT - 1), np.clip(x + j, 0, WIDTH - 1)] for i in offsets for j in offsets]
        theirs = [bilinear(other, *there(x + j, y + i)) for i in offsets for j in offsets]
        return np.array(ours, float), np.array(theirs)

    cost = 0.0
    for share, reach in zip(sweep.SHARES[:2], (sweep.SMALL, sweep.LARGE), strict=True):
        a, b = window(reach)
        covariance = (a * b).mean() - a.mean() * b.mean() + sweep.NOISE
        cost += share * (1 - covariance / np.sqrt((a.var() + sweep.NOISE) * (b.var() + sweep.NOISE)))
    a, b = window(1)
    cost += sweep.SHARES[2] * np.minimum(np.abs(a - b), sweep.FULL_DIFFERENCE).mean() / sweep.FULL_DIFFERENCE
    return min(cost, 1.0)


@pytest.mark.parametrize("masked", [False, True])
def test_sweep(masked: bool) -> None:
    level = noise_level(3, masked=masked)
    inverse_depths = np.linspace(0.05, 0.8, 7, dtype=np.float32)
    volume = sweep.sweep(level, Neighbours.of(level.cameras, 0, [1, 2]), inverse_depths)
    assert volume.shape == (HEIGHT, WIDTH, 7)
    unseen = 0
    for x, y in [(0, 0), (39, 27), (20, 14), (3, 17), (36, 2), (11, 15), (25, 16)]:
        for d, inverse_depth in enumerate(inverse_depths):
            costs = [slow_sweep_cost(level, 0, target, x, y, inverse_depth) for target in (1, 2)]
            seen = sorted(cost for cost in costs if cost is not None)
            unseen += not seen
            weights = sweep.NEXT ** np.arange(len(seen))
            expected = sweep.FULL * (seen @ weights) / weights.sum() if seen else sweep.UNSEEN
            assert abs(int(volume[y, x, d]) - expected) < 1.01
    assert unseen > 0, "the case where no target looks is among them"


def slow_aggregate(volume: np.ndarray, grey: np.ndarray) -> np.ndarray:
    height, width, planes = volume.shape
    total = np.zeros(volume.shape)
    for dy, dx in [(0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1)]:
        path = np.zeros(volume.shape)
        for y in range(height) if dy >= 0 else reversed(range(height)):
            for x in range(width) if dx >= 0 else reversed(range(width)):
                path[y, x] = volume[y, x]
                if 0 <= y - dy < height and 0 <= x - dx < width:
                    before, difference = path[y - dy, x - dx], abs(grey[y, x] - grey[y - dy, x - dx])
                    jump = int(max(aggregation.JUMP / (1 + aggregation.EDGE * difference), aggregation.STEP + 1))
                    steps = np.abs(np.subtract.outer(np.arange(planes), np.arange(planes)))
                    change = np.where(steps == 0, 0, np.where(steps == 1, aggregation.STEP, jump))
                    path[y, x] += (before[None] + change).min(axis=1) - before.min()
        total += path
    return total


def test_aggregation() -> None:
    random = np.random.default_rng(0)
    volume = random.integers(0, 201, (9, 11, 6)).astype(np.uint8)
    grey = random.uniform(0, 255, (9, 11)).astype(np.float32)
    np.testing.assert_array_equal(aggregation.aggregate(volume, grey), slow_aggregate(volume, grey))


def test_aggregation_fills_what_says_nothing() -> None:
    volume = np.full((20, 30, 12), 100, np.uint8)
    volume[:, ::10, 5] = 0
    best = aggregation.best_planes(aggregation.aggregate(volume, np.zeros((20, 30), np.float32)))
    np.testing.assert_allclose(best, 5, atol=0.01)


def test_parabola_between_planes() -> None:
    position = np.linspace(1, 8, 50)
    sums = (100 + 20 * (np.arange(10) - position[:, None]) ** 2).round().astype(np.uint16)[None]
    np.testing.assert_allclose(aggregation.best_planes(sums)[0], position, atol=0.03)


def slow_similarity(level: Level, view: int, target: int, x: int, y: int, plane: np.ndarray, reach: int) -> float:
    """Bilaterally weighted NCC; samples the target along the plane's homography, not its derivative."""
    photo, other = level.grey(view).astype(float), level.grey(target)
    pair = Pair.of(level.cameras, view, target)
    ours, theirs, weights = [], [], []
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            if (i + j) % 2:
                continue
            value = photo[np.clip(y + i, 0, HEIGHT - 1), np.clip(x + j, 0, WIDTH - 1)]
            far = pair.far_points(np.array([x + j + 0.5, y + i + 0.5]))
            there, _ = pair.project(far, plane[0] + j * plane[1] + i * plane[2])
            ours.append(value)
            theirs.append(bilinear(other, *there))
            away = (i**2 + j**2) / (2 * reach**2)
            weights.append(np.exp(-away) / (1 + ((value - photo[y, x]) / patch_match.SIMILAR) ** 2))
    a, b, w = np.array(ours), np.array(theirs), np.array(weights) / np.sum(weights)
    a, b = a - w @ a, b - w @ b
    noise = patch_match.NOISE
    return max((w * a) @ b, 0) / np.sqrt(((w * a) @ a + noise) * ((w * b) @ b + noise))


def test_similarity() -> None:
    random = np.random.default_rng(1)
    smooth = [np.kron(random.random((7, 10)), np.ones((4, 4))) for _ in range(2)]  # so that the derivative does
    level = Level.of(rig(2), smooth, [None, None], 1.0)
    shape = (HEIGHT, WIDTH)
    planes = patch_match.Planes(
        random.uniform(0.1, 0.6, shape).astype(np.float32),
        random.normal(0, 0.002, shape).astype(np.float32),
        random.normal(0, 0.002, shape).astype(np.float32),
        np.zeros(shape, np.float32),
    )
    alike = patch_match.similarity(level, Neighbours.of(level.cameras, 0, [1]), planes, patch_match.patch_pattern(3))
    compared = 0
    for x, y in zip(random.integers(0, WIDTH, 60), random.integers(0, HEIGHT, 60), strict=True):
        plane = np.array([planes.inverse_depth[y, x], planes.right[y, x], planes.down[y, x]], float)
        if alike[0, y, x] > 0:
            assert alike[0, y, x] == pytest.approx(slow_similarity(level, 0, 1, x, y, plane, 3), abs=0.03)
            compared += 1
    assert compared > 10


def slanted(level_seed: int = 0) -> tuple[Level, np.ndarray]:
    """Two photos of a textured slanted plane, and its (right, down, corner) in the first."""
    cameras = rig(2)
    random = np.random.default_rng(level_seed)
    world = np.array([1.2, 0.25, 1.0, -3.0]) / np.linalg.norm([1.2, 0.25, 1.0])
    texture = random.random((400, 400))
    greys = []
    for i in range(2):
        depth = 1 / plane_inverse_depth(world, cameras, i)
        y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        rays = np.stack([x, y, np.ones_like(x)], -1) @ np.linalg.inv(cameras.intrinsics[i].double().numpy()).T
        pose = cameras.camera_to_world[i].double().numpy()
        points = rays * depth[..., None] @ pose[:3, :3].T + pose[:3, 3]
        where = points[..., :2] * 6 + 200
        greys.append(np.vectorize(lambda u, v: bilinear(texture, u, v))(where[..., 0], where[..., 1]))
    level = Level.of(cameras, greys, [None, None], 1.0)
    return level, plane_coefficients(world[None], cameras, 0)[0]


def run_improve(level: Level, start: np.ndarray, rounds: int, common: np.ndarray, seed: int = 0) -> patch_match.Planes:
    planes = patch_match.Planes.through(start.copy())
    near = Neighbours.of(level.cameras, 0, [1])
    step = inverse_depth_per_pixel(level.cameras, 0, [1], start)
    patch_match.improve(
        level, near, planes, start, step, (0.05, 2.0), np.zeros(level.quads.size, np.float32),
        patch_match.Weights(0.0, 0.05), patch_match.patch_pattern(3), common, rounds, seed,
    )  # fmt: skip
    return planes


def test_patch_match_finds_a_slanted_plane() -> None:
    level, (right, down, corner) = slanted()
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    truth = corner + right * x + down * y
    start = np.full((HEIGHT, WIDTH), truth.mean(), np.float32)
    nothing = np.zeros((0, 3), np.float32)
    inner = (slice(4, -4), slice(14, -4))
    found = run_improve(level, start, 6, nothing)
    error = np.abs(found.inverse_depth - truth)[inner]
    assert np.median(error) < 0.25 * np.median(np.abs(start - truth)[inner])
    assert np.median(np.abs(found.right - right)[inner]) < 0.5 * abs(right)
    again = run_improve(level, start, 6, nothing)
    np.testing.assert_array_equal(found.inverse_depth, again.inverse_depth)
    with pool.threads(1):
        alone = run_improve(level, start, 6, nothing)
    np.testing.assert_array_equal(found.inverse_depth, alone.inverse_depth)


def test_a_plane_that_everybody_is_offered() -> None:
    level, common = slanted()
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    truth = common[2] + common[0] * x + common[1] * y
    start = np.full((HEIGHT, WIDTH), truth.mean(), np.float32)
    found = run_improve(level, start, 1, common[None])
    assert (np.abs(found.inverse_depth - truth)[4:-4, 14:-4] < 0.01).mean() > 0.9


def test_costs_only_fall() -> None:
    level = noise_level(2)
    start = np.full((HEIGHT, WIDTH), 0.3, np.float32)
    nothing = np.zeros((0, 3), np.float32)
    costs = [run_improve(level, start, rounds, nothing).cost for rounds in (0, 1, 3)]
    assert (costs[1] <= costs[0] + 1e-6).all()
    assert (costs[2] <= costs[1] + 1e-6).all()


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5), st.floats(1, 20), st.integers(0, 2))
def test_plane_coefficients(tilt_x: float, tilt_y: float, away: float, view: int) -> None:
    normal = np.array([tilt_x, tilt_y, 1.0])
    world = np.append(normal, -away) / np.linalg.norm(normal)
    cameras = rig(3)
    right, down, corner = plane_coefficients(world[None], cameras, view)[0]
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected = plane_inverse_depth(world, cameras, view)
    np.testing.assert_allclose(corner + right * x + down * y, expected, rtol=1e-4, atol=1e-5)


def test_enlarged_planes_stay_on_their_plane() -> None:
    y, x = np.mgrid[:10, :15] + 0.5
    planes = patch_match.Planes(
        (0.2 + 0.01 * x - 0.005 * y).astype(np.float32),
        np.full((10, 15), 0.01, np.float32),
        np.full((10, 15), -0.005, np.float32),
        np.zeros((10, 15), np.float32),
    )
    larger = planes.enlarged(45, 30)
    y, x = np.mgrid[:30, :45] + 0.5
    inner = (slice(2, -2), slice(2, -2))
    np.testing.assert_allclose(larger.inverse_depth[inner], (0.2 + 0.01 / 3 * x - 0.005 / 3 * y)[inner], rtol=1e-5)
    np.testing.assert_allclose(larger.right, 0.01 / 3, rtol=1e-6)


def test_inverse_depth_per_pixel_moves_a_match_by_a_pixel() -> None:
    cameras = rig(2)
    depth = np.full((HEIGHT, WIDTH), 0.3)
    step = inverse_depth_per_pixel(cameras, 0, [1], depth)
    pair = Pair.of(cameras, 0, 1)
    far = pair.far_points(np.array([25.5, 12.5]))
    here, _ = pair.project(far, np.array(0.3))
    there, _ = pair.project(far, np.array(0.3 + 0.1 * step[12, 25]))
    assert np.hypot(*(there - here)) == pytest.approx(0.1, rel=0.02)


def test_quads_hold_a_pixel_and_its_neighbours() -> None:
    level = noise_level(1)
    grey, quads = level.grey(0).astype(int), level.map_of(level.quads, 0)
    assert quads[3, 5] == grey[3, 5] | grey[3, 6] << 8 | grey[4, 5] << 16 | grey[4, 6] << 24
    assert quads[-1, -1] == grey[-1, -1] * 0x01010101, "at the border a pixel is its own neighbour"
