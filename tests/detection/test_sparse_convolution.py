"""Sparse convolutions against torch's dense ones: values, gradients, threads, and refusals."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detection.sparse import SparseConv3d, SparseInverseConv3d, SparseTensor, SubMConv3d
from detection.sparse.products import SparseProduct
from detection.sparse.rulebook import submanifold_rulebook

SHAPE, BATCH = (5, 9, 8), 2


@pytest.fixture(autouse=True)
def _same_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def voxels(channels: int, share: float = 0.3, seed: int = 0, dtype: torch.dtype = torch.float32) -> SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    occupied = torch.rand(BATCH, *SHAPE, generator=generator) < share
    indices = occupied.nonzero().int()
    return SparseTensor(torch.randn(len(indices), channels, generator=generator).to(dtype), indices, SHAPE, BATCH)


def at(dense: Tensor, indices: Tensor) -> Tensor:
    b, z, y, x = indices.long().unbind(dim=1)
    return dense[b, :, z, y, x]


def dense_weight(layer: torch.nn.Module) -> Tensor:
    return layer.get_parameter("weight").permute(0, 4, 1, 2, 3)


def check_gradients(ours: Tensor, theirs: Tensor, inputs: list[Tensor], tolerance: float) -> None:
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)).to(ours.dtype)
    got = torch.autograd.grad(ours, inputs, direction, retain_graph=True)
    wanted = torch.autograd.grad(theirs, inputs, direction, retain_graph=True)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 16), (5, 7), (16, 48), (33, 130)])
@pytest.mark.parametrize("kernel", [3, (1, 3, 5)])
def test_submanifold(threads: int, inputs: int, outputs: int, kernel: int | tuple[int, int, int]) -> None:
    torch.set_num_threads(threads)
    grid = voxels(inputs)
    grid.features.requires_grad_()
    layer = SubMConv3d(inputs, outputs, kernel, bias=True)
    result = layer(grid)
    padding = tuple(size // 2 for size in layer.kernel_size)
    expected = at(F.conv3d(grid.dense(), dense_weight(layer), layer.bias, padding=padding), grid.indices)
    torch.testing.assert_close(result.features, expected, atol=2e-5, rtol=1e-4)
    assert result.indices is grid.indices
    assert layer.bias is not None
    check_gradients(result.features, expected, [grid.features, layer.weight, layer.bias], 2e-4)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), ((3, 1, 1), (2, 1, 1), 0), (3, 1, 1), (1, 2, 0)]
)
def test_strided_and_back(kernel, stride, padding) -> None:
    grid = voxels(6, share=0.1)
    grid.features.requires_grad_()
    down = SparseConv3d(6, 20, kernel, stride, padding, indice_key="down")
    up = SparseInverseConv3d(20, 9, kernel, indice_key="down")
    low = down(grid)
    expected = F.conv3d(grid.dense(), dense_weight(down), stride=stride, padding=padding)
    reached = F.conv3d(
        (grid.dense() != 0).any(1, True).float(), torch.ones(1, 1, *down.kernel_size), None, stride, padding
    )
    assert torch.equal(low.indices.long(), (reached[:, 0] > 0).nonzero())
    assert low.spatial_shape == tuple(expected.shape[2:])
    torch.testing.assert_close(low.dense(), expected, atol=1e-5, rtol=1e-4)
    check_gradients(low.features, at(expected, low.indices), [grid.features, down.weight], 1e-4)
    high = up(low)
    lost = [
        n + 2 * p - k - (m - 1) * s
        for n, m, k, s, p in zip(SHAPE, low.spatial_shape, down.kernel_size, down.stride, down.padding, strict=True)
    ]
    whole = F.conv_transpose3d(low.dense(), up.weight.permute(4, 0, 1, 2, 3), None, stride, padding, tuple(lost))
    torch.testing.assert_close(high.features, at(whole, grid.indices), atol=1e-5, rtol=1e-4)
    check_gradients(high.features, at(whole, grid.indices), [up.weight, down.weight], 1e-4)


def test_it_is_right_every_time() -> None:
    grid = voxels(32, share=0.5)
    layer = SubMConv3d(32, 32, indice_key="same")
    torch.set_num_threads(1)
    first = layer(grid).features
    first.sum().backward()
    assert layer.weight.grad is not None
    gradient = layer.weight.grad.clone()
    torch.testing.assert_close(first, at(F.conv3d(grid.dense(), dense_weight(layer), padding=1), grid.indices))
    for run in range(200):
        torch.set_num_threads(1 + run % 8)
        layer.weight.grad = None
        again = layer(grid).features
        again.sum().backward()
        assert torch.equal(again, first)
        assert torch.equal(layer.weight.grad, gradient)


def test_gradients_in_double_precision() -> None:
    grid = voxels(3, share=0.1, dtype=torch.float64)
    book = submanifold_rulebook(grid.indices, SHAPE, BATCH, (3, 3, 3))
    weights = torch.randn(27, 3, 4, dtype=torch.float64, requires_grad=True)

    def product(features: Tensor, weights: Tensor) -> Tensor:
        return SparseProduct.apply(features, weights, book.ins, book.outs, book.counts, len(grid))

    torch.autograd.gradcheck(product, (grid.features.requires_grad_(), weights))


def test_half_precision_is_that_of_its_inputs() -> None:
    grid, layer = voxels(8), SubMConv3d(8, 8)
    exact = layer(grid.with_features(grid.features.bfloat16().float())).features
    with torch.autocast("cpu", torch.bfloat16):
        result = layer(grid.with_features(grid.features.bfloat16())).features
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, exact.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_compiled_is_single_precision_too(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """As on CUDA without spconv."""
    grid, layer = voxels(8), SubMConv3d(8, 8)
    inputs = [grid.features.to(dtype).requires_grad_() for _ in range(2)]
    results, gradients = [], []
    for features, compiled in zip(inputs, (True, False), strict=True):
        if not compiled:
            monkeypatch.setattr("detection.sparse.products._is_compiled", lambda _: False)
        layer.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            result = layer(grid.with_features(features)).features
            result.float().square().sum().backward()
        assert layer.weight.grad is not None
        assert features.grad is not None
        results.append(result.float())
        gradients += [layer.weight.grad.clone(), features.grad.float()]
        assert result.dtype == dtype
    exact = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.05, "rtol": 0.02}
    torch.testing.assert_close(*results, **exact)
    torch.testing.assert_close(gradients[0], gradients[2], **exact)
    torch.testing.assert_close(gradients[1], gradients[3], **exact)


def test_nothing_in_nothing_out() -> None:
    grid = voxels(4, share=0.0)
    low = SparseConv3d(4, 8, 3, 2, 1, indice_key="down")(SubMConv3d(4, 4)(grid))
    assert low.features.shape == (0, 8)
    assert SparseInverseConv3d(8, 3, 3, indice_key="down")(low).features.shape == (0, 3)
    assert low.dense().shape == (2, 8, 3, 5, 4)


def with_indices(rows: list[list[int]]) -> SparseTensor:
    return SparseTensor(torch.ones(len(rows), 2), torch.tensor(rows, dtype=torch.int32), SHAPE, BATCH)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 1, 1, 1], [0, 1, 1, 1]], "repeats"),
        ([[0, 1, 2, 1], [0, 1, 1, 5]], r"\(0, 1, 1, 5\) repeats the one before it or should come earlier"),
        ([[0, 0, 9, 0]], "lies outside"),
        ([[2, 0, 0, 0]], "outside of a batch of 2"),
        ([[0, -1, 0, 0]], "lies outside"),
    ],
)
def test_bad_voxels_are_refused(rows: list[list[int]], message: str) -> None:
    for layer in (SubMConv3d(2, 2), SparseConv3d(2, 2, 3)):
        with pytest.raises(ValueError, match=message):
            layer(with_indices(rows))


def test_voxels_can_be_sorted() -> None:
    grid, layer = voxels(3), SubMConv3d(3, 4)
    order = torch.randperm(len(grid), generator=torch.Generator().manual_seed(0))
    shuffled = SparseTensor(grid.features[order], grid.indices[order], SHAPE, BATCH)
    assert torch.equal(layer(shuffled.sorted()).features, layer(grid).features)


def test_misuse_is_refused() -> None:
    grid = voxels(4)
    with pytest.raises(ValueError, match="got features of 4 channels, expected 5"):
        SubMConv3d(5, 4)(grid)
    with pytest.raises(ValueError, match="odd size"):
        SubMConv3d(4, 4, 2)
    with pytest.raises(ValueError, match="no strided convolution with indice_key 'down'"):
        SparseInverseConv3d(4, 4, 3, indice_key="down")(grid)
    with pytest.raises(ValueError, match="smaller than the kernel"):
        SparseConv3d(4, 4, 7)(grid)
    known = SubMConv3d(4, 4, indice_key="a")(grid)
    with pytest.raises(ValueError, match="'a' belongs to"):
        SubMConv3d(4, 4, 5, indice_key="a")(known)
    with pytest.raises(ValueError, match="indices has type"):
        SparseTensor(torch.zeros(1, 1), torch.zeros(1, 4, dtype=torch.int64), SHAPE, 1)


@pytest.mark.skipif(find_spec("spconv") is None, reason="spconv is not installed")
def test_spconv_gives_the_same() -> None:
    torch.set_num_threads(1)  # with more, its sums race
    whole = voxels(16)
    first = whole.indices[:, 0] == 0  # its CPU path mixes the grids of a batch up
    grid = SparseTensor(whole.features[first], whole.indices[first], SHAPE, 1)
    with torch.no_grad():
        for layer in (SubMConv3d(16, 16, bias=True), SparseConv3d(16, 32, 3, 2, 1)):
            ours = layer(grid)
            layer.backend = "spconv"
            theirs = layer(grid)
            torch.testing.assert_close(theirs.dense(), ours.dense(), atol=1e-5, rtol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_same() -> None:
    grid, layer = voxels(16), SubMConv3d(16, 16)
    expected = layer(grid)
    moved = SparseTensor(grid.features.cuda(), grid.indices.cuda(), SHAPE, BATCH)
    result = layer.cuda()(moved)
    torch.testing.assert_close(result.dense().cpu(), expected.dense(), atol=1e-3, rtol=1e-3)
