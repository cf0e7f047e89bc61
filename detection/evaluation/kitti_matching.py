"""The two passes of KITTI's matching, over the pairs of all frames at once.

Pairs are sorted by object, then by detection. A pair joins an object and a detection of one frame whose overlap is
large enough and which both take part. Roles: 0 counts, 1 is ignored.
"""

from __future__ import annotations

import numpy as np
from numba import njit

NEVER = -np.inf


@njit(cache=True)
def best_scores(
    rows: np.ndarray, columns: np.ndarray, of_objects: np.ndarray, of_detections: np.ndarray, scores: np.ndarray
) -> np.ndarray:
    """First pass: each object takes the detection of highest score that is left.

    Returns:
        [objects] score of the detection that hits the object, NEVER where none does or where either is ignored.
    """
    taken = np.zeros(len(of_detections), np.bool_)
    hits = np.full(len(of_objects), NEVER)
    start = 0
    while start < len(rows):
        row, best, end = rows[start], -1, start
        while end < len(rows) and rows[end] == row:
            column = columns[end]
            if not taken[column] and (best < 0 or scores[column] > scores[best]):
                best = column
            end += 1
        if best >= 0:
            taken[best] = True
            if of_objects[row] == 0 and of_detections[best] == 0:
                hits[row] = scores[best]
        start = end
    return hits


@njit(cache=True)
def count_hits(
    rows: np.ndarray,
    columns: np.ndarray,
    overlaps: np.ndarray,
    of_objects: np.ndarray,
    of_detections: np.ndarray,
    uncounted: np.ndarray,
    scores: np.ndarray,
    thresholds: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Second pass, for each threshold: each object takes the detection of highest overlap that is left.

    A detection that counts goes before one that is ignored, of which the first is taken.

    Args:
        uncounted: [detections] bool, True for those that could be no false alarm anyway.

    Returns:
        For each threshold how many objects are hit, and how many detections that would count as false alarms are taken
        by an object, ignored ones included.
    """
    hit = np.zeros(len(thresholds), np.int64)
    used = np.zeros(len(thresholds), np.int64)
    taken_at = np.full(len(of_detections), -1)
    for step in range(len(thresholds)):
        start = 0
        while start < len(rows):
            row, best, end = rows[start], -1, start
            while end < len(rows) and rows[end] == row:
                column = columns[end]
                if taken_at[column] != step and scores[column] >= thresholds[step]:
                    counts = of_detections[column] == 0
                    if best < 0 or (counts and (of_detections[columns[best]] != 0 or overlaps[end] > overlaps[best])):
                        best = end
                end += 1
            if best >= 0:
                column = columns[best]
                taken_at[column] = step
                if of_objects[row] == 0 and of_detections[column] == 0:
                    hit[step] += 1
                if not uncounted[column]:
                    used[step] += 1
            start = end
    return hit, used
