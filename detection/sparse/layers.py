"""Sparse convolutions (Graham et al., 2018; SECOND, Yan et al., 2018) with the parameters of spconv 2.

A state dict is interchangeable with spconv's: ``weight`` [out, kz, ky, kx, in] and ``bias`` [out]. Kernels of 1x1x1
without a stride are an exception: spconv itself takes their weights for [in, out].
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from detection.sparse import spconv_backend
from detection.sparse.products import SparseProduct
from detection.sparse.rulebook import Rulebook, Triple, strided_rulebook, strided_shape, submanifold_rulebook
from detection.sparse.tensor import SparseTensor

Backend = Literal["auto", "own", "spconv"]


def triple(value: int | tuple[int, int, int]) -> Triple:
    """One number for z, y and x, or the three as they are."""
    return (value, value, value) if isinstance(value, int) else value


class _Convolution(nn.Module):
    """What the three convolutions share: parameters, and the choice of the backend."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int],
        bias: bool,
        indice_key: str | None,
        backend: Backend,
    ) -> None:
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = triple(kernel_size)
        self.indice_key, self.backend = indice_key, backend
        self.weight = nn.Parameter(torch.empty(out_channels, *self.kernel_size, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform within 1/sqrt(inputs of one output), as torch's and spconv's convolutions begin."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        for parameter in self.parameters(recurse=False):
            nn.init.uniform_(parameter, -bound, bound)

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, indice_key={self.indice_key}"

    def forward(self, voxels: SparseTensor) -> SparseTensor:
        """Convolve; spconv on CUDA devices where it is installed, this package's products otherwise.

        Raises:
            ValueError: for another number of channels, voxels that are unsorted, repeated or outside of the grid, or an
                ``indice_key`` that belongs to a different convolution.
            ImportError: where spconv is asked for and not installed.
        """
        if voxels.features.shape[1] != self.in_channels:
            raise ValueError(f"got features of {voxels.features.shape[1]} channels, expected {self.in_channels}")
        on_cuda = voxels.features.device.type == "cuda"
        wanted = self.backend == "spconv" or (self.backend == "auto" and on_cuda and spconv_backend.is_installed())
        # spconv takes and gives no tensors without voxels.
        use_spconv = wanted and self._leads_somewhere(voxels)
        result = self._with_spconv(voxels) if use_spconv else self._with_products(voxels)
        return result if self.bias is None else result.with_features(result.features + self.bias)

    def _leads_somewhere(self, voxels: SparseTensor) -> bool:
        """Whether there are voxels, and outputs that they reach."""
        return len(voxels) > 0

    def _with_spconv(self, voxels: SparseTensor) -> SparseTensor:
        raise NotImplementedError

    def _with_products(self, voxels: SparseTensor) -> SparseTensor:
        raise NotImplementedError

    def _product(self, features: Tensor, ins: Tensor, outs: Tensor, counts: Tensor, rows: int) -> Tensor:
        matrices = self.weight.reshape(self.out_channels, -1, self.in_channels).permute(1, 2, 0)
        return SparseProduct.apply(features, matrices, ins, outs, counts, rows)

    def _remembered(self, voxels: SparseTensor) -> Rulebook | None:
        """The rulebook under this layer's key; ValueError where it was made for other voxels or another kernel."""
        book = None if self.indice_key is None else voxels.rulebooks.get(self.indice_key)
        if book is not None and (book.kernel_size != self.kernel_size or book.input_indices is not voxels.indices):
            raise ValueError(f"indice_key {self.indice_key!r} belongs to another convolution or to other voxels")
        return book

    def _remember(self, voxels: SparseTensor, book: Rulebook) -> dict:
        return voxels.rulebooks if self.indice_key is None else {**voxels.rulebooks, self.indice_key: book}


class SubMConv3d(_Convolution):
    """Submanifold convolution: its outputs are the voxels of its input. Odd kernels, stride 1.

    Args:
        indice_key: layers of one key over the same voxels look their neighbours up once.
        backend: "own", "spconv", or "auto" for spconv on CUDA devices where it is installed.

    Raises:
        ValueError: for a kernel of even size.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int] = 3,
        bias: bool = False,
        indice_key: str | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias, indice_key, backend)
        if any(size % 2 == 0 for size in self.kernel_size):
            raise ValueError(f"a submanifold convolution has a kernel of odd size, got {self.kernel_size}")

    def _with_spconv(self, voxels: SparseTensor) -> SparseTensor:
        return spconv_backend.convolve(voxels, self.weight, "SubMConv3d", self.indice_key)

    def _with_products(self, voxels: SparseTensor) -> SparseTensor:
        book = self._remembered(voxels)
        if book is None:
            book = submanifold_rulebook(voxels.indices, voxels.spatial_shape, voxels.batch_size, self.kernel_size)
        if not book.submanifold:
            raise ValueError(f"indice_key {self.indice_key!r} belongs to a strided convolution")
        features = self._product(voxels.features, book.ins, book.outs, book.counts, len(voxels))
        rulebooks = self._remember(voxels, book)
        return SparseTensor(features, voxels.indices, voxels.spatial_shape, voxels.batch_size, rulebooks)


class SparseConv3d(_Convolution):
    """Convolution whose outputs are all voxels that its kernel reaches from those of the input.

    Args:
        stride, padding: along z, y, x, or one number for all.
        indice_key: names the step for a :class:`SparseInverseConv3d` to undo.
        backend: see :class:`SubMConv3d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int],
        stride: int | tuple[int, int, int] = 1,
        padding: int | tuple[int, int, int] = 0,
        bias: bool = False,
        indice_key: str | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias, indice_key, backend)
        self.stride, self.padding = triple(stride), triple(padding)

    def _leads_somewhere(self, voxels: SparseTensor) -> bool:
        shape = strided_shape(voxels.spatial_shape, self.kernel_size, self.stride, self.padding)
        reached = torch.ones(len(voxels), dtype=torch.bool, device=voxels.indices.device)
        for i, (kernel, stride, padding) in enumerate(zip(self.kernel_size, self.stride, self.padding, strict=True)):
            at = voxels.indices[:, 1 + i, None] + padding - torch.arange(kernel, device=reached.device)
            reached &= ((at % stride == 0) & (at >= 0) & (at < shape[i] * stride)).any(dim=1)
        return bool(reached.any())

    def _with_spconv(self, voxels: SparseTensor) -> SparseTensor:
        return spconv_backend.convolve(
            voxels, self.weight, "SparseConv3d", self.indice_key, stride=self.stride, padding=self.padding
        )

    def _with_products(self, voxels: SparseTensor) -> SparseTensor:
        book = self._remembered(voxels)
        if book is None:
            book = strided_rulebook(
                voxels.indices,
                voxels.spatial_shape,
                voxels.batch_size,
                self.kernel_size,
                self.stride,
                self.padding,
            )
        if book.submanifold or (book.stride, book.padding) != (self.stride, self.padding):
            raise ValueError(f"indice_key {self.indice_key!r} belongs to another convolution")
        features = self._product(voxels.features, book.ins, book.outs, book.counts, len(book.output_indices))
        rulebooks = self._remember(voxels, book)
        return SparseTensor(features, book.output_indices, book.output_shape, voxels.batch_size, rulebooks)


class SparseInverseConv3d(_Convolution):
    """Transposed convolution back to the voxels that the :class:`SparseConv3d` of the same key began with."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int, int],
        indice_key: str,
        bias: bool = False,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, bias, indice_key, backend)

    def _with_spconv(self, voxels: SparseTensor) -> SparseTensor:
        return spconv_backend.convolve(voxels, self.weight, "SparseInverseConv3d", self.indice_key)

    def _with_products(self, voxels: SparseTensor) -> SparseTensor:
        book = voxels.rulebooks.get(self.indice_key or "")
        if book is None or book.submanifold or book.output_indices is not voxels.indices:
            raise ValueError(f"no strided convolution with indice_key {self.indice_key!r} led to these voxels")
        if book.kernel_size != self.kernel_size:
            raise ValueError(f"indice_key {self.indice_key!r} has a kernel {book.kernel_size}, not {self.kernel_size}")
        features = self._product(voxels.features, book.outs, book.ins, book.counts, len(book.input_indices))
        return SparseTensor(features, book.input_indices, book.input_shape, voxels.batch_size, voxels.rulebooks)
