"""Reverse mode over whole graphs: shared, unused, inner and fixed values, order, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from tests.autodiff.projection import check_gradients, differentiate, graph_of
from tilewise.autodiff.backward import backward
from tilewise.errors import ModelError, UnsupportedError
from tilewise.graph import Graph
from tilewise.passes import optimize
from tilewise.runtime.model import Model

AB = {"a": "double[2]", "b": "double[2]"}


def values(graph: Graph, names: list[str], **feeds: object) -> list[np.ndarray]:
    result = graph.copy()
    result.outputs = names
    arrays = {name: np.array(value, np.float64) for name, value in feeds.items()}
    return list(Model(optimize(result)).run(arrays).values())


def test_shared_values() -> None:
    check_gradients("h = Mul(a, a) i = Exp(h) j = Add(h, i) k = Mul(j, a) y = Add(k, h)", {"a": (2, 3)})


LAYERS = """
    h = Gemm(x, w1, b1) r = Relu(h) z = MatMul(r, w2) s = Sigmoid(z)
    d = Sub(s, t) p = Mul(d, d) y = ReduceMean <keepdims = 0> (p)"""
LAYER_SHAPES = {"x": (5, 3), "w1": (3, 4), "b1": (4,), "w2": (4, 2), "t": (1, 2)}


def test_two_layers_with_a_loss() -> None:
    check_gradients(LAYERS, LAYER_SHAPES, low=-1, high=1)


def test_kernels_agree_with_float64() -> None:
    results = {}
    for kind, dtype in (("float", np.float32), ("double", np.float64)):
        graph = graph_of(LAYERS, {n: f"{kind}{list(shape)}" for n, shape in LAYER_SHAPES.items()})
        graph.outputs = list(backward(graph, {"y": None}, list(LAYER_SHAPES)).values())
        rng = np.random.default_rng(3)
        feeds = {name: rng.uniform(-1, 1, shape).astype(dtype) for name, shape in LAYER_SHAPES.items()}
        results[kind] = list(Model(optimize(graph)).run(feeds).values())
    for got, want in zip(results["float"], results["double"], strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_unused_inputs_get_zeros() -> None:
    graph = differentiate(graph_of("y = Neg(a)", {"a": "double[2]", "b": "double[3, N]"}), ["b", "a"])
    got = Model(graph).run({"a": np.ones(2), "b": np.ones((3, 4)), "dy": np.ones(2)})
    _, db, da = got.values()
    np.testing.assert_array_equal(db, np.zeros((3, 4)))
    np.testing.assert_array_equal(da, [-1, -1])


def test_zeros_have_the_type_of_their_value() -> None:
    graph = graph_of("y = Neg(a)", {"a": "double[2]", "b": "float[2]"})
    (name,) = backward(graph, {"y": None}, ["b"]).values()
    graph.outputs = [name]
    got = Model(graph).run({"a": np.ones(2), "b": np.ones(2, np.float32)})[name]
    assert (got.dtype, got.tolist()) == (np.float32, [0, 0])


def test_inner_values_constants_and_several_outputs() -> None:
    graph = graph_of("c = Constant <value = double[2] {2, 3}> () h = Mul(a, c) y = Mul(h, h) z = Exp(b)", AB)
    grads = backward(graph, {"y": None, "z": "a", "h": "b"}, ["h", "c", "a", "b", "y"])
    a, b, c = np.array([1.0, 2]), np.array([5.0, 7]), np.array([2.0, 3])
    dh, dc, da, db, dy = values(graph, list(grads.values()), a=a, b=b)
    np.testing.assert_allclose(dh, 2 * a * c + b)
    np.testing.assert_allclose(dc, dh * a)
    np.testing.assert_allclose(da, dh * c)
    np.testing.assert_allclose(db, np.exp(b) * a)
    np.testing.assert_allclose(dy, np.ones(2))


def test_fixed_values_are_not_traced() -> None:
    graph = graph_of("h = Mul(a, a) y = Mul(h, a)", {"a": "double[2]"})
    (name,) = backward(graph, {"y": None}, ["a"], fixed=["h"]).values()
    np.testing.assert_array_equal(values(graph, [name], a=[2.0, 3.0])[0], [4, 9])


def test_values_off_the_path_are_not_visited() -> None:
    graph = graph_of("h = Erf(a) i = Mul(b, h) s = Shape(a) j = Reshape(i, s) y = Neg(j) z = Erf(b)", AB)
    before = list(graph.nodes)
    backward(graph, {"y": "a"}, ["b"])
    assert graph.nodes[: len(before)] == before
    added = [node.op_type for node in graph.nodes[len(before) :]]
    assert added == ["Neg", "Shape", "Reshape", "Mul", "SumTo"]


def test_the_order_of_sums_depends_on_the_graph_alone() -> None:
    graphs = [
        graph_of("h = Exp(a) i = Neg(a) j = Add(h, i) k = Mul(j, a) y = Add(k, b)", AB) for _ in range(2)
    ]
    for graph, wrt in zip(graphs, (["a", "b"], ["b", "a"]), strict=True):
        backward(graph, {"y": None}, wrt)
    assert graphs[0].nodes == graphs[1].nodes


def test_names_that_are_taken() -> None:
    graph = graph_of("y = Neg(a)", AB)
    grads = [backward(graph, {"y": None}, ["a"])["a"] for _ in range(2)]
    assert len(set(grads)) == 2
    assert len(graph.producers()) == len(graph.nodes)
    np.testing.assert_array_equal(values(graph, grads, a=[1, 2], b=[1, 2]), [[-1, -1], [-1, -1]])


def test_gradients_of_gradients() -> None:
    graph = graph_of("h = Mul(a, a) y = Mul(h, a)", AB)
    first = backward(graph, {"y": None}, ["a"])
    second = backward(graph, {first["a"]: None}, ["a"])
    third = backward(graph, {second["a"]: None}, ["a"])
    a = np.array([2.0, 3.0])
    got = values(graph, [first["a"], second["a"], third["a"]], a=a, b=a)
    np.testing.assert_allclose(got, [3 * a**2, 6 * a, [6, 6]])


@pytest.mark.parametrize(
    "body",
    [
        "y = Div(a, b)",
        "p = Constant <value = double {3}> () y = Pow(a, p)",
        "y = MatMul(a, b)",
        "y = Gemm <alpha = 2.0> (a, b)",
        "y = Sigmoid(a)",
        "h = Mul(a, b) y = Tanh(h)",
        "h = Log(a) y = Sqrt(b)",
        "h = Mul(a, a) r = Relu(h) y = Transpose(r)",
        "h = Mul(a, a) y = ReduceMean <keepdims = 0> (h)",
        "h = Exp(a) i = Flatten(h) y = ReduceSum(i)",
    ],
)
def test_second_derivatives(body: str) -> None:
    """The gradient's own gradient against differences: its nodes have rules themselves."""
    graph = graph_of(body, {"a": "double[2, 2]", "b": "double[2, 2]"})
    first = backward(graph, {"y": None}, ["a"])["a"]
    seconds = backward(graph, {first: None}, ["a", "b"])
    rng = np.random.default_rng(1)
    feeds = {name: rng.uniform(0.5, 2, (2, 2)) for name in "ab"}
    for name, got in zip("ab", values(graph, list(seconds.values()), **feeds), strict=True):
        v, h = rng.standard_normal((2, 2)), 1e-6
        ends = [values(graph, [first], **{**feeds, name: feeds[name] + s * v})[0] for s in (h, -h)]
        want = (ends[0] - ends[1]).sum() / (2 * h)
        np.testing.assert_allclose(np.sum(got * v), want, rtol=1e-6, atol=1e-8, err_msg=name)


def test_operators_without_a_rule_are_named() -> None:
    graph = graph_of("h = Erf(a) i = Mul(h, b) y = Sinh(i)", AB)
    with pytest.raises(UnsupportedError) as error:
        backward(graph, {"y": None}, ["a"])
    assert [(f.node, f.op_type) for f in error.value.findings] == [("Erf->h", "Erf"), ("Sinh->y", "Sinh")]
    assert "no gradient rule for the operator" in str(error.value)
    assert len(graph.nodes) == 3


def test_inputs_without_a_rule_are_named() -> None:
    graph = graph_of("y = Pow(a, b)", AB)
    backward(graph, {"y": None}, ["a"])
    with pytest.raises(
        UnsupportedError, match=r"'Pow->y' \(Pow\): no gradient rule for input 1 of the operator"
    ):
        backward(graph, {"y": None}, ["b"])


def test_subgraphs_in_the_way_are_refused() -> None:
    body = """
        c = Constant <value = bool {1}> ()
        h = If (c) <then_branch = t () => (u) { u = Neg(a) }, else_branch = e () => (v) { v = Exp(b) }>
        y = Mul(h, b)"""
    with pytest.raises(UnsupportedError, match=r"\(If\): no gradient rule for the operator"):
        backward(graph_of(body, AB), {"y": None}, ["a"])


def test_unknown_ranks_are_refused() -> None:
    graph = graph_of(
        "h = Reshape(a, s) y = MatMul(h, b)", {"a": "double[4]", "b": "double[2]", "s": "int64[N]"}
    )
    with pytest.raises(UnsupportedError, match="rank of value 'h' is not known"):
        backward(graph, {"y": None}, ["b"])


@pytest.mark.parametrize(
    ("gradients", "wrt", "message"),
    [
        (["y"], ["gone"], "'gone': expected the name of a value"),
        (["gone"], ["a"], "'gone': expected the name of a value"),
        (["y"], ["i"], r"'i': expected a floating-point tensor, got int64\[2\]"),
        (["i"], ["a"], r"'i': expected a floating-point tensor, got int64\[2\]"),
    ],
)
def test_wrong_names(gradients: list[str], wrt: list[str], message: str) -> None:
    graph = graph_of("y = Neg(a)", {"a": "double[2]", "i": "int64[2]"})
    with pytest.raises(ModelError, match=message):
        backward(graph, dict.fromkeys(gradients), wrt)
