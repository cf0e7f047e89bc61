"""Sparse convolutions as ONNX nodes: a rulebook of them, whose pairs of voxels are found in a table of all cells.

For each offset of a kernel the cells under it are looked up in the table, the features of the voxels that are there are
multiplied by the offset's weights, and the products added to the voxels of the output. The table has an int32 for every
cell of the grid and of a margin as wide as the padding: 69 MB for 640 x 640 x 40 cells. It is made once for all
convolutions over the same voxels, and so are the pairs of submanifold ones. One product of all neighbours side by side,
with zeros where there is none, would need fewer nodes, but takes a quarter longer on LiDAR sweeps.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import torch
from torch import Tensor, nn

from detection.backbones import SparseEncoder, SparsePyramid
from detection.backbones.second import SparseResidual, SparseStep
from detection.exporting.graph import Graph, Value, normalisation
from detection.exporting.voxels import (
    GraphVoxels,
    Pairs,
    cell_number,
    coordinates,
    numbered,
    occupied,
    row_table,
    with_margin,
)
from detection.sparse import SparseConv3d, SubMConv3d
from detection.sparse.rulebook import Triple


def neighbours(graph: Graph, voxels: GraphVoxels, kernel: Triple) -> Pairs:
    """Pairs of voxels of a submanifold convolution, but for the middle of the kernel, where each is its own."""
    if kernel not in voxels.neighbours:
        margin = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
        count = kernel[0] * kernel[1] * kernel[2]
        half = _pairs(graph, voxels, voxels.zyx, kernel, (1, 1, 1), margin, range(count // 2 + 1, count))
        # An offset's mirror image has the same pairs the other way round.
        voxels.neighbours[kernel] = half | {count - 1 - k: (outs, ins) for k, (ins, outs) in half.items()}
    return voxels.neighbours[kernel]


def combined(graph: Graph, start: Value, rows: Value, outs: Value, how: str) -> Value:
    """[M, D] ``start`` with ``rows`` [P, D] added ("add") to its rows ``outs`` [P], or the greater of both ("max")."""
    return str(graph.op("ScatterND", start, graph.op("Unsqueeze", outs, [1]), rows, reduction=how))


def step(graph: Graph, voxels: GraphVoxels, module: SparseStep) -> GraphVoxels:
    """Convolution, normalisation and ReLU."""
    result = _convolution(graph, voxels, module.convolution, module.norm)
    return result.with_features(graph.op("Relu", result.features))


def sparse_encoder(graph: Graph, voxels: GraphVoxels, model: SparseEncoder) -> GraphVoxels:
    """The encoder's voxels of voxels."""
    return _sequence(graph, voxels, model.steps)


def sparse_pyramid(graph: Graph, voxels: GraphVoxels, model: SparsePyramid) -> GraphVoxels:
    """The pyramid's voxels, in a grid one voxel high."""
    scales = []
    for stage in model.stages:
        voxels = _sequence(graph, voxels, stage)
        scales.append(voxels)
    return step(graph, _flattened(graph, scales[model.merged :], model.out_channels), model.output)


def _sequence(graph: Graph, voxels: GraphVoxels, modules: nn.Module) -> GraphVoxels:
    for module in modules.children():
        if isinstance(module, SparseResidual):
            body = _convolution(graph, step(graph, voxels, module.first), module.second, module.norm)
            voxels = voxels.with_features(graph.op("Relu", graph.op("Add", body.features, voxels.features)))
        else:
            assert isinstance(module, SparseStep)
            voxels = step(graph, voxels, module)
    return voxels


def _flattened(graph: Graph, scales: list[GraphVoxels], channels: int) -> GraphVoxels:
    """See :func:`detection.backbones.voxelnext.flattened`."""
    _, height, width = scales[0].shape
    keys = []
    for level, scale in enumerate(scales):
        _, y, x = (graph.op("Mul", axis, 1 << level) for axis in scale.zyx)
        keys.append(graph.op("Add", graph.op("Mul", y, width), x))
    found, row = numbered(graph, graph.op("Concat", *keys, axis=0), height * width)
    features, count = graph.op("Concat", *(scale.features for scale in scales), axis=0), graph.length(found)
    summed = graph.scatter(features, row, count, channels, "add")
    return GraphVoxels(summed, coordinates(graph, found, height, width), count, (1, height, width))


def _convolution(graph: Graph, voxels: GraphVoxels, layer: SubMConv3d | SparseConv3d, norm: nn.Module) -> GraphVoxels:
    """A convolution and the normalisation that follows it."""
    scale, shift = normalisation(norm)
    matrices = layer.weight.flatten(1, 3) * scale[:, None, None]  # [D, K, C]
    bias = shift if layer.bias is None else shift + layer.bias * scale
    if isinstance(layer, SubMConv3d):
        pairs = neighbours(graph, voxels, layer.kernel_size)
        result, total = voxels, graph.linear(voxels.features, matrices[:, matrices.shape[1] // 2], bias)
    else:
        zyx, shape = _reached(graph, voxels, layer)
        every = range(matrices.shape[1])
        pairs = _pairs(graph, voxels, zyx, layer.kernel_size, layer.stride, layer.padding, every)
        count = graph.length(zyx[0])
        total = graph.op("Expand", bias, graph.op("Concat", count, [len(bias)], axis=0))
        result = GraphVoxels(total, zyx, count, shape)
    for k, (ins, outs) in pairs.items():
        products = graph.linear(graph.op("Gather", voxels.features, ins), matrices[:, k])
        total = combined(graph, total, products, outs, "add")
    return result.with_features(total)


def _pairs(
    graph: Graph,
    voxels: GraphVoxels,
    zyx: tuple[Value, Value, Value],
    kernel: Triple,
    stride: Triple,
    padding: Triple,
    offsets: Iterable[int],
) -> Pairs:
    """Pairs of ``voxels`` and the output's at ``zyx``, for some offsets of the kernel by their number."""
    if padding not in voxels.tables:
        voxels.tables[padding] = row_table(graph, voxels.zyx, voxels.shape, padding)
    _, height, width = with_margin(voxels.shape, padding)
    corner = [graph.op("Mul", axis, step) for axis, step in zip(zyx, stride, strict=True)]
    first = cell_number(graph, corner, height, width)
    steps = [(dz * height + dy) * width + dx for dz, dy, dx in product(*map(range, kernel))]
    pairs = {}
    for k in offsets:
        rows = graph.whole(graph.op("Gather", voxels.tables[padding], graph.op("Add", first, steps[k])))
        outs = graph.op("Squeeze", graph.op("NonZero", graph.op("GreaterOrEqual", rows, 0)), [0])
        pairs[k] = (graph.op("Gather", rows, outs), outs)
    return pairs


def _reached(graph: Graph, voxels: GraphVoxels, layer: SparseConv3d) -> tuple[tuple[Value, Value, Value], Triple]:
    """z, y, x of the cells that the kernel reaches from any voxel, in order, and the shape of their grid."""
    by_axis = list(zip(layer.kernel_size, layer.stride, layer.padding, strict=True))
    depth, height, width = (
        (size + 2 * padding - kernel) // stride + 1
        for size, (kernel, stride, padding) in zip(voxels.shape, by_axis, strict=True)
    )
    cells = depth * height * width
    parts = []
    for axis, (kernel, stride, padding) in enumerate(by_axis):
        size, place = (depth, height, width)[axis], (height * width, width, 1)[axis]
        at = graph.op("Sub", graph.op("Unsqueeze", voxels.zyx[axis], [1, 2, 3]), _along(axis, kernel) - padding)
        fits = graph.op("And", graph.op("GreaterOrEqual", at, 0), graph.op("Less", at, size * stride))
        fits = graph.op("And", fits, graph.op("Equal", graph.op("Mod", at, stride), 0))
        parts.append(graph.op("Where", fits, graph.op("Mul", graph.op("Div", at, stride), place), cells))
    keys = graph.op("Add", graph.op("Add", parts[0], parts[1]), parts[2])
    found = occupied(graph, graph.op("Reshape", graph.op("Min", keys, cells), [-1]), cells)
    return coordinates(graph, found, height, width), (depth, height, width)


def _along(axis: int, count: int) -> Tensor:
    """0, 1, 2, ... along one of three axes after that of the voxels."""
    shape = [1, 1, 1, 1]
    shape[1 + axis] = count
    return torch.arange(count).view(shape)
