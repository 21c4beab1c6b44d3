"""FlexAttention (ai.onnx.preview, version 1) against loops in float64."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.ops.attention_oracle import naive_attention
from tests.ops.harness import LATEST, assert_same
from tilewise.errors import TilewiseError
from tilewise.runtime.model import Model, load


def floats(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def qkv(q_heads=2, kv_heads=2, q_len=3, kv_len=5, head=4, v_head=6, batch=2, dtype=np.float32):
    return [
        floats(batch, q_heads, q_len, head, dtype=dtype),
        floats(batch, kv_heads, kv_len, head, dtype=dtype, seed=1),
        floats(batch, kv_heads, kv_len, v_head, dtype=dtype, seed=2),
    ]


def modifier(op_type, other, elem_type=TensorProto.FLOAT, out="y"):
    """A graph of one node: its input and a value of the outer graph, or a constant."""
    nodes = [helper.make_node(op_type, ["x", other if isinstance(other, str) else "other"], [out])]
    if not isinstance(other, str):
        value = onnx.numpy_helper.from_array(np.asarray(other))
        nodes.insert(0, helper.make_node("Constant", [], ["other"], value=value))
    infos = [helper.make_tensor_value_info(n, elem_type, [None] * 4) for n in ("x", out)]
    return helper.make_graph(nodes, "mod", infos[:1], infos[1:])


def model(inputs, attrs, outer=()):
    """FlexAttention over x0, x1, x2; `outer` are further inputs of the model, for graphs to capture."""
    node = helper.make_node("FlexAttention", ["x0", "x1", "x2"], ["y0"], domain="ai.onnx.preview", **attrs)
    feeds = dict(zip(("x0", "x1", "x2"), inputs, strict=True)) | dict(outer)
    infos = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for n, a in feeds.items()
    ]
    out = helper.make_tensor_value_info("y0", helper.np_dtype_to_tensor_dtype(inputs[0].dtype), None)
    graph = helper.make_graph([node], "case", infos, [out])
    imports = [helper.make_opsetid("", LATEST), helper.make_opsetid("ai.onnx.preview", 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10).SerializeToString(), feeds


def agree(inputs, attrs, expected, outer=(), tolerance=1e-5):
    proto, feeds = model(inputs, attrs, outer)
    loaded = load(proto)
    for m in (loaded, Model(loaded.graph, native=False)):
        assert_same(m.run(feeds)["y0"], expected, tolerance, tolerance, f"{attrs}")


SIZES = [
    {},
    {"q_len": 1, "kv_len": 1, "head": 1, "v_head": 1, "q_heads": 1, "kv_heads": 1, "batch": 1},
    {"q_heads": 6, "kv_heads": 2},
    {"q_heads": 4, "kv_heads": 1},
    {"q_len": 7, "kv_len": 1},
    {"kv_len": 0},
    {"batch": 0},
]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("attrs", [{}, {"scale": 0.3}, {"softmax_precision": 11}], ids=str)
def test_without_graphs(sizes, attrs):
    inputs = qkv(**sizes)
    scale = {"scale": attrs["scale"]} if "scale" in attrs else {}
    agree(inputs, attrs, naive_attention(**scale)(*inputs)[0])


DTYPES = [(np.float64, 1e-12), (np.float16, 2e-3), (ml_dtypes.bfloat16, 3e-2)]


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_dtypes(dtype, tolerance):
    inputs = qkv(dtype=dtype)
    agree(inputs, {}, naive_attention()(*inputs)[0], tolerance=tolerance)


def test_a_graph_adds_to_the_scores():
    inputs = qkv()
    bias = floats(3, 5, seed=4)
    bias[0, 1:] = -np.inf
    attrs = {"score_mod": modifier("Add", bias)}
    agree(inputs, attrs, naive_attention()(*inputs, bias)[0])


@pytest.mark.parametrize(("dtype", "elem_type"), [(np.float16, 1), (np.float64, 11)])
def test_graphs_see_the_precision_of_softmax(dtype, elem_type):
    inputs = qkv(dtype=dtype)
    wide = helper.tensor_dtype_to_np_dtype(elem_type)
    attrs = {"prob_mod": modifier("Mul", np.array(2.0, wide), elem_type)}
    expected = (2 * naive_attention()(*(x.astype(np.float64) for x in inputs))[0]).astype(dtype)
    agree(inputs, attrs, expected, tolerance=2e-3 if dtype == np.float16 else 1e-12)


def test_graphs_read_values_around_them():
    inputs, bias, factor = qkv(q_heads=4), floats(2, 1, 1, 5, seed=4), floats(1, seed=5)
    attrs = {"score_mod": modifier("Add", "bias"), "prob_mod": modifier("Mul", "factor")}
    expected = naive_attention()(*inputs, bias)[0] * factor
    agree(inputs, attrs, expected, {"bias": bias, "factor": factor}.items())


ERRORS = [
    (qkv(q_heads=3), {}, "multiple of key heads, got 3 and 2"),
    ([qkv()[0][0], *qkv()[1:]], {}, "input Q: expected rank 4"),
    ([*qkv()[:2], floats(2, 2, 4, 6)], {}, "length of K and V, got 4 and 5"),
    ([*qkv()[:2], floats(2, 1, 5, 6)], {}, "heads of K and V, got 1 and 2"),
    (qkv(), {"softmax_precision": 7}, "softmax_precision"),
    (qkv(), {"score_mod": modifier("Add", np.zeros((3, 1, 1, 1, 1), np.float32))}, "score_mod"),
    (qkv(), {"prob_mod": modifier("Equal", np.float32(0), out="z")}, "prob_mod|declares"),
]


@pytest.mark.parametrize(("inputs", "attrs", "message"), ERRORS)
def test_errors(inputs, attrs, message):
    proto, feeds = model(inputs, attrs)
    with pytest.raises(TilewiseError, match=message):
        load(proto).run(feeds)
