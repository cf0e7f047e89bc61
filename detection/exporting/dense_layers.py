"""Convolutions over the map as ONNX nodes; batch normalisation becomes part of them."""

from __future__ import annotations

from torch import nn

from detection.backbones import BEVNet
from detection.backbones.bev import Residual
from detection.exporting.graph import Graph, Value, normalisation


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
