"""The nuScenes benchmark read off its rules, one detection at a time."""

from __future__ import annotations

import math

import numpy as np

from datasets.pointclouds.types import Boxes3D

RANGES = {  # metres, as the benchmark's paper has them
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle"), 50),
    **dict.fromkeys(("pedestrian", "motorcycle", "bicycle"), 40),
    **dict.fromkeys(("traffic_cone", "barrier"), 30),
}
KEYS = ("translation", "scale", "orientation", "velocity", "attribute")


def records(frames: list[Boxes3D], names: tuple[str, ...]) -> list[dict]:
    rows = []
    for frame, boxes in enumerate(frames):
        for i in range(len(boxes)):
            box = boxes.boxes[i].double().tolist()
            name = names[int(boxes.labels[i])]
            if math.hypot(box[0], box[1]) >= RANGES[name]:
                continue
            if boxes.point_counts is not None and boxes.point_counts[i] == 0:
                continue
            rows.append(
                {
                    "frame": frame,
                    "name": name,
                    "box": box,
                    "velocity": boxes.velocities[i].double().tolist(),
                    "attribute": int(boxes.attributes[i]),
                    "score": None if boxes.scores is None else float(boxes.scores[i]),
                }
            )
    return rows


def errors_of(truth: dict, found: dict, name: str) -> dict[str, float]:
    a, b = truth["box"], found["box"]
    shared = math.prod(min(a[i], b[i]) for i in (3, 4, 5))
    union = math.prod(a[3:6]) + math.prod(b[3:6]) - shared
    period = math.pi if name == "barrier" else 2 * math.pi
    turn = abs(a[6] - b[6]) % period
    return {
        "translation": math.dist(a[:2], b[:2]),
        "scale": 1 - shared / union,
        "orientation": min(turn, period - turn),
        "velocity": math.dist(truth["velocity"], found["velocity"]),
        "attribute": math.nan if truth["attribute"] < 0 else float(truth["attribute"] != found["attribute"]),
    }


def literal_class(truths: list[dict], founds: list[dict], name: str, limit: float) -> tuple[float, dict[str, float]]:
    truths = [row for row in truths if row["name"] == name]
    founds = [row for row in founds if row["name"] == name]
    nothing = dict.fromkeys(KEYS, 1.0)
    order = [i for _, i in sorted((row["score"], i) for i, row in enumerate(founds))][::-1]
    taken, hits, tp, scores = set(), [], [], []
    for i in order:
        best, nearest = None, math.inf
        for j, truth in enumerate(truths):
            if truth["frame"] == founds[i]["frame"] and j not in taken:
                distance = math.dist(truth["box"][:2], founds[i]["box"][:2])
                if distance < nearest:
                    best, nearest = j, distance
        tp.append(nearest < limit)
        scores.append(founds[i]["score"])
        if nearest < limit:
            taken.add(best)
            hits.append({**errors_of(truths[best], founds[i], name), "score": founds[i]["score"]})
    if not hits:
        return 0.0, nothing
    total, precision, recall = 0, [], []
    for k, hit in enumerate(tp):
        total += hit
        precision.append(total / (k + 1))
        recall.append(total / len(truths))
    at = np.linspace(0, 1, 101)
    curve = np.interp(at, recall, precision, right=0)
    confidence = np.interp(at, recall, scores, right=0)
    ap = sum(max(value - 0.1, 0) for value in curve[11:]) / 90 / 0.9
    last = max((k for k in range(101) if confidence[k] != 0), default=0)
    errors = {}
    for key in KEYS:
        values = [hit[key] for hit in hits]
        means, so_far = [], []
        for value in values:
            if not math.isnan(value):
                so_far.append(value)
            means.append(sum(so_far) / len(so_far) if so_far else 0.0)
        if not so_far:
            means = [1.0] * len(values)
        spread = np.interp(confidence[::-1], [hit["score"] for hit in hits][::-1], means[::-1])[::-1]
        errors[key] = 1.0 if last < 11 else float(np.mean(spread[11 : last + 1]))
    return ap, errors


def literal_nuscenes(annotations: list[Boxes3D], detections: list[Boxes3D], names: tuple[str, ...]) -> dict:
    truths, founds = records(annotations, names), records(detections, names)
    aps, errors = [], {key: [] for key in KEYS}
    for name in names:
        aps += [literal_class(truths, founds, name, limit)[0] for limit in (0.5, 1.0, 2.0, 4.0)]
        found = literal_class(truths, founds, name, 2.0)[1]
        for key in KEYS:
            if name == "traffic_cone" and key in ("orientation", "velocity", "attribute"):
                continue
            if name == "barrier" and key in ("velocity", "attribute"):
                continue
            errors[key].append(found[key])
    means = {key: sum(values) / len(values) if values else math.nan for key, values in errors.items()}
    mean_ap = sum(aps) / len(aps)
    parts = [max(0.0, 1 - value) for value in means.values() if not math.isnan(value)]
    return {"mean_ap": mean_ap, "nds": (5 * mean_ap + sum(parts)) / 10, **means}
