"""What both heads share once a map or a set of voxels is R rows: losses and decoding."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from datasets.pointclouds.types import Boxes3D
from detection.boxes import iou_3d_aligned, rotated_nms
from detection.heads.coding import CODE, FRONT, BevGrid, decode_boxes, encode_boxes
from detection.heads.losses import distance_iou_loss, focal_loss, per_process
from detection.heads.targets import Targets
from detection.sparse import SparseTensor, VoxelGrid

PRIOR_HEAT = -2.19  # logit of 0.1: most of the map is empty


@dataclass(frozen=True)
class LossWeights:
    """How much each part of the loss counts; a part of weight 0 is not computed.

    Attributes:
        heat: where objects are.
        box: L1 of the box's code, but for its front.
        front: logistic loss of which end is the front.
        overlap: distance-IoU of the decoded box.
        quality: L1 of the predicted IoU, as 2 IoU - 1.
        velocity: L1 of the velocity, where it is predicted and known.
    """

    heat: float = 1.0
    box: float = 2.0
    front: float = 0.2
    overlap: float = 1.0
    quality: float = 1.0
    velocity: float = 0.2


@dataclass(frozen=True)
class Selection:
    """Which predictions become boxes.

    Attributes:
        score: least score.
        overlap: boxes of a class that overlap more than this (BEV) suppress each other; or one number for each class.
        quality: b of score = heat^(1-b) IoU^b; or one number for each class.
        candidates: most boxes of a cloud before suppression, and ``boxes`` after it.
    """

    score: float = 0.1
    overlap: float | Sequence[float] = 0.2
    quality: float | Sequence[float] = 0.5
    candidates: int = 500
    boxes: int = 200


@dataclass(frozen=True)
class Predictions:
    """What a head says about R places seen from above.

    Attributes:
        heat: [R, K] logits by class.
        cells: [R, 3] int64 (batch, y, x).
        code: [R, C] box code, IoU and perhaps velocity of every row; None where only some rows are wanted.
        features: the head's own, from which the code of some rows is computed.
        bev: where the cells lie.
        batch_size: clouds.
    """

    heat: Tensor
    cells: Tensor
    code: Tensor | None
    features: Tensor | SparseTensor
    bev: BevGrid
    batch_size: int


class Head(nn.Module, ABC):
    """Finds boxes of ``classes`` classes.

    Args:
        classes: number of classes.
        velocity: predict the velocity in x and y too.
        weights: of the losses; None for the usual ones.
        selection: of the boxes; None for the usual one.

    Raises:
        ValueError: for numbers by class that are not one for each class.
    """

    def __init__(
        self,
        classes: int,
        velocity: bool = False,
        weights: LossWeights | None = None,
        selection: Selection | None = None,
    ) -> None:
        super().__init__()
        self.classes, self.velocity = classes, velocity
        self.weights, self.selection = weights or LossWeights(), selection or Selection()
        self.by_class("overlap")
        self.by_class("quality")

    @property
    def code_size(self) -> int:
        """Numbers of a row beside the heat: box code, IoU, and perhaps velocity."""
        return CODE + 1 + 2 * self.velocity

    def by_class(self, name: Literal["overlap", "quality"]) -> list[float]:
        """A number of the selection for each class."""
        value = getattr(self.selection, name)
        values = [float(value)] * self.classes if isinstance(value, (int, float)) else list(value)
        if len(values) != self.classes:
            raise ValueError(f"the selection's {name} has {len(values)} numbers for {self.classes} classes")
        return values

    @abstractmethod
    def targets(self, predictions: Predictions, boxes: Sequence[Boxes3D]) -> Targets:
        """Where the boxes of each cloud should be found."""

    @abstractmethod
    def peaks(self, predictions: Predictions) -> Tensor:
        """[R, K] bool: rows that no neighbour's heat exceeds."""

    @abstractmethod
    def code(self, predictions: Predictions, rows: Tensor) -> Tensor:
        """[M, code_size] of the rows [M]."""

    def loss(self, predictions: Predictions, boxes: Sequence[Boxes3D]) -> dict[str, Tensor]:
        """Weighted losses by name, to be added up.

        Args:
            boxes: annotated boxes of each cloud; those outside of the map are nobody's.
        """
        targets, weights = self.targets(predictions, boxes), self.weights
        scale = 1 / per_process(len(targets.rows), targets.rows.device)
        losses = {"heat": weights.heat * scale * focal_loss(predictions.heat.float(), targets.heat, 1)}
        code = self.code(predictions, targets.rows).float()
        cells = predictions.cells[targets.rows, 1:]
        wanted = encode_boxes(targets.boxes, cells, predictions.bev)
        losses["box"] = weights.box * scale * (code[:, :FRONT] - wanted[:, :FRONT]).abs().sum()
        if weights.front:
            losses["front"] = weights.front * scale * F.softplus(-wanted[:, FRONT] * code[:, FRONT]).sum()
        decoded = decode_boxes(code[:, :CODE], cells, predictions.bev)
        if weights.overlap:
            losses["overlap"] = weights.overlap * scale * distance_iou_loss(decoded, targets.boxes).sum()
        if weights.quality:
            quality = 2 * iou_3d_aligned(decoded.detach(), targets.boxes) - 1
            losses["quality"] = weights.quality * scale * (code[:, CODE] - quality).abs().sum()
        if self.velocity:
            known = targets.velocities.isfinite().all(dim=1)
            error = (code[known, CODE + 1 :] - targets.velocities[known]).abs().sum()
            losses["velocity"] = weights.velocity * error / per_process(int(known.sum()), known.device)
        return losses

    @torch.no_grad()
    def candidates(self, predictions: Predictions, most: int) -> list[Boxes3D]:
        """Boxes of each cloud, up to ``most`` of the most heat, before suppression."""
        selection, bev = self.selection, predictions.bev
        heat = predictions.heat.float().sigmoid()
        quality = heat.new_tensor(self.by_class("quality"))
        # The final score is heat^(1-b) IoU^b with IoU <= 1, so that less heat than this cannot suffice.
        least = selection.score ** (1 / (1 - quality).clamp(min=1e-3))
        wanted = self.peaks(predictions) & (heat > least)
        results = []
        for number in range(predictions.batch_size):
            rows, labels = (wanted & (predictions.cells[:, :1] == number)).nonzero(as_tuple=True)
            best = heat[rows, labels].argsort(descending=True, stable=True)[:most]
            rows, labels = rows[best], labels[best]
            code = self.code(predictions, rows).float()
            boxes = decode_boxes(code[:, :CODE], predictions.cells[rows, 1:], bev)
            iou = ((code[:, CODE] + 1) / 2).clamp(1e-4, 1)
            scores = heat[rows, labels] ** (1 - quality[labels]) * iou ** quality[labels]
            velocities = code[:, CODE + 1 :] if self.velocity else None
            results.append(Boxes3D(boxes, labels, scores, velocities)[scores > selection.score])
        return results

    @torch.no_grad()
    def boxes(self, predictions: Predictions) -> list[Boxes3D]:
        """Boxes of each cloud, best first, with scores and, where the head predicts them, velocities."""
        results = []
        for found in self.candidates(predictions, self.selection.candidates):
            assert found.scores is not None
            overlap = found.scores.new_tensor(self.by_class("overlap"))
            results.append(found[rotated_nms(found.boxes, found.scores, overlap, found.labels, self.selection.boxes)])
        return results

    @abstractmethod
    def forward(self, features, grid: VoxelGrid) -> Predictions:
        """Predictions from what the network before gives, for a grid of voxels."""
