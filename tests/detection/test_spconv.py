"""spconv and this package take each other's parameters and give the same with them.

On the CPU spconv is right with one thread, and for one grid: it mixes those of a batch up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detection import sparse
from tests.detection.random_voxels import random_voxels

spconv = pytest.importorskip("spconv.pytorch")


@pytest.fixture(autouse=True)
def _one_thread_without_gradients() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        yield
    torch.set_num_threads(before)


def submanifold(package: Any, kernel: Any, **options: Any) -> list[nn.Module]:
    return [package.SubMConv3d(5, 7, kernel, bias=True, **options)]


def strided(package: Any, kernel: Any, **options: Any) -> list[nn.Module]:
    return [package.SparseConv3d(5, 7, kernel, (2, 1, 2), (1, 0, 1), bias=True, **options)]


def inverse(package: Any, kernel: Any, **options: Any) -> list[nn.Module]:
    down = package.SparseConv3d(5, 7, kernel, 2, 1, bias=True, indice_key="down", **options)
    return [down, package.SparseInverseConv3d(7, 6, kernel, "down", bias=True, **options)]


LAYERS = pytest.mark.parametrize("make", [submanifold, strided, inverse])


@LAYERS
def test_parameters_are_exchanged_both_ways(make: Callable[..., list[nn.Module]]) -> None:
    ours, others = (nn.Sequential(*make(sparse, (1, 3, 5))) for _ in range(2))
    theirs = spconv.SparseSequential(*make(spconv, (1, 3, 5), algo=spconv.ConvAlgo.Native))
    grid = random_voxels(5, batch=1)

    def with_spconv() -> Tensor:
        indices = grid.indices.contiguous()  # spconv does not look at strides
        return theirs(spconv.SparseConvTensor(grid.features, indices, list(grid.spatial_shape), 1)).dense()

    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(grid).dense(), with_spconv(), atol=1e-5, rtol=1e-4)
    theirs.load_state_dict(others.state_dict())
    torch.testing.assert_close(others(grid).dense(), with_spconv(), atol=1e-5, rtol=1e-4)


def test_nothing_in_nothing_out() -> None:
    nothing = random_voxels(5, share=0.0, batch=1)
    for make in (submanifold, strided, inverse):
        ours, theirs = (nn.Sequential(*make(sparse, 3, backend=backend)) for backend in ("own", "spconv"))
        assert torch.equal(theirs(nothing).dense(), torch.zeros_like(ours(nothing).dense()))
    lonely = sparse.SparseTensor(torch.ones(1, 5), torch.tensor([[0, 1, 1, 1]], dtype=torch.int32), (4, 4, 4), 1)
    down = sparse.SparseConv3d(5, 7, 1, 2, indice_key="down", backend="spconv")
    before = sparse.SubMConv3d(5, 5, backend="spconv")(lonely)
    assert len(down(before)) == 0
    back = sparse.SparseInverseConv3d(7, 5, 1, "down", backend="spconv")(down(before))
    assert torch.equal(back.indices, lonely.indices)
    assert len(sparse.SubMConv3d(5, 5, backend="spconv")(back)) == 1


@LAYERS
@pytest.mark.parametrize("kernel", [3, 1])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_the_backend_gives_the_same(
    make: Callable[..., list[nn.Module]], kernel: int, dtype: torch.dtype, tolerance: float
) -> None:
    ours, theirs = (nn.Sequential(*make(sparse, kernel, backend=backend)) for backend in ("own", "spconv"))
    theirs.load_state_dict(ours.state_dict())
    grid = random_voxels(5, dtype=dtype, batch=1)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        wanted, found = ours(grid), theirs(grid)
    torch.testing.assert_close(found.dense(), wanted.dense(), atol=tolerance, rtol=tolerance)
