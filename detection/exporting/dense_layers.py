"""Convolutions over the map and the centre head as ONNX nodes; batch normalisation becomes part of the convolutions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from detection.backbones import BEVNet
from detection.backbones.bev import Residual
from detection.exporting.graph import Graph, Value, normalisation
from detection.heads import CenterHead
from detection.heads.coding import CODE, DIVIDE, FRONT, LARGEST_LOG_SIZE, BevGrid


def convolution(graph: Graph, value: Value, layer: nn.Conv2d | nn.ConvTranspose2d, norm: nn.Module | None) -> Value:
    """A convolution and the normalisation that follows it, if any."""
    weight = layer.weight
    bias = weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias
    if norm is not None:
        scale, shift = normalisation(norm)
        shape = (-1, 1, 1, 1) if isinstance(layer, nn.Conv2d) else (1, -1, 1, 1)
        weight, bias = weight * scale.view(shape), shift + bias * scale
    kernel, strides = list(layer.kernel_size), list(layer.stride)
    if isinstance(layer, nn.ConvTranspose2d):
        return str(graph.op("ConvTranspose", value, weight, bias, kernel_shape=kernel, strides=strides))
    assert not isinstance(layer.padding, str)
    pads = [*layer.padding] * 2
    return str(graph.op("Conv", value, weight, bias, kernel_shape=kernel, strides=strides, pads=pads))


def sequence(graph: Graph, value: Value, layers: nn.Module) -> Value:
    """Convolutions, normalisations, ReLU and residual blocks, one after another."""
    modules = list(layers.children())
    for i, layer in enumerate(modules):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            after = modules[i + 1] if i + 1 < len(modules) else None
            value = convolution(graph, value, layer, after if isinstance(after, nn.BatchNorm2d) else None)
        elif isinstance(layer, nn.ReLU):
            value = graph.op("Relu", value)
        elif isinstance(layer, Residual):
            beside = value if isinstance(layer.shortcut, nn.Identity) else sequence(graph, value, layer.shortcut)
            value = graph.op("Relu", graph.op("Add", sequence(graph, value, layer.body), beside))
        elif not isinstance(layer, nn.BatchNorm2d):
            raise TypeError(f"a {type(layer).__name__} among convolutions has no ONNX form here")
    return value


def bev_net(graph: Graph, value: Value, network: BEVNet, size: tuple[int, int]) -> tuple[Value, tuple[int, int]]:
    """The network's map of a map of ``size`` (height, width), and its size."""
    scales: list[Value] = []
    first = size
    for stage, up in zip(network.stages, network.ups, strict=True):
        value = sequence(graph, value, stage)
        scaled = sequence(graph, value, up)
        stride = _stride(stage)
        if not scales:
            first = (-(-size[0] // stride), -(-size[1] // stride))
        else:  # a map of odd size is rounded up where it is halved
            scaled = graph.op("Slice", scaled, [0, 0], list(first), [2, 3])
        scales.append(scaled)
    return graph.op("Concat", *scales, axis=1), first


def _stride(stage: nn.Module) -> int:
    return next(layer.stride[0] for layer in stage.modules() if isinstance(layer, nn.Conv2d))


def center_head(graph: Graph, value: Value, head: CenterHead, bev: BevGrid) -> dict[str, Value]:
    """``boxes`` [M, 7], ``scores`` [M] and ``labels`` [M] at the peaks of the heat, before suppression."""
    shared = sequence(graph, value, head.shared)
    heat = graph.op("Sigmoid", sequence(graph, shared, head.heat))
    greatest = graph.op("MaxPool", heat, kernel_shape=[3, 3], strides=[1, 1], pads=[1, 1, 1, 1])
    quality = torch.tensor(head.by_class("quality"))
    least = head.selection.score ** (1 / (1 - quality).clamp(min=1e-3))
    found = graph.op("And", graph.op("Equal", heat, greatest), graph.op("Greater", heat, least.view(1, -1, 1, 1)))
    _, labels, y, x = graph.op("Split", graph.op("NonZero", found), axis=0, num_outputs=4, outputs=4)
    labels, y, x = (graph.op("Squeeze", each, [0]) for each in (labels, y, x))

    code = graph.op("Transpose", sequence(graph, shared, head.box), perm=[0, 2, 3, 1])
    code = graph.op("Reshape", code, [bev.height * bev.width, head.code_size])
    cell = graph.op("Add", graph.op("Mul", y, bev.width), x)
    code = graph.op("Gather", code, cell)
    at = graph.op("Concat", *(graph.op("Unsqueeze", graph.real(each), [1]) for each in (x, y)), axis=1)
    places = graph.op("Add", graph.op("Add", graph.columns(code, 0, 2), at), 0.5)
    xy = graph.op("Add", graph.op("Mul", places, _pair(bev.cell)), _pair(bev.low))
    sizes = graph.op("Exp", graph.op("Min", graph.columns(code, 3, 6), LARGEST_LOG_SIZE))
    yaw = _yaw(graph, graph.columns(code, 6, 7), graph.columns(code, 7, 8), graph.columns(code, FRONT, CODE))
    boxes = graph.op("Concat", xy, graph.columns(code, 2, 3), sizes, yaw, axis=1)

    flat = graph.op("Reshape", graph.op("Transpose", heat, perm=[0, 2, 3, 1]), [-1])
    heat = graph.op("Gather", flat, graph.op("Add", graph.op("Mul", cell, head.classes), labels))
    overlap = graph.op("Div", graph.op("Add", graph.column(code, CODE), 1.0), 2.0)
    overlap = graph.op("Clip", overlap, 1e-4, 1.0)
    share = graph.op("Gather", quality, labels)
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
