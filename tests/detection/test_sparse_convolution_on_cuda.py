"""Sparse convolutions on CUDA devices, by spconv and by plain torch, against those on the CPU: values and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from detection.sparse import SparseConv3d, SparseInverseConv3d, SparseTensor, SubMConv3d
from detection.sparse.layers import Backend
from tests.detection.random_voxels import BATCH, SHAPE, random_voxels

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def submanifold(backend: Backend) -> list[nn.Module]:
    """The second finds the neighbours that the first looked up."""
    return [SubMConv3d(16, 32, bias=True, indice_key="a", backend=backend), SubMConv3d(32, 16, 3, False, "a", backend)]


def single(backend: Backend) -> list[nn.Module]:
    return [SubMConv3d(16, 32, 1, backend=backend)]


def strided(backend: Backend) -> list[nn.Module]:
    return [SparseConv3d(16, 32, 3, 2, 1, backend=backend), SparseConv3d(32, 16, (3, 1, 1), (2, 1, 1), backend=backend)]


def inverse(backend: Backend) -> list[nn.Module]:
    down = SparseConv3d(16, 32, 3, 2, 1, indice_key="down", backend=backend)
    return [down, SparseInverseConv3d(32, 16, 3, "down", backend=backend)]


def outcome(model: nn.Module, grid: SparseTensor, device: str, autocast: bool) -> dict[str, Tensor]:
    """Values of training and of inference, as dense grids, since backends order voxels differently, and gradients."""
    model = model.to(device)
    model.zero_grad()
    features = grid.features.detach().to(device).requires_grad_()
    moved = SparseTensor(features, grid.indices.to(device), SHAPE, BATCH)
    with torch.autocast(device, torch.bfloat16, enabled=autocast):
        dense = model(moved).dense()
        with torch.no_grad():
            inferred = model(moved).dense()
    dense.backward(torch.randn(dense.shape, generator=torch.Generator().manual_seed(1)).to(dense))
    gradients = {name: value.grad for name, value in (("features", features), *model.named_parameters())}
    found = {"values": dense.detach(), "inferred": inferred, **gradients}
    return {name: value.cpu() for name, value in found.items() if value is not None}


@pytest.mark.parametrize("make", [submanifold, single, strided, inverse])
@pytest.mark.parametrize("backend", ["own", "spconv"])
@pytest.mark.parametrize(
    ("dtype", "autocast", "tolerance"),
    [(torch.float32, False, 1e-4), (torch.float32, True, 1e-4), (torch.bfloat16, True, 2e-2)],
)
def test_cuda_gives_the_same(
    make: Callable[[Backend], list[nn.Module]], backend: Backend, dtype: torch.dtype, autocast: bool, tolerance: float
) -> None:
    if backend == "spconv":
        pytest.importorskip("spconv")
    model, reference = nn.Sequential(*make(backend)), nn.Sequential(*make("own"))
    model.load_state_dict(reference.state_dict())
    grid = random_voxels(16, dtype=dtype)
    wanted = outcome(reference, grid, "cpu", autocast)
    found = outcome(model, grid, DEVICE, autocast)
    assert found.keys() == wanted.keys() == {"values", "inferred", "features", *dict(model.named_parameters())}
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype, name
        assert (found[name].float() - value.float()).norm() < tolerance * value.float().norm(), name


@pytest.mark.parametrize("backend", ["own", "spconv"])
def test_nothing_in_nothing_out(backend: Backend) -> None:
    if backend == "spconv":
        pytest.importorskip("spconv.pytorch")
    for make in (submanifold, single, strided, inverse):
        model, nothing = nn.Sequential(*make(backend)).to(DEVICE), random_voxels(16, share=0.0)
        moved = SparseTensor(nothing.features.to(DEVICE), nothing.indices.to(DEVICE), SHAPE, BATCH)
        assert float(model(moved).dense().abs().max()) == 0
    lonely = SparseTensor(torch.ones(1, 16), torch.tensor([[0, 1, 1, 1]], dtype=torch.int32), (4, 4, 4), 1)
    moved = SparseTensor(lonely.features.to(DEVICE), lonely.indices.to(DEVICE), (4, 4, 4), 1)
    assert len(SparseConv3d(16, 32, 1, 2, backend=backend).to(DEVICE)(moved)) == 0
