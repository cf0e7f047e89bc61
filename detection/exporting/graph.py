"""Writing an ONNX graph: nodes by name of their operator, and the few combinations of them that occur everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

OPSET = 18
Value = str  # what a node gives is known by its name
Constant = float | int | bool | np.ndarray | Tensor | Sequence[int]


class Graph:
    """Nodes and constants of a graph in the making."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def op(self, kind: str, *inputs: Value | Constant, outputs: int = 1, **attributes: Any) -> Any:
        """Value of a node (of several, a list); inputs that are no values become constants."""
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        results = [f"{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, results, **attributes))
        return results[0] if outputs == 1 else results

    def constant(self, value: Constant) -> Value:
        """Real numbers as float32, whole ones as int64."""
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(np.float32)
        elif array.dtype.kind == "i":
            array = array.astype(np.int64)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def columns(self, value: Value, first: int, last: int) -> Value:
        """Columns first..last (exclusive) of [N, C]."""
        return str(self.op("Slice", value, [first], [last], [1]))

    def column(self, value: Value, which: int) -> Value:
        """[N] one column of [N, C]."""
        return str(self.op("Gather", value, which, axis=1))

    def length(self, value: Value) -> Value:
        """[1] int64 rows of a value."""
        return str(self.op("Slice", self.op("Shape", value), [0], [1]))

    def whole(self, value: Value) -> Value:
        """As int64."""
        return str(self.op("Cast", value, to=TensorProto.INT64))

    def real(self, value: Value) -> Value:
        """As float32."""
        return str(self.op("Cast", value, to=TensorProto.FLOAT))

    def filled(self, shape: Value, value: float | int | bool | np.int32) -> Value:
        """Everywhere the same (float32, int64, bool or int32), in a shape that is a value itself."""
        array = np.array([value], np.float32 if isinstance(value, float) else None)
        return str(self.op("ConstantOfShape", shape, value=numpy_helper.from_array(array)))

    def count_up(self, length: Value) -> Value:
        """[N] int64 0, 1, 2, ..., N - 1."""
        return str(self.op("Range", 0, self.op("Squeeze", length, [0]), 1))

    def linear(self, value: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
        """[N, D] of [N, C] and [D, C]."""
        product = self.op("MatMul", value, weight.T)
        return str(product if bias is None else self.op("Add", product, bias))

    def scatter(self, values: Value, rows: Value, count: Value, channels: int, how: str, start: float = 0.0) -> Value:
        """[count, channels] sums ("add") or greatest ("max") of the rows of values [N, channels] by ``rows`` [N]."""
        shape = self.op("Concat", count, [channels], axis=0)
        empty = self.filled(shape, float(start))
        index = self.op("Expand", self.op("Unsqueeze", rows, [1]), self.op("Shape", values))
        return str(self.op("ScatterElements", empty, index, values, axis=0, reduction=how))

    def layer_norm(self, value: Value, norm: nn.LayerNorm) -> Value:
        """Normalised rows."""
        return str(self.op("LayerNormalization", value, norm.weight, norm.bias, axis=-1, epsilon=norm.eps))

    def model(self, inputs: dict[str, Sequence[Any]], outputs: dict[str, tuple[Value, Any, Sequence[Any]]]) -> Any:
        """The checked model.

        Args:
            inputs: shapes of float32 inputs by name; a string is a size that is open.
            outputs: by name, the value with its type and shape.
        """
        for name, (value, _, _) in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        graph = helper.make_graph(
            self.nodes,
            "detector",
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
            [helper.make_tensor_value_info(name, kind, shape) for name, (_, kind, shape) in outputs.items()],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return model


def normalisation(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """What a batch normalisation that is not training multiplies by, and adds."""
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias - norm.running_mean * scale
