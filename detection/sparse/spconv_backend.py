"""Everything that touches spconv: its kernels for CUDA devices, with the weights of this package's layers.

On the CPU spconv is for comparison only, on one thread and without gradients: with more its sums race, and its backward
pass needs CUDA.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from detection.sparse.tensor import SparseTensor

SHARED = "spconv"  # spconv keeps what it knows about voxels in a dictionary of its own, under this one key


@functools.cache
def is_installed() -> bool:
    """Whether spconv can be imported."""
    return find_spec("spconv") is not None


@functools.cache
def _layer(
    kind: str, channels: tuple[int, int], kernel_size: tuple, key: str | None, native: bool, **where: Any
) -> Any:
    """spconv's layer, without memory for its parameters."""
    import spconv.pytorch as spconv
    from spconv.core import ConvAlgo

    algorithm = ConvAlgo.Native if native else None
    with torch.device("meta"):
        layer = getattr(spconv, kind)(*channels, kernel_size, bias=False, indice_key=key, algo=algorithm, **where)
    layer.conv1x1 = False  # its shortcut for 1x1x1 kernels reads the weights [out, in] as [in, out]
    return layer


def convolve(voxels: SparseTensor, weight: Tensor, kind: str, indice_key: str | None, **where: tuple) -> SparseTensor:
    """What spconv's layer ``kind`` makes of ``voxels`` with ``weight`` [out, kz, ky, kx, in] and no bias.

    Half precision is computed in single precision, as by this package's products: spconv knows no bfloat16, and the
    float16 that it takes under autocast is too coarse for gradients without loss scaling.

    Args:
        where: stride and padding of a strided convolution.

    Raises:
        ImportError: where spconv is not installed.
    """
    if not is_installed():
        raise ImportError(
            "spconv is not installed: `pip install spconv-cu126` for CUDA devices (`spconv` for comparison on the CPU)"
        )
    import spconv.pytorch as spconv

    out_channels, *kernel_size, in_channels = weight.shape
    native = voxels.features.device.type == "cpu"
    layer = _layer(kind, (in_channels, out_channels), tuple(kernel_size), indice_key, native, **where)
    shape = list(voxels.spatial_shape)
    indices = voxels.indices.contiguous()  # its strides are not looked at
    theirs = spconv.SparseConvTensor(voxels.features.float(), indices, shape, voxels.batch_size)
    theirs.indice_dict = voxels.rulebooks.setdefault(SHARED, {})
    with torch.autocast(voxels.features.device.type, enabled=False):
        result = layer._conv_forward(torch.is_grad_enabled(), theirs, weight.float(), None)
    features = result.features.to(voxels.features.dtype)
    z, y, x = result.spatial_shape
    return SparseTensor(features, result.indices, (z, y, x), voxels.batch_size, {SHARED: result.indice_dict})
