"""The nuScenes detection benchmark: mean average precision by centre distance, errors of the hits, and their score NDS.

Caesar et al., "nuScenes: A multimodal dataset for autonomous driving", CVPR 2020.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

from datasets.errors import InputError
from datasets.pointclouds.boxes import points_in_boxes
from datasets.pointclouds.types import Boxes3D
from detection.evaluation.pairs import same_frame

RANGES = {
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle"), 50.0),
    **dict.fromkeys(("pedestrian", "motorcycle", "bicycle"), 40.0),
    **dict.fromkeys(("traffic_cone", "barrier"), 30.0),
}
"""Distance by class, in metres, to which boxes count."""

DISTANCES = (0.5, 1.0, 2.0, 4.0)  # metres between centres that a hit stays below
HIT_DISTANCE = 2.0  # the distance whose hits give the errors
ERRORS = ("translation", "scale", "orientation", "velocity", "attribute")
WITHOUT = {"traffic_cone": ("orientation", "velocity", "attribute"), "barrier": ("velocity", "attribute")}
RACKED = ("bicycle", "motorcycle")
MOST_BOXES = 500
RECALLS = 101
LOWEST = 0.1  # recall and precision below this count for nothing
FIRST = round(100 * LOWEST) + 1


@dataclass(frozen=True)
class NuScenesResult:
    """What the benchmark states.

    Attributes:
        mean_ap: mAP in 0..1.
        nds: nuScenes detection score in 0..1.
        errors: mean errors of the hits by name: translation in metres, scale 1 - IoU, orientation in radians, velocity
            in m/s, attribute 1 - accuracy; NaN where no class has the error.
        average_precision: by class, [4] for the four distances.
        class_errors: by class and name; NaN where the class has no such error.
    """

    mean_ap: float
    nds: float
    errors: dict[str, float]
    average_precision: dict[str, np.ndarray]
    class_errors: dict[str, dict[str, float]]


@dataclass(frozen=True)
class _Boxes:
    """Boxes of one class of all frames."""

    frame: np.ndarray
    boxes: np.ndarray
    velocities: np.ndarray
    attributes: np.ndarray
    scores: np.ndarray


def evaluate_nuscenes(
    annotations: Sequence[Boxes3D],
    detections: Sequence[Boxes3D],
    class_names: Sequence[str],
    *,
    origins: np.ndarray | None = None,
    racks: Sequence[Tensor] | None = None,
    ranges: Mapping[str, float] = RANGES,
) -> NuScenesResult:
    """Evaluate detections of F frames.

    Args:
        annotations, detections: F sets of boxes in the same order and axes, labelled by ``class_names``. Annotations
            without points (``point_counts`` 0) do not count; detections have scores, and without velocities or
            attributes get the errors of a velocity of 0 and of a wrong attribute.
        class_names: classes to evaluate.
        origins: [F, 2] where the car is, from which ``ranges`` count; None takes the axes' origin. The benchmark counts
            from the car's rear axle, the boxes' axes mostly start at the sensor.
        racks: F sets [R, 7] of bicycle racks: bicycles and motorcycles whose centres lie in one do not count.
        ranges: distance by class to which boxes count.

    Raises:
        InputError: for numbers of frames that differ, more than 500 detections in a frame, scores that are missing or
            not finite, and classes without a range.
    """
    if len(annotations) != len(detections):
        raise InputError(f"{len(annotations)} annotated frames but {len(detections)} frames of detections")
    if missing := [name for name in class_names if name not in ranges]:
        raise InputError(f"ranges says nothing of {missing[0]}: give the distance to which it counts")
    for i, found in enumerate(detections):
        if found.scores is None or not bool(found.scores.isfinite().all()):
            raise InputError(f"the detections of frame {i} have no finite scores")
        if len(found) > MOST_BOXES:
            raise InputError(f"frame {i} has {len(found)} detections: keep the {MOST_BOXES} of highest score")
    if racks is not None:
        annotations, detections = (
            [_outside(boxes, rack, class_names) for boxes, rack in zip(side, racks, strict=True)]
            for side in (annotations, detections)
        )
    centre = np.zeros((len(annotations), 2)) if origins is None else np.asarray(origins, np.float64)
    truth = _joined(annotations, centre, unseen=False)
    found_boxes = _joined(detections, centre, unseen=True)
    precision, errors = {}, {}
    for label, name in enumerate(class_names):
        own = [_of_class(*side, label, ranges[name]) for side in (truth, found_boxes)]
        precision[name], errors[name] = _class_result(own[0], own[1], name)
    mean_ap = float(np.mean([values.mean() for values in precision.values()]))
    means = {}
    for key in ERRORS:
        values = np.array([errors[name][key] for name in class_names])
        means[key] = float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")
    scores = [max(0.0, 1 - value) if value == value else 0.0 for value in means.values()]
    return NuScenesResult(mean_ap, (5 * mean_ap + sum(scores)) / 10, means, precision, errors)


def _outside(boxes: Boxes3D, racks: Tensor, class_names: Sequence[str]) -> Boxes3D:
    """The boxes without those of RACKED classes in a rack."""
    racked = torch.tensor([class_names[label] in RACKED for label in boxes.labels.tolist()], dtype=torch.bool)
    return boxes[~(racked & points_in_boxes(boxes.boxes[:, :3].cpu(), racks).any(dim=0)).to(boxes.labels.device)]


def nuscenes_table(result: NuScenesResult) -> str:
    """The result as Markdown: a row for each class, then the means."""
    lines = [f"| | AP | {' | '.join(ERRORS)} |", "|---|---|" + "---|" * len(ERRORS)]
    rows = [(name, float(ap.mean()), result.class_errors[name]) for name, ap in result.average_precision.items()]
    for name, ap, errors in [*rows, ("mean", result.mean_ap, result.errors)]:
        cells = ("–" if errors[key] != errors[key] else f"{errors[key]:.3f}" for key in ERRORS)
        lines.append(f"| {name} | {100 * ap:.2f} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"NDS {100 * result.nds:.2f}"])


def _joined(frames: Sequence[Boxes3D], origins: np.ndarray, unseen: bool) -> tuple[_Boxes, np.ndarray, np.ndarray]:
    """All boxes in one list, their labels, and their distances; without ``unseen`` only those that hold points."""
    frame = np.repeat(np.arange(len(frames)), [len(boxes) for boxes in frames])
    none = np.zeros(0)
    boxes = np.concatenate([np.zeros((0, 7)), *(one.boxes.double().cpu().numpy() for one in frames)])
    labels = np.concatenate([none, *(one.labels.cpu().numpy() for one in frames)]).astype(np.int64)
    velocities = np.concatenate(
        [
            np.zeros((0, 2)),
            *(
                np.full((len(one), 2), 0.0 if unseen else np.nan)
                if one.velocities is None
                else one.velocities.double().cpu().numpy()
                for one in frames
            ),
        ]
    )
    attributes, counts, scores = (
        np.concatenate(
            [
                none,
                *(
                    np.full(len(one), default)
                    if getattr(one, name) is None
                    else getattr(one, name).double().cpu().numpy()
                    for one in frames
                ),
            ]
        )
        for name, default in (("attributes", -1.0), ("point_counts", 1.0), ("scores", 0.0))
    )
    keep = np.full(len(boxes), True) if unseen else counts > 0
    distance = np.hypot(*(boxes[:, :2] - origins[frame]).T)
    flat = _Boxes(frame[keep], boxes[keep], velocities[keep], attributes[keep], scores[keep])
    return flat, labels[keep], distance[keep]


def _of_class(flat: _Boxes, labels: np.ndarray, distance: np.ndarray, label: int, limit: float) -> _Boxes:
    chosen = (labels == label) & (distance < limit)
    values = (flat.frame, flat.boxes, flat.velocities, flat.attributes, flat.scores)
    frame, boxes, velocities, attributes, scores = (value[chosen] for value in values)
    return _Boxes(frame, boxes, velocities, attributes, scores)


def _class_result(truth: _Boxes, found: _Boxes, name: str) -> tuple[np.ndarray, dict[str, float]]:
    """Average precision at the four distances, and the errors, 1 where there is no hit."""
    errors = {key: float("nan") if key in WITHOUT.get(name, ()) else 1.0 for key in ERRORS}
    # Highest score first; of equal ones the last, as the benchmark sorts.
    order = np.argsort(found.scores, kind="stable")[::-1]
    rows, columns = same_frame(found.frame[order], truth.frame)
    apart = np.hypot(*(found.boxes[order][rows, :2] - truth.boxes[columns, :2]).T)
    precisions = np.zeros(len(DISTANCES))
    for i, limit in enumerate(DISTANCES):
        match = _match(rows, columns, apart, len(order), len(truth.frame), limit)
        hit = match >= 0
        if not hit.any():
            continue
        recall = np.cumsum(hit) / len(truth.frame)
        at = np.linspace(0, 1, RECALLS)
        precision = np.interp(at, recall, np.cumsum(hit) / np.arange(1, len(hit) + 1), right=0)
        precisions[i] = np.maximum(precision[FIRST:] - LOWEST, 0).mean() / (1 - LOWEST)
        if limit == HIT_DISTANCE:
            confidence = np.interp(at, recall, found.scores[order], right=0)
            measured = _hit_errors(truth, match[hit], found, order[hit], np.pi if name == "barrier" else 2 * np.pi)
            scores = found.scores[order[hit]]
            reached = np.flatnonzero(confidence)
            last = int(reached[-1]) if len(reached) else 0
            for key in ERRORS:
                if errors[key] == errors[key] and last >= FIRST:
                    curve = np.interp(confidence[::-1], scores[::-1], _running_mean(measured[key])[::-1])[::-1]
                    errors[key] = float(curve[FIRST : last + 1].mean())
    return precisions, errors


@njit(cache=True)
def _match(
    rows: np.ndarray, columns: np.ndarray, apart: np.ndarray, detections: int, objects: int, limit: float
) -> np.ndarray:
    """[detections] the object that each takes: the nearest that is left, if it is nearer than ``limit``; else -1."""
    match = np.full(detections, -1)
    taken = np.zeros(objects, np.bool_)
    start = 0
    while start < len(rows):
        row, best, end = rows[start], -1, start
        while end < len(rows) and rows[end] == row:
            if not taken[columns[end]] and (best < 0 or apart[end] < apart[best]):
                best = end
            end += 1
        if best >= 0 and apart[best] < limit:
            match[row] = columns[best]
            taken[columns[best]] = True
        start = end
    return match


def _hit_errors(truth: _Boxes, of: np.ndarray, found: _Boxes, by: np.ndarray, period: float) -> dict[str, np.ndarray]:
    """[hits] errors of the hits on objects ``of`` by detections ``by``; NaN where an object does not state it."""
    one, two = truth.boxes[of], found.boxes[by]
    shared = np.minimum(one[:, 3:6], two[:, 3:6]).prod(axis=1)
    union = one[:, 3:6].prod(axis=1) + two[:, 3:6].prod(axis=1) - shared
    turn = (one[:, 6] - two[:, 6] + period / 2) % period - period / 2
    named = truth.attributes[of]
    return {
        "translation": np.hypot(*(one[:, :2] - two[:, :2]).T),
        "scale": 1 - shared / union,
        "orientation": np.abs(turn),
        "velocity": np.hypot(*(truth.velocities[of] - found.velocities[by]).T),
        "attribute": np.where(named < 0, np.nan, named != found.attributes[by]),
    }


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Mean of the values so far without the NaN, 0 where there are none yet; 1 throughout where all are NaN."""
    stated = np.isfinite(values)
    if not stated.any():
        return np.ones(len(values))
    count = np.cumsum(stated)
    total = np.cumsum(np.where(stated, values, 0))
    return np.divide(total, count, out=np.zeros(len(values)), where=count > 0)
