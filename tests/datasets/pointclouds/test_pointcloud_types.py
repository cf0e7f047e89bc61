"""Boxes, clouds and batches say what is wrong with what they are given."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.pointclouds.types import Boxes3D, PointCloudBatch, PointCloudSample, wrap_angle
from datasets.types import Cameras

CHANNELS = ("x", "y", "z", "intensity")


def boxes(count: int = 3) -> Boxes3D:
    values = torch.arange(count * 7, dtype=torch.float32).reshape(count, 7) / 10 + 0.5
    return Boxes3D(values, torch.arange(count) % 2, scores=torch.linspace(0, 1, count), velocities=values[:, :2])


def sample(points: int = 5, count: int = 3, **more) -> PointCloudSample:
    return PointCloudSample("000001", torch.rand(points, 4), CHANNELS, ("Car", "Cyclist"), boxes(count), **more)


@settings(deadline=None)
@given(st.floats(-1000, 1000), st.sampled_from([torch.float32, torch.float64]))
def test_wrapped_angles_point_the_same_way(angle, dtype) -> None:
    given_angle = torch.tensor([angle], dtype=dtype)
    wrapped = wrap_angle(given_angle)
    pi = torch.tensor(math.pi, dtype=dtype)
    assert -pi <= wrapped < pi
    torch.testing.assert_close(wrapped.cos(), given_angle.cos(), atol=3e-4, rtol=0)
    torch.testing.assert_close(wrapped.sin(), given_angle.sin(), atol=3e-4, rtol=0)


def test_wrapping_at_the_seam() -> None:
    seam = torch.tensor([math.pi, -math.pi, 3 * math.pi, -1e-9], dtype=torch.float64)
    torch.testing.assert_close(wrap_angle(seam), torch.tensor([-math.pi, -math.pi, -math.pi, -1e-9]).double())


def test_corners_of_a_box_that_looks_left() -> None:
    box = torch.tensor([[10.0, 5, 1, 4, 2, 1.5, math.pi / 2]])
    corners = Boxes3D(box, torch.tensor([0])).corners()[0]
    expected = torch.tensor([[9.0, 7], [9, 3], [11, 3], [11, 7]])
    torch.testing.assert_close(corners[:4, :2], expected)
    torch.testing.assert_close(corners[4:, :2], expected)
    assert corners[:, 2].tolist() == [0.25] * 4 + [1.75] * 4


def test_choosing_and_joining_boxes() -> None:
    three = boxes()
    assert len(three[1]) == 1
    torch.testing.assert_close(three[three.labels == 1].velocities, three.velocities[1:2])
    joined = Boxes3D.concatenate([three[:1], Boxes3D.empty(), three[1:]])
    torch.testing.assert_close(joined.boxes, three.boxes)
    torch.testing.assert_close(joined.scores, three.scores)
    assert joined.attributes is None
    assert Boxes3D.concatenate([three, replace(three, scores=None)]).scores is None
    assert len(Boxes3D.concatenate([])) == 0


def test_conversion_leaves_whole_numbers_alone() -> None:
    double = boxes().to("cpu", torch.float64)
    assert double.boxes.dtype == double.velocities.dtype == torch.float64
    assert double.labels.dtype == torch.int64


def test_a_batch_keeps_clouds_apart_and_may_hold_an_empty_one() -> None:
    clouds = [sample(3, 1), sample(0, 0), sample(2, 2)]
    batch = PointCloudBatch.collate(clouds)
    assert len(batch) == 3
    assert batch.batch_index.tolist() == [0, 0, 0, 2, 2]
    assert [len(found) for found in batch.boxes] == [1, 0, 2]
    torch.testing.assert_close(batch.points[batch.batch_index == 2], clouds[2].points)
    assert PointCloudBatch.collate([*clouds, replace(clouds[0], boxes=None)]).boxes is None
    assert len(batch.to("cpu")) == 3


def test_wrong_shapes_are_named() -> None:
    good, cloud = boxes(), sample()
    with pytest.raises(ValueError, match=r"boxes has shape \(3, 6\), expected \(any, 7\)"):
        replace(good, boxes=good.boxes[:, :6])
    with pytest.raises(ValueError, match=r"velocities has shape \(3, 1\), expected \(3, 2\)"):
        replace(good, velocities=good.velocities[:, :1])
    with pytest.raises(ValueError, match="scores has shape"):
        replace(good, scores=good.scores[1:])
    with pytest.raises(ValueError, match=r"labels has type torch\.int32"):
        replace(good, labels=good.labels.int())
    with pytest.raises(ValueError, match=r"points with channels x, y, z, intensity has shape \(5, 5\)"):
        replace(cloud, points=torch.rand(5, 5))
    with pytest.raises(ValueError, match=r"points has type torch.float64"):
        replace(cloud, points=torch.rand(5, 4).double())
    with pytest.raises(ValueError, match="do not begin with x, y, z"):
        replace(cloud, channels=("y", "x", "z", "intensity"))
    with pytest.raises(ValueError, match=r"000001: labels \[0, 1\] do not fit 1 classes"):
        replace(cloud, class_names=("Car",))
    with pytest.raises(ValueError, match="1 photos but 0 cameras"):
        replace(cloud, photos=(None,))


def test_a_batch_checks_itself() -> None:
    batch = PointCloudBatch.collate([sample(), sample()])
    with pytest.raises(ValueError, match="2 clouds but 1 sets of boxes"):
        replace(batch, boxes=batch.boxes[:1])
    with pytest.raises(ValueError, match="batch_index has shape"):
        replace(batch, batch_index=batch.batch_index[1:])
    with pytest.raises(ValueError, match="batch_index has type"):
        replace(batch, batch_index=batch.batch_index.int())
    with pytest.raises(ValueError, match="differ in class_names"):
        PointCloudBatch.collate([sample(), replace(sample(), class_names=("Car", "Van"))])
    with pytest.raises(ValueError, match="at least one sample"):
        PointCloudBatch.collate([])


def test_a_sample_moves_with_its_cameras() -> None:
    cameras = Cameras(torch.eye(4)[None], torch.eye(3)[None], torch.tensor([[4, 3]]))
    moved = sample(cameras=cameras).to("cpu")
    assert len(moved) == 5
    assert len(moved.boxes) == 3
    assert len(moved.cameras) == 1
    empty = replace(sample(count=0), cameras=None).to("cpu")
    assert empty.boxes is not None
    assert empty.cameras is None
