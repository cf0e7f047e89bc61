"""Greedy non-maximum suppression of oriented boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from datasets.types import expect_shape
from detection.boxes.overlap import close_pairs, iou_bev_aligned


@torch.no_grad()
def rotated_nms(
    boxes: Tensor, scores: Tensor, threshold: float | Tensor, labels: Tensor | None = None, limit: int | None = None
) -> Tensor:
    """Keep each box unless a better one that was kept overlaps it, seen from above.

    Boxes are taken by falling score, equal scores in the order given.

    Args:
        boxes: [M, 7].
        scores: [M].
        threshold: boxes with an IoU above this one suppress each other; or [classes] thresholds, chosen by label.
        labels: [M] int64 where only boxes of the same class suppress each other.
        limit: keep at most so many.

    Returns:
        int64 indices of the boxes kept, best first.

    Raises:
        ValueError: for other shapes, or for thresholds by class without labels.
    """
    expect_shape("boxes", boxes, (None, 7))
    expect_shape("scores", scores, (len(boxes),))
    order = scores.argsort(descending=True, stable=True)
    boxes = boxes[order]
    better, worse = close_pairs(boxes, boxes)
    candidates = better < worse
    if labels is not None:
        expect_shape("labels", labels, (len(boxes),))
        labels = labels[order]
        candidates &= labels[better] == labels[worse]
    better, worse = better[candidates], worse[candidates]
    if isinstance(threshold, Tensor):
        if labels is None:
            raise ValueError("thresholds by class need the labels of the boxes")
        least = threshold.to(boxes.device)[labels[better]]
    else:
        least = torch.full_like(better, threshold, dtype=torch.float64)
    overlapping = iou_bev_aligned(boxes[better].double(), boxes[worse].double()) > least
    kept = order[_unsuppressed(len(boxes), better[overlapping], worse[overlapping])]
    return kept if limit is None else kept[:limit]


def _unsuppressed(count: int, better: Tensor, worse: Tensor) -> Tensor:
    """[count] bool: what greedy suppression keeps, where ``better[i]`` suppresses ``worse[i]`` if it is kept itself.

    Greedy suppression is the only fixed point of this rule: after n rounds the first n boxes have their final state,
    and most others too, so that a few rounds suffice on any device.
    """
    keep = torch.ones(count, dtype=torch.bool, device=better.device)
    while True:
        updated = torch.ones_like(keep)
        updated[worse[keep[better]]] = False
        if torch.equal(updated, keep):
            return keep
        keep = updated
