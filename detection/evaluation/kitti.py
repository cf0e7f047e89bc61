"""Average precision as the KITTI object benchmark defines it, in the image, from above and in space.

Geiger et al., "Are we ready for autonomous driving?", CVPR 2012; 40 recall positions: Simonelli et al., "Disentangling
monocular 3D object detection", ICCV 2019. The benchmark's own rules are kept to the letter, these included: objects
are matched in the file's order; a detection of *any* class that is too low in the image may stand for an object, and
then neither counts; and BEV and 3D know no DontCare regions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch

from datasets.errors import InputError
from datasets.pointclouds.kitti_calibration import box_values
from datasets.pointclouds.kitti_labels import KittiObjects
from detection.boxes import iou_3d_aligned, iou_bev_aligned
from detection.evaluation.kitti_matching import NEVER, best_scores, count_hits
from detection.evaluation.pairs import same_frame

Metric = Literal["2d", "bev", "3d"]

STRICT_OVERLAPS = {"Car": 0.7, "Van": 0.7, "Truck": 0.7, "Pedestrian": 0.5, "Person_sitting": 0.5, "Cyclist": 0.5}
"""Overlap by class that a hit must exceed, as the benchmark has it."""

NEIGHBOURS = {"Car": ("Van",), "Pedestrian": ("Person_sitting",)}
"""Classes so alike that detecting them is neither right nor wrong."""

RECALLS = 41
PAIRS_AT_ONCE = 200_000


@dataclass(frozen=True)
class Difficulty:
    """Which objects count: at least so high in the image (pixels), at most so occluded and truncated.

    Others are ignored, as are detections below ``min_height``.
    """

    name: str
    min_height: float
    max_occlusion: int
    max_truncation: float


DIFFICULTIES = (Difficulty("easy", 40, 0, 0.15), Difficulty("moderate", 25, 1, 0.3), Difficulty("hard", 25, 2, 0.5))
ALL_OBJECTS = Difficulty("all", -1, 1_000, 1_000)
"""Counts every object: for data without KITTI's image-based difficulties."""


@dataclass(frozen=True)
class AveragePrecision:
    """One number of the benchmark and what it comes from.

    Attributes:
        class_name, metric, difficulty, min_overlap: what was evaluated.
        r40, r11: average precision in percent over 40 and over 11 recall positions, which do not compare with one
            another; NaN where no object counts.
        exact: as ``r40``, in percent, but with the precision that is reached at each recall, however few the objects.
        objects: how many objects count.
        precision: [41] precision in 0..1 at recall 0, 1/40, ..., made monotone from the right; 0 where not reached.
    """

    class_name: str
    metric: Metric
    difficulty: str
    min_overlap: float
    r40: float
    r11: float
    exact: float
    objects: int
    precision: np.ndarray


@dataclass(frozen=True)
class _Frames:
    """All frames in one list: objects, and in which frame each is."""

    objects: KittiObjects
    frame: np.ndarray
    boxes: np.ndarray

    @property
    def height(self) -> np.ndarray:
        return self.objects.boxes_2d[:, 3] - self.objects.boxes_2d[:, 1]


def evaluate_kitti(
    annotations: Sequence[KittiObjects],
    detections: Sequence[KittiObjects],
    class_names: Sequence[str] = ("Car", "Pedestrian", "Cyclist"),
    *,
    metrics: Sequence[Metric] = get_args(Metric),
    min_overlaps: Mapping[str, float] = STRICT_OVERLAPS,
    difficulties: Sequence[Difficulty] = DIFFICULTIES,
    neighbours: Mapping[str, Sequence[str]] = NEIGHBOURS,
) -> list[AveragePrecision]:
    """Evaluate detections of F frames.

    Args:
        annotations, detections: F sets of objects in KITTI's axes, in the same order of frames; detections have scores.
        class_names: classes to evaluate.
        metrics: "2d" boxes in the image, "bev" rotated boxes from above, "3d" rotated boxes.
        min_overlaps: intersection over union by class that a hit must exceed.
        difficulties: which objects count.
        neighbours: by class, the classes whose objects are ignored.

    Returns:
        One result for each class, metric and difficulty, in this order.

    Raises:
        InputError: for numbers of frames that differ, detections without finite scores, and classes without overlap.
    """
    if len(annotations) != len(detections):
        raise InputError(f"{len(annotations)} annotated frames but {len(detections)} frames of detections")
    if missing := [name for name in class_names if name not in min_overlaps]:
        raise InputError(f"min_overlaps says nothing of {missing[0]}: give the overlap that a hit must exceed")
    for i, objects in enumerate(detections):
        if objects.scores is None or not np.isfinite(objects.scores).all():
            raise InputError(f"the detections of frame {i} have no finite scores")
    truth, found = _joined(annotations), _joined(detections)
    rows, columns = same_frame(truth.frame, found.frame)
    overlaps = {metric: _overlaps(metric, truth, found, rows, columns) for metric in metrics}
    covered = _cover(truth, found, rows, columns)
    results = []
    for name in class_names:
        for metric in metrics:
            close = overlaps[metric] > min_overlaps[name]
            pairs = (rows[close], columns[close], overlaps[metric][close])
            excused = (covered > min_overlaps[name]) if metric == "2d" else np.zeros(len(found.frame), bool)
            for difficulty in difficulties:
                roles = _roles(truth, found, name, difficulty, neighbours.get(name, ()))
                precision, exact = _precision(pairs, *roles, found.objects.scores, excused)
                count = int((roles[0] == 0).sum())
                r40, r11, at_each_recall = (
                    (100 * float(values.mean()) if count else float("nan"))
                    for values in (precision[1:], precision[::4], exact)
                )
                told = (name, metric, difficulty.name, min_overlaps[name])
                results.append(AveragePrecision(*told, r40, r11, at_each_recall, count, precision))
    return results


def kitti_table(results: Sequence[AveragePrecision], kind: Literal["r40", "r11", "exact"] = "r40") -> str:
    """Results as a Markdown table: a row for each class and metric, a column for each difficulty."""
    difficulties = list(dict.fromkeys(result.difficulty for result in results))
    values = {
        (result.class_name, result.metric, result.min_overlap, result.difficulty): getattr(result, kind)
        for result in results
    }
    title = kind if kind == "exact" else kind.upper()
    lines = [f"| AP {title} | IoU | {' | '.join(difficulties)} |", "|---|---|" + "---|" * len(difficulties)]
    for name, metric, overlap in dict.fromkeys(key[:3] for key in values):
        cells = (values.get((name, metric, overlap, difficulty), float("nan")) for difficulty in difficulties)
        lines.append(
            f"| {name} {metric} | {overlap:g} | " + " | ".join("–" if v != v else f"{v:.2f}" for v in cells) + " |"
        )
    return "\n".join(lines)


def few_objects(results: Sequence[AveragePrecision]) -> list[AveragePrecision]:
    """Those whose R40 and R11 cannot reach 100, because they count fewer objects than a full curve needs."""
    return [result for result in results if 0 < result.objects < RECALLS]


def _joined(frames: Sequence[KittiObjects]) -> _Frames:
    def all_of(name: str) -> np.ndarray:
        return np.concatenate([getattr(objects, name) for objects in frames])

    if not frames:
        raise InputError("there are no frames to evaluate")
    scored = all(objects.scores is not None for objects in frames)
    names = ("truncated", "occluded", "alpha", "boxes_2d", "sizes", "locations", "rotation_y")
    objects = KittiObjects(
        all_of("names"), **{name: all_of(name) for name in names}, scores=all_of("scores") if scored else None
    )
    frame = np.repeat(np.arange(len(frames)), [len(objects) for objects in frames])
    return _Frames(objects, frame, box_values(objects))


def _overlaps(metric: Metric, truth: _Frames, found: _Frames, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[P] intersection over union of the pairs."""
    values = np.zeros(len(rows))
    if metric == "2d":
        a, b = truth.objects.boxes_2d[rows], found.objects.boxes_2d[columns]
        shared = _shared(a, b)
        union = _area(a) + _area(b) - shared
        np.divide(shared, union, out=values, where=shared > 0)
        return values
    if metric not in get_args(Metric):
        raise InputError(f"unknown metric {metric!r}: choose of {', '.join(get_args(Metric))}")
    function = iou_bev_aligned if metric == "bev" else iou_3d_aligned
    a, b = truth.boxes, found.boxes
    reach = (np.hypot(*a[:, 3:5].T)[rows] + np.hypot(*b[:, 3:5].T)[columns]) / 2
    near = np.flatnonzero(np.hypot(*(a[rows, :2] - b[columns, :2]).T) <= reach)
    for part in np.array_split(near, len(near) // PAIRS_AT_ONCE + 1):
        values[part] = function(torch.from_numpy(a[rows[part]]), torch.from_numpy(b[columns[part]])).numpy()
    return values


def _cover(truth: _Frames, found: _Frames, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """[D] largest share of each detection's 2D box that one DontCare region covers."""
    regions = truth.objects.names[rows] == "DontCare"
    rows, columns = rows[regions], columns[regions]
    boxes = found.objects.boxes_2d[columns]
    shared, area = _shared(truth.objects.boxes_2d[rows], boxes), _area(boxes)
    share = np.divide(shared, area, out=np.zeros(len(rows)), where=shared > 0)
    covered = np.zeros(len(found.frame))
    np.maximum.at(covered, columns, share)
    return covered


def _shared(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
    return np.where((sides > 0).all(axis=1), sides.prod(axis=1), 0)


def _area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _roles(
    truth: _Frames, found: _Frames, name: str, difficulty: Difficulty, neighbours: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Of each object and each detection: 0 counts, 1 is ignored, -1 takes no part."""
    objects = truth.objects
    own, like = objects.names == name, np.isin(objects.names, list(neighbours))
    easy_enough = (
        (objects.occluded <= difficulty.max_occlusion)
        & (objects.truncated <= difficulty.max_truncation)
        & (truth.height > difficulty.min_height)
    )
    of_objects = np.where(own & easy_enough, 0, np.where(own | like, 1, -1))
    low = np.abs(found.height) < difficulty.min_height
    return of_objects, np.where(low, 1, np.where(found.objects.names == name, 0, -1))


def _precision(
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    of_objects: np.ndarray,
    of_detections: np.ndarray,
    scores: np.ndarray | None,
    excused: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Precision over recall, monotone from the right: [41] by the benchmark's rule, and [40] at 1/40, 2/40 .. 1."""
    precision, exact = np.zeros(RECALLS), np.zeros(RECALLS - 1)
    count = int((of_objects == 0).sum())
    if scores is None or not count:
        return precision, exact
    rows, columns, overlaps = pairs
    takes_part = (of_objects[rows] >= 0) & (of_detections[columns] >= 0)
    rows, columns, overlaps = rows[takes_part], columns[takes_part], overlaps[takes_part]
    hits = best_scores(rows, columns, of_objects, of_detections, scores)
    hits = np.sort(hits[hits > NEVER])[::-1]
    counted = np.sort(scores[(of_detections == 0) & ~excused])
    excused_or_ignored = excused | (of_detections != 0)
    for result, thresholds in ((precision, _thresholds(hits, count)), (exact, _reaching(hits, count))):
        hit, used = count_hits(
            rows, columns, overlaps, of_objects, of_detections, excused_or_ignored, scores, thresholds
        )
        false = len(counted) - np.searchsorted(counted, thresholds) - used
        total = hit + false
        values = np.divide(hit, total, out=np.zeros(len(hit)), where=total > 0)
        result[: len(values)] = np.maximum.accumulate(values[::-1])[::-1]
    return precision, exact


def _thresholds(hits: np.ndarray, count: int) -> np.ndarray:
    """Scores of the hits, best first, at which recall comes nearest to 0, 1/40, 2/40 .., each hit for one of these."""
    chosen: list[float] = []
    recall = 0.0
    for i, score in enumerate(hits):
        left, right = (i + 1) / count, (i + 2) / count
        if i == len(hits) - 1 or right - recall >= recall - left:
            chosen.append(float(score))
            recall += 1 / (RECALLS - 1)  # summed up, as the benchmark does, which decides ties
    return np.array(chosen)


def _reaching(hits: np.ndarray, count: int) -> np.ndarray:
    """Scores of the hits, best first, that reach a recall of 1/40, 2/40 ..; fewer than 40 where not all are reached."""
    needed = -(-np.arange(1, RECALLS) * count // (RECALLS - 1))
    return hits[needed[needed <= len(hits)] - 1]
