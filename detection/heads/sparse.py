"""The fully sparse head (VoxelNeXt, Chen et al., CVPR 2023): boxes from voxels, however far the range reaches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from datasets.pointclouds.types import Boxes3D
from detection.backbones.second import SparseStep
from detection.heads.coding import BevGrid
from detection.heads.head import PRIOR_HEAT, Head, LossWeights, Predictions, Selection
from detection.heads.targets import Targets, heat_around, joined
from detection.sparse import SparseTensor, SubMConv3d, VoxelGrid
from detection.sparse.rulebook import submanifold_rulebook

FLAT = (1, 3, 3)


class SparseHead(Head):
    """Heat, box, IoU and perhaps velocity at every voxel of a layer seen from above.

    Args:
        in_channels: features of a voxel.
        channels: features that all branches share.
        classes, velocity, weights, selection: see :class:`detection.heads.Head`.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        channels: int = 64,
        velocity: bool = False,
        weights: LossWeights | None = None,
        selection: Selection | None = None,
    ) -> None:
        super().__init__(classes, velocity, weights, selection)
        self.shared = SparseStep(SubMConv3d(in_channels, channels, FLAT, indice_key="head"))
        self.hidden = SparseStep(SubMConv3d(channels, 2 * channels, FLAT, indice_key="head"))
        self.heat, self.box = nn.Linear(channels, classes), nn.Linear(channels, self.code_size)
        nn.init.constant_(self.heat.bias, PRIOR_HEAT)

    def forward(self, features: SparseTensor, grid: VoxelGrid) -> Predictions:
        """Predictions at the voxels of ``features``.

        Raises:
            ValueError: for a grid of more than one voxel along z.
        """
        depth, height, width = features.spatial_shape
        if depth != 1:
            raise ValueError(f"the sparse head works seen from above, but got a grid of {depth} voxels along z")
        hidden = self.hidden(self.shared(features))
        for_heat, for_box = hidden.features.chunk(2, dim=1)
        cells = features.indices[:, [0, 2, 3]].long()
        bev = BevGrid.of(grid, height, width)
        return Predictions(self.heat(for_heat), cells, self.box(for_box), hidden, bev, features.batch_size)

    def targets(self, predictions: Predictions, boxes: Sequence[Boxes3D]) -> Targets:
        """A box belongs to the voxel nearest to its centre, if that lies within its reach."""
        bev, cells = predictions.bev, predictions.cells
        whole, labels, velocities, batch = joined(boxes)
        lookup = cells.new_full((predictions.batch_size * bev.height * bev.width,), -1)
        lookup[(cells[:, 0] * bev.height + cells[:, 1]) * bev.width + cells[:, 2]] = torch.arange(
            len(cells), device=cells.device
        )
        size = whole.new_tensor(bev.cell)
        nearest, near = torch.zeros_like(labels), torch.zeros_like(labels, dtype=torch.bool)
        for number in range(predictions.batch_size):
            rows, mine = (cells[:, 0] == number).nonzero()[:, 0], (batch == number).nonzero()[:, 0]
            if len(rows) and len(mine):
                centres = (cells[rows][:, [2, 1]] + 0.5) * size
                distance = torch.cdist(bev.positions(whole[mine, :2]) * size, centres)
                least, which = distance.min(dim=1)
                nearest[mine] = rows[which]
                reach = torch.hypot(whole[mine, 3], whole[mine, 4]) / 2 + torch.hypot(size[0], size[1])
                near[mine] = least <= reach
        rows, whole, labels, velocities = nearest[near], whole[near], labels[near], velocities[near]
        heat = heat_around(cells[rows], labels, whole, bev, predictions.batch_size, self.classes, lookup)
        return Targets(heat, rows, whole, labels, velocities)

    def peaks(self, predictions: Predictions) -> Tensor:
        """Voxels that none of those beside them exceeds: sparse max-pooling."""
        voxels = predictions.features
        if not isinstance(voxels, SparseTensor):
            raise TypeError("these predictions are another head's")
        book = submanifold_rulebook(voxels.indices, voxels.spatial_shape, voxels.batch_size, FLAT)
        greatest = predictions.heat
        for ins, outs, count in zip(book.ins, book.outs, book.counts.tolist(), strict=True):
            beside = torch.full_like(greatest, float("-inf"))
            beside[outs[:count].long()] = predictions.heat[ins[:count].long()]
            greatest = torch.maximum(greatest, beside)
        return predictions.heat == greatest

    def code(self, predictions: Predictions, rows: Tensor) -> Tensor:
        """Known for every voxel."""
        if predictions.code is None:
            raise TypeError("these predictions are another head's")
        return predictions.code[rows]
