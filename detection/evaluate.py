"""The command ``detect3d test``: a trained detector against annotated clouds."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from datasets.pictures import save_picture
from datasets.pointclouds.augmentation import Samples
from datasets.pointclouds.types import Boxes3D, PointCloudSample
from datasets.programs.devices import Device, Precision, autocast, torch_device
from datasets.programs.run_folder import write_text
from detection.boxes import rotated_nms
from detection.detector import Detector
from detection.pictures import from_above
from detection.protocols import Protocol, Score
from detection.run import METRICS, PICTURES, open_protocol, read_config, test_samples
from detection.trained import load_model
from detection.training.loader import collate

SAME_OBJECT = 0.5  # overlap (BEV) of boxes from which on they are one object, whatever their classes


def evaluate_run(
    run: Path,
    *,
    root: Path | None = None,
    pictures: int = 4,
    score: float = 0.3,
    device: Device = "auto",
    precision: Precision = "32-true",
) -> None:
    """Score the detector of a run on its test data.

    Writes metrics.json and pictures/ into the run folder, and prints the table.

    Args:
        run: Folder of the run.
        root: Where the test data's folder is now, if it was moved since the fit.
        pictures: How many test clouds to draw from above, with what was found (coloured) and annotated (white).
        score: Least score of the boxes in pictures.
        device: Where to run the network.
        precision: Of the network: bf16-mixed is faster where the processor multiplies bfloat16 natively.
    """
    began = time.perf_counter()
    config = read_config(run)
    trained = load_model(run)
    samples, protocol = test_samples(run, config, root, trained, "error"), open_protocol(config, str(run))
    where, clock = torch_device(device), Clock()
    detector, features = trained.detector.to(where), trained.features
    with autocast(where, precision):
        for sample in samples_to_draw(samples, pictures):
            found = detect(detector, sample, features)
            draw(run / PICTURES / f"{Path(sample.frame).name}.png", detector, sample, found, score)
        result = evaluate(detector, samples, features, protocol, clock)
    metrics = {
        "values": result.values,
        "precision": precision,
        "frames": len(samples),
        "network_seconds_per_frame": round(clock.seconds / len(samples), 5),
        "seconds": round(time.perf_counter() - began, 2),
    }
    write_text(run / METRICS, json.dumps(metrics, indent=1, allow_nan=False) + "\n")
    print(f"{result.table}\n\nmetrics: {run / METRICS}")


@dataclass
class Clock:
    """Adds up the time that a network takes."""

    seconds: float = 0.0


def evaluate(
    detector: Detector,
    samples: Samples,
    features: Mapping[str, float] | None,
    protocol: Protocol,
    clock: Clock | None = None,
) -> Score:
    """The score of an evaluated detector (``.eval()``) on annotated samples.

    Raises:
        InputError: for samples without annotation, and for data that the protocol does not fit.
    """
    clock = clock or Clock()
    frames, found = [], []
    for i in tqdm(range(len(samples)), desc="test", unit="frame"):
        sample = samples[i]
        if i == 0:
            protocol.check(samples, sample.class_names)
        start = time.perf_counter()
        found.append(detect(detector, sample, features))
        clock.seconds += time.perf_counter() - start
        frames.append(replace(sample, points=sample.points[:0]))
    return protocol(samples, frames, found)


def samples_to_draw(samples: Samples, count: int) -> list[PointCloudSample]:
    """Up to ``count`` samples, evenly spread."""
    count = min(count, len(samples))
    return [samples[i * len(samples) // count] for i in range(count)]


def detect(detector: Detector, sample: PointCloudSample, features: Mapping[str, float] | None) -> Boxes3D:
    """What an evaluated detector finds in one cloud, best first, on the CPU."""
    device = next(detector.parameters()).device
    (found,) = detector.detect(collate([sample], None if features is None else dict(features)).to(device))
    return found.to(torch.device("cpu"))


def one_per_object(boxes: Boxes3D, score: float) -> Boxes3D:
    """Boxes with more than ``score``, best first, and where several classes claim one object only the best of them.

    For people: the metrics take classes one by one, and every claim counts.
    """
    assert boxes.scores is not None
    confident = boxes[boxes.scores > score]
    assert confident.scores is not None
    return confident[rotated_nms(confident.boxes, confident.scores, SAME_OBJECT)]


def draw(path: Path, detector: Detector, sample: PointCloudSample, found: Boxes3D, score: float) -> None:
    """Write a picture from above of what was found and what is annotated."""
    limits, names = detector.grid.point_range, sample.class_names
    save_picture(
        path, from_above(sample.points, limits, names, one_per_object(found, score), sample.boxes, sample.frame)
    )
