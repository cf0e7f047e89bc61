"""KITTI's evaluation read off its rules, one frame, one object and one detection at a time."""

from __future__ import annotations

import math

import numpy as np

from datasets.pointclouds.kitti_labels import KittiObjects

MIN_HEIGHT, MAX_OCCLUSION, MAX_TRUNCATION = (40, 25, 25), (0, 1, 2), (0.15, 0.3, 0.5)


def polygon(objects: KittiObjects, i: int) -> list[tuple[float, float]]:
    """Footprint in the camera's x and z."""
    _, width, length = objects.sizes[i]
    x, _, z = objects.locations[i]
    cos, sin = math.cos(objects.rotation_y[i]), math.sin(objects.rotation_y[i])
    corners = [(length / 2, width / 2), (-length / 2, width / 2), (-length / 2, -width / 2), (length / 2, -width / 2)]
    return [(x + a * cos + b * sin, z - a * sin + b * cos) for a, b in corners]


def area(points: list[tuple[float, float]]) -> float:
    shifted = points[1:] + points[:1]
    return sum(a[0] * b[1] - a[1] * b[0] for a, b in zip(points, shifted, strict=True)) / 2


def clip(subject: list[tuple[float, float]], window: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Sutherland and Hodgman: the part of one convex polygon within another; both counter-clockwise."""
    for a, b in zip(window, window[1:] + window[:1], strict=True):
        side = [(b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0]) for p in subject]
        kept = []
        for i, p in enumerate(subject):
            before = i - 1
            if (side[before] >= 0) != (side[i] >= 0):
                t = side[before] / (side[before] - side[i])
                q = subject[before]
                kept.append((q[0] + t * (p[0] - q[0]), q[1] + t * (p[1] - q[1])))
            if side[i] >= 0:
                kept.append(p)
        subject = kept
    return subject


def overlap(metric: str, truth: KittiObjects, i: int, found: KittiObjects, j: int) -> float:
    if metric == "2d":
        a, b = truth.boxes_2d[i], found.boxes_2d[j]
        shared = image_share(a, b)
        return shared / (box_area(a) + box_area(b) - shared) if shared > 0 else 0.0
    first, second = polygon(truth, i), polygon(found, j)
    if area(first) < 0:
        first, second = first[::-1], second[::-1]
    common = clip(first, second)
    shared = area(common) if len(common) > 2 else 0.0
    one, two = abs(area(first)), abs(area(second))
    if metric == "3d":
        low = max(truth.locations[i, 1] - truth.sizes[i, 0], found.locations[j, 1] - found.sizes[j, 0])
        shared *= max(min(truth.locations[i, 1], found.locations[j, 1]) - low, 0)
        one, two = one * truth.sizes[i, 0], two * found.sizes[j, 0]
    return shared / (one + two - shared)


def image_share(a: np.ndarray, b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return width * height if width > 0 and height > 0 else 0.0


def box_area(box: np.ndarray) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def roles(truth: KittiObjects, found: KittiObjects, name: str, level: int) -> tuple[list[int], list[int]]:
    of_objects, of_detections = [], []
    for i in range(len(truth)):
        if truth.names[i] == name:
            kind = 1
        elif (name, truth.names[i]) in (("Car", "Van"), ("Pedestrian", "Person_sitting")):
            kind = 0
        else:
            kind = -1
        height = truth.boxes_2d[i, 3] - truth.boxes_2d[i, 1]
        ignore = (
            truth.occluded[i] > MAX_OCCLUSION[level]
            or truth.truncated[i] > MAX_TRUNCATION[level]
            or height <= MIN_HEIGHT[level]
        )
        of_objects.append(0 if kind == 1 and not ignore else 1 if kind == 0 or (kind == 1 and ignore) else -1)
    for j in range(len(found)):
        height = abs(found.boxes_2d[j, 3] - found.boxes_2d[j, 1])
        of_detections.append(1 if height < MIN_HEIGHT[level] else 0 if found.names[j] == name else -1)
    return of_objects, of_detections


def statistics(truth, found, of_objects, of_detections, overlaps, metric, minimum, threshold, counting):
    """Hits, false alarms, misses, and scores of the hits, of one frame."""
    assigned = [False] * len(found)
    below = [counting and found.scores[j] < threshold for j in range(len(found))]
    tp = fp = fn = 0
    scores = []
    for i in range(len(truth)):
        if of_objects[i] == -1:
            continue
        chosen, best_score, best_overlap, chosen_is_ignored = None, -math.inf, 0.0, False
        for j in range(len(found)):
            if of_detections[j] == -1 or assigned[j] or below[j] or not overlaps[i, j] > minimum:
                continue
            if not counting:
                if found.scores[j] > best_score:
                    chosen, best_score = j, found.scores[j]
            elif of_detections[j] == 0 and (overlaps[i, j] > best_overlap or chosen_is_ignored):
                chosen, best_overlap, chosen_is_ignored = j, overlaps[i, j], False
            elif of_detections[j] == 1 and chosen is None:
                chosen, chosen_is_ignored = j, True
        if chosen is None:
            fn += of_objects[i] == 0
        else:
            assigned[chosen] = True
            if of_objects[i] == 0 and of_detections[chosen] == 0:
                tp += 1
                scores.append(found.scores[chosen])
    for j in range(len(found)):
        if not assigned[j] and of_detections[j] == 0 and not below[j]:
            fp += 1
    if metric == "2d":
        for i in range(len(truth)):
            for j in range(len(found)):
                if truth.names[i] != "DontCare" or assigned[j] or of_detections[j] != 0 or below[j]:
                    continue
                if image_share(truth.boxes_2d[i], found.boxes_2d[j]) > minimum * box_area(found.boxes_2d[j]):
                    assigned[j] = True
                    fp -= 1
    return tp, fp, fn, scores


def thresholds_of(scores: list[float], count: int) -> list[float]:
    scores = sorted(scores, reverse=True)
    recall, chosen = 0.0, []
    for i, score in enumerate(scores):
        left = (i + 1) / count
        right = (i + 2) / count if i < len(scores) - 1 else left
        if right - recall < recall - left and i < len(scores) - 1:
            continue
        chosen.append(score)
        recall += 1 / 40
    return chosen


def literal_ap(
    truths, founds, name, metric, level, minimum, overlaps_of=None
) -> tuple[float, float, float, list[float]]:
    """AP over 40 and 11 positions, and over 40 by definition, in percent, NaN without objects; the precision curve.

    ``overlaps_of(metric, truth, found)`` gives [objects, detections]; None clips polygons.
    """
    prepared, scores, count = [], [], 0
    for truth, found in zip(truths, founds, strict=True):
        if overlaps_of is None:
            overlaps = np.array(
                [[overlap(metric, truth, i, found, j) for j in range(len(found))] for i in range(len(truth))]
            ).reshape(len(truth), len(found))
        else:
            overlaps = overlaps_of(metric, truth, found)
        case = (truth, found, *roles(truth, found, name, level), overlaps, metric, minimum)
        prepared.append(case)
        scores += statistics(*case, threshold=0.0, counting=False)[3]
        count += case[2].count(0)
    if not count:
        return math.nan, math.nan, math.nan, [0.0] * 41

    def precision_at(threshold: float) -> float:
        tp = fp = 0
        for case in prepared:
            hit, false, _, _ = statistics(*case, threshold=threshold, counting=True)
            tp, fp = tp + hit, fp + false
        return tp / (tp + fp) if tp + fp else 0.0

    precision = [0.0] * 41
    for k, threshold in enumerate(thresholds_of(scores, count)):
        precision[k] = precision_at(threshold)
    precision = [max(precision[k:]) for k in range(41)]
    reached = [precision_at(score) for score in sorted(scores, reverse=True)]  # at recall 1 / count, 2 / count ..
    exact = sum(max((p for k, p in enumerate(reached, 1) if 40 * k >= i * count), default=0) for i in range(1, 41))
    return 100 * sum(precision[1:]) / 40, 100 * sum(precision[::4]) / 11, 100 * exact / 40, precision
