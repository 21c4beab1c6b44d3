"""Every pass: what it makes of a graph, that results stay the same, and what it must leave alone."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser
from onnx.numpy_helper import from_array

import tilewise as tw
from tests.passes.harness import check, model
from tilewise.onnx.load import load_graph
from tilewise.passes import PASSES, optimize
from tilewise.runtime.model import Model

RNG = np.random.default_rng(3)
HEAD = '<ir_version: 8, opset_import: ["" : 18]>\n'


def graph_of(text: str, **constants: np.ndarray):
    """A graph from ONNX's text form, with initializers added by name."""
    graph = load_graph(parser.parse_model(HEAD + text).SerializeToString())
    graph.initializers.update(constants)
    graph.inputs = [name for name in graph.inputs if name not in constants]
    return graph


def kinds(graph) -> list[str]:
    return [node.op_type for node in graph.nodes]


def assert_equal_results(graph, optimized, **feeds: np.ndarray) -> None:
    want, got = Model(graph).run(feeds), Model(optimized).run(feeds)
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-4, atol=1e-4)


def rand(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def norm_constants(channels: int) -> dict[str, np.ndarray]:
    return {"s": rand(channels), "b": rand(channels), "m": rand(channels), "v": np.abs(rand(channels)) + 0.5}


CONV_NORM = """
g (float[N,4,8,8] x, float[6,4,3,3] w, float[6] s, float[6] b, float[6] m, float[6] v) => (float[N,6,6,6] y)
{ c = Conv(x, w)  y = BatchNormalization(c, s, b, m, v) }
"""


def test_fold_affine_batch_norm():
    graph = graph_of(CONV_NORM, w=rand(6, 4, 3, 3), **norm_constants(6))
    optimized = optimize(graph)
    assert kinds(optimized) == ["Conv"]
    assert_equal_results(graph, optimized, x=rand(2, 4, 8, 8))


def test_fold_affine_batch_norm_into_grouped_transposed_convolution_with_bias():
    text = """
    g (float[N,4,5,5] x, float[4,3,3,3] w, float[6] c, float[6] s, float[6] b, float[6] m, float[6] v)
      => (float[N,6,11,11] y)
    { t = ConvTranspose <group: int = 2, strides: ints = [2, 2]> (x, w, c)
      y = BatchNormalization(t, s, b, m, v) }
    """
    graph = graph_of(text, w=rand(4, 3, 3, 3), c=rand(6), **norm_constants(6))
    optimized = optimize(graph)
    assert kinds(optimized) == ["ConvTranspose"]
    assert_equal_results(graph, optimized, x=rand(2, 4, 5, 5))


@pytest.mark.parametrize("missing", ["w", "v"])
def test_batch_norm_stays_where_a_parameter_is_fed(missing):
    constants = {"w": rand(6, 4, 3, 3), **norm_constants(6)}
    feeds = {missing: constants.pop(missing), "x": rand(2, 4, 8, 8)}
    graph = graph_of(CONV_NORM, **constants)
    optimized = optimize(graph)
    assert kinds(optimized) == ["Conv", "BatchNormalization"]
    assert_equal_results(graph, optimized, **feeds)


def test_batch_norm_stays_where_the_convolution_has_another_reader():
    text = CONV_NORM.replace("(float[N,6,6,6] y)", "(float[N,6,6,6] y, float[N,6,6,6] c)")
    graph = graph_of(text, w=rand(6, 4, 3, 3), **norm_constants(6))
    optimized = optimize(graph)
    assert kinds(optimized) == ["Conv", "BatchNormalization"]
    assert_equal_results(graph, optimized, x=rand(1, 4, 8, 8))


AFFINE = {
    "m = Mul(c, k) y = Add(m, s)": ["Conv"],
    "m = Mul(k, c) y = Sub(m, s)": ["Conv"],
    "m = Div(c, k) y = Add(s, m)": ["Conv"],
    "o = Constant <value_float: float = 2.0> () y = Mul(c, o)": ["Conv"],
    "n = BatchNormalization(c, b, b, b, v) m = Mul(n, k) y = Add(m, s)": ["Conv"],
    "r = Relu(c) n = BatchNormalization(r, b, b, b, v) m = Mul(n, k) y = Add(m, s)": [
        "FusedConv",
        "BatchNormalization",
    ],
    "y = Sub(s, c)": ["Conv", "Sub"],
    "y = Div(s, c)": ["Conv", "Div"],
    "y = Mul(c, row)": ["Conv", "Mul"],
    "m = Mul(c, k) y = Add(m, c)": ["Conv", "Mul", "Add"],
}


@pytest.mark.parametrize("nodes", AFFINE)
def test_fold_affine_arithmetic(nodes):
    text = """
    g (float[N,4,8,8] x, float[6,4,3,3] w, float[6,1,1] k, float[1,6,1,1] s, float[6] row, float[6] b, float[6] v)
      => (float[N,6,6,6] y) { c = Conv(x, w) %s }
    """
    constants = {
        "k": rand(6, 1, 1),
        "s": rand(1, 6, 1, 1),
        "row": rand(6),
        "b": rand(6),
        "v": np.abs(rand(6)) + 1,
    }
    graph = graph_of(text % nodes, w=rand(6, 4, 3, 3), **constants)
    optimized = optimize(graph, disable=["fuse_residual"])
    assert kinds(optimized) == AFFINE[nodes]
    assert_equal_results(graph, optimized, x=rand(2, 4, 8, 8))


def test_fold_affine_minds_the_rank():
    text = """
    g (float[N,4,6,5,7] x, float[3,4,1,1,1] w, float[6,1,1] k) => (float[N,3,6,5,7] y)
    { c = Conv(x, w) y = Mul(c, k) }
    """
    graph = graph_of(text, w=rand(3, 4, 1, 1, 1), k=rand(6, 1, 1))
    assert kinds(optimize(graph)) == ["Conv", "Mul"]


ACTIVATIONS = {
    "y = Relu(c)": "Relu",
    "y = Sigmoid(c)": "Sigmoid",
    "y = Tanh(c)": "Tanh",
    "y = HardSwish(c)": "HardSwish",
    "y = LeakyRelu <alpha: float = 0.3> (c)": "LeakyRelu",
    "y = HardSigmoid <alpha: float = 0.3, beta: float = 0.4> (c)": "HardSigmoid",
    """lo = Constant <value_float: float = -0.5> () hi = Constant <value_float: float = 0.75> ()
       y = Clip(c, lo, hi)""": "Clip",
    "hi = Constant <value_float: float = 0.75> () y = Clip(c, , hi)": "Clip",
    "g = Sigmoid(c) y = Mul(c, g)": "Swish",
    "g = Sigmoid(c) y = Mul(g, c)": "Swish",
    "g = HardSigmoid <alpha: float = 0.16666667, beta: float = 0.5> (c) y = Mul(g, c)": "HardSwish",
}
CONV_ACT = "g (float[N,4,8,8] x, float[6,4,3,3] w) => (float[N,6,6,6] y) { c = Conv(x, w) %s }"
DEPTHWISE_ACT = (
    "g (float[N,4,8,8] x, float[4,1,3,3] w) => (float[N,4,6,6] y) { c = Conv <group: int = 4> (x, w) %s }"
)


@pytest.mark.parametrize("nodes", ACTIVATIONS)
@pytest.mark.parametrize("text", [CONV_ACT, DEPTHWISE_ACT], ids=["conv", "depthwise"])
def test_fuse_activation(nodes, text):
    shape = (6, 4, 3, 3) if text is CONV_ACT else (4, 1, 3, 3)
    graph = graph_of(text % nodes, w=rand(*shape))
    optimized = optimize(graph)
    assert kinds(optimized) == ["FusedConv"]
    assert optimized.nodes[0].attrs["activation"] == ACTIVATIONS[nodes]
    assert_equal_results(graph, optimized, x=2 * rand(2, 4, 8, 8))


@pytest.mark.parametrize(
    "nodes",
    [
        "r = Relu(c) y = Add(r, c)",
        "g = Sigmoid(c) p = Mul(c, g) y = Add(p, g)",
        "g = HardSigmoid(c) y = Mul(c, g)",
        "m = ReduceMax <keepdims: int = 0> (c) y = Clip(c, , m)",
    ],
)
def test_activation_stays_where_the_pattern_does_not_hold(nodes):
    graph = graph_of(CONV_ACT % nodes, w=rand(6, 4, 3, 3))
    optimized = optimize(graph)
    assert "Conv" in kinds(optimized)
    assert_equal_results(graph, optimized, x=rand(2, 4, 8, 8))


def test_fuse_activation_of_batch_norm():
    text = """
    g (float[N,6,8,8] x, float[6] s, float[6] b, float[6] m, float[6] v) => (float[N,6,8,8] y)
    { n = BatchNormalization(x, s, b, m, v) y = Relu(n) }
    """
    graph = graph_of(text, **norm_constants(6))
    optimized = optimize(graph)
    assert kinds(optimized) == ["FusedBatchNormalization"]
    assert_equal_results(graph, optimized, x=rand(2, 6, 8, 8))


@pytest.mark.parametrize("order", ["c, x", "x, c"])
@pytest.mark.parametrize("depthwise", [False, True])
def test_fuse_residual_with_activation(order, depthwise):
    group, shape = (4, (4, 1, 3, 3)) if depthwise else (1, (4, 4, 3, 3))
    text = """
    g (float[N,4,8,8] x, float[A,B,3,3] w) => (float[N,4,8,8] y)
    { c = Conv <pads: ints = [1, 1, 1, 1], group: int = %d> (x, w) a = Add(%s) y = Relu(a) }
    """
    graph = graph_of(text % (group, order), w=rand(*shape))
    optimized = optimize(graph)
    assert kinds(optimized) == ["FusedConv"]
    assert_equal_results(graph, optimized, x=rand(2, 4, 8, 8))


def test_residual_of_two_convolutions_and_a_value_read_again():
    text = """
    g (float[N,4,8,8] x, float[4,4,1,1] w) => (float[N,4,8,8] y)
    { a = Conv(x, w) b = Conv(a, w) s = Add(a, b) r = Relu(s) t = Conv(r, w) u = Add(t, r) y = Add(u, a) }
    """
    graph = graph_of(text, w=rand(4, 4, 1, 1))
    optimized = optimize(graph)
    assert kinds(optimized) == ["Conv", "FusedConv", "FusedConv", "Add"]
    assert_equal_results(graph, optimized, x=rand(2, 4, 8, 8))


@pytest.mark.parametrize("other", ["float[4,1,1] z", "float[1,4,8,8] z", "float[N,4,8,1] z"])
def test_a_broadcast_addend_is_no_residual(other):
    text = "g (float[N,4,8,8] x, %s, float[4,4,1,1] w) => (float[N,4,8,8] y) { c = Conv(x, w) y = Add(c, z) }"
    graph = graph_of(text % other, w=rand(4, 4, 1, 1))
    assert kinds(optimize(graph)) == ["Conv", "Add"]


def test_fold_constants():
    text = """
    g (float[N,2] x) => (float[N,2] y)
    { a = Constant <value_floats: floats = [1.0, 2.0]> () b = Add(a, a) c = Neg(b) y = Mul(x, c) }
    """
    graph = graph_of(text)
    optimized = optimize(graph)
    assert kinds(optimized) == ["Mul"]
    assert_equal_results(graph, optimized, x=rand(3, 2))


def test_remove_identity_and_dropout_but_not_outputs():
    text = """
    g (float[N,2] x) => (float[N,2] y, float[N,2] z)
    { a = Identity(x) b = Dropout(a) c = Relu(b) y = Identity(c) z = Identity(c) }
    """
    graph = graph_of(text)
    optimized = optimize(graph)
    assert kinds(optimized) == ["Relu", "Identity", "Identity"]
    assert_equal_results(graph, optimized, x=rand(3, 2))


def test_remove_dead_code():
    text = "g (float[N,2] x) => (float[N,2] y) { a = Exp(x) b = Neg(a) y = Relu(x) }"
    assert kinds(optimize(graph_of(text))) == ["Relu"]


def test_initializers_that_may_be_fed_are_folded_and_can_still_be_fed():
    proto = parser.parse_model(HEAD + CONV_NORM)
    for name, array in {"w": rand(6, 4, 3, 3), **norm_constants(6)}.items():
        proto.graph.initializer.append(from_array(array, name))
    model = tw.load(proto)
    assert kinds(model.graph) == ["Conv"]
    x, w = rand(1, 4, 8, 8), rand(6, 4, 3, 3)
    plain = Model(load_graph(proto.SerializeToString()))
    default, fed = model.run({"x": x})["y"], model.run({"x": x, "w": w})["y"]
    np.testing.assert_allclose(default, plain.run({"x": x})["y"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fed, plain.run({"x": x, "w": w})["y"], rtol=1e-4, atol=1e-4)
    assert np.abs(fed - default).max() > 0.1


EVERYTHING = """
g (float[N,4,8,8] x, float[1,2] row, float[3,2] matrix) => (float[N,5] y, float[N,6,8,8] z, float[1,3] p,
   float[N,4,8,8] last_first)
{ one = Constant <value_float: float = 1.0> ()
  i = Identity(x) a = Pad(i, pads) c = Conv(a, w) n = BatchNormalization(c, s, b, m, v) h = Sigmoid(n) f = Mul(n, h)
  q = Reshape(f, parts) t = Transpose <perm: ints = [0, 2, 1, 3, 4]> (q) sh = Shape(f) u = Reshape(t, sh)
  o = Max(u, low) e1 = Tanh(o) e2 = Tanh(o) e = Sub(e1, e2)
  d = Conv <pads: ints = [1, 1, 1, 1], group: int = 2> (o, w1) r = Add(d, f) z0 = Add(r, e) k = Cast <to: int = 1> (z0)
  g = GlobalAveragePool(k) fl = Flatten(g) l0 = MatMul(fl, w2) l1 = Relu(l0) l = Unsqueeze(l1, plane) z = Mul(k, l)
  t1 = Transpose <perm: ints = [0, 1, 3, 2]> (z) t2 = Transpose <perm: ints = [0, 1, 3, 2]> (t1)
  f3 = ReduceMean <keepdims: int = 0> (t2, plane) mu = ReduceMean(f3, last) dv = Sub(f3, mu) sq = Mul(dv, dv)
  var = ReduceMean(sq, last) two = Add(one, one) ve = Add(var, two) sd = Sqrt(ve)
  no = Div(dv, sd) mm = MatMul(no, w3) y = Add(mm, b3)
  tt = Transpose(matrix) p = MatMul(row, tt)
  v1 = Transpose <perm: ints = [0, 2, 3, 1]> (x) v2 = Softplus(v1) v3 = Transpose <perm: ints = [0, 3, 1, 2]> (v2)
  last_first = Neg(v3) }
"""
"""A graph in which every pass finds something to do."""


@pytest.mark.parametrize("name", PASSES)
def test_each_pass_does_something_and_can_be_left_out(name):
    shapes = {"w": (6, 4, 3, 3), "w1": (6, 3, 3, 3), "w2": (6, 6), "w3": (6, 5), "b3": (5,)}
    constants = {key: 0.2 * rand(*shape) for key, shape in shapes.items()} | norm_constants(6)
    lists = {"pads": [0, 0, 1, 1, 0, 0, 1, 1], "parts": [-1, 2, 3, 8, 8], "plane": [2, 3], "last": [-1]}
    constants |= {key: np.array(value) for key, value in lists.items()} | {"low": np.float32(-0.5)}
    proto = model(EVERYTHING, 18, **constants)
    graph = check(proto, disable=[name], x=rand(2, 4, 8, 8), row=rand(1, 2), matrix=rand(3, 2))

    def shown(graph) -> list:
        return [(node.op_type, node.inputs, node.outputs, node.attrs) for node in graph.nodes]

    assert shown(graph) != shown(optimize(load_graph(proto.SerializeToString())))


def test_an_unknown_pass_is_refused():
    with pytest.raises(ValueError, match="no such pass: nothing"):
        optimize(tw.graph.Graph(), disable=["nothing"])
