"""The transformer: its sets against a literal version, and what must not change its output."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detection.dsvt import DSVT, AttentionPooling, Layer, PositionEmbedding, Windows, partition, window_coordinates
from detection.encoders import PointNetEncoder
from detection.sparse import SparseTensor, VoxelGrid, voxelise

SHAPE = (4, 30, 41)


def scattered(share: float, seed: int = 0, batch: int = 2, channels: int = 16, shape=SHAPE) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    indices = (torch.rand(batch, *shape, generator=generator) < share).nonzero().int()
    return SparseTensor(torch.randn(len(indices), channels, generator=generator), indices, shape, batch)


def literal_sets(window: Tensor, rank: Tensor, limit: int) -> set[tuple[int, ...]]:
    """The published formula, voxel by voxel, repeats dropped."""
    members = defaultdict(list)
    for voxel in rank.argsort().tolist():
        members[int(window[voxel])].append(voxel)
    result = set()
    for voxels in members.values():
        count, sets = len(voxels), math.ceil(len(voxels) / limit)
        for j in range(sets):
            ranks = [(j * limit + k) * count // (sets * limit) for k in range(limit)]
            result.add(tuple(voxels[r] for r in dict.fromkeys(ranks)))
    return result


@given(st.integers(0, 10_000), st.integers(1, 400), st.integers(1, 9), st.integers(1, 40))
@settings(max_examples=100, deadline=None)
def test_sets_are_those_of_the_formula(seed: int, count: int, windows: int, limit: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    window = torch.randint(0, windows, (count,), generator=generator) * 7
    rank = torch.randperm(3 * count, generator=generator)[:count]
    sets = partition(window, rank, limit)
    got = {tuple(voxels[filled].tolist()) for voxels, filled in zip(sets.voxels, sets.filled, strict=True)}
    assert got == literal_sets(window, rank, limit)
    assert len(got) == len(sets.voxels)
    assert sorted(sets.voxels[sets.filled].tolist()) == list(range(count))
    assert torch.equal(sets.voxels.flatten()[sets.places], torch.arange(count))
    assert bool((sets.filled[:, 1:] <= sets.filled[:, :-1]).all())


@pytest.mark.parametrize("windows", [Windows((12, 12), (0, 0)), Windows((24, 24), (6, 6)), Windows((7, 5), (3, 2))])
def test_sets_stay_within_their_window(windows: Windows) -> None:
    grid = scattered(0.2)
    window, coordinates = window_coordinates(grid.indices, SHAPE, windows)
    batch, z, y, x = grid.indices.long().unbind(dim=1)
    by_hand = [
        (b, (v + windows.shift[1]) // windows.size[1], (u + windows.shift[0]) // windows.size[0])
        for b, v, u in zip(batch.tolist(), y.tolist(), x.tolist(), strict=True)
    ]
    numbers = defaultdict(set)
    for number, place in zip(window.tolist(), by_hand, strict=True):
        numbers[number].add(place)
    assert all(len(places) == 1 for places in numbers.values())
    assert len(numbers) == len(set(by_hand))
    assert torch.equal(coordinates[:, 2], z)
    assert bool((coordinates >= 0).all())
    assert bool((coordinates[:, :2] < torch.tensor(windows.size)).all())
    sets = partition(window, torch.arange(len(grid)), 5)
    for voxels, filled in zip(sets.voxels, sets.filled, strict=True):
        assert len(window[voxels[filled]].unique()) == 1


def test_attention_is_torchs_over_each_set() -> None:
    torch.manual_seed(0)
    grid = scattered(0.1)
    layer = Layer(16, 4, 32, (12, 12, 4)).eval()
    attention = layer.attention
    window, coordinates = window_coordinates(grid.indices, SHAPE, Windows((12, 12), (0, 0)))
    sets = partition(window, torch.arange(len(grid)), 6)
    embedding, rows = layer.position(coordinates)
    position = embedding if rows is None else embedding[rows]
    result = attention(grid.features, embedding, rows, sets)
    reference = torch.nn.MultiheadAttention(16, 4, batch_first=True)
    reference.in_proj_weight, reference.in_proj_bias = attention.project.weight, attention.project.bias
    reference.out_proj = attention.output
    for voxels, filled in zip(sets.voxels, sets.filled, strict=True):
        members = voxels[filled]
        value = grid.features[members][None]
        query = value + position[members]
        expected, _ = reference(query, query, value)
        torch.testing.assert_close(result[members], expected[0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("size", [(12, 12, 1), (3, 2, 4)])
def test_positions_are_a_normalised_network_of_the_place_in_the_window(size: tuple[int, int, int]) -> None:
    """The oracle is batch normalisation over all places; few voxels and many give the same."""
    torch.manual_seed(0)
    embedding = PositionEmbedding(16, size)
    torch.nn.init.normal_(embedding.scale)
    torch.nn.init.normal_(embedding.shift)
    coordinates = torch.cartesian_prod(*(torch.arange(n) for n in size))
    extent = (torch.tensor(size) - 1).clamp(min=1)
    places = torch.where(torch.tensor(size) > 1, 2 * coordinates / extent - 1, 0.0)
    norm = torch.nn.BatchNorm1d(16)
    norm.weight, norm.bias = embedding.scale, embedding.shift
    expected = embedding.last(norm(places @ embedding.first.T).relu())
    many, rows = embedding(coordinates)
    assert rows is not None
    torch.testing.assert_close(many[rows], expected, atol=1e-5, rtol=1e-4)
    few, rows = embedding(coordinates[2:5])
    assert rows is None
    torch.testing.assert_close(few, expected[2:5], atol=1e-5, rtol=1e-4)


VARIANTS = {
    "pillar": ((1, 30, 41), {"blocks": (3,), "height": 1}),
    "voxel": (SHAPE, {"blocks": (1, 1, 2), "height": 4, "pooling": (2, 2)}),
    "pooled": ((4, 30, 42), {"blocks": (1, 2), "height": 4, "pooling": ((4, 3, 2),)}),
}


def build(variant: str) -> tuple[DSVT, SparseTensor]:
    torch.manual_seed(0)
    shape, options = VARIANTS[variant]
    model = DSVT(16, heads=4, feedforward=32, set_size=10, window=(6, 6), **options).eval()
    return model, scattered(0.2, shape=shape)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_of_two_is_two_batches_of_one(variant: str) -> None:
    model, both = build(variant)
    joint = model(both).dense()
    for number in (0, 1):
        chosen = both.indices[:, 0] == number
        indices = both.indices[chosen].clone()
        indices[:, 0] = 0
        alone = model(SparseTensor(both.features[chosen], indices, both.spatial_shape, 1)).dense()
        torch.testing.assert_close(alone[0], joint[number], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_voxels_does_not_matter(variant: str) -> None:
    model, grid = build(variant)
    order = torch.randperm(len(grid), generator=torch.Generator().manual_seed(0))
    mixed = SparseTensor(grid.features[order], grid.indices[order], grid.spatial_shape, grid.batch_size)
    torch.testing.assert_close(model(mixed).dense(), model(grid).dense(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_order_of_points_does_not_matter(variant: str) -> None:
    model, voxels = build(variant)
    encoder = PointNetEncoder(4, (16, 16)).eval()
    depth, height, width = voxels.spatial_shape
    grid = VoxelGrid((0, 0, -1, width / 2, height / 2, 1), (0.5, 0.5, 2 / depth))
    assert grid.shape == voxels.spatial_shape
    generator = torch.Generator().manual_seed(0)
    points = torch.rand(3000, 4, generator=generator) * torch.tensor([width / 2, height / 2, 2, 1])
    points[:, 2] -= 1
    batch, order = torch.arange(3000) % 2, torch.randperm(3000, generator=generator)
    first = model(encoder(voxelise(points, batch, 2, grid))).dense()
    second = model(encoder(voxelise(points[order], batch[order], 2, grid))).dense()
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-4)


def test_blocks_see_the_windows_of_their_own_shift() -> None:
    model, _ = build("pillar")
    sizes = [layer.position.size for block in model.stages[0] for layer in block.layers]
    assert sizes == [(6, 6, 1)] * 2 + [(12, 12, 1)] * 2 + [(6, 6, 1)] * 2
    assert [windows.shift for windows in model.windows[0]] == [(0, 0), (3, 3)]


@pytest.mark.parametrize("factor", [(2, 1, 1), (4, 2, 3)])
def test_pooling_is_attention_over_the_voxels_that_are_there(factor: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    grid = scattered(0.3, channels=8, shape=(4, 30, 42))
    pool = AttentionPooling(8, 2, factor).eval()
    result = pool(grid)
    assert result.spatial_shape == (4 // factor[0], 30 // factor[1], 42 // factor[2])
    children = defaultdict(list)
    for i, (b, *zyx) in enumerate(grid.indices.tolist()):
        within = [v % n for v, n in zip(zyx, factor, strict=True)]
        place = (within[0] * factor[1] + within[1]) * factor[2] + within[2]
        children[(b, *(v // n for v, n in zip(zyx, factor, strict=True)))].append((i, place))
    assert set(children) == {tuple(row) for row in result.indices.tolist()}
    reference = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    reference.in_proj_weight = torch.nn.Parameter(torch.cat([pool.query.weight, pool.keys.weight]))
    reference.in_proj_bias = torch.nn.Parameter(torch.cat([pool.query.bias, pool.keys.bias]))
    reference.out_proj = pool.output
    for i in range(0, len(result), 50):
        members = children[tuple(result.indices[i].tolist())]
        values = grid.features[[row for row, _ in members]]
        query = values.amax(dim=0)
        keys = values + pool.position[[place for _, place in members]]
        mixed, _ = reference(query[None, None], keys[None], values[None])
        torch.testing.assert_close(result.features[i], pool.norm(query + mixed[0, 0]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_reach_every_parameter_and_nothing_is_fine(variant: str) -> None:
    model, grid = build(variant)
    model.train()
    model(grid).features.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
    empty = SparseTensor(grid.features[:0], grid.indices[:0], grid.spatial_shape, 2)
    assert model(empty).features.shape == (0, 16)


def test_bfloat16_is_close() -> None:
    model, grid = build("pillar")
    exact = model(grid).features
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(grid).features
    assert (rough.float() - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match="2 stages need 1 pooling"):
        DSVT(16, blocks=(1, 1))
    with pytest.raises(ValueError, match=r"3 voxels along z in windows of .* cannot be pooled by 2"):
        DSVT(16, height=3, blocks=(1, 1), pooling=(2,))
    with pytest.raises(ValueError, match="10 channels cannot be shared by 8 heads"):
        DSVT(10)
    model, _ = build("pillar")
    with pytest.raises(ValueError, match="4 voxels along z, expected 1"):
        model(scattered(0.1))


def outcome(variant: str, device: str) -> dict[str, Tensor]:
    """Values in a dense grid and all gradients, on the CPU."""
    model, grid = build(variant)
    model = model.to(device)
    features = grid.features.to(device).requires_grad_()
    dense = model(SparseTensor(features, grid.indices.to(device), grid.spatial_shape, grid.batch_size)).dense()
    dense.backward(torch.randn(dense.shape, generator=torch.Generator().manual_seed(1)).to(device))
    gradients = {name: value.grad for name, value in (("features", features), *model.named_parameters())}
    return {name: value.cpu() for name, value in {"values": dense.detach(), **gradients}.items() if value is not None}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("variant", VARIANTS)
def test_cuda_gives_the_same(variant: str) -> None:
    wanted, found = outcome(variant, "cpu"), outcome(variant, "cuda")
    assert found.keys() == wanted.keys() == {"values", "features", *dict(build(variant)[0].named_parameters())}
    for name, value in wanted.items():
        assert (found[name] - value).norm() < 1e-3 * value.norm(), name
