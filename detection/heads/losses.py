"""Losses of centre-based heads (CenterPoint, Yin et al., CVPR 2021)."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from detection.boxes import iou_3d_aligned


def per_process(count: int, device: torch.device) -> float:
    """Objects of the joint batch of all training processes, at least one, shared out evenly among the processes.

    Gradients are averaged over processes: divided by this number, they are those of the joint batch.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return max(count, 1)
    total = torch.tensor(float(count), device=device)
    dist.all_reduce(total)
    return max(float(total), 1.0) / dist.get_world_size()


def focal_loss(logits: Tensor, heat: Tensor, positives: int) -> Tensor:
    """Penalty-reduced focal loss with exponents 2 and 4 (CornerNet), over the number of objects.

    Args:
        logits: [R, K].
        heat: [R, K] targets; exactly 1 at objects.
        positives: number of objects; none counts as one.
    """
    log_yes, log_no = F.logsigmoid(logits), F.logsigmoid(-logits)
    probability = logits.sigmoid()
    found = log_yes * (1 - probability) ** 2
    missed = log_no * probability**2 * (1 - heat) ** 4
    return -torch.where(heat == 1, found, missed).sum() / max(positives, 1)


def distance_iou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """[M] 1 - IoU + (distance of the centres / diagonal of the smallest upright box around both)^2 (DIoU, 3D).

    IoU is that of the turned boxes; the upright box around them is taken as if they were not turned, as the public code
    for detectors has it.
    """
    overlap = iou_3d_aligned(boxes, targets)
    low = torch.minimum(boxes[:, :3] - boxes[:, 3:6] / 2, targets[:, :3] - targets[:, 3:6] / 2)
    high = torch.maximum(boxes[:, :3] + boxes[:, 3:6] / 2, targets[:, :3] + targets[:, 3:6] / 2)
    distance = ((boxes[:, :3] - targets[:, :3]) ** 2).sum(dim=1)
    return 1 - overlap + distance / ((high - low) ** 2).sum(dim=1).clamp(min=1e-9)
