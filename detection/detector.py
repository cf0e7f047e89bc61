"""A detector put together: points to voxels, features, map, boxes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from datasets.pointclouds.types import Boxes3D, PointCloudBatch
from detection.heads import Head, Predictions
from detection.sparse import VoxelGrid, voxelise


class Detector(nn.Module):
    """Finds oriented boxes in point clouds.

    ``Voxels -> encoder -> backbone -> neck -> head``: the encoder makes a sparse tensor of points and their voxels, the
    backbone another of that one, the neck a map or once more a sparse tensor, and the head predictions.

    Args:
        point_range: least x, y, z, then greatest x, y, z, in metres.
        voxel_size: along x, y, z, in metres.
        encoder: from voxels with their points to a sparse tensor, e.g. :class:`detection.encoders.PointNetEncoder`.
        head: from what comes before to boxes.
        backbone: from one sparse tensor to another, e.g. :class:`detection.dsvt.DSVT`; None for none.
        neck: to what the head works on, e.g. :class:`detection.backbones.BEVNet` for a dense map; None for none.

    Raises:
        InputError: for a range that cannot be cut into voxels.
    """

    def __init__(
        self,
        point_range: tuple[float, float, float, float, float, float],
        voxel_size: tuple[float, float, float],
        encoder: nn.Module,
        head: Head,
        backbone: nn.Module | None = None,
        neck: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.grid = VoxelGrid(point_range, voxel_size)
        self.encoder = encoder
        self.backbone = nn.Identity() if backbone is None else backbone
        self.neck = nn.Identity() if neck is None else neck
        self.head = head

    def forward(self, points: Tensor, batch_index: Tensor, batch_size: int) -> Predictions:
        """Predictions of the head.

        Args:
            points: [N, C] points of all clouds; the first three channels are x, y, z.
            batch_index: [N] int64, the cloud of each point.
            batch_size: number of clouds, some of which may have no point.
        """
        voxels = voxelise(points, batch_index, batch_size, self.grid)
        return self.head(self.neck(self.backbone(self.encoder(voxels))), self.grid)

    def loss(self, batch: PointCloudBatch) -> dict[str, Tensor]:
        """Weighted losses by name; ``loss`` is their sum.

        Raises:
            ValueError: for a batch without annotation.
        """
        if batch.boxes is None:
            raise ValueError(f"no boxes to learn from in {', '.join(batch.frames)}")
        losses = self.head.loss(self(batch.points, batch.batch_index, len(batch)), batch.boxes)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    @torch.no_grad()
    def detect(self, batch: PointCloudBatch) -> list[Boxes3D]:
        """Boxes of each cloud, best first, with scores. Evaluation mode is the caller's choice (``.eval()``)."""
        return self.head.boxes(self(batch.points, batch.batch_index, len(batch)))
