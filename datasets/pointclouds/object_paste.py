"""Objects of other frames pasted with their points: more objects in each sample (SECOND, Yan et al., Sensors 2018)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from datasets.errors import InputError, SceneError
from datasets.files import replacing
from datasets.pointclouds.augmentation import Samples
from datasets.pointclouds.boxes import meet_bev, points_in_boxes
from datasets.pointclouds.types import Boxes3D, PointCloudSample

MEND = "Build the database again"


@dataclass(frozen=True)
class ObjectDatabase:
    """K objects cut out of annotated frames.

    Attributes:
        points: [T, C] float32 points of all objects, in order, where they were.
        starts: [K + 1] int64, the objects' first points.
        boxes: K boxes; velocities where every source has them.
        class_names, channels: as of the frames.
    """

    points: Tensor
    starts: Tensor
    boxes: Boxes3D
    class_names: tuple[str, ...]
    channels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.boxes)

    def points_of(self, index: int) -> Tensor:
        """[n, C] points of one object."""
        return self.points[self.starts[index] : self.starts[index + 1]]


def cut_objects(samples: Samples, min_points: int = 5) -> ObjectDatabase:
    """All annotated objects of ``samples`` that hold at least ``min_points`` points.

    Raises:
        InputError: where there are none.
    """
    points, boxes = [], []
    sample = None
    for i in tqdm(range(len(samples)), desc="cut objects", unit="frame"):
        sample = samples[i]
        if sample.boxes is None:
            continue
        inside = points_in_boxes(sample.points, sample.boxes.boxes)
        enough = inside.sum(dim=1) >= min_points
        points += [sample.points[row] for row in inside[enough]]
        boxes.append(replace(sample.boxes, scores=None, attributes=None, point_counts=None)[enough])
    if sample is None or not points:
        raise InputError(f"no annotated object holds {min_points} points: check axes and classes of the data")
    sizes = torch.tensor([0, *map(len, points)])
    return ObjectDatabase(
        torch.cat(points), sizes.cumsum(0), Boxes3D.concatenate(boxes), sample.class_names, sample.channels
    )


def write_objects(database: ObjectDatabase, folder: Path) -> None:
    """Write ``objects.safetensors`` and ``objects.json`` into ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "points": database.points,
        "starts": database.starts,
        "boxes": database.boxes.boxes,
        "labels": database.boxes.labels,
    }
    if database.boxes.velocities is not None:
        tensors["velocities"] = database.boxes.velocities
    with replacing(folder / "objects.safetensors") as part:
        save_file({name: value.contiguous() for name, value in tensors.items()}, part)
    with replacing(folder / "objects.json") as part:
        names = {"class_names": database.class_names, "channels": database.channels}
        part.write_text(json.dumps(names, indent=1), encoding="utf-8")


def read_objects(folder: Path) -> ObjectDatabase:
    """Read what :func:`write_objects` wrote.

    Raises:
        SceneError: for files that are missing, damaged or do not fit one another.
    """
    path = folder / "objects.safetensors"
    try:
        names = json.loads((folder / "objects.json").read_text(encoding="utf-8"))
        class_names, channels = tuple(map(str, names["class_names"])), tuple(map(str, names["channels"]))
        tensors = load_file(path)
        boxes = Boxes3D(tensors["boxes"], tensors["labels"], velocities=tensors.get("velocities"))
        points, starts = tensors["points"], tensors["starts"]
        sound = all(
            (
                points.shape[1:] == (len(channels),),
                starts.shape == (len(boxes) + 1,),
                starts.tolist()[:1] == [0] and starts.tolist()[-1] == len(points),
                bool((starts.diff() > 0).all()),
                bool(torch.isfinite(points).all() and torch.isfinite(boxes.boxes).all()),
                bool(((boxes.labels >= 0) & (boxes.labels < len(class_names))).all()),
            )
        )
    except (OSError, SafetensorError) as error:
        raise SceneError(path, f"cannot be read ({error})", MEND) from error
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError(folder / "objects.json", f"does not describe its objects ({error!r})", MEND) from error
    if not sound:
        raise SceneError(path, "holds tensors that do not fit one another", MEND)
    return ObjectDatabase(points, starts, boxes, class_names, channels)


class Paste:
    """Paste objects where they were in their own frame, up to a number of each class.

    An object whose footprint would meet another is left out; points of the frame in a pasted box are removed, as the
    object would hide or displace them. No photo shows what was pasted, so the sample has none.

    Args:
        objects: a database, or the folder of one.
        counts: how many objects of each class a frame should have at least.

    Raises:
        SceneError, InputError: for a database that cannot be used, and classes that it lacks.
    """

    def __init__(self, objects: ObjectDatabase | Path | str, counts: Mapping[str, int]) -> None:
        self.objects = objects if isinstance(objects, ObjectDatabase) else read_objects(Path(objects))
        names = self.objects.class_names
        if lacking := [name for name in counts if name not in names]:
            raise InputError(f"the object database has no class {lacking[0]!r}, only {', '.join(names)}")
        self.counts = dict(counts)
        self.members = {
            name: (self.objects.boxes.labels == names.index(name)).nonzero()[:, 0].numpy() for name in counts
        }

    def __call__(self, sample: PointCloudSample, random: np.random.Generator) -> PointCloudSample:
        objects = self.objects
        if (sample.channels, sample.class_names) != (objects.channels, objects.class_names):
            raise InputError(
                f"{sample.frame} has channels {sample.channels} and classes {sample.class_names}, the object database "
                f"{objects.channels} and {objects.class_names}. {MEND}"
            )
        if sample.boxes is None:
            raise InputError(f"{sample.frame} has no annotation: objects would be pasted into unknown ones")
        wanted: list[int] = []
        for name, count in self.counts.items():
            present = int((sample.boxes.labels == objects.class_names.index(name)).sum())
            members = self.members[name]
            missing = min(max(count - present, 0), len(members))
            wanted += random.choice(members, missing, replace=False).tolist()
        taken = self._fitting(sample.boxes.boxes, wanted)
        if not taken:
            return sample
        pasted = objects.boxes[taken]
        hidden = points_in_boxes(sample.points, pasted.boxes).any(dim=0)
        points = torch.cat([sample.points[~hidden], *(objects.points_of(i) for i in taken)])
        unstated = torch.full((len(taken),), torch.nan)
        if sample.boxes.velocities is not None and pasted.velocities is None:
            pasted = replace(pasted, velocities=torch.stack([unstated, unstated], dim=1))
        annotated = replace(sample.boxes, scores=None, attributes=None, point_counts=None)
        return replace(sample, points=points, boxes=Boxes3D.concatenate([annotated, pasted]), photos=())

    def _fitting(self, present: Tensor, wanted: list[int]) -> list[int]:
        boxes = self.objects.boxes.boxes[wanted]
        meet = meet_bev(boxes, torch.cat([boxes, present]))
        blocked, among = meet[:, len(wanted) :].any(dim=1).numpy(), meet[:, : len(wanted)].numpy()
        kept: list[int] = []
        for i in range(len(wanted)):
            if not blocked[i] and not among[i, kept].any():
                kept.append(i)
        return [wanted[i] for i in kept]
