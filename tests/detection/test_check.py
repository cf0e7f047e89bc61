"""The check of data sets: silent on sound ones, and right about deliberately spoiled ones."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.pointclouds.boxes import points_in_boxes
from datasets.pointclouds.kitti import KittiDataset
from datasets.pointclouds.simulator import SimulatedStreets
from datasets.pointclouds.types import Boxes3D, PointCloudSample
from detection.check import CheckReport, check
from detection.check_pictures import annotated_frame
from detection.pictures import OUTLINE, colour

CLASSES = ("Car", "Van", "Pedestrian", "Cyclist")


@pytest.fixture(scope="module")
def sound() -> list[PointCloudSample]:
    """Four sweeps, boxes within 40 m."""
    streets, samples = SimulatedStreets(4, CLASSES, beams="hdl32", seed=5), []
    for i in range(4):
        sample = streets[i]
        near = sample.boxes.boxes[:, :2].norm(dim=1) < 40
        samples.append(replace(sample, boxes=sample.boxes[near]))
    return samples


def change(samples: list[PointCloudSample], function) -> list[PointCloudSample]:
    """``function(boxes [M, 7])`` applied to a copy of every frame's boxes."""
    return [replace(one, boxes=replace(one.boxes, boxes=function(one.boxes.boxes.clone()))) for one in samples]


def bottom(boxes):
    boxes[:, 2] -= boxes[:, 5] / 2
    return boxes


def clockwise(boxes):
    boxes[:, 6] *= -1
    return boxes


def exchanged(boxes):
    return boxes[:, [0, 1, 2, 4, 3, 5, 6]]


def mirrored(boxes):
    boxes[:, 1] *= -1
    boxes[:, 6] *= -1
    return boxes


def turned(boxes):
    return torch.cat([boxes[:, 1:2], -boxes[:, :1], boxes[:, 2:6], boxes[:, 6:] - torch.pi / 2], dim=1)


def centimetres(boxes):
    boxes[:, :6] *= 100
    return boxes


def world(boxes):
    boxes[:, :2] += 1000
    return boxes


def degrees(boxes):
    boxes[:, 6] = torch.rad2deg(boxes[:, 6])
    return boxes


def camera_axes(samples):
    points = [one.points[:, [1, 2, 0, 3]] * torch.tensor([-1.0, -1, 1, 1]) for one in samples]
    return [replace(one, points=found) for one, found in zip(samples, points, strict=True)]


def shuffled(samples):
    return [replace(one, boxes=other.boxes) for one, other in zip(samples, samples[1:] + samples[:1], strict=True)]


def emptied(samples):
    spoiled = []
    for one in samples:
        hidden = points_in_boxes(one.points, one.boxes.boxes[::2], 0.5).any(dim=0)
        spoiled.append(replace(one, points=one.points[~hidden]))
    return spoiled


def renamed(samples):
    return [replace(one, class_names=(*CLASSES, "car")) for one in samples]


def doubled(samples):
    return [replace(one, boxes=Boxes3D.concatenate([one.boxes, one.boxes])) for one in samples]


def unlabelled(samples):
    return [replace(samples[0], boxes=None), *samples[1:]]


def bare(samples):
    every = replace(samples[0].boxes, labels=torch.arange(len(samples[0].boxes)) % len(CLASSES))
    return [replace(samples[0], boxes=every), *(replace(one, boxes=one.boxes[:0]) for one in samples[1:])]


def broken_points(samples):
    spoiled = samples[0].points.clone()
    spoiled[3, 1] = torch.nan
    return [replace(samples[0], points=spoiled), *samples[1:]]


def half_of_the_channels(samples):
    """What follows from files of eight channels that are read with four."""
    found = []
    for one in samples:
        angles = torch.stack([torch.atan2(one.points[:, 1], one.points[:, 0])] * 2, dim=1)
        wide = torch.cat([one.points, torch.zeros_like(angles), angles], dim=1)
        found.append(replace(one, points=wide.view(-1, 4)))
    return found


def bytes_for_intensity(samples):
    return [replace(one, points=one.points * torch.tensor([1.0, 1, 1, 255])) for one in samples]


def no_intensity(samples):
    return [replace(one, points=one.points * torch.tensor([1.0, 1, 1, 0])) for one in samples]


SPOILED = {
    "z at the bottom": (lambda s: change(s, bottom), "error", "the boxes' z is that of their bottom"),
    "yaw clockwise": (lambda s: change(s, clockwise), "error", "yaw turns clockwise"),
    "length and width": (lambda s: change(s, exchanged), "error", "length and width are exchanged"),
    "mirrored": (lambda s: change(s, mirrored), "error", "left and right are exchanged"),
    "turned": (lambda s: change(s, turned), "error", "turned by 90° to one another"),
    "camera axes": (camera_axes, "error", "the points have camera axes"),
    "centimetres": (lambda s: change(s, centimetres), "error", "the boxes are in centimetres"),
    "world": (lambda s: change(s, world), "error", "not in world coordinates"),
    "degrees": (lambda s: change(s, degrees), "error", "Yaw must be in radians"),
    "shuffled": (shuffled, "error", "Check that each label belongs to its cloud"),
    "class name": (renamed, "error", "class car: no box in any frame"),
    "unlabelled": (unlabelled, "error", "1 of 4 frames have no annotation"),
    "broken points": (broken_points, "error", "hold NaN or infinity"),
    "half of the channels": (half_of_the_channels, "error", "rows of 2 kinds take turns"),
    "empty boxes": (emptied, "warning", "boxes hold no point"),
    "doubled": (doubled, "warning", "stand within 20 cm of another"),
    "bare": (bare, "warning", "3 of 4 frames hold no box"),
    "intensity of bytes": (bytes_for_intensity, "warning", "channel intensity: reaches"),
    "no intensity": (no_intensity, "warning", "is 0 at all points"),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_what_is_spoiled_is_named(sound, kind) -> None:
    spoil, level, expected = SPOILED[kind]
    report = check(spoil(sound))
    matching = [finding for finding in report.findings if expected in str(finding)]
    assert matching, report.text()
    assert matching[0].level == level
    assert report.sound == (level == "warning")


def test_a_sound_set_is_sound(sound) -> None:
    report = check(sound, point_range=(-80, -80, -5, 80, 80, 4))
    assert report.findings == ()
    assert report.fit > 0.75
    assert "Nothing is wrong that could be seen" in report.text()
    assert report.classes[0].name == "Car"
    assert 3.8 < report.classes[0].size[0] < 4.6


def test_ranges_that_cut_objects(sound) -> None:
    found = [str(one) for one in check(sound, point_range=(0, -40, -3, 70, 40, 1)).findings]
    assert any("of the boxes lie outside x 0 to 70" in one for one in found)
    found = [str(one) for one in check(sound, point_range=(-80, -80, -1.2, 80, 80, 1)).findings]
    assert any("cuts off" in one or "outside z" in one for one in found)
    for wrong in ((0, 0, 0, 1, 1), (0, 0, 0, 0, 1, 1)):
        with pytest.raises(InputError, match="point_range is"):
            check(sound, point_range=wrong)


def test_names_in_the_labels_are_listed(sound) -> None:
    report = check(renamed(sound), source_classes={"Car": 90, "Van": 4})
    assert any("The labels have Car (90), Van (4)" in str(one) for one in report.findings)


def test_nothing_to_check() -> None:
    with pytest.raises(InputError, match="no frames to check"):
        check([])


def test_pictures_show_frames_and_classes(sound, tmp_path) -> None:
    report = check(sound, frames=4, out=tmp_path / "pictures", point_range=(-50, -50, -5, 50, 50, 4))
    assert report.frames == 4
    assert [path.name for path in report.pictures] == [f"frame_{i}.png" for i in range(4)] + [
        f"class_{i}.png" for i in range(4)
    ]
    frame, cars = (cv2.imread(str(report.pictures[i])) for i in (0, 4))
    assert max(frame.shape) == 900
    assert (frame.max(axis=2) > 60).mean() > 0.02
    assert (np.ptp(frame.astype(int), axis=2) > 60).any()  # boxes in colour
    assert cars.shape == (300, 900, 3)
    assert (cars > 100).any(axis=2).mean() > 0.02


def test_a_picture_shows_all_of_a_range_that_begins_at_the_sensor() -> None:
    box = Boxes3D(torch.tensor([[27.0, -3, 0, 4, 2, 2, 0]]), torch.tensor([0]))
    points = torch.rand(300, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([20.0, 10, 1])
    picture = annotated_frame(PointCloudSample("0", points, ("x", "y", "z"), ("Car",), box), (0, -14, -3, 28, 14, 2))
    red = (picture == OUTLINE).all(axis=2)
    assert red.any(axis=1).sum() > 0.8 * len(picture)  # x goes up
    assert red.any(axis=0).sum() > 0.8 * picture.shape[1]
    assert (picture == colour(0)).all(axis=2)[: len(picture) // 5].any()


def test_real_data_are_sound(shared_data) -> None:
    lidar = KittiDataset(shared_data("lidar/kitti_drive0005"), CLASSES)
    report = check(lidar, point_range=(-70, -70, -3, 70, 70, 1))
    assert isinstance(report, CheckReport)
    assert report.findings == ()
    channels = ("x", "y", "z", "power", "doppler", "range", "azimuth", "elevation")
    radar = KittiDataset(shared_data("radar"), ("Car", "Cyclist", "Truck"), split="val", channels=channels)
    assert check(radar, frames=30).sound
    wrong = KittiDataset(shared_data("radar"), ("Car", "Cyclist", "Truck"), split="val")
    assert not check(wrong, frames=10).sound  # eight channels read as four
