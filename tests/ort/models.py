"""Small models for clients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET, IR = 17, 8
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def value(name: str, shape: Sequence[int | str | None] | None, elem: int = FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, elem, shape)


def node(op_type: str, inputs: Sequence[str], outputs: Sequence[str], **attrs) -> onnx.NodeProto:
    return helper.make_node(op_type, inputs, outputs, name=f"a_{op_type.lower()}", **attrs)


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray] | None = None,
    opset: int = OPSET,
    ir_version: int = IR,
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "small", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)


def relu(shape: Sequence[int | str | None] | None = ("N", 3, 4), elem: int = FLOAT) -> bytes:
    return model(
        [node("Relu", ["x"], ["y"])], [value("x", shape, elem)], [value("y", shape, elem)]
    ).SerializeToString()


def identity(elem: int, shape: Sequence[int | str | None] | None) -> bytes:
    proto = model([node("Identity", ["x"], ["y"])], [value("x", shape, elem)], [value("y", shape, elem)])
    return proto.SerializeToString()


def add(overridable: bool = False, ir_version: int = IR) -> onnx.ModelProto:
    """y = x + w with w = (5, 5); w is also a graph input where asked for."""
    inputs = [value("x", ["n", 2])] + [value("w", [2])] * overridable
    weights = {"w": np.full(2, 5, np.float32)}
    return model(
        [node("Add", ["x", "w"], ["y"])], inputs, [value("y", ["n", "m"])], weights, ir_version=ir_version
    )
