"""The heads as ONNX nodes: from a map or from voxels to boxes before suppression."""

from __future__ import annotations

import torch
from torch import Tensor

from detection.exporting.dense_layers import sequence
from detection.exporting.graph import Graph, Value
from detection.exporting.sparse_convolutions import combined, neighbours, step
from detection.exporting.voxels import GraphVoxels
from detection.heads import CenterHead, SparseHead
from detection.heads.coding import CODE, DIVIDE, FRONT, LARGEST_LOG_SIZE, BevGrid
from detection.heads.head import Head
from detection.heads.sparse import FLAT


def center_head(graph: Graph, value: Value, head: CenterHead, bev: BevGrid) -> dict[str, Value]:
    """``boxes`` [M, 7], ``scores`` [M], ``labels`` [M] and perhaps ``velocities`` [M, 2] at the peaks of the heat."""
    shared = sequence(graph, value, head.shared)
    logits = sequence(graph, shared, head.heat)
    greatest = graph.op("MaxPool", logits, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    heat, least = graph.op("Sigmoid", logits), _least(head).view(1, -1, 1, 1)
    peaks = graph.op("And", graph.op("Equal", logits, greatest), graph.op("Greater", heat, least))
    _, labels, y, x = _coordinates(graph, peaks, 4)
    rows = graph.op("Add", graph.op("Mul", y, bev.width), x)
    code = _by_cell(graph, sequence(graph, shared, head.box), head.code_size)
    return _boxes(graph, head, bev, _by_cell(graph, heat, head.classes), code, (rows, labels, y, x))


def sparse_head(graph: Graph, voxels: GraphVoxels, head: SparseHead, bev: BevGrid) -> dict[str, Value]:
    """The same at the voxels whose heat none beside them exceeds."""
    hidden = step(graph, step(graph, voxels, head.shared), head.hidden)
    channels = head.heat.in_features
    logits = graph.linear(graph.columns(hidden.features, 0, channels), head.heat.weight, head.heat.bias)
    code = graph.linear(graph.columns(hidden.features, channels, 2 * channels), head.box.weight, head.box.bias)
    greatest, heat = logits, graph.op("Sigmoid", logits)
    for ins, outs in neighbours(graph, hidden, FLAT).values():
        greatest = combined(graph, greatest, graph.op("Gather", logits, ins), outs, "max")
    peaks = graph.op("And", graph.op("Equal", logits, greatest), graph.op("Greater", heat, _least(head)))
    rows, labels = _coordinates(graph, peaks, 2)
    y, x = (graph.op("Gather", axis, rows) for axis in hidden.zyx[1:])
    return _boxes(graph, head, bev, heat, code, (rows, labels, y, x))


def _least(head: Head) -> Tensor:
    """[K] heat without which no score suffices."""
    return head.selection.score ** (1 / (1 - torch.tensor(head.by_class("quality"))).clamp(min=1e-3))


def _coordinates(graph: Graph, mask: Value, axes: int) -> list[Value]:
    """Along each axis, where the mask is true."""
    found = graph.op("Split", graph.op("NonZero", mask), axis=0, num_outputs=axes, outputs=axes)
    return [graph.op("Squeeze", each, [0]) for each in found]


def _by_cell(graph: Graph, maps: Value, channels: int) -> Value:
    """[H * W, C] of [1, C, H, W]."""
    return str(graph.op("Reshape", graph.op("Transpose", maps, perm=[0, 2, 3, 1]), [-1, channels]))


def _boxes(
    graph: Graph, head: Head, bev: BevGrid, heat: Value, code: Value, peaks: tuple[Value, Value, Value, Value]
) -> dict[str, Value]:
    """Boxes of the heat [R, K] and the code [R, C] at peaks: row, label, y and x [M] of each."""
    rows, labels, y, x = peaks
    flat = graph.op("Reshape", heat, [-1])
    heat = graph.op("Gather", flat, graph.op("Add", graph.op("Mul", rows, head.classes), labels))
    code = graph.op("Gather", code, rows)
    at = graph.op("Concat", *(graph.op("Unsqueeze", graph.real(each), [1]) for each in (x, y)), axis=1)
    places = graph.op("Add", graph.op("Add", graph.columns(code, 0, 2), at), 0.5)
    xy = graph.op("Add", graph.op("Mul", places, _pair(bev.cell)), _pair(bev.low))
    sizes = graph.op("Exp", graph.op("Min", graph.columns(code, 3, 6), LARGEST_LOG_SIZE))
    yaw = _yaw(graph, graph.columns(code, 6, 7), graph.columns(code, 7, 8), graph.columns(code, FRONT, CODE))
    boxes = graph.op("Concat", xy, graph.columns(code, 2, 3), sizes, yaw, axis=1)
    overlap = graph.op("Div", graph.op("Add", graph.column(code, CODE), 1.0), 2.0)
    overlap = graph.op("Clip", overlap, 1e-4, 1.0)
    share = graph.op("Gather", torch.tensor(head.by_class("quality")), labels)
    scores = graph.op("Mul", graph.op("Pow", heat, graph.op("Sub", 1.0, share)), graph.op("Pow", overlap, share))
    enough = graph.op("Squeeze", graph.op("NonZero", graph.op("Greater", scores, head.selection.score)), [0])
    results = {"boxes": boxes, "scores": scores, "labels": labels}
    if head.velocity:
        results["velocities"] = graph.columns(code, CODE + 1, CODE + 3)
    return {name: graph.op("Gather", each, enough) for name, each in results.items()}


def _pair(values: tuple[float, float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def _yaw(graph: Graph, cosine: Value, sine: Value, front: Value) -> str:
    """The angle in [-pi, pi) whose double has this cosine and sine, and on whose front's side it lies; see
    :func:`detection.heads.coding.decode_boxes`."""
    length = graph.op("Sqrt", graph.op("Add", graph.op("Mul", sine, sine), graph.op("Mul", cosine, cosine)))
    length = graph.op("Max", length, 1e-30)
    # ONNX has no atan2: half of the angle of (x, y) is atan(y / (length + x)), here of (sine, -cosine). Where x is
    # negative, which cancels, half of the angle of (-x, -y) is found, and a quarter turn taken off it or added.
    ahead = graph.op("GreaterOrEqual", sine, 0.0)
    half = graph.op("Atan", graph.op("Div", cosine, graph.op("Add", length, graph.op("Abs", sine))))
    quarter = graph.op("Where", graph.op("Greater", cosine, 0.0), -torch.pi / 2, torch.pi / 2)
    end = graph.op("Add", graph.op("Where", ahead, graph.op("Neg", half), graph.op("Add", quarter, half)), DIVIDE)
    # Between -pi / 4 and 3 pi / 4; the other end is half a turn away.
    other = graph.op("Where", graph.op("GreaterOrEqual", end, 0.0), -torch.pi, torch.pi)
    return str(graph.op("Where", graph.op("Less", front, 0.0), graph.op("Add", end, other), end))
