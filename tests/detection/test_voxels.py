"""Points into voxels: against a loop over the points, and with points that belong nowhere."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from datasets.errors import InputError
from detection.sparse import VoxelGrid, voxelise, voxels

GRID = VoxelGrid((-4.0, -3.0, -1.0, 4.0, 3.0, 1.0), (0.5, 0.75, 1.0))


def cloud(count: int = 500, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 4, generator=generator) * torch.tensor([10.0, 8, 3, 1]) - torch.tensor([5.0, 4, 1.5, 0])
    return points, torch.randint(0, 3, (count,), generator=generator).sort().values


def by_hand(points: Tensor, batch_index: Tensor) -> tuple[list[list[int]], list[list[int]]]:
    """Sorted voxels, and the voxel of each point in range."""
    found = []
    for point, batch in zip(points.tolist(), batch_index.tolist(), strict=True):
        cell = [math.floor((v - low) / size) for v, low, size in zip(point[:3], GRID.low, GRID.voxel_size, strict=True)]
        if all(0 <= c < n for c, n in zip(cell, reversed(GRID.shape), strict=True)):
            found.append([batch, *reversed(cell)])
    return sorted({tuple(row): row for row in found}.values()), found


@pytest.mark.parametrize("dense", [True, False])
def test_voxels_are_those_of_a_loop(dense: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voxels, "DENSE_CELLS", 1 << 22 if dense else 0)
    points, batch_index = cloud()
    result = voxelise(points, batch_index, 4, GRID)
    expected, of_points = by_hand(points, batch_index)
    assert result.indices.tolist() == expected
    assert result.indices[result.voxel].tolist() == of_points
    assert result.indices.dtype == torch.int32
    distance = (result.points[:, :3] - GRID.centres(result.indices)[result.voxel]).abs()
    assert bool((distance <= torch.tensor(GRID.voxel_size) / 2 + 1e-6).all())


def test_points_that_belong_nowhere_are_left_out() -> None:
    bad = torch.tensor(
        [[math.nan, 0, 0, 0], [0, math.inf, 0, 0], [0, 0, 0, math.nan], [1e30, 0, 0, 0], [-4.001, 0, 0, 0]]
    )
    edges = torch.tensor([[4.0, 0, 0, 0], [0, 3, 0, 0], [0, 0, 1, 0], [-4, -3, -1, 0]])
    result = voxelise(torch.cat([bad, edges]), torch.zeros(9, dtype=torch.int64), 1, GRID)
    assert result.indices.tolist() == [[0, 0, 0, 0]]
    assert torch.equal(result.points, edges[3:])


def test_an_empty_cloud_has_no_voxels() -> None:
    result = voxelise(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 2, GRID)
    assert (len(result), result.batch_size, result.indices.shape) == (0, 2, (0, 4))


@pytest.mark.parametrize(
    ("point_range", "voxel_size", "message"),
    [
        ((0, 0, 0, 1, 1, 1), (0.3, 1, 1), r"along x .* 3.333 voxels .* ending at 0.9"),
        ((0, 0, 0, 1, 0, 1), (1, 1, 1), "along y"),
        ((0, 0, 0, 1, 1, 1), (1, 1, 0), "along z"),
        ((0, 0, 0, math.inf, 1, 1), (1, 1, 1), "along x"),
    ],
)
def test_bad_grids_are_refused(point_range, voxel_size, message: str) -> None:
    with pytest.raises(InputError, match=message):
        VoxelGrid(point_range, voxel_size)
