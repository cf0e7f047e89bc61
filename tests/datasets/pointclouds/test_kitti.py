"""KITTI's layout: its axes against hand calculation and a round trip, real folders, and damaged ones."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import InputError, SceneError
from datasets.geometry import project
from datasets.pointclouds.kitti import KittiDataset
from datasets.pointclouds.kitti_calibration import (
    KittiCalibration,
    camera_corners,
    from_boxes,
    read_calibration,
    to_boxes,
)
from datasets.pointclouds.kitti_labels import read_objects, write_objects
from datasets.pointclouds.types import Boxes3D

PLAIN = np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1]])
PROJECTION = np.array([[700.0, 0, 600, 40], [0, 700, 180, 0.2], [0, 0, 1, 0.003]])
NAMES = ("Car", "Pedestrian", "Cyclist")
LABEL = "Car 0.00 0 -1.33 333.28 177.65 489.60 277.55 1.50 1.78 3.69 -3.29 1.46 12.65 -1.57\n"
CALIB = "P2: 700 0 600 40 0 700 180 0.2 0 0 1 0.003\nTr_velo_to_cam: 0 -1 0 0 0 0 -1 0 1 0 0 0\n"


def tilted(angle: float, shift: float) -> KittiCalibration:
    cos, sin = math.cos(angle), math.sin(angle)
    around_x = np.array([[1.0, 0, 0, shift], [0, cos, -sin, 0], [0, sin, cos, shift / 2], [0, 0, 0, 1]])
    around_y = np.array([[cos, 0, sin, 0], [0, 1, 0, 0], [-sin, 0, cos, 0], [0, 0, 0, 1]])
    return KittiCalibration(around_x @ around_y @ PLAIN, PROJECTION)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three good frames."""
    for part in ("velodyne", "label_2", "calib", "ImageSets"):
        (tmp_path / part).mkdir()
    for i in range(3):
        points = np.random.default_rng(i).uniform(0, 10, (20, 4)).astype(np.float32)
        (tmp_path / "velodyne" / f"{i:06d}.bin").write_bytes(points.tobytes())
        (tmp_path / "label_2" / f"{i:06d}.txt").write_text(LABEL)
        (tmp_path / "calib" / f"{i:06d}.txt").write_text(CALIB)
    (tmp_path / "ImageSets" / "val.txt").write_text("000002\n000000\n")
    return tmp_path


def test_a_car_ahead_by_hand(tmp_path) -> None:
    path = tmp_path / "label.txt"
    path.write_text("Car 0 0 0 0 0 9 9 1.5 1.8 4 2 1.7 20 -1.5707963\nVan 0 0 0 0 0 9 9 2 2 5 0 1.7 9 0\n")
    boxes = to_boxes(read_objects(path), KittiCalibration(PLAIN, None), NAMES)
    assert len(boxes) == 1
    expected = [20, -2, -1.7 + 0.75, 4, 1.8, 1.5, 0]
    torch.testing.assert_close(boxes.boxes[0], torch.tensor(expected), atol=1e-6, rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.floats(-0.3, 0.3), st.floats(-2, 2))
def test_boxes_there_and_back(seed, angle, shift) -> None:
    draw = np.random.default_rng(seed)
    low, high = [-40, -40, -3, 0.3, 0.3, 0.3, -math.pi], [40, 40, 3, 9, 4, 4, math.pi]
    values = torch.from_numpy(draw.uniform(low, high, (7, 7))).float()
    boxes = Boxes3D(values, torch.from_numpy(draw.integers(0, 3, 7)), torch.from_numpy(draw.uniform(0, 1, 7)).float())
    calibration = tilted(angle, shift)
    back = to_boxes(from_boxes(boxes, calibration, NAMES, (1242, 375)), calibration, NAMES)
    torch.testing.assert_close(back.boxes[:, :6], boxes.boxes[:, :6], atol=1e-4, rtol=0)
    turned = (back.boxes[:, 6] - boxes.boxes[:, 6] + math.pi) % (2 * math.pi) - math.pi
    assert turned.abs().max() < 1e-5
    assert back.labels.tolist() == boxes.labels.tolist()
    torch.testing.assert_close(back.scores, boxes.scores)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31), st.floats(-0.03, 0.03))
def test_corners_agree_in_both_axes(seed, angle) -> None:
    """Camera and sensor may tilt against each other by no more than the boxes' upright ends show."""
    draw = np.random.default_rng(seed)
    values = torch.from_numpy(draw.uniform([5, -9, -2, 1, 1, 1, -3.1], [40, 9, 1, 5, 3, 3, 3.1], (5, 7))).float()
    calibration = tilted(angle, 0.2)
    boxes = Boxes3D(values, torch.zeros(5, dtype=torch.int64))
    objects = from_boxes(boxes, calibration, NAMES, (1242, 375))
    in_camera = camera_corners(objects.locations, objects.sizes, objects.rotation_y)
    there = boxes.corners().double().numpy() @ calibration.to_camera[:3, :3].T + calibration.to_camera[:3, 3]
    # Not the same order: the nearest corner of the other set is what must coincide.
    apart = np.linalg.norm(in_camera[:, :, None] - there[:, None], axis=3)
    assert apart.min(axis=2).max() < 1e-3 + 5 * abs(angle)


def test_2d_boxes_hold_what_the_camera_sees() -> None:
    values = torch.tensor([[20.0, 3, 0, 4, 2, 1.5, 0.4], [-20, 0, 0, 4, 2, 1.5, 0], [1.5, 0.5, 0, 4, 2, 1.5, 0]])
    boxes = Boxes3D(values, torch.zeros(3, dtype=torch.int64))
    calibration = KittiCalibration(PLAIN, PROJECTION)
    found = from_boxes(boxes, calibration, NAMES, (1242, 375)).boxes_2d
    camera = calibration.camera((1242, 375))
    pixels, depth = project(boxes.corners()[0], camera)
    assert (depth > 0).all()
    expected = torch.cat([pixels[0].min(dim=0).values, pixels[0].max(dim=0).values]).double() - 0.5
    np.testing.assert_allclose(found[0], expected, atol=1e-2)
    assert found[1].tolist() == [0, 0, 0, 0]  # behind the camera
    assert found[2, 2] == 1241  # beside the camera and partly behind it: fills the right of the image
    assert found[2, 3] == 374
    assert found[2, 2] > found[2, 0]


def test_results_are_read_as_written(tmp_path) -> None:
    boxes = Boxes3D(
        torch.tensor([[20.0, 3, 0, 4, 2, 1.5, 0.4], [10, -3, 0.5, 1, 1, 2, 3]]),
        torch.tensor([0, 1]),
        torch.tensor([0.25, 0.75]),
    )
    calibration = tilted(0.01, 0.3)
    objects = from_boxes(boxes, calibration, NAMES, (1242, 375))
    write_objects(tmp_path / "000000.txt", objects)
    back = to_boxes(read_objects(tmp_path / "000000.txt", scored=True), calibration, NAMES)
    torch.testing.assert_close(back.boxes, boxes.boxes, atol=3e-4, rtol=0)
    torch.testing.assert_close(back.scores, boxes.scores)
    assert [path.name for path in tmp_path.iterdir()] == ["000000.txt"]
    write_objects(tmp_path / "none.txt", objects[:0])
    assert len(read_objects(tmp_path / "none.txt", scored=True)) == 0


def test_real_sweeps(shared_data) -> None:
    data = KittiDataset(shared_data("lidar/kitti_drive0005"), ("Car", "Van", "Cyclist", "Pedestrian"), split="val")
    assert len(data) == 13
    inside = []
    for i in range(len(data)):
        sample = data[i]
        for box in sample.boxes.boxes:
            offset = sample.points[:, :3] - box[:3]
            cos, sin = box[6].cos(), box[6].sin()
            along, across = offset[:, 0] * cos + offset[:, 1] * sin, offset[:, 1] * cos - offset[:, 0] * sin
            within = (torch.stack([along, across, offset[:, 2]], 1).abs() < box[3:6] / 2).all(dim=1)
            inside.append(int(within.sum()))
    assert np.median(inside) > 100  # boxes lie on their points: any error of axes leaves nearly none
    assert np.mean(np.array(inside) > 5) > 0.9
    assert data[0].cameras.size == (1220, 347)
    assert data.class_counts()["DontCare"] == 35
    assert data.class_counts()["Van"] == 24


def test_real_photos_and_radar(shared_data) -> None:
    data = KittiDataset(shared_data("lidar/kitti_fov3"))
    sample = data[0]
    assert sample.photos[0].load().image.shape[:2] == tuple(reversed(sample.cameras.size))
    pixels, depth = project(sample.points[:, :3], sample.cameras)
    seen = (pixels[0] > 0).all(dim=1) & (pixels[0] < sample.cameras.sizes[0]).all(dim=1) & (depth[0] > 0)
    assert seen.float().mean() > 0.9  # these clouds are cut to what the camera sees
    channels = ("x", "y", "z", "power", "doppler", "range", "azimuth", "elevation")
    radar = KittiDataset(shared_data("radar"), ("Car", "Cyclist", "Truck"), split="val", channels=channels)
    assert len(radar) == 415
    cloud = radar[0].points
    torch.testing.assert_close(cloud[:, :3].norm(dim=1), cloud[:, 5], atol=1.5, rtol=0)


def test_splits_and_order(folder) -> None:
    assert [frame.name for frame in KittiDataset(folder).frames] == ["000000", "000001", "000002"]
    assert [frame.name for frame in KittiDataset(folder, split="val").frames] == ["000002", "000000"]
    with pytest.raises(SceneError, match=r"no such split. Choose one of val"):
        KittiDataset(folder, split="vall")
    (folder / "ImageSets" / "bad.txt").write_text("../../000001\n")
    with pytest.raises(SceneError, match="is no name of a frame"):
        KittiDataset(folder, split="bad")
    with pytest.raises(SceneError, match="neither velodyne nor training/velodyne"):
        KittiDataset(folder / "calib")


def spoil_cloud(text: bytes):
    return lambda folder: (folder / "velodyne" / "000001.bin").write_bytes(text)


def spoil_label(text: str):
    return lambda folder: (folder / "label_2" / "000001.txt").write_text(text)


def spoil_calib(text: str):
    return lambda folder: (folder / "calib" / "000001.txt").write_text(text)


DAMAGE = {
    "truncated": (spoil_cloud(bytes(35)), r"000001.bin: holds 35 bytes, .* 4 float32 \(x, y, z, intensity\)"),
    "empty": (spoil_cloud(b""), r"000001.bin: holds no points"),
    "no cloud": (lambda folder: (folder / "velodyne" / "000001.bin").rename(folder / "x"), "there is no such cloud"),
    "no label": (lambda folder: (folder / "label_2" / "000001.txt").unlink(), "there is no such file"),
    "no calib": (lambda folder: (folder / "calib" / "000001.txt").unlink(), "there is no such file"),
    "negative": (spoil_label(LABEL.replace("1.78", "-1.78")), r"line 1: a Car has height, width, length \[1.5, -1.78"),
    "nan": (spoil_label(LABEL.replace("12.65", "nan")), "line 1 holds a value that is not finite"),
    "short line": (spoil_label(LABEL + "Car 1 2\n"), "line 2 has 3 fields"),
    "no number": (spoil_label(LABEL.replace("3.69", "long")), "line 1 is no object"),
    "unknown class": (spoil_label(LABEL.replace("Car", "Lorry")), "unknown class 'Lorry'"),
    "no pose": (spoil_calib("P2: 700 0 600 40 0 700 180 0.2 0 0 1 0.003\n"), "has no Tr_velo_to_cam, only"),
    "short pose": (spoil_calib("Tr_velo_to_cam: 0 -1 0\n"), "It needs 12 finite numbers"),
    "no rotation": (spoil_calib("Tr_velo_to_cam: 0 -2 0 0 0 0 -1 0 1 0 0 0\n"), "is no rotation"),
    "no projection": (spoil_calib(CALIB.replace("700", "0")), "P2 is no projection"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_one_clear_error_or_skipped_and_counted(folder, kind) -> None:
    spoil, message = DAMAGE[kind]
    spoil(folder)
    (folder / "ImageSets" / "val.txt").write_text("000000\n000001\n000002\n")
    for split in (None, "val"):
        with pytest.raises(SceneError, match=message):
            KittiDataset(folder, split=split)
        with pytest.warns(UserWarning, match="1 of 3 frames are left out"):
            data = KittiDataset(folder, split=split, on_bad_frame="skip")
        assert [frame.name for frame in data.frames] == ["000000", "000002"]
        assert len(data.skipped) == 1
        assert len(data[1].boxes) == 1


def test_labels_without_clouds_are_no_matter_where_none_are_asked_for(folder) -> None:
    (folder / "velodyne" / "000001.bin").unlink()
    assert [frame.name for frame in KittiDataset(folder, labelled=False).frames] == ["000000", "000002"]


def test_nothing_left_and_unknown_policies_are_errors(folder) -> None:
    for path in (folder / "label_2").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="none of 3 frames can be used"):
        KittiDataset(folder, on_bad_frame="skip")
    with pytest.raises(InputError, match="choose error or skip"):
        KittiDataset(folder, on_bad_frame="ignore")
    data = KittiDataset(folder, labelled=False)
    assert data[0].boxes is None


def test_points_that_are_not_finite(folder) -> None:
    points = np.ones((10, 4), np.float32)
    points[3, 1] = np.nan
    points[4, 3] = np.inf
    (folder / "velodyne" / "000001.bin").write_bytes(points.tobytes())
    with pytest.raises(SceneError, match="2 of 10 points hold NaN or infinity"):
        KittiDataset(folder)[1]
    with pytest.warns(UserWarning, match="2 of 10 points"):
        assert len(KittiDataset(folder, invalid_points="skip")[1]) == 8


def test_channels_must_fit(folder) -> None:
    with pytest.raises(SceneError, match="no whole number of points of 6 float32"):
        KittiDataset(folder, channels=("x", "y", "z", "power", "doppler", "range"))


def test_calibration_lines_may_be_missing(folder) -> None:
    path = folder / "calib" / "000000.txt"
    calibration = read_calibration(path)
    np.testing.assert_array_equal(calibration.to_camera, PLAIN)
    path.write_text("P2:\nR_rect 1 0 0 0 1 0 0 0 1\nTr_velo_cam 0 -1 0 0 0 0 -1 0 1 0 0 0\n")
    sample = KittiDataset(folder)[0]
    assert sample.cameras is None
    boxes = from_boxes(sample.boxes, read_calibration(path), NAMES, (10, 10))
    assert (boxes.boxes_2d == -1).all()
    shutil.rmtree(folder / "calib")
    with pytest.raises(SceneError, match=r"calib.000000.txt: there is no such file"):
        KittiDataset(folder)
