"""How detections of a whole data set are scored: the benchmarks' rules, applied to any data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from datasets.errors import InputError
from datasets.pointclouds.augmentation import Samples
from datasets.pointclouds.kitti import KittiDataset
from datasets.pointclouds.kitti_calibration import AXES_ONLY, from_boxes
from datasets.pointclouds.kitti_labels import KittiObjects
from datasets.pointclouds.nuscenes import NuScenesDataset
from datasets.pointclouds.types import Boxes3D, PointCloudSample
from detection.evaluation.kitti import (
    ALL_OBJECTS,
    DIFFICULTIES,
    STRICT_OVERLAPS,
    AveragePrecision,
    Metric,
    evaluate_kitti,
    few_objects,
    kitti_table,
)
from detection.evaluation.nuscenes import RANGES, evaluate_nuscenes, nuscenes_table
from detection.evaluation.nuscenes_attributes import likely_attributes


@dataclass(frozen=True)
class Score:
    """A table (Markdown) and its numbers by name; percent where the benchmark has it so; None where nothing counts."""

    table: str
    values: dict[str, float | None]


class Protocol(ABC):
    """Scores the detections of F frames."""

    @abstractmethod
    def check(self, samples: Samples, class_names: Sequence[str]) -> None:
        """Raise InputError where the protocol cannot score ``samples`` of these classes: before they are looked at."""

    @abstractmethod
    def __call__(self, samples: Samples, frames: Sequence[PointCloudSample], detections: Sequence[Boxes3D]) -> Score:
        """The score.

        Args:
            samples: the data set.
            frames: its F samples, of which the points are not needed.
            detections: F sets of boxes with scores.

        Raises:
            InputError: for frames without annotation, and for data that the protocol does not fit.
        """


class KittiProtocol(Protocol):
    """Average precision over 40 or 11 recall positions; for classes of few objects also the exact one, which these are
    not.

    Args:
        overlaps: by class, the overlap that a hit must exceed; several such sets give several scores. None takes the
            benchmark's.
        metrics: of "2d", "bev" and "3d".
        difficulties: "kitti" for easy, moderate and hard, which needs KITTI's labels; "all" counts every object.
        recall_positions: 40, or 11 as in results from before 2019, which do not compare with one another; names of
            values over 11 end with R11.
    """

    def __init__(
        self,
        overlaps: Sequence[Mapping[str, float]] | None = None,
        metrics: Sequence[Metric] = ("bev", "3d"),
        difficulties: Literal["kitti", "all"] = "all",
        recall_positions: Literal[40, 11] = 40,
    ) -> None:
        if recall_positions not in (40, 11):
            raise ValueError(f"recall_positions is {recall_positions}, expected 40 or 11")
        self.overlaps = [STRICT_OVERLAPS] if overlaps is None else list(overlaps)
        self.metrics, self.difficulties = list(metrics), difficulties
        self.recall_positions = recall_positions

    def check(self, samples: Samples, class_names: Sequence[str]) -> None:
        """Every class needs an overlap, difficulties and 2D boxes KITTI's labels."""
        for overlaps in self.overlaps:
            if missing := [name for name in class_names if name not in overlaps]:
                raise InputError(
                    f"data.protocol: overlaps say nothing of {missing[0]}: give the overlap that a hit must exceed"
                )
        if not isinstance(samples, KittiDataset) and (self.difficulties == "kitti" or "2d" in self.metrics):
            raise InputError(
                "KITTI's difficulties and 2D boxes need data in KITTI's layout: set data.protocol.difficulties to all "
                "and its metrics to bev and 3d"
            )

    def __call__(self, samples: Samples, frames: Sequence[PointCloudSample], detections: Sequence[Boxes3D]) -> Score:
        """AP by class, metric, overlap and difficulty."""
        names = frames[0].class_names if frames else ()
        self.check(samples, names)
        truth = [_annotation(samples, i, frame) for i, frame in enumerate(frames)]
        found = [_objects(samples, i, boxes, names) for i, boxes in enumerate(detections)]
        difficulties = DIFFICULTIES if self.difficulties == "kitti" else (ALL_OBJECTS,)
        results = [
            result
            for overlaps in self.overlaps
            for result in evaluate_kitti(
                truth, found, names, metrics=self.metrics, min_overlaps=overlaps, difficulties=difficulties
            )
        ]
        kind: Literal["r40", "r11"] = "r40" if self.recall_positions == 40 else "r11"
        suffix = "" if kind == "r40" else " R11"
        values = {f"{_name(one)}{suffix}": getattr(one, kind) if one.objects else None for one in results}
        few = few_objects(results)
        values |= {f"{_name(one)} exact": one.exact for one in few}
        return Score("\n\n".join([kitti_table(results, kind), *([_caution(few, kind)] if few else [])]), values)


def _name(result: AveragePrecision) -> str:
    return f"{result.class_name} {result.metric} {result.min_overlap:g} {result.difficulty}"


def _caution(few: Sequence[AveragePrecision], kind: Literal["r40", "r11"]) -> str:
    highest = "an R40 of (N - 1) / 40" if kind == "r40" else "an R11 of ceil(N / 4) / 11"
    counts = dict.fromkeys(f"{one.class_name} {one.difficulty}: {one.objects}" for one in few)
    return (
        f"Few objects ({', '.join(counts)}): even perfect detections of N < 41 objects have {highest}. "
        f"With the precision reached at each recall:\n\n{kitti_table(few, 'exact')}"
    )


class NuScenesProtocol(Protocol):
    """Average precision by centre distance, errors of the hits, and NDS.

    Args:
        ranges: by class, the distance in metres to which boxes count; None takes the benchmark's.
    """

    def __init__(self, ranges: Mapping[str, float] | None = None) -> None:
        self.ranges = RANGES if ranges is None else dict(ranges)

    def check(self, samples: Samples, class_names: Sequence[str]) -> None:
        """Every class needs a range."""
        if missing := [name for name in class_names if name not in self.ranges]:
            raise InputError(f"data.protocol: ranges say nothing of {missing[0]}: give the distance to which it counts")

    def __call__(self, samples: Samples, frames: Sequence[PointCloudSample], detections: Sequence[Boxes3D]) -> Score:
        """mAP, NDS and mean errors.

        Distances count from the car of nuScenes' own data, else from the axes' origin. Detections without attributes
        get those that are likely at their velocity.
        """
        names = frames[0].class_names if frames else ()
        self.check(samples, names)
        truth = [_known(frame) for frame in frames]
        origins, racks = None, None
        if isinstance(samples, NuScenesDataset):
            origins = np.stack([samples.frames[i].origin for i in range(len(frames))])
            racks = [samples.frames[i].racks for i in range(len(frames))]
        found = [
            replace(boxes, attributes=likely_attributes(boxes, names)) if boxes.attributes is None else boxes
            for boxes in detections
        ]
        result = evaluate_nuscenes(truth, found, names, origins=origins, racks=racks, ranges=self.ranges)
        values: dict[str, float | None] = {"mAP": 100 * result.mean_ap, "NDS": 100 * result.nds}
        values |= {f"{name} error": None if np.isnan(value) else value for name, value in result.errors.items()}
        return Score(nuscenes_table(result), values)


def _known(frame: PointCloudSample) -> Boxes3D:
    if frame.boxes is None:
        raise InputError(f"{frame.frame}: has no annotation to compare with. Leave it out of the test data")
    return frame.boxes


def _annotation(samples: Samples, index: int, frame: PointCloudSample) -> KittiObjects:
    """Everything that the frame's label file holds, or else its boxes."""
    boxes = _known(frame)
    objects = samples.frames[index].objects if isinstance(samples, KittiDataset) else None
    return from_boxes(boxes, AXES_ONLY, frame.class_names, (0, 0)) if objects is None else objects


def _objects(samples: Samples, index: int, boxes: Boxes3D, names: Sequence[str]) -> KittiObjects:
    if isinstance(samples, KittiDataset):
        return from_boxes(boxes, samples.frames[index].calibration, names, samples.size(index))
    return from_boxes(boxes, AXES_ONLY, names, (0, 0))
