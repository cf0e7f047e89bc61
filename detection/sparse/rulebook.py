"""Which voxels a kernel brings together, found on the CPU by walking sorted voxel numbers side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numba import njit
from torch import Tensor

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Rulebook:
    """Pairs of voxels for each of the K offsets of a kernel.

    Attributes:
        ins, outs: [K, P] int32 rows of the input and of the output, of which the first counts[k] count; both ascend,
            as no voxel occurs twice for one offset.
        counts: [K] int64.
        input_indices, output_indices: [N, 4] and [M, 4] int32 voxels.
        input_shape, output_shape: voxels along z, y, x of the grids.
        kernel_size, stride, padding: of the convolution, along z, y, x; ``submanifold`` if it keeps the voxels.
    """

    ins: Tensor
    outs: Tensor
    counts: Tensor
    input_indices: Tensor
    output_indices: Tensor
    input_shape: Triple
    output_shape: Triple
    kernel_size: Triple
    stride: Triple
    padding: Triple
    submanifold: bool


@njit(nogil=True, error_model="numpy", cache=True)
def _check(indices, shape, batch_size):
    """0 for voxels that are sorted and within the grid; else 1 + the first row that is not, negative if outside."""
    for i in range(len(indices)):
        b, z, y, x = indices[i]
        if not (0 <= b < batch_size and 0 <= z < shape[0] and 0 <= y < shape[1] and 0 <= x < shape[2]):
            return -1 - i
        if i > 0:
            for j in range(4):
                step = indices[i, j] - indices[i - 1, j]
                if step > 0:
                    break
                if step < 0 or j == 3:
                    return 1 + i
    return 0


@njit(nogil=True, error_model="numpy", cache=True)
def _submanifold(indices, shape, kernel):
    """Rows p of the voxels and rows q of their neighbours at each offset: outs, ins, counts.

    With a margin around the grid, one number stands for a voxel and no offset leads from one line into another.
    """
    count, offsets = len(indices), kernel[0] * kernel[1] * kernel[2]
    reach_z, reach_y, reach_x = kernel[0] // 2, kernel[1] // 2, kernel[2] // 2
    depth, height, width = shape[0] + 2 * reach_z, shape[1] + 2 * reach_y, shape[2] + 2 * reach_x
    keys = np.empty(count, np.int64)
    for i in range(count):
        b, z, y, x = indices[i]
        keys[i] = ((np.int64(b) * depth + z + reach_z) * height + y + reach_y) * width + x + reach_x
    ins, outs = np.empty((offsets, count), np.int32), np.empty((offsets, count), np.int32)
    counts = np.zeros(offsets, np.int64)
    middle = offsets // 2
    for k in range(middle + 1, offsets):  # an offset's mirror image has the same pairs the other way round
        dz, rest = k // (kernel[1] * kernel[2]) - reach_z, k % (kernel[1] * kernel[2])
        delta = (dz * height + rest // kernel[2] - reach_y) * width + rest % kernel[2] - reach_x
        q, n, mirror = 0, 0, offsets - 1 - k
        for p in range(count):
            wanted = keys[p] + delta
            while q < count and keys[q] < wanted:
                q += 1
            if q == count:
                break
            if keys[q] == wanted:
                outs[k, n], ins[k, n] = p, q
                outs[mirror, n], ins[mirror, n] = q, p
                n += 1
        counts[k] = counts[mirror] = n
    for p in range(count):
        ins[middle, p] = outs[middle, p] = p
    counts[middle] = count
    return ins, outs, counts


@njit(nogil=True, error_model="numpy", cache=True)
def _strided(indices, shape, kernel, stride, padding):
    """Rows of the input and numbers of the output voxels they reach at each offset: ins, output keys, counts."""
    count, offsets = len(indices), kernel[0] * kernel[1] * kernel[2]
    ins, keys = np.empty((offsets, count), np.int32), np.empty((offsets, count), np.int64)
    counts = np.zeros(offsets, np.int64)
    for k in range(offsets):
        rest = k % (kernel[1] * kernel[2])
        dz, dy, dx = k // (kernel[1] * kernel[2]), rest // kernel[2], rest % kernel[2]
        n = 0
        for p in range(count):
            z, y, x = indices[p, 1] + padding[0] - dz, indices[p, 2] + padding[1] - dy, indices[p, 3] + padding[2] - dx
            if z < 0 or y < 0 or x < 0 or z % stride[0] or y % stride[1] or x % stride[2]:
                continue
            z, y, x = z // stride[0], y // stride[1], x // stride[2]
            if z < shape[0] and y < shape[1] and x < shape[2]:
                ins[k, n] = p
                keys[k, n] = ((np.int64(indices[p, 0]) * shape[0] + z) * shape[1] + y) * shape[2] + x
                n += 1
        counts[k] = n
    return ins, keys, counts


@njit(nogil=True, error_model="numpy", cache=True)
def _rows(keys, counts, found):
    """Rows of the ascending ``keys[k]`` in the sorted ``found``."""
    rows = np.empty(keys.shape, np.int32)
    for k in range(len(counts)):
        q = 0
        for n in range(counts[k]):
            while found[q] != keys[k, n]:
                q += 1
            rows[k, n] = q
    return rows


def _checked(indices: Tensor, shape: Triple, batch_size: int) -> np.ndarray:
    voxels = np.ascontiguousarray(indices.numpy(force=True))
    if fault := int(_check(voxels, shape, batch_size)):
        row = abs(fault) - 1
        where = f"voxel {row} at (batch, z, y, x) = {tuple(voxels[row].tolist())}"
        if fault < 0:
            raise ValueError(f"{where} lies outside of a batch of {batch_size} grids of shape {shape}")
        raise ValueError(f"{where} repeats the one before it or should come earlier: see SparseTensor.sorted")
    return voxels


def _on_device(
    device: torch.device, ins: np.ndarray, outs: np.ndarray, counts: np.ndarray
) -> tuple[Tensor, Tensor, Tensor]:
    first, second, third = (torch.from_numpy(each).to(device) for each in (ins, outs, counts))
    return first, second, third


def submanifold_rulebook(indices: Tensor, shape: Triple, batch_size: int, kernel_size: Triple) -> Rulebook:
    """Pairs of a convolution whose outputs are the voxels of its input (Graham et al., 2018).

    Raises:
        ValueError: for voxels outside of the grid, unsorted or repeated.
    """
    ins, outs, counts = _submanifold(_checked(indices, shape, batch_size), shape, kernel_size)
    reach = (kernel_size[0] // 2, kernel_size[1] // 2, kernel_size[2] // 2)
    pairs = _on_device(indices.device, ins, outs, counts)
    return Rulebook(*pairs, indices, indices, shape, shape, kernel_size, (1, 1, 1), reach, True)


def strided_shape(shape: Triple, kernel_size: Triple, stride: Triple, padding: Triple) -> Triple:
    """Grid of the outputs; ValueError for a grid smaller than the kernel."""
    z, y, x = ((n + 2 * p - k) // s + 1 for n, k, s, p in zip(shape, kernel_size, stride, padding, strict=True))
    if min(z, y, x) < 1:
        raise ValueError(f"a grid of shape {shape} with padding {padding} is smaller than the kernel {kernel_size}")
    return z, y, x


def strided_rulebook(
    indices: Tensor, shape: Triple, batch_size: int, kernel_size: Triple, stride: Triple, padding: Triple
) -> Rulebook:
    """Pairs of a convolution whose outputs are all voxels that its kernel reaches.

    Raises:
        ValueError: for voxels outside of the grid, unsorted or repeated, and for a grid smaller than the kernel.
    """
    voxels = _checked(indices, shape, batch_size)
    output_shape = strided_shape(shape, kernel_size, stride, padding)
    ins, keys, counts = _strided(voxels, output_shape, kernel_size, stride, padding)
    found = np.unique(np.concatenate([row[:count] for row, count in zip(keys, counts, strict=True)]))
    outs = _rows(keys, counts, found)
    reached = np.stack(np.unravel_index(found, (batch_size, *output_shape)), axis=1).astype(np.int32)
    pairs, output_indices = _on_device(indices.device, ins, outs, counts), torch.from_numpy(reached).to(indices.device)
    return Rulebook(*pairs, indices, output_indices, shape, output_shape, kernel_size, stride, padding, False)
