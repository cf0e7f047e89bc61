"""Sparse convolutions against torch's dense ones: values, gradients, threads, and refusals."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detection.sparse import SparseConv3d, SparseInverseConv3d, SparseTensor, SubMConv3d, kernels
from detection.sparse.products import SparseProduct
from detection.sparse.rulebook import submanifold_rulebook
from detection.sparse.threads import run_on_team
from tests.detection.random_voxels import BATCH, SHAPE, random_voxels
from tests.equality import assert_same


@pytest.fixture(autouse=True)
def _same_threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def teams(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads of each product so far; none is too small to be shared out among all that torch has."""
    sizes: list[int] = []

    def run(address: int, job: np.ndarray, threads: int) -> None:
        sizes.append(threads)
        run_on_team(address, job, threads)

    monkeypatch.setattr(kernels, "LEAST_WORK", 1)
    monkeypatch.setattr(kernels, "run_on_team", run)
    return sizes


def at(dense: Tensor, indices: Tensor) -> Tensor:
    b, z, y, x = indices.long().unbind(dim=1)
    return dense[b, :, z, y, x]


def dense_convolution(layer: SubMConv3d | SparseConv3d, grid: SparseTensor) -> Tensor:
    stride, padding = (1, 1, 1), tuple(size // 2 for size in layer.kernel_size)
    if isinstance(layer, SparseConv3d):
        stride, padding = layer.stride, layer.padding
    return F.conv3d(grid.dense(), layer.weight.permute(0, 4, 1, 2, 3), layer.bias, stride, padding)


def dense_inverse(up: SparseInverseConv3d, down: SparseConv3d, low: SparseTensor) -> Tensor:
    lost = [
        n + 2 * p - k - (m - 1) * s
        for n, m, k, s, p in zip(SHAPE, low.spatial_shape, down.kernel_size, down.stride, down.padding, strict=True)
    ]
    weight = up.weight.permute(4, 0, 1, 2, 3)
    return F.conv_transpose3d(low.dense(), weight, None, down.stride, down.padding, tuple(lost))


def check_gradients(ours: Tensor, theirs: Tensor, inputs: list[Tensor], tolerance: float) -> None:
    direction = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1)).to(ours.dtype)
    got = torch.autograd.grad(ours, inputs, direction, retain_graph=True)
    wanted = torch.autograd.grad(theirs, inputs, direction, retain_graph=True)
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize(("inputs", "outputs"), [(4, 16), (5, 7), (16, 48), (33, 130)])
@pytest.mark.parametrize("kernel", [3, (1, 3, 5)])
def test_submanifold(
    threads: int, inputs: int, outputs: int, kernel: int | tuple[int, int, int], teams: list[int]
) -> None:
    torch.set_num_threads(threads)
    grid = random_voxels(inputs)
    grid.features.requires_grad_()
    layer = SubMConv3d(inputs, outputs, kernel, bias=True)
    result = layer(grid)
    expected = at(dense_convolution(layer, grid), grid.indices)
    torch.testing.assert_close(result.features, expected, atol=2e-5, rtol=1e-4)
    assert result.indices is grid.indices
    assert layer.bias is not None
    check_gradients(result.features, expected, [grid.features, layer.weight, layer.bias], 2e-4)
    assert teams == [threads] * 3  # values, and the gradients of features and of weights


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 2, 1), (2, 2, 0), ((3, 1, 1), (2, 1, 1), 0), (3, 1, 1), (1, 2, 0)]
)
def test_strided_and_back(kernel, stride, padding, threads: int, teams: list[int]) -> None:
    torch.set_num_threads(threads)
    grid = random_voxels(6, share=0.1)
    grid.features.requires_grad_()
    down = SparseConv3d(6, 20, kernel, stride, padding, indice_key="down")
    up = SparseInverseConv3d(20, 9, kernel, indice_key="down")
    low = down(grid)
    expected = dense_convolution(down, grid)
    reached = F.conv3d(
        (grid.dense() != 0).any(1, True).float(), torch.ones(1, 1, *down.kernel_size), None, stride, padding
    )
    assert torch.equal(low.indices.long(), (reached[:, 0] > 0).nonzero())
    assert low.spatial_shape == tuple(expected.shape[2:])
    torch.testing.assert_close(low.dense(), expected, atol=1e-5, rtol=1e-4)
    check_gradients(low.features, at(expected, low.indices), [grid.features, down.weight], 1e-4)
    high = up(low)
    whole = at(dense_inverse(up, down, low), grid.indices)
    torch.testing.assert_close(high.features, whole, atol=1e-5, rtol=1e-4)
    check_gradients(high.features, whole, [low.features, up.weight, grid.features, down.weight], 1e-4)
    assert set(teams) == {threads}


def submanifold() -> tuple[torch.nn.Module, SparseTensor]:
    return SubMConv3d(32, 32), random_voxels(32, share=0.5)


def strided() -> tuple[torch.nn.Module, SparseTensor]:
    return SparseConv3d(32, 32, 3, 2, 1), random_voxels(32, share=0.5)


def inverse() -> tuple[torch.nn.Module, SparseTensor]:
    low = SparseConv3d(32, 32, 3, 2, 1, indice_key="down")(random_voxels(32, share=0.5))
    return SparseInverseConv3d(32, 32, 3, indice_key="down"), low.with_features(low.features.detach())


@pytest.mark.parametrize("make", [submanifold, strided, inverse])
def test_it_gives_the_same_every_time(
    make: Callable[[], tuple[torch.nn.Module, SparseTensor]], teams: list[int]
) -> None:
    layer, grid = make()
    inputs = [grid.features.requires_grad_(), layer.get_parameter("weight")]

    def outcome(threads: int) -> tuple[Tensor, ...]:
        """Values, and the gradients of features and of weights."""
        torch.set_num_threads(threads)
        values = layer(grid).features
        return values.detach(), *torch.autograd.grad(values.square().sum(), inputs)

    first = outcome(1)
    for run in range(200):
        teams.clear()
        assert_same(outcome(1 + run % 8), first)
        assert teams == [1 + run % 8] * 3


def test_gradients_in_double_precision() -> None:
    grid = random_voxels(3, share=0.1, dtype=torch.float64)
    book = submanifold_rulebook(grid.indices, SHAPE, BATCH, (3, 3, 3))
    weights = torch.randn(27, 3, 4, dtype=torch.float64, requires_grad=True)

    def product(features: Tensor, weights: Tensor) -> Tensor:
        return SparseProduct.apply(features, weights, book.ins, book.outs, book.counts, len(grid))

    torch.autograd.gradcheck(product, (grid.features.requires_grad_(), weights))


def test_half_precision_is_that_of_its_inputs() -> None:
    grid, layer = random_voxels(8), SubMConv3d(8, 8)
    exact = layer(grid.with_features(grid.features.bfloat16().float())).features
    with torch.autocast("cpu", torch.bfloat16):
        result = layer(grid.with_features(grid.features.bfloat16())).features
    assert result.dtype == torch.bfloat16
    assert torch.equal(result, exact.bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_not_compiled_is_single_precision_too(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """As on CUDA without spconv."""
    grid, layer = random_voxels(8), SubMConv3d(8, 8)
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
    grid = random_voxels(4, share=0.0)
    low = SparseConv3d(4, 8, 3, 2, 1, indice_key="down")(SubMConv3d(4, 4)(grid))
    assert low.features.shape == (0, 8)
    assert SparseInverseConv3d(8, 3, 3, indice_key="down")(low).features.shape == (0, 3)
    assert low.dense().shape == (2, 8, 3, 5, 4)


@pytest.mark.parametrize("share", [0.003, 0.01, 0.2])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 2, 1), (2, 3, 0), ((1, 3, 2), (3, 2, 3), (0, 1, 1))])
def test_what_leads_somewhere_has_outputs(kernel, stride, padding, share: float) -> None:
    convolution, found = SparseConv3d(2, 3, kernel, stride, padding, backend="own"), set()
    for seed in range(40):
        grid = random_voxels(2, seed=seed, share=share)
        somewhere = convolution._leads_somewhere(grid)
        assert somewhere == (len(convolution(grid)) > 0)
        found.add(somewhere)
    assert True in found


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
    grid, layer = random_voxels(3), SubMConv3d(3, 4)
    order = torch.randperm(len(grid), generator=torch.Generator().manual_seed(0))
    shuffled = SparseTensor(grid.features[order], grid.indices[order], SHAPE, BATCH)
    assert torch.equal(layer(shuffled.sorted()).features, layer(grid).features)


def test_misuse_is_refused() -> None:
    grid = random_voxels(4)
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
