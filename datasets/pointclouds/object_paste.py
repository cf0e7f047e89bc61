"""Objects of other frames pasted with their points: more objects in each sample (SECOND, Yan et al., Sensors 2018)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from datasets.errors import InputError, SceneError
from datasets.files import replacing
from datasets.pointclouds.augmentation import Samples
from datasets.pointclouds.boxes import meet_bev, points_in_boxes
from datasets.pointclouds.types import Boxes3D, PointCloudSample

OBJECTS = "objects.safetensors"
MIN_POINTS = 5
COMPARED = 16  # frames by which data sets are told apart


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


def cut_objects(samples: Samples, min_points: int = MIN_POINTS) -> ObjectDatabase:
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


def fingerprint(samples: Samples, min_points: int = MIN_POINTS) -> str:
    """Tells what :func:`cut_objects` makes of ``samples`` from what it makes of others, without opening all of them.

    A hash of ``min_points``, the number of frames, and of :data:`COMPARED` of these, spread evenly, with name,
    channels, classes, points, boxes, labels and velocities. Changes in the other frames go unnoticed.
    """
    told = hashlib.sha256(f"{len(samples)} frames, objects of {min_points} points".encode())
    for i in np.unique(np.linspace(0, len(samples) - 1, COMPARED).round().astype(int)).tolist():
        sample = samples[i]
        told.update(repr((sample.frame, sample.channels, sample.class_names)).encode())
        annotated = sample.boxes
        parts = [sample.points]
        if annotated is not None:
            parts += [annotated.boxes, annotated.labels]
            parts += [] if annotated.velocities is None else [annotated.velocities]
        for part in parts:
            told.update(part.numpy().tobytes())
    return told.hexdigest()


def has_objects(folder: Path) -> bool:
    """Whether :func:`write_objects` has written into ``folder``."""
    return (folder / OBJECTS).is_file()


def write_objects(database: ObjectDatabase, folder: Path, source: str) -> None:
    """Write ``objects.safetensors`` into ``folder``, which is made; the file is whole or absent.

    Args:
        database: what to write.
        folder: where to.
        source: the :func:`fingerprint` of the samples.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "points": database.points,
        "starts": database.starts,
        "boxes": database.boxes.boxes,
        "labels": database.boxes.labels,
    }
    if database.boxes.velocities is not None:
        tensors["velocities"] = database.boxes.velocities
    about = {"class_names": database.class_names, "channels": database.channels, "source": source}
    with replacing(folder / OBJECTS) as part:
        save_file({name: value.contiguous() for name, value in tensors.items()}, part, {"about": json.dumps(about)})


def read_objects(folder: Path, source: str) -> ObjectDatabase:
    """Read what :func:`write_objects` wrote.

    Args:
        folder: where it lies.
        source: the :func:`fingerprint` of the samples that the objects must be of.

    Raises:
        SceneError: for a file that is missing or damaged, and for objects of other samples.
    """
    path, mend = folder / OBJECTS, "Delete it, so that it is made again, or give another folder"
    try:
        with safe_open(path, "pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        class_names, channels = tuple(map(str, about["class_names"])), tuple(map(str, about["channels"]))
        made_of = about["source"]
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
        raise SceneError(path, f"cannot be read ({error})", mend) from error
    except (KeyError, TypeError, ValueError) as error:
        raise SceneError(path, f"does not describe its objects ({error!r})", mend) from error
    if not sound:
        raise SceneError(path, "holds tensors that do not fit one another", mend)
    if source != made_of:
        found = f"holds objects of other data (classes {', '.join(class_names)}; channels {', '.join(channels)})"
        raise SceneError(path, found, mend)
    return ObjectDatabase(points, starts, boxes, class_names, channels)


class Paste:
    """Paste objects where they were in their own frame, up to a number of each class.

    An object whose footprint would meet another is left out; points of the frame in a pasted box are removed, as the
    object would hide or displace them. No photo shows what was pasted, so the sample has none.

    Args:
        objects: what to take them from.
        counts: how many objects of each class a frame should have at least.

    Raises:
        InputError: for classes that the database lacks.
    """

    def __init__(self, objects: ObjectDatabase, counts: Mapping[str, int]) -> None:
        self.objects = objects
        names = objects.class_names
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
                f"{objects.channels} and {objects.class_names}. Build the database again"
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
