"""The nuScenes score against hand calculation and against the rules read literally."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.pointclouds.nuscenes import ATTRIBUTES
from datasets.pointclouds.types import Boxes3D, PointCloudSample
from detection.evaluation.nuscenes import RANGES, evaluate_nuscenes, nuscenes_table
from detection.evaluation.nuscenes_attributes import likely_attributes
from detection.protocols import NuScenesProtocol
from tests.detection.evaluation import literal_nuscenes as literal
from tests.detection.evaluation.literal_nuscenes import KEYS, literal_nuscenes

NAMES = ("car", "pedestrian", "barrier", "traffic_cone")


def boxes(rows: list[tuple[float, ...]], label: int = 0, **more) -> Boxes3D:
    """Rows of x, y, yaw; cars of 4 x 2 x 1.5 m."""
    values = torch.tensor([[x, y, 0, 4, 2, 1.5, yaw] for x, y, yaw in rows], dtype=torch.float32).reshape(-1, 7)
    return Boxes3D(values, torch.full((len(rows),), label), **more)


def test_ranges_are_the_benchmarks() -> None:
    assert dict(RANGES) == literal.RANGES


def test_perfect_detections_have_all() -> None:
    truth = boxes(
        [(5, y, 0.3) for y in range(-30, 31, 6)],
        velocities=torch.ones(11, 2),
        attributes=torch.full((11,), 5),
    )
    found = Boxes3D(truth.boxes, truth.labels, torch.linspace(0.9, 0.1, 11), truth.velocities, truth.attributes)
    result = evaluate_nuscenes([truth], [found], ("car",))
    assert result.mean_ap == pytest.approx(1)
    assert result.nds == pytest.approx(1)
    assert "NDS 100.00" in nuscenes_table(result)
    assert "| car | 100.00 | 0.000 | 0.000 | 0.000 | 0.000 | 0.000 |" in nuscenes_table(result)


def test_errors_of_hits_by_hand() -> None:
    truth = boxes([(10, 0, 0.0)], velocities=torch.tensor([[3.0, 4]]), attributes=torch.tensor([6]))
    off = torch.tensor([[11.2, 0, 5, 2, 2, 1.5, math.pi / 2]])
    found = Boxes3D(off, torch.tensor([0]), torch.tensor([0.5]))
    result = evaluate_nuscenes([truth], [found], ("car",))
    assert result.average_precision["car"].tolist() == pytest.approx([0, 0, 1, 1])
    expected = {"translation": 1.2, "scale": 0.5, "orientation": math.pi / 2, "velocity": 5, "attribute": 1}
    assert result.class_errors["car"] == pytest.approx(expected, abs=1e-5)
    assert result.nds == pytest.approx((5 * 0.5 + 0.5) / 10, abs=1e-5)  # only the scale's error is below 1


def test_average_precision_by_hand() -> None:
    """Of 10 cars 5 are found, each after a false alarm: precision is about 1/2 at recalls to 0.5, and 0 above."""
    truth = boxes([(0, y, 0.0) for y in range(0, 40, 4)])
    hits = [(0, y, 0.0) for y in range(0, 20, 4)]
    rows = [row for hit in hits for row in ((30, hit[1], 0.0), hit)]
    found = boxes(rows, scores=torch.linspace(0.9, 0.1, 10))
    value = evaluate_nuscenes([truth], [found], ("car",)).average_precision["car"][0]
    assert value == pytest.approx(0.4 * 40 / 90 / 0.9, abs=0.03)


def test_a_hit_must_be_nearer_than_the_limit_and_boxes_out_of_range_do_not_count() -> None:
    truth, found = boxes([(10, 0, 0)]), boxes([(12, 0, 0)], scores=torch.tensor([0.5]))
    assert evaluate_nuscenes([truth], [found], ("car",)).average_precision["car"].tolist() == pytest.approx(
        [0, 0, 0, 1]
    )
    far = boxes([(10, 0, 0), (50, 0, 0)])
    assert evaluate_nuscenes([far], [found], ("car",)).average_precision["car"][3] == pytest.approx(1)
    moved = evaluate_nuscenes([far], [found], ("car",), origins=np.array([[1.0, 0]]))
    assert moved.average_precision["car"][3] < 0.6  # now the second car is within 50 m
    unseen = boxes([(10, 0, 0), (20, 0, 0)], point_counts=torch.tensor([3, 0]))
    assert evaluate_nuscenes([unseen], [found], ("car",)).average_precision["car"][3] == pytest.approx(1)


def random_frames(seed: int) -> tuple[list[Boxes3D], list[Boxes3D]]:
    draw = np.random.default_rng(seed)
    truths, founds = [], []
    for _ in range(draw.integers(1, 5)):
        count, more = int(draw.integers(0, 12)), int(draw.integers(0, 8))
        values = draw.uniform([-32, -32, -1, 0.3, 0.3, 0.3, -math.pi], [32, 32, 1, 5, 3, 3, math.pi], (count, 7))
        labels = draw.integers(0, len(NAMES), count)
        speeds = draw.normal(size=(count, 2)) * 3
        speeds[draw.random(count) < 0.3] = np.nan
        attributes = draw.integers(-1, 4, count)
        truths.append(
            Boxes3D(
                torch.from_numpy(values),
                torch.from_numpy(labels),
                velocities=torch.from_numpy(speeds),
                attributes=torch.from_numpy(attributes),
                point_counts=torch.from_numpy(draw.integers(0, 5, count)),
            )
        )
        near = draw.integers(0, max(count, 1), count + more) if count else np.zeros(0, np.int64)
        total = len(near)
        moved = values[near] + draw.normal(size=(total, 7)) * draw.choice([0.1, 0.5, 2], (total, 1))
        moved[:, 3:6] = np.abs(moved[:, 3:6]) + 0.1
        founds.append(
            Boxes3D(
                torch.from_numpy(moved),
                torch.from_numpy(np.where(draw.random(total) < 0.9, labels[near] if count else 0, 0)),
                scores=torch.from_numpy(draw.choice([0.3, 0.6, *draw.random(30)], total)),
                velocities=torch.from_numpy(np.nan_to_num(speeds[near]) + draw.normal(size=(total, 2))),
                attributes=torch.from_numpy(draw.integers(0, 4, total)),
            )
        )
    return truths, founds


def test_random_cases_against_the_literal_version() -> None:
    """400 data sets: 1,600 classes at four distances, with equal scores, unknown velocities and attributes."""
    found_any = 0
    for seed in range(400):
        truths, founds = random_frames(seed)
        result, expected = evaluate_nuscenes(truths, founds, NAMES), literal_nuscenes(truths, founds, NAMES)
        assert result.mean_ap == pytest.approx(expected["mean_ap"], abs=1e-9), seed
        assert result.nds == pytest.approx(expected["nds"], abs=1e-9), seed
        assert {key: result.errors[key] for key in KEYS} == pytest.approx(
            {key: expected[key] for key in KEYS}, abs=1e-9, nan_ok=True
        ), seed
        found_any += result.mean_ap > 0
    assert found_any > 200


def test_errors_that_no_class_has() -> None:
    truth = boxes([(10, 0, 0)])
    found = boxes([(10, 0, 0)], scores=torch.tensor([0.5]))
    result = evaluate_nuscenes([truth], [found], ("traffic_cone",))
    assert math.isnan(result.errors["velocity"])
    assert result.errors["translation"] == pytest.approx(0)
    assert result.nds == pytest.approx((5 + 2) / 10)
    assert "–" in nuscenes_table(result)


def test_what_cannot_be_evaluated_says_so() -> None:
    truth, found = boxes([(10, 0, 0)]), boxes([(10, 0, 0)], scores=torch.tensor([0.5]))
    with pytest.raises(InputError, match="1 annotated frames but 0"):
        evaluate_nuscenes([truth], [], ("car",))
    with pytest.raises(InputError, match="ranges says nothing of Car"):
        evaluate_nuscenes([truth], [found], ("Car",))
    with pytest.raises(InputError, match="frame 0 have no finite scores"):
        evaluate_nuscenes([truth], [truth], ("car",))
    many = boxes([(10, 0, 0)] * 501, scores=torch.linspace(0, 1, 501))
    with pytest.raises(InputError, match="501 detections: keep the 500"):
        evaluate_nuscenes([truth], [many], ("car",))
    empty = evaluate_nuscenes([Boxes3D.empty()], [boxes([], scores=torch.zeros(0))], ("car",))
    assert empty.mean_ap == 0


def test_attributes_that_are_likely() -> None:
    names = ("car", "bus", "bicycle", "pedestrian", "barrier")
    velocities = torch.tensor([[0.1, 0.1], [-3, 0], [0, 0], [0, 0.3], [1, 1], [torch.nan, torch.nan]])
    rows = Boxes3D(torch.ones(6, 7), torch.tensor([0, 1, 2, 3, 4, 0]), velocities=velocities)
    found = [ATTRIBUTES[i] if i >= 0 else None for i in likely_attributes(rows, names)]
    expected = ["vehicle.parked", "vehicle.moving", "cycle.without_rider", "pedestrian.moving", None, None]
    assert found == expected
    assert likely_attributes(replace(rows, velocities=None), names).tolist() == [-1] * 6


def test_the_protocol_fills_in_attributes() -> None:
    truth = boxes([(10, 0, 0.0)], velocities=torch.tensor([[3.0, 0]]), attributes=torch.tensor([5]))
    assert ATTRIBUTES[5] == "vehicle.moving"
    frame = PointCloudSample("0", torch.zeros(1, 3), ("x", "y", "z"), ("car",), truth)
    for speed, error in ((2.5, 0.0), (0.0, 1.0)):
        found = boxes([(10, 0, 0.0)], scores=torch.ones(1), velocities=torch.tensor([[speed, 0]]))
        assert NuScenesProtocol()([frame], [frame], [found]).values["attribute error"] == error
    said = replace(found, attributes=torch.tensor([5]))  # what a detector says is left alone
    assert NuScenesProtocol()([frame], [frame], [said]).values["attribute error"] == 0
