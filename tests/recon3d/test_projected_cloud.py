"""Clouds of points projected into photos: what hides what, the surface between points, and files that do not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import InputError, SceneError
from datasets.geometry import unproject
from datasets.scenes import builtin, open_scene
from recon3d.priors.projected_cloud import ProjectedCloud
from recon3d.priors.scattered import HIDING, NEARER, nearest_of_pixels, reach_of, seen, surface
from recon3d.priors.types import DepthEstimate
from recon3d.views import TrainingViews

SIZE = (160, 120)


@pytest.fixture(scope="module")
def still_life() -> TrainingViews:
    return TrainingViews.load(builtin.generate((240, 180), views=3))


@pytest.fixture
def script(benchmark_script: Callable[[str], ModuleType]) -> ModuleType:
    return benchmark_script("priors")


def write_cloud(path: Path, points: np.ndarray) -> Path:
    """Points as a file of any suffix that is tested."""
    if path.suffix == ".npy":
        np.save(path, points)
    elif path.suffix == ".bin":
        path.write_bytes(np.column_stack([points, np.zeros(len(points))]).astype("<f4").tobytes())
    else:
        properties = "".join(f"property double {axis}\n" for axis in "xyz")
        header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{properties}end_header\n"
        path.write_bytes(header.encode() + points.astype("<f8").tobytes())
    return path


def scattered(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, (count, 2)) * SIZE


def cloud(views: TrainingViews, view: int, share: float, seed: int = 0) -> np.ndarray:
    """[N, 3] in the world: some of the true surface that a photo shows."""
    depth = views.views[view].depth
    assert depth is not None
    points = unproject(torch.from_numpy(depth), views.cameras[view]).numpy().reshape(-1, 3)
    return points[np.random.default_rng(seed).random(len(points)) < share]


def errors(views: TrainingViews, estimates: list[DepthEstimate]) -> np.ndarray:
    """Relative errors of all known pixels."""
    found = []
    for view, one in zip(views.views, estimates, strict=True):
        assert view.depth is not None
        found.append(np.abs(one.depth / view.depth - 1)[one.known])
    return np.concatenate(found)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.floats(2, 60))
def test_what_is_hidden_as_said_literally(seed: int, count: int, reach: float) -> None:
    random = np.random.default_rng(seed)
    pixels, depth = random.uniform(0, 1, (count, 2)) * 50, random.uniform(1, 2, count)
    expected = []
    for i in range(count):
        quadrants = {
            (pixels[j, 0] > pixels[i, 0], pixels[j, 1] > pixels[i, 1])
            for j in range(count)
            if j != i and np.hypot(*(pixels[j] - pixels[i])) < reach and depth[j] < (1 - NEARER) * depth[i]
        }
        expected.append(len(quadrants) < HIDING)
    assert seen(pixels, depth, reach).tolist() == expected


def test_what_shines_through_a_wall_is_hidden_and_what_stands_beside_it_is_not() -> None:
    near, far = scattered(900), scattered(900, 1)
    near = near[near[:, 0] < 80]  # the left half
    pixels, depth = np.concatenate([near, far]), np.repeat([2.0, 6.0], [len(near), len(far)])
    reach = reach_of(pixels)
    visible = seen(pixels, depth, reach)
    assert visible[: len(near)].all()
    behind, beside = far[:, 0] < 80 - reach, far[:, 0] > 80
    inner = behind & (far > reach).all(axis=1) & (far[:, 1] < SIZE[1] - reach)
    assert visible[len(near) :][inner].mean() < 0.05
    assert visible[len(near) :][beside].all()


def test_ground_is_not_hidden_by_nearer_ground() -> None:
    pixels = scattered(1500)
    pixels = pixels[pixels[:, 1] > 65]  # the horizon is at 60
    depth = 100 / (pixels[:, 1] - 60)
    assert seen(pixels, depth, reach_of(pixels)).mean() > 0.98


def test_the_nearest_of_each_pixel() -> None:
    pixels = np.array([[1.2, 3.4], [1.9, 3.1], [2.1, 3.1], [1.5, 4.0], [1.5, 3.99]])
    kept = nearest_of_pixels(pixels, np.array([5.0, 4, 3, 2, 6]))
    assert sorted(kept.tolist()) == [1, 2, 3]
    assert nearest_of_pixels(np.zeros((0, 2)), np.zeros(0)).tolist() == []


def test_parts_of_a_cloud_are_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, depth = scattered(500), np.random.default_rng(2).uniform(1, 3, 500)
    whole = seen(pixels, depth, 12.0)
    assert 0.2 < whole.mean() < 0.8
    monkeypatch.setattr("recon3d.priors.scattered.PART", 7)
    assert (seen(pixels, depth, 12.0) == whole).all()


def test_the_reach_spans_scan_lines() -> None:
    """Points every pixel along lines that are 12 pixels apart: others on all sides are no nearer than the next line."""
    x, y = np.meshgrid(np.arange(1, 159) + 0.5, np.arange(6, 120, 12) + 0.5)
    lines = np.stack([x, y + np.random.default_rng(0).normal(0, 0.01, x.shape)], axis=-1).reshape(-1, 2)
    assert 12 < reach_of(lines) < 30
    assert reach_of(lines[:1]) == 1
    assert reach_of(np.repeat(lines[:1], 9, axis=0)) == 1


@settings(max_examples=20, deadline=None)
@given(st.floats(-1, 1), st.floats(-1, 1), st.integers(0, 100))
def test_between_points_of_a_plane_is_the_plane(across: float, along: float, seed: int) -> None:
    pixels = scattered(400, seed)

    def depth(at: np.ndarray) -> np.ndarray:
        return 1 / (0.5 + 0.1 * across * at[..., 0] / 160 + 0.1 * along * at[..., 1] / 120)

    found = surface(pixels, depth(pixels), SIZE, reach_of(pixels))
    assert found.shape == (120, 160)
    centres = np.stack(np.meshgrid(np.arange(160) + 0.5, np.arange(120) + 0.5), axis=-1)
    known = found > 0
    known[np.floor(pixels[:, 1]).astype(int), np.floor(pixels[:, 0]).astype(int)] = False  # may be a lone point's
    assert known[15:-15, 15:-15].mean() > 0.85
    np.testing.assert_allclose(found[known], depth(centres)[known], rtol=1e-6)


def test_nothing_spans_a_step_or_a_gap() -> None:
    pixels = scattered(2000)
    pixels = pixels[np.abs(pixels[:, 0] - 120) > 18]  # nothing was measured in between
    depth = np.where(pixels[:, 0] < 60, 2.0, 3.0)
    found = surface(pixels, depth, SIZE, reach_of(pixels))
    assert set(np.round(np.unique(found), 9)) <= {0.0, 2.0, 3.0}
    assert (found[10:-10, 112:128] == 0).all()
    assert (found > 0)[10:-10, 10:50].all()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_points_that_make_no_surface_stay_points(count: int) -> None:
    pixels = np.array([[10.2, 20.7], [20.2, 30.7], [30.2, 40.7], [40.2, 50.7], [50.2, 60.7]])[:count]
    found = surface(pixels, np.arange(1.0, count + 1), SIZE, 1.0)
    assert (found > 0).sum() == count
    assert all(found[20 + 10 * i, 10 + 10 * i] == i + 1 for i in range(count))


@pytest.mark.parametrize("suffix", [".npy", ".bin", ".ply"])
def test_one_cloud_of_the_scene(still_life: TrainingViews, tmp_path: Path, suffix: str) -> None:
    points = np.concatenate([cloud(still_life, view, 0.02, view) for view in range(3)])
    estimates = ProjectedCloud(write_cloud(tmp_path / f"scan{suffix}", points))(still_life)
    found = errors(still_life, estimates)
    assert len(found) > 0.7 * 3 * 240 * 180
    assert np.median(found) < 0.01
    assert (found < 0.1).mean() > 0.95
    for one in estimates:
        assert one.confidence[one.known].min() >= 0.5
        assert one.confidence.max() > 0.9


def test_a_cloud_in_map_coordinates(still_life: TrainingViews, tmp_path: Path) -> None:
    to_source = np.eye(4)
    to_source[:3, 3] = 4.5e5, 5.4e6, 100
    points = cloud(still_life, 0, 0.02)
    here = ProjectedCloud(write_cloud(tmp_path / "a.npy", points))(still_life)
    there = ProjectedCloud(write_cloud(tmp_path / "b.npy", points + to_source[:3, 3]))(
        replace(still_life, scene_to_source=to_source)
    )
    for one, other in zip(here, there, strict=True):
        assert (one.known == other.known).mean() > 0.999
        both = one.known & other.known
        np.testing.assert_allclose(one.depth[both], other.depth[both], rtol=1e-3)


def test_a_cloud_for_each_photo_through_the_calibration(still_life: TrainingViews, tmp_path: Path) -> None:
    """A LiDAR above the camera, x forward and z up; its second cloud is missing."""
    to_camera = np.array([[0, -1.0, 0, 0.1], [0, 0, -1, -0.3], [1, 0, 0, 0.05], [0, 0, 0, 1]])
    assert still_life.names is not None
    for view in (0, 2):
        pose = np.linalg.inv(to_camera) @ still_life.cameras.world_to_camera[view].double().numpy()
        points = cloud(still_life, view, 0.03) @ pose[:3, :3].T + pose[:3, 3]
        write_cloud(tmp_path / f"{still_life.names[view]}.bin", points)
    estimates = ProjectedCloud(tmp_path, to_camera.tolist())(still_life)
    assert [bool(one.known.any()) for one in estimates] == [True, False, True]
    found = errors(still_life, estimates)
    assert np.median(found) < 0.005
    assert len(found) > 0.8 * 2 * 240 * 180

    twice = np.diag([2.0, 2, 2, 1])  # the scene's world has half the source's units
    halved = ProjectedCloud(tmp_path, to_camera.tolist())(replace(still_life, scene_to_source=twice))
    np.testing.assert_allclose(halved[0].depth, estimates[0].depth / 2, rtol=1e-5)


def test_a_cloud_of_another_unit_is_aligned(still_life: TrainingViews, tmp_path: Path) -> None:
    assert still_life.names is not None
    for view, name in enumerate(still_life.names):
        pose = still_life.cameras.world_to_camera[view].double().numpy()
        write_cloud(tmp_path / f"{name}.npy", 3.2 * (cloud(still_life, view, 0.03) @ pose[:3, :3].T + pose[:3, 3]))
    calibration = np.eye(4).tolist()
    assert np.median(errors(still_life, ProjectedCloud(tmp_path, calibration)(still_life))) > 2
    found = errors(still_life, ProjectedCloud(tmp_path, calibration, aligned=False)(still_life))
    assert np.median(found) < 0.02


def test_a_sensors_depth_of_a_real_room_from_few_of_its_points(
    shared_data: Callable[[str], Path], script: ModuleType
) -> None:
    scene = open_scene(shared_data("scenes/rgbd_hololens000"))
    views = TrainingViews.load(replace(scene, train=(2, 3, 4), test=()))
    row = script.accuracy(views, script.scanned(views), 0.0)
    assert row["abs_rel"] < 0.02
    assert row["within_3"] > 0.85
    assert row["coverage"] > 0.7


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1, 0], [0, 1]], "four rows of four"),
        ([["a"] * 4] * 4, "four rows of four"),
        (np.diag([2.0, 2, 2, 1]).tolist(), "not rigid"),
        (np.diag([-1.0, 1, 1, 1]).tolist(), "not rigid"),
        (np.full((4, 4), np.nan).tolist(), "not rigid"),
    ],
)
def test_calibrations_that_are_none(rows: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProjectedCloud(Path("clouds"), rows)


def test_clouds_that_do_not_fit(still_life: TrainingViews, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="columns is 2"):
        ProjectedCloud(tmp_path, columns=2)
    with pytest.raises(InputError, match="no cloud for any train photo"):
        ProjectedCloud(tmp_path)(still_life)
    with pytest.raises(InputError, match="names of the photos, which must differ"):
        ProjectedCloud(tmp_path)(replace(still_life, names=("a", "a", "b")))
    ahead = still_life.cameras.world_to_camera[0, 2, :3].numpy()
    behind = write_cloud(tmp_path / "behind.npy", np.random.default_rng(0).normal(size=(50, 3)) - 100 * ahead)
    with pytest.raises(InputError, match="no train photo sees a point"):
        ProjectedCloud(behind)(still_life)
    with pytest.raises(InputError, match="which to_camera cannot place"):
        ProjectedCloud(behind, np.eye(4).tolist())(still_life)
    for name, content, message in (
        ("cut.bin", bytes(30), "30 bytes"),
        ("none.bin", np.full((3, 4), np.nan, "<f4").tobytes(), "none of its 3 points is finite"),
        ("flat.npy", None, r"of shape \(7,\)"),
        ("scan.e57", b"x", r"no cloud of a known format \(.e57\)"),
        ("scan.ply", b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n", "have no y, z"),
    ):
        path = tmp_path / name
        np.save(path, np.zeros(7)) if content is None else path.write_bytes(content)
        with pytest.raises(SceneError, match=message):
            ProjectedCloud(path)(still_life)
