"""How long the KITTI evaluator takes on as many frames as KITTI's validation split has.

    python benchmarks/kitti_evaluation.py [--frames 3769] [--objects 9] [--detections 40] [--json FILE]

Frames are random, with numbers of objects and detections around the given means; three classes, three metrics and
three difficulties are evaluated, R40 and R11.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np

from datasets.pointclouds.kitti_labels import KittiObjects
from detection.evaluation.kitti import evaluate_kitti, kitti_table


def random_objects(draw: np.random.Generator, count: int) -> KittiObjects:
    """Objects over KITTI's range of the road, with sizes of their class."""
    names = draw.choice(["Car", "Van", "Pedestrian", "Cyclist", "DontCare"], count, p=[0.6, 0.06, 0.1, 0.04, 0.2])
    x, z = draw.uniform(-20, 20, count), draw.uniform(5, 60, count)
    size = {"Car": (1.5, 1.6, 3.9), "Van": (2.2, 1.9, 5.1), "Pedestrian": (1.75, 0.6, 0.8), "Cyclist": (1.7, 0.6, 1.8)}
    sizes = np.array([size.get(name, (1, 1, 1)) for name in names]).reshape(count, 3)
    high, left = 700 * sizes[:, 0] / z, 609 + 700 * x / z
    return KittiObjects(
        names,
        draw.choice([0, 0.2, 0.4], count),
        draw.choice(4, count, p=[0.5, 0.25, 0.2, 0.05]),
        np.zeros(count),
        np.stack([left, 172 - high / 2, left + 1.5 * high, 172 + high / 2], axis=1),
        sizes,
        np.stack([x, np.full(count, 1.7), z], axis=1),
        draw.uniform(-np.pi, np.pi, count),
    )


def random_detections(draw: np.random.Generator, truth: KittiObjects, count: int) -> KittiObjects:
    """Every object once, a little off, and random ones, of lower scores, up to ``count``."""
    seen = truth[truth.names != "DontCare"]
    alarms = random_objects(draw, max(count - len(seen), 0))
    alarms = alarms[alarms.names != "DontCare"]

    def both(name: str, spread: float) -> np.ndarray:
        values = getattr(seen, name)
        return np.concatenate([values + spread * draw.normal(size=values.shape), getattr(alarms, name)])

    total = len(seen) + len(alarms)
    return KittiObjects(
        np.concatenate([seen.names, alarms.names]),
        np.full(total, -1.0),
        np.full(total, -1),
        np.zeros(total),
        both("boxes_2d", 3),
        both("sizes", 0.05),
        both("locations", 0.1),
        both("rotation_y", 0.05),
        np.concatenate([draw.uniform(0.2, 1, len(seen)), draw.uniform(0, 0.6, len(alarms))]),
    )


def main() -> None:
    """Run and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=3769)
    parser.add_argument("--objects", type=int, default=9)
    parser.add_argument("--detections", type=int, default=40)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    draw = np.random.default_rng(0)
    truths = [random_objects(draw, int(draw.poisson(options.objects))) for _ in range(options.frames)]
    founds = [random_detections(draw, truth, int(draw.poisson(options.detections))) for truth in truths]
    start = time.perf_counter()
    evaluate_kitti(truths[:2], founds[:2])
    compiled = time.perf_counter() - start
    start = time.perf_counter()
    results = evaluate_kitti(truths, founds)
    seconds = time.perf_counter() - start
    print(kitti_table(results))
    print(f"\n{options.frames} frames, {sum(map(len, truths))} objects, {sum(map(len, founds))} detections")
    print(f"evaluation {seconds:.1f} s; first call (compiling or loading the compiled passes) {compiled:.1f} s")
    if options.json:
        values = {"seconds": seconds, "first_call_seconds": compiled, **vars(options), "cores": os.cpu_count()}
        values |= {"json": str(options.json), "machine": platform.processor()}
        options.json.write_text(json.dumps(values, indent=1))


if __name__ == "__main__":
    main()
