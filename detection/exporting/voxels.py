"""Voxels and their features as ONNX nodes: what sparse tensors become where there are only arrays.

Voxels are sorted by counting: a table of all cells says which are occupied, and in which row their voxel is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from onnx import TensorProto

from detection.encoders import MeanEncoder, PointNetEncoder
from detection.exporting.graph import Graph, Value, normalisation
from detection.sparse import VoxelGrid
from detection.sparse.rulebook import Triple

MARGIN = (1, 1, 1)  # of the table by which points find their voxels, for 3x3x3 kernels to use again

Pairs = dict[int, tuple[Value, Value]]  # by the number of a kernel's offset, rows of the input and of the output [P]


@dataclass(frozen=True)
class GraphVoxels:
    """Features [N, C] of N voxels, their z, y, x [N] each and their number N [1], in a grid of ``shape``.

    What convolutions look up about the voxels is kept for others to use again: ``tables`` by the margin around the
    grid, ``neighbours`` by the size of the kernel; see :mod:`detection.exporting.sparse_convolutions`.
    """

    features: Value
    zyx: tuple[Value, Value, Value]
    count: Value
    shape: Triple
    tables: dict[Triple, Value] = field(default_factory=dict, repr=False)
    neighbours: dict[Triple, Pairs] = field(default_factory=dict, repr=False)

    def with_features(self, features: Value) -> GraphVoxels:
        """Other features at the same voxels."""
        return replace(self, features=features)


def _table(graph: Graph, cells: int, value: bool | np.int32, keys: Value, values: Value) -> Value:
    """[cells] the ``values`` [N] at the ``keys`` [N] below ``cells``, and ``value`` elsewhere."""
    # The size is made to depend on the keys: of tables of constants onnxruntime would keep copies for good.
    size = graph.op("Add", graph.op("Mul", graph.length(keys), 0), cells)
    return str(graph.op("ScatterElements", graph.filled(size, value), keys, values, axis=0))


def occupied(graph: Graph, keys: Value, cells: int) -> Value:
    """The different ``keys`` below ``cells`` in order; a key that equals ``cells`` is left out."""
    marks = _table(graph, cells + 1, False, keys, graph.filled(graph.op("Shape", keys), True))
    return str(graph.op("Squeeze", graph.op("NonZero", graph.op("Slice", marks, [0], [cells])), [0]))


def _rows_of(graph: Graph, keys: Value, cells: int) -> Value:
    """[cells] int32 which of the different ``keys`` a cell is, -1 for none."""
    rows = graph.op("Cast", graph.count_up(graph.length(keys)), to=TensorProto.INT32)
    return _table(graph, cells, np.int32(-1), keys, rows)


def numbered(graph: Graph, keys: Value, cells: int) -> tuple[Value, Value]:
    """The different ``keys`` below ``cells`` in order, and which of them each key is."""
    found = occupied(graph, keys, cells)
    return found, graph.whole(graph.op("Gather", _rows_of(graph, found, cells), keys))


def with_margin(shape: Triple, margin: Triple) -> Triple:
    """The shape of a grid with a margin on both sides of each axis."""
    depth, height, width = (size + 2 * more for size, more in zip(shape, margin, strict=True))
    return depth, height, width


def row_table(graph: Graph, zyx: Sequence[Value], shape: Triple, margin: Triple) -> Value:
    """[cells] int32 which voxel [N] is in a cell of the grid with a margin; -1 for none."""
    depth, height, width = with_margin(shape, margin)
    return _rows_of(graph, _within_margin(graph, zyx, shape, margin), depth * height * width)


def _within_margin(graph: Graph, zyx: Sequence[Value], shape: Triple, margin: Triple) -> Value:
    """Number of each cell ``zyx`` of the grid within the grid with a margin."""
    _, height, width = with_margin(shape, margin)
    moved = [graph.op("Add", axis, more) for axis, more in zip(zyx, margin, strict=True)]
    return cell_number(graph, moved, height, width)


def cell_number(graph: Graph, zyx: Sequence[Value], height: int, width: int) -> Value:
    """(z * height + y) * width + x."""
    z, y, x = zyx
    plane = graph.op("Add", graph.op("Mul", z, height), y)
    return str(graph.op("Add", graph.op("Mul", plane, width), x))


def coordinates(graph: Graph, numbers: Value, height: int, width: int) -> tuple[Value, Value, Value]:
    """z, y, x of what :func:`cell_number` gives."""
    line = graph.op("Div", numbers, width)
    return graph.op("Div", line, height), graph.op("Mod", line, height), graph.op("Mod", numbers, width)


def voxelised(graph: Graph, points: Value, grid: VoxelGrid, encoder: MeanEncoder | PointNetEncoder) -> GraphVoxels:
    """Voxels of the points [P, C] that are finite and within the grid, and the encoder's features of them."""
    depth, height, width = grid.shape
    low, size = (torch.tensor(each, dtype=torch.float32) for each in (grid.low, grid.voxel_size))
    cells = graph.op("Floor", graph.op("Div", graph.op("Sub", graph.columns(points, 0, 3), low), size))
    limit = torch.tensor([width, height, depth], dtype=torch.float32)
    within = graph.op("And", graph.op("GreaterOrEqual", cells, 0.0), graph.op("Less", cells, limit))
    finite = graph.op("Less", graph.op("Abs", points), float(torch.finfo(torch.float32).max))  # false for NaN too
    missing = [graph.op("ReduceSum", graph.whole(graph.op("Not", each)), [1], keepdims=0) for each in (within, finite)]
    kept = graph.op("Squeeze", graph.op("NonZero", graph.op("Equal", graph.op("Add", *missing), 0)), [0])
    points = graph.op("Gather", points, kept)
    cells = graph.whole(graph.op("Gather", cells, kept))
    of_points = [graph.column(cells, axis) for axis in (2, 1, 0)]
    keys = occupied(graph, cell_number(graph, of_points, height, width), depth * height * width)
    count, zyx = graph.length(keys), coordinates(graph, keys, height, width)
    table = row_table(graph, zyx, grid.shape, MARGIN)
    voxel = graph.whole(graph.op("Gather", table, _within_margin(graph, of_points, grid.shape, MARGIN)))
    means = _means(graph, points, voxel, count, encoder.point_channels)
    if isinstance(encoder, MeanEncoder):
        return GraphVoxels(means, zyx, count, grid.shape, {MARGIN: table})
    corner = graph.op("Concat", *(graph.op("Unsqueeze", each, [1]) for each in reversed(zyx)), axis=1)
    centres = graph.op("Add", graph.op("Mul", graph.op("Add", graph.real(corner), 0.5), size), low)
    around = [graph.op("Gather", each, voxel) for each in (graph.columns(means, 0, 3), centres)]
    offsets = [graph.op("Sub", graph.columns(points, 0, 3), each) for each in around]
    features = _point_net(graph, encoder, graph.op("Concat", points, *offsets, axis=1), voxel, count)
    return GraphVoxels(features, zyx, count, grid.shape, {MARGIN: table})


def _means(graph: Graph, points: Value, voxel: Value, count: Value, channels: int) -> Value:
    """[N, C] mean of the points [P, C] of each voxel."""
    ones = graph.filled(graph.op("Concat", graph.length(points), [1], axis=0), 1.0)
    sums = graph.scatter(graph.op("Concat", points, ones, axis=1), voxel, count, channels + 1, "add")
    return str(graph.op("Div", graph.columns(sums, 0, channels), graph.columns(sums, channels, channels + 1)))


def _point_net(graph: Graph, encoder: PointNetEncoder, features: Value, voxel: Value, count: Value) -> Value:
    """[N, D] of the features of points and the voxels that they lie in."""
    greatest = None
    for linear, norm in zip(encoder.linears, encoder.norms, strict=True):
        if greatest is not None:
            features = graph.op("Concat", features, graph.op("Gather", greatest, voxel), axis=1)
        scale, shift = normalisation(norm)
        weight = linear.get_parameter("weight") * scale[:, None]
        features = graph.op("Relu", graph.linear(features, weight, shift))
        greatest = graph.scatter(features, voxel, count, len(scale), "max")  # nothing is less than 0
    assert greatest is not None
    return greatest


def bird_view(graph: Graph, voxels: GraphVoxels, channels: int) -> Value:
    """[1, Z * C, Y, X] map of voxels, zero where there is none."""
    depth, height, width = voxels.shape
    z, y, x = voxels.zyx
    rows = graph.op("Unsqueeze", cell_number(graph, (y, x, z), width, depth), [1])
    empty = graph.filled(graph.constant([height * width * depth, channels]), 0.0)
    flat = graph.op("ScatterND", empty, rows, voxels.features)
    return str(
        graph.op("Transpose", graph.op("Reshape", flat, [1, height, width, depth * channels]), perm=[0, 3, 1, 2])
    )
