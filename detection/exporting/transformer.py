"""DSVT, the transformer over sets of voxels, as ONNX nodes."""

from __future__ import annotations

import torch
from torch import nn

from detection.dsvt import DSVT, AttentionPooling, Block, Layer, PositionEmbedding, SetAttention, Windows
from detection.exporting.graph import Graph, Value
from detection.exporting.voxels import GraphVoxels, cell_number, coordinates, numbered


def transformer(graph: Graph, voxels: GraphVoxels, model: DSVT) -> GraphVoxels:
    """The transformer's features of voxels."""
    number = 0
    for stage, blocks in enumerate(model.stages.children()):
        if stage > 0:
            pooling = model.pooling[stage - 1]
            assert isinstance(pooling, AttentionPooling)
            voxels = _pooled(graph, pooling, voxels)
        for block in blocks.children():
            assert isinstance(block, Block)
            windows = model.windows[stage][number % 2]
            voxels = voxels.with_features(_block(graph, block, voxels, windows, model.set_size))
            number += 1
    return voxels


def _block(graph: Graph, block: Block, voxels: GraphVoxels, windows: Windows, limit: int) -> Value:
    (size_x, size_y), (shift_x, shift_y) = windows.size, windows.shift
    depth, height, width = voxels.shape
    z, y, x = voxels.zyx
    x, y = graph.op("Add", x, shift_x), graph.op("Add", y, shift_y)
    across, along = (width - 1 + shift_x) // size_x + 1, (height - 1 + shift_y) // size_y + 1
    window = graph.op("Add", graph.op("Mul", graph.op("Div", y, size_y), across), graph.op("Div", x, size_x))
    x, y = graph.op("Mod", x, size_x), graph.op("Mod", y, size_y)
    ranks = (cell_number(graph, (y, x, z), size_x, depth), cell_number(graph, (x, y, z), size_y, depth))
    features = voxels.features
    for layer, rank in zip(block.layers, ranks, strict=True):
        assert isinstance(layer, Layer)
        sets = _partition(graph, window, rank, across * along, size_x * size_y * depth, limit)
        features = _layer(graph, layer, features, (x, y, z), sets)
    return graph.layer_norm(graph.op("Add", features, voxels.features), block.norm)


def _partition(
    graph: Graph, window: Value, rank: Value, windows: int, ranks: int, limit: int
) -> tuple[Value, Value, Value]:
    """Sets as :func:`detection.dsvt.partition` has them: voxels [S, limit], filled [S, limit], places [N]."""
    keys = graph.op("Add", graph.op("Mul", window, ranks), rank)
    _, order = numbered(graph, keys, windows * ranks)
    ones = graph.filled(graph.op("Shape", window), 1)
    zeros = graph.filled(graph.constant([windows]), 0)
    counts = graph.op("ScatterElements", zeros, window, ones, axis=0, reduction="add")
    sets = graph.op("Div", graph.op("Add", counts, limit - 1), limit)
    first, first_set = (graph.op("CumSum", each, 0, exclusive=1) for each in (counts, sets))
    total = graph.op("Mul", graph.op("ReduceSum", sets, [0], keepdims=1), limit)
    position = graph.op("Sub", order, graph.op("Gather", first, window))
    counts, sets, first_set = (graph.op("Gather", each, window) for each in (counts, sets, first_set))
    within = graph.op("Div", graph.op("Sub", graph.op("Mul", graph.op("Add", position, 1), sets), 1), counts)
    slot = graph.op("Sub", position, graph.op("Div", graph.op("Mul", within, counts), sets))
    places = graph.op("Add", graph.op("Mul", graph.op("Add", first_set, within), limit), slot)
    rows = graph.count_up(graph.length(window))
    voxels = graph.op("ScatterElements", graph.filled(total, 0), places, rows, axis=0)
    filled = graph.op("ScatterElements", graph.filled(total, 0.0), places, graph.real(ones), axis=0)
    return voxels, graph.op("Reshape", filled, [-1, 1, 1, limit]), places


def _layer(
    graph: Graph, layer: Layer, features: Value, xyz: tuple[Value, Value, Value], sets: tuple[Value, Value, Value]
) -> Value:
    gathered = _attention(graph, layer.attention, features, _positions(graph, layer.position, xyz), sets)
    result = graph.layer_norm(graph.op("Add", features, gathered), layer.norm_attention)
    first, _, last = layer.feedforward.children()
    assert isinstance(first, nn.Linear)
    assert isinstance(last, nn.Linear)
    hidden = graph.linear(result, first.weight, first.bias)
    bell = graph.op("Add", graph.op("Erf", graph.op("Mul", hidden, 2**-0.5)), 1.0)
    hidden = graph.op("Mul", graph.op("Mul", hidden, bell), 0.5)
    forward = graph.linear(hidden, last.weight, last.bias)
    result = graph.layer_norm(graph.op("Add", result, forward), layer.norm_feedforward)
    return graph.layer_norm(graph.op("Add", features, result), layer.norm)


def _positions(graph: Graph, position: PositionEmbedding, xyz: tuple[Value, Value, Value]) -> Value:
    """[N, C] embeddings of the voxels' places."""
    within = graph.op("Concat", *(graph.op("Unsqueeze", each, [1]) for each in xyz), axis=1)
    extent = torch.tensor(position.size, dtype=torch.float32) - 1
    step, start = torch.where(extent > 0, 2 / extent.clamp(min=1), 0.0), torch.where(extent > 0, -1.0, 0.0)
    places = graph.op("Add", graph.op("Mul", graph.real(within), step), start)
    hidden = graph.op("Relu", graph.linear(places, position.weight(), position.shift))
    return graph.linear(hidden, position.last.weight, position.last.bias)


def _attention(
    graph: Graph, attention: SetAttention, features: Value, position: Value, sets: tuple[Value, Value, Value]
) -> Value:
    voxels, filled, places = sets
    channels, heads = attention.output.in_features, attention.heads
    weight, bias = attention.project.weight, attention.project.bias
    both = graph.linear(graph.op("Add", features, position), weight[: 2 * channels], bias[: 2 * channels])
    value = graph.linear(features, weight[2 * channels :], bias[2 * channels :])
    limit = graph.op("Slice", graph.op("Shape", filled), [3], [4])
    split = graph.op("Concat", [-1], limit, [heads, channels // heads], axis=0)

    def by_set(rows: Value) -> Value:
        """[S, heads, limit, C / heads]."""
        return str(
            graph.op("Transpose", graph.op("Reshape", graph.op("Gather", rows, voxels), split), perm=[0, 2, 1, 3])
        )

    query, key = (by_set(graph.columns(both, i * channels, (i + 1) * channels)) for i in range(2))
    scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
    scores = graph.op("Mul", scores, (channels // heads) ** -0.5)
    scores = graph.op("Add", scores, graph.op("Mul", graph.op("Sub", filled, 1.0), 1e9))
    mixed = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), by_set(value))
    rows = graph.op("Reshape", graph.op("Transpose", mixed, perm=[0, 2, 1, 3]), [-1, channels])
    return graph.linear(graph.op("Gather", rows, places), attention.output.weight, attention.output.bias)


def _pooled(graph: Graph, pooling: AttentionPooling, voxels: GraphVoxels) -> GraphVoxels:
    depth, height, width = (size // factor for size, factor in zip(voxels.shape, pooling.factor, strict=True))
    z, y, x = (graph.op("Div", axis, n) for axis, n in zip(voxels.zyx, pooling.factor, strict=True))
    keys, cell = numbered(graph, cell_number(graph, (z, y, x), height, width), depth * height * width)
    z, y, x = (graph.op("Mod", axis, n) for axis, n in zip(voxels.zyx, pooling.factor, strict=True))
    place = cell_number(graph, (z, y, x), *pooling.factor[1:])
    count, channels, heads = graph.length(keys), pooling.query.in_features, pooling.heads
    greatest = graph.scatter(voxels.features, cell, count, channels, "max", -1e30)
    weight, bias = pooling.keys.weight, pooling.keys.bias
    offsets = graph.op("Gather", pooling.position @ weight[:channels].T, place)
    key = graph.op("Add", graph.linear(voxels.features, weight[:channels], bias[:channels]), offsets)
    value = graph.linear(voxels.features, weight[channels:], bias[channels:])
    query = graph.op("Gather", graph.linear(greatest, pooling.query.weight, pooling.query.bias), cell)
    product = graph.op("Reshape", graph.op("Mul", query, key), [-1, heads, channels // heads])
    scores = graph.op("Mul", graph.op("ReduceSum", product, [2], keepdims=0), (channels // heads) ** -0.5)
    peak = graph.op("Gather", graph.scatter(scores, cell, count, heads, "max", -1e30), cell)
    scores = graph.op("Exp", graph.op("Sub", scores, peak))
    total = graph.op("Gather", graph.scatter(scores, cell, count, heads, "add"), cell)
    share = graph.op("Unsqueeze", graph.op("Div", scores, total), [2])
    value = graph.op("Reshape", value, [-1, heads, channels // heads])
    value = graph.op("Reshape", graph.op("Mul", value, share), [-1, channels])
    mixed = graph.scatter(value, cell, count, channels, "add")
    result = graph.op("Add", greatest, graph.linear(mixed, pooling.output.weight, pooling.output.bias))
    zyx = coordinates(graph, keys, height, width)
    return GraphVoxels(graph.layer_norm(result, pooling.norm), zyx, count, (depth, height, width))
