"""Small models for the importer's tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR = 8


def parse(
    body: str, opset: int = OPSET, ir_version: int = IR, domains: str = "", functions: str = ""
) -> bytes:
    """The file of a model in ONNX's text syntax, without its header."""
    header = f'<ir_version: {ir_version}, opset_import: ["": {opset}{domains}]>'
    return onnx.parser.parse_model(f"{header}\n{body}\n{functions}").SerializeToString()


def proto(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto] = (),
    outputs: Sequence[str] = ("y",),
    initializers: Sequence[onnx.TensorProto] = (),
    opset: int = OPSET,
) -> onnx.ModelProto:
    """A model whose outputs declare no type."""
    declared = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(list(nodes), "test", list(inputs), declared, list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR)


def floats(name: str, *shape) -> onnx.ValueInfoProto:
    """A float32 input."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def holding(tensor: onnx.TensorProto) -> onnx.ModelProto:
    """A model that returns one initializer, named `w` by it."""
    tensor.name = "w"
    return proto([helper.make_node("Identity", ["w"], ["y"], name="copy")], initializers=[tensor])


def classifier() -> onnx.ModelProto:
    """A small CNN with a branch: convolution, batch normalization, pooling, Gemm, If and local function."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)

    tensors = [
        weight("w1", 4, 1, 3, 3),
        *(weight(name, 4) for name in ("b1", "scale", "shift", "mean")),
        numpy_helper.from_array(np.ones(4, np.float32), "var"),
        weight("w2", 16, 5),
        weight("b2", 5),
        numpy_helper.from_array(np.array([0, -1], np.int64), "flat"),
        numpy_helper.from_array(np.array(True), "choose"),
    ]
    branches = {
        f"{name}_branch": helper.make_graph(
            [helper.make_node(op, ["logits"], [f"{name}_y"], name=f"{name}_node")],
            name,
            [],
            [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, ["N", 5])],
        )
        for name, op in (("then", "Identity"), ("else", "Neg"))
    }
    nodes = [
        helper.make_node(
            "Conv", ["x", "w1", "b1"], ["c"], name="conv", pads=[1, 1, 1, 1], kernel_shape=[3, 3]
        ),
        helper.make_node("BatchNormalization", ["c", "scale", "shift", "mean", "var"], ["n"], name="bn"),
        helper.make_node("Relu", ["n"], ["r"], name="relu"),
        helper.make_node("MaxPool", ["r"], ["p"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Reshape", ["p", "flat"], ["f"], name="flatten"),
        helper.make_node("Gemm", ["f", "w2", "b2"], ["logits"], name="gemm"),
        helper.make_node("If", ["choose"], ["picked"], name="pick", **branches),
        helper.make_node("Twice", ["picked"], ["y"], name="twice", domain="local"),
    ]
    graph = helper.make_graph(
        nodes,
        "classifier",
        [floats("x", "N", 1, 4, 4)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
        tensors,
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("local", 1)]
    function = helper.make_function(
        "local", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets[:1]
    )
    return helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=IR)
