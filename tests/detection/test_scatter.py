"""Means and greatest values by voxel: against a loop, values and gradients, on every path."""

from __future__ import annotations

import pytest
import torch

from detection.sparse.scatter import scatter_max, scatter_mean

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA"))]
SIZE = 9


def rows(count: int = 40, dtype: torch.dtype = torch.float32, ties: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Values with many ties or none, and voxels of which the last holds nothing."""
    generator = torch.Generator().manual_seed(count)
    values = torch.randint(-3, 4, (count, 5), generator=generator).to(dtype)
    if not ties:
        values = torch.randn(count, 5, generator=generator, dtype=dtype)
    return values, torch.randint(0, SIZE - 1, (count,), generator=generator)


@pytest.mark.parametrize("device", DEVICES)
def test_means_are_those_of_a_loop(device: str) -> None:
    values, index = rows()
    found = scatter_mean(values.to(device), index.to(device), SIZE).cpu()
    for voxel in range(SIZE):
        chosen = values[index == voxel]
        expected = chosen.mean(dim=0) if len(chosen) else torch.zeros(5)
        torch.testing.assert_close(found[voxel], expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("ties", [True, False])
def test_greatest_values_and_their_gradients_are_those_of_a_loop(device: str, dtype: torch.dtype, ties: bool) -> None:
    values, index = rows(dtype=dtype, ties=ties)
    values += 10  # torch's own gradient counts the zero that an empty voxel has as one more equal
    weights = torch.randn(SIZE, 5, dtype=dtype, generator=torch.Generator().manual_seed(1))
    leaf = values.to(device).requires_grad_()
    greatest = scatter_max(leaf, index.to(device), SIZE)
    (greatest * weights.to(device)).sum().backward()
    assert leaf.grad is not None
    for voxel in range(SIZE):
        chosen = index == voxel
        if not chosen.any():
            assert (greatest[voxel] == 0).all()
            continue
        best = values[chosen].amax(dim=0)
        torch.testing.assert_close(greatest[voxel].cpu(), best)
        equal = values[chosen] == best
        torch.testing.assert_close(leaf.grad[chosen.to(device)].cpu(), equal * weights[voxel] / equal.sum(dim=0))


def test_the_greatest_of_negative_values_is_negative() -> None:
    assert scatter_max(torch.tensor([[-2.0], [-1.0]]), torch.tensor([0, 0]), 1).tolist() == [[-1.0]]


def test_no_rows_give_zeros_and_no_gradient() -> None:
    values = torch.zeros(0, 3, requires_grad=True)
    greatest = scatter_max(values, torch.zeros(0, dtype=torch.int64), 2)
    greatest.sum().backward()
    assert greatest.tolist() == [[0.0] * 3] * 2
    assert values.grad is not None
    assert values.grad.shape == (0, 3)
