"""KITTI's average precision against hand calculation and against the rules read literally."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.errors import InputError
from datasets.pointclouds.kitti import KittiDataset
from datasets.pointclouds.kitti_calibration import box_values
from datasets.pointclouds.kitti_labels import KittiObjects
from datasets.pointclouds.simulator import SimulatedStreets
from detection.boxes import iou_3d, iou_bev
from detection.evaluation.kitti import ALL_OBJECTS, STRICT_OVERLAPS, evaluate_kitti, kitti_table
from detection.protocols import KittiProtocol, Protocol
from detection.trained import build
from tests.detection.evaluation.literal_kitti import literal_ap

CLASSES = ("Car", "Van", "Pedestrian", "Person_sitting", "Cyclist", "DontCare")


def objects(rows: list[tuple], scored: bool = False) -> KittiObjects:
    """Rows of (name, x, z, height in the image, occlusion[, score]); boxes of 1.5 x 2 x 4 m along the camera's x."""
    names = np.array([row[0] for row in rows], dtype=np.str_)
    x, z, height, occluded = (np.array([row[i] for row in rows], dtype=float) for i in range(1, 5))
    zero = np.zeros(len(rows))
    left, top = 100 + 20 * x, 100 + zero
    return KittiObjects(
        names,
        zero,
        occluded.astype(np.int64),
        zero,
        np.stack([left, top, left + 60, top + height], axis=1),
        np.tile([1.5, 2.0, 4.0], (len(rows), 1)),
        np.stack([x, zero + 1.7, z], axis=1),
        zero,
        np.array([row[5] for row in rows]) if scored else None,
    )


def result(truth, found, name="Car", metric="3d", difficulty="moderate"):
    results = evaluate_kitti([objects(truth)], [objects(found, scored=True)], (name,), metrics=(metric,))
    return next(one for one in results if one.difficulty == difficulty)


def test_overlaps_are_the_benchmarks() -> None:
    assert {name: STRICT_OVERLAPS[name] for name in ("Car", "Pedestrian", "Cyclist")} == dict(
        Car=0.7, Pedestrian=0.5, Cyclist=0.5
    )


def test_a_perfect_detector_of_many_cars_has_all() -> None:
    """With 40 cars and more every recall position is reached."""
    truth = [("Car", 10 * i, 20, 50, 0) for i in range(80)]
    perfect = result(truth, [(*row, 1 - 0.01 * i) for i, row in enumerate(truth)])
    assert perfect.r40 == pytest.approx(100)
    assert perfect.r11 == pytest.approx(100)
    assert perfect.objects == 80


def test_two_cars_of_which_one_is_found() -> None:
    """One hit of two gives one threshold: precision 1 at recall 0 alone, so R40 is 0 and R11 is 1/11."""
    half = result([("Car", 0, 20, 50, 0), ("Car", 30, 20, 50, 0)], [("Car", 0, 20, 50, 0, 0.9)])
    assert half.precision[0] == 1
    assert half.r40 == 0
    assert half.r11 == pytest.approx(100 / 11)
    assert half.exact == pytest.approx(50)


@pytest.mark.parametrize("count", [1, 3, 16, 39, 41, 80, 1000])
def test_perfect_detections_have_all_however_few_the_objects(count) -> None:
    """R40 gives 16 objects 15 of its 40 positions, whatever is found; the exact precision has every position."""
    truth = [("Car", 10 * i, 20, 50, 0) for i in range(count)]
    perfect = result(truth, [(*row, 1 - 0.0001 * i) for i, row in enumerate(truth)])
    assert perfect.exact == pytest.approx(100)
    assert perfect.r40 == pytest.approx(min(count - 1, 40) / 0.4)


def test_of_many_objects_both_rules_say_the_same() -> None:
    draw = np.random.default_rng(3)
    truth = [("Car", 10 * i, 20, 50, 0) for i in range(800)]
    hits = [(*row, draw.random()) for row in truth if draw.random() < 0.8]
    alarms = [("Car", 10 * i, 60, 50, 0, 0.7 * draw.random()) for i in range(800)]
    many = result(truth, hits + alarms)
    assert 40 < many.exact < 80
    assert many.exact == pytest.approx(many.r40, abs=100 / 40)  # the benchmark's last hit may stand for a recall beyond


def test_a_false_alarm_before_the_hits_halves_precision() -> None:
    truth = [("Car", 10 * i, 20, 50, 0) for i in range(41)]
    hits = [(*row, 0.5) for row in truth]
    alarms = [("Car", 10 * i, 60, 50, 0, 0.9) for i in range(41)]
    half = result(truth, hits + alarms)
    assert half.r40 == pytest.approx(50)
    assert result(truth, hits + [(*alarm[:5], 0.1) for alarm in alarms]).r40 == pytest.approx(100)


def test_neighbours_hard_objects_and_low_detections_are_neither_right_nor_wrong() -> None:
    truth = [("Car", 10 * i, 20, 50, 0) for i in range(41)]
    hits = [(*row, 0.5) for row in truth]
    for extra in (("Van", 0, 60, 50, 0), ("Car", 0, 60, 50, 2), ("Car", 0, 60, 20, 0)):
        assert result([*truth, extra], [*hits, (*extra[:3], 50, 0, 0.9)]).r40 == pytest.approx(100)
        assert result([*truth, extra], hits).r40 == pytest.approx(100)
    assert result(truth, [*hits, ("Car", 0, 60, 24, 0, 0.9)]).r40 == pytest.approx(100)  # too low to be an alarm
    assert result(truth, [*hits, ("Car", 0, 60, 26, 0, 0.9)]).r40 < 99
    assert result([*truth, ("Truck", 0, 60, 50, 0)], [*hits, ("Car", 0, 60, 50, 0, 0.9)]).r40 < 99


def test_dontcare_counts_in_the_image_only() -> None:
    truth = [("Car", 10 * i, 20, 50, 0) for i in range(41)]
    found = [(*row, 0.5) for row in truth] + [("Car", -30, 60, 50, 0, 0.9)]
    region = ("DontCare", -30, -1000, 60, 0)
    assert result([*truth, region], found, metric="2d").r40 == pytest.approx(100)
    assert result([*truth, region], found, metric="bev").r40 < 99
    assert result(truth, found, metric="2d").r40 < 99


def test_overlap_must_be_exceeded() -> None:
    """Shifting a 4 m box by s gives (4 - s) / (4 + s): 0.6 at s = 1."""
    truth, found = [objects([("Car", 0, 20, 50, 0)])], [objects([("Car", 1, 20, 50, 0, 0.9)], scored=True)]

    def hit(overlap: float) -> bool:
        (one,) = evaluate_kitti(
            truth, found, ("Car",), metrics=("bev",), min_overlaps={"Car": overlap}, difficulties=(ALL_OBJECTS,)
        )
        return bool(one.precision[0] == 1)

    assert hit(0.6 - 1e-9)
    assert not hit(0.6 + 1e-9)


def random_frame(draw: np.random.Generator, count: int, like: KittiObjects | None = None) -> KittiObjects:
    """Objects on a crowded patch; detections (``like`` given) mostly near the objects, some scores equal."""
    names = draw.choice(CLASSES, count, p=[0.4, 0.12, 0.15, 0.08, 0.15, 0.1])
    sizes = draw.uniform([1.2, 0.6, 0.8], [2, 2, 4.5], (count, 3))
    locations = np.stack([draw.uniform(-5, 5, count), draw.uniform(1.5, 1.9, count), draw.uniform(5, 15, count)], 1)
    rotation, left, top = draw.uniform(-3.2, 3.2, count), draw.uniform(0, 200, count), draw.uniform(0, 100, count)
    boxes = np.stack([left, top, left + draw.uniform(20, 90, count), top + draw.choice([24, 30, 41, 80], count)], 1)
    if like is not None and len(like):
        near = draw.integers(0, len(like), count)
        close = draw.random(count) < 0.85
        names = np.where(close & (draw.random(count) < 0.85), like.names[near], names)
        jitter = draw.choice([0.02, 0.1, 0.3], count)[:, None]
        sizes = np.where(close[:, None], np.abs(like.sizes[near] * (1 + jitter * draw.normal(size=(count, 3)))), sizes)
        sizes = np.maximum(sizes, 0.1)
        moved = like.locations[near] + jitter * draw.normal(size=(count, 3))
        locations = np.where(close[:, None], moved, locations)
        rotation = np.where(close, like.rotation_y[near] + 0.5 * jitter[:, 0] * draw.normal(size=count), rotation)
        boxes = np.where(close[:, None], like.boxes_2d[near] + 20 * jitter * draw.normal(size=(count, 4)), boxes)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
    return KittiObjects(
        names,
        draw.choice([0, 0.2, 0.4, 0.6], count, p=[0.7, 0.1, 0.1, 0.1]),
        draw.choice(4, count, p=[0.6, 0.2, 0.1, 0.1]),
        np.zeros(count),
        boxes,
        sizes,
        locations,
        rotation,
        None if like is None else draw.choice([0.3, 0.5, *draw.random(20)], count),
    )


def random_frames(seed: int) -> tuple[list[KittiObjects], list[KittiObjects]]:
    draw = np.random.default_rng(seed)
    truths = [random_frame(draw, int(draw.integers(0, 9))) for _ in range(draw.integers(1, 5))]
    return truths, [random_frame(draw, int(draw.integers(0, 14)), like=truth) for truth in truths]


def compare(seed: int, metric: str, overlaps_of) -> int:
    truths, founds = random_frames(seed)
    minimum = {"Car": 0.5, "Pedestrian": 0.3, "Cyclist": 0.3}
    met = 0
    for one in evaluate_kitti(truths, founds, tuple(minimum), metrics=(metric,), min_overlaps=minimum):
        level = ("easy", "moderate", "hard").index(one.difficulty)
        r40, r11, exact, precision = literal_ap(
            truths, founds, one.class_name, metric, level, minimum[one.class_name], overlaps_of
        )
        np.testing.assert_allclose(
            (one.r40, one.r11, one.exact), (r40, r11, exact), atol=1e-9, err_msg=f"seed {seed}: {one}"
        )
        np.testing.assert_allclose(one.precision, precision, atol=1e-12)
        met += one.precision[0] > 0
    return met


@pytest.mark.parametrize("metric", ["2d", "bev", "3d"])
def test_random_cases_with_polygons_clipped_one_by_one(metric) -> None:
    assert sum(compare(seed, metric, None) for seed in range(60)) > 60


def shared_overlaps(metric: str, truth: KittiObjects, found: KittiObjects) -> np.ndarray:
    function = iou_bev if metric == "bev" else iou_3d
    return function(torch.from_numpy(box_values(truth)), torch.from_numpy(box_values(found))).numpy()


def test_thousands_of_random_cases_of_matching() -> None:
    """560 data sets of nine cases each (class, difficulty); 2D needs no rotated overlap, so it has the most."""
    met = sum(compare(seed, "2d", None) for seed in range(1000, 1480))
    met += sum(compare(seed, metric, shared_overlaps) for metric in ("bev", "3d") for seed in range(3400, 3440))
    assert met > 1500


def test_the_order_of_frames_does_not_matter() -> None:
    truths, founds = (list(part) for part in random_frames(5))
    truths += random_frames(6)[0]
    founds += random_frames(6)[1]
    there = evaluate_kitti(truths, founds)
    back = evaluate_kitti(truths[::-1], founds[::-1])
    assert [one.r40 for one in there] == pytest.approx([one.r40 for one in back], nan_ok=True)


def test_annotations_of_a_real_drive_evaluate_to_all(shared_data) -> None:
    data = KittiDataset(shared_data("lidar/kitti_drive0005"))
    truths = [frame.objects for frame in data.frames]
    founds = [one[one.names != "DontCare"] for one in truths]
    founds = [
        KittiObjects(
            *(getattr(one, name) for name in ("names", "truncated", "occluded", "alpha", "boxes_2d")),
            *(one.sizes, one.locations, one.rotation_y, np.linspace(1, 0.5, len(one))),
        )
        for one in founds
    ]
    every = evaluate_kitti(truths, founds, ("Car", "Van", "Cyclist"), difficulties=(ALL_OBJECTS,))
    reachable = {one.class_name: min(one.objects, 41) for one in every}
    assert reachable["Van"] == 24
    for one in every:
        assert one.precision.max() == 1
        assert one.exact == pytest.approx(100)
        assert (one.precision > 0).sum() == min(reachable[one.class_name], 41)


def test_what_cannot_be_evaluated_says_so() -> None:
    truth, found = objects([("Car", 0, 20, 50, 0)]), objects([("Car", 0, 20, 50, 0, 0.9)], scored=True)
    with pytest.raises(InputError, match="1 annotated frames but 2 frames of detections"):
        evaluate_kitti([truth], [found, found])
    with pytest.raises(InputError, match="min_overlaps says nothing of Lorry"):
        evaluate_kitti([truth], [found], ("Lorry",))
    with pytest.raises(InputError, match="detections of frame 0 have no finite scores"):
        evaluate_kitti([truth], [truth])
    with pytest.raises(InputError, match="no frames"):
        evaluate_kitti([], [])
    with pytest.raises(InputError, match="unknown metric '4d'"):
        evaluate_kitti([truth], [found], metrics=("4d",))
    (nothing,) = evaluate_kitti([truth], [found], ("Cyclist",), metrics=("3d",), difficulties=(ALL_OBJECTS,))
    assert math.isnan(nothing.r40)
    assert math.isnan(nothing.exact)
    assert nothing.objects == 0
    assert len(evaluate_kitti([truth[:0]], [found[:0]])) == 27


def test_the_table_shows_what_was_evaluated() -> None:
    truth = [("Car", 10 * i, 20, 50, 0) for i in range(80)]
    results = evaluate_kitti([objects(truth)], [objects([(*row, 0.5) for row in truth], scored=True)], ("Car", "Van"))
    table = kitti_table(results)
    assert "| AP R40 | IoU | easy | moderate | hard |" in table
    assert "| Car 3d | 0.7 | 100.00 | 100.00 | 100.00 |" in table
    assert "| Van 2d | 0.7 | – | – | – |" in table
    assert "AP R11" in kitti_table(results, "r11")


@pytest.mark.parametrize(
    ("positions", "name", "title", "highest"),
    [
        (40, "Car bev 0.7 all", "| AP R40 |", lambda count: (count - 1) / 0.4),
        (11, "Car bev 0.7 all R11", "| AP R11 |", lambda count: math.ceil(count / 4) / 0.11),
    ],
)
def test_the_protocol_warns_of_few_objects(positions, name, title, highest) -> None:
    """The built-in streets of two sweeps hold few cars, of which all are found."""
    samples = SimulatedStreets(2, ("Car",), beams="hdl32")
    frames = [samples[i] for i in range(2)]
    found = [replace(frame.boxes, scores=torch.linspace(0.9, 0.8, len(frame.boxes))) for frame in frames]
    count = sum(len(boxes) for boxes in found)
    assert 2 < count < 40
    score = KittiProtocol(metrics=["bev"], recall_positions=positions)(samples, frames, found)
    assert score.values == pytest.approx({name: highest(count), "Car bev 0.7 all exact": 100})
    assert score.table.startswith(title)
    assert f"Car all: {count}" in score.table
    assert f"R{positions} of" in score.table
    assert "| Car bev | 0.7 | 100.00 |" in score.table.split("AP exact")[1]


def test_a_configuration_chooses_40_or_11_recall_positions() -> None:
    config = {"class_path": "detection.protocols.KittiProtocol", "init_args": {"recall_positions": 11}}
    assert build(Protocol, config, "data.protocol").recall_positions == 11
    with pytest.raises(InputError, match=r"(?s)data.protocol: .*recall_positions.*40, 11.* 12"):
        build(Protocol, {**config, "init_args": {"recall_positions": 12}}, "data.protocol")
    with pytest.raises(ValueError, match="recall_positions is 12, expected 40 or 11"):
        KittiProtocol(recall_positions=12)
