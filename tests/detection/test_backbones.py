"""Backbones and encoders: shapes, what they must not depend on, and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detection.backbones import BEVNet, InTurn, SparseEncoder, SparsePyramid
from detection.backbones.voxelnext import flattened
from detection.dsvt import DSVT
from detection.encoders import MeanEncoder, PointNetEncoder
from detection.sparse import SparseTensor, VoxelGrid, voxelise

GRID = VoxelGrid((0, -8, -2, 16, 8, 2.1), (0.25, 0.25, 0.1))


def cloud(count: int = 600, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    points = torch.rand(count, 4, generator=generator) * torch.tensor([16, 16, 4.1, 1]) - torch.tensor([0, 8, 2, 0])
    return points, torch.arange(count) % 2


def encoded(points: torch.Tensor, batch: torch.Tensor, size: int = 2) -> SparseTensor:
    return MeanEncoder(4)(voxelise(points, batch, size, GRID))


def test_the_mean_of_a_voxels_points() -> None:
    points, batch = cloud()
    voxels = voxelise(points, batch, 2, GRID)
    result = MeanEncoder(4)(voxels)
    for i in range(0, len(voxels), 40):
        torch.testing.assert_close(result.features[i], points[voxels.voxel == i].mean(dim=0))


def test_points_and_the_maximum_of_their_voxel() -> None:
    torch.manual_seed(0)
    encoder = PointNetEncoder(4, (8, 6)).eval()
    with torch.no_grad():
        for norm in encoder.norms:  # scales of either sign, and nought, as training may leave them
            norm.weight.copy_(torch.linspace(-1, 1, len(norm.weight)).round(decimals=1))
            norm.bias.normal_()
            norm.running_mean.normal_()
    grid = VoxelGrid(GRID.point_range, (4, 4, 4.1))
    points, batch = cloud(200)
    voxels = voxelise(points, batch, 2, grid)
    result = encoder(voxels).features
    for i in range(len(voxels)):
        members = points[voxels.voxel == i]
        xyz = members[:, :3]
        features = torch.cat([members, xyz - xyz.mean(dim=0), xyz - grid.centres(voxels.indices[i : i + 1])], dim=1)
        first = torch.relu(encoder.norms[0](encoder.linears[0](features)))
        both = torch.cat([first, first.amax(dim=0).expand_as(first)], dim=1)
        expected = torch.relu(encoder.norms[1](encoder.linears[1](both))).amax(dim=0)
        torch.testing.assert_close(result[i], expected, atol=1e-5, rtol=1e-4)


def networks() -> dict[str, nn.Module]:
    return {
        "second": SparseEncoder(4, (4, 8, 8, 8), out_channels=16),
        "residual": SparseEncoder(4, (4, 8, 8, 8), out_channels=16, residual=True),
        "pyramid": SparsePyramid(4, (4, 8, 8, 16, 16, 16), (1, 1, 1, 1, 1, 1)),
    }


@pytest.mark.parametrize("name", networks())
def test_sparse_backbones(name: str) -> None:
    torch.manual_seed(0)
    network = networks()[name]
    points, batch = cloud()
    result = network(encoded(points, batch))
    assert result.spatial_shape == ((1, 8, 8) if name == "pyramid" else (2, 8, 8))
    assert result.features.shape[1] == 16
    result.features.square().sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.eval()
    joint = network(encoded(points, batch)).dense()
    for number in (0, 1):
        chosen = batch == number
        alone = network(encoded(points[chosen], torch.zeros_like(batch[chosen]), 1)).dense()
        torch.testing.assert_close(alone[0], joint[number], atol=1e-5, rtol=1e-4)
    assert len(network(encoded(points[:0], batch[:0]))) == 0


def test_scales_are_added_where_they_meet() -> None:
    at_fine = torch.tensor([[0, 0, 2, 2], [0, 1, 2, 2], [0, 0, 4, 4]]).int()
    at_coarse = torch.tensor([[0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 2, 2]]).int()
    fine = SparseTensor(torch.tensor([[1.0], [2], [4]]), at_fine, (2, 5, 5), 1)
    coarse = SparseTensor(torch.tensor([[8.0], [16], [32]]), at_coarse, (1, 3, 3), 1)
    result = flattened([fine, coarse])
    assert result.indices.tolist() == [[0, 0, 0, 2], [0, 0, 2, 2], [0, 0, 4, 4]]
    assert result.features[:, 0].tolist() == [8, 19, 36]


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize(("strides", "shape"), [((1, 2, 2), (13, 18)), ((2, 2, 2), (7, 9))])
def test_the_map_seen_from_above(residual: bool, strides: tuple[int, ...], shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    network = BEVNet(6, (1, 2, 1), strides, (4, 8, 8), (4, 4, 8), residual).eval()
    indices = (torch.rand(2, 2, 13, 18) < 0.3).nonzero().int()
    voxels = SparseTensor(torch.randn(len(indices), 3), indices, (2, 13, 18), 2)
    result = network(voxels)
    assert result.shape == (2, 16, *shape)
    with pytest.raises(ValueError, match="2 voxels of 2 features above each other are 4, but this network expects 6"):
        network(voxels.with_features(voxels.features[:, :2]))


def test_the_map_has_the_features_of_voxels_above_each_other() -> None:
    voxels = encoded(*cloud())
    dense = voxels.dense()
    expected = torch.cat([dense[:, :, level] for level in range(dense.shape[2])], dim=1)
    assert torch.equal(voxels.bev(), expected)
    assert voxels.bev().is_contiguous(memory_format=torch.channels_last)


def test_backbones_in_turn() -> None:
    torch.manual_seed(0)
    first, second = SparseEncoder(4, (4, 8, 8), (1, 1, 1), 8).eval(), DSVT(8, 5, 2, 16, (1,), set_size=8).eval()
    voxels = encoded(*cloud())
    assert torch.equal(InTurn([first, second])(voxels).features, second(first(voxels)).features)


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match="one number for each stage"):
        BEVNet(6, layers=(1,))
    with pytest.raises(ValueError, match="need equal channels"):
        SparsePyramid(4, (16, 32, 64, 64, 128, 128))
