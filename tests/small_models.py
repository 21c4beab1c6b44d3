"""Small ONNX models that several tests run, and what they compute in plain NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
Dims = Sequence[int | str | None]


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: dict[str, Dims],
    outputs: dict[str, Dims],
    constants: dict[str, np.ndarray] | None = None,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model whose inputs and outputs all have one dtype."""
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(n, dtype, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, dtype, s) for n, s in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in (constants or {}).items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(
        graph, opset_imports=opset, ir_version=8, producer_name="tests", producer_version="1"
    )


def pair() -> onnx.ModelProto:
    """a (N, 4), b (N, 4) to total = a + b and scaled = total * [1, 2, 3, 4]."""
    nodes = [
        helper.make_node("Add", ["a", "b"], ["total"], name="adding"),
        helper.make_node("Mul", ["total", "factors"], ["scaled"], name="scaling"),
    ]
    dims = ["N", 4]
    return model(nodes, {"a": dims, "b": dims}, {"total": dims, "scaled": dims}, {"factors": FACTORS})


FACTORS = np.arange(1, 5, dtype=np.float32)


def cnn() -> onnx.ModelProto:
    """image (N, 3, H, W) to scores (N, 10): convolutions, a pool, a mean over pixels, a linear layer."""
    rng = np.random.default_rng(7)
    constants = {
        "w1": rng.standard_normal((16, 3, 3, 3), np.float32) / 5,
        "b1": rng.standard_normal(16, np.float32) / 5,
        "w2": rng.standard_normal((24, 16, 3, 3), np.float32) / 12,
        "w3": rng.standard_normal((10, 24), np.float32) / 5,
        "b3": rng.standard_normal(10, np.float32) / 5,
    }
    square = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["image", "w1", "b1"], ["c1"], name="conv1", **square),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("MaxPool", ["r1"], ["p1"], name="pool1", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p1", "w2"], ["c2"], name="conv2", **square),
        helper.make_node("GlobalAveragePool", ["c2"], ["g"], name="mean"),
        helper.make_node("Flatten", ["g"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["scores"], name="fc", transB=1),
    ]
    return model(nodes, {"image": ["N", 3, "H", "W"]}, {"scores": ["N", 10]}, constants)


def positives() -> onnx.ModelProto:
    """x (N, 4) to found = [0, ..., K - 1], K the number of positive elements: only values tell."""
    nodes = [
        helper.make_node("Greater", ["x", "zero"], ["mask"]),
        helper.make_node("Cast", ["mask"], ["ones"], to=TensorProto.INT64),
        helper.make_node("ReduceSum", ["ones"], ["count"], keepdims=0),
        helper.make_node("Range", ["start", "count", "step"], ["found"]),
    ]
    constants = {
        "zero": np.zeros((), np.float32),
        "start": np.zeros((), np.int64),
        "step": np.ones((), np.int64),
    }
    proto = model(nodes, {"x": ["N", 4]}, {"found": ["K"]}, constants)
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return proto


def unsupported() -> onnx.ModelProto:
    """Two nodes that no version will run, and one between them that is fine."""
    nodes = [
        helper.make_node("Nonsense", ["x"], ["u"], name="first", domain="made.up"),
        helper.make_node("Identity", ["u"], ["v"], name="fine"),
        helper.make_node("Rubbish", ["v"], ["y"], name="last", domain="made.up"),
    ]
    proto = model(nodes, {"x": [2]}, {"y": [2]})
    proto.opset_import.append(helper.make_opsetid("made.up", 1))
    return proto


def save(proto: onnx.ModelProto, path: Path) -> str:
    path.write_bytes(proto.SerializeToString())
    return str(path)
