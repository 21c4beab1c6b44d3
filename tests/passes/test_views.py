"""What is the same as its input, what is there twice, views of views, and arithmetic on shapes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.harness import check, kinds, model, rand, tensor
from tilewise.onnx.load import load_graph
from tilewise.passes import optimize

NOOPS = {
    "r = Reshape(x, shape) y = Relu(r)": ["Relu"],
    "r = Flatten <axis: int = 1> (f) y = Relu(r)": ["Relu"],
    "r = Squeeze(x, none) y = Relu(r)": ["Relu"],
    "r = Expand(x, ones) y = Relu(r)": ["Relu"],
    "r = Tile(x, ones) y = Relu(r)": ["Relu"],
    "r = Slice(x, lo, hi, axes) y = Relu(r)": ["Relu"],
    "r = Transpose <perm: ints = [0, 1, 2]> (x) y = Relu(r)": ["Relu"],
    "r = Cast <to: int = 1> (x) y = Relu(r)": ["Relu"],
    "r = CastLike(x, z) y = Relu(r)": ["Relu"],
    "r = Concat <axis: int = 1> (x) y = Relu(r)": ["Relu"],
    "r = Sum(x) s = Max(r) t = Mean(s) y = Relu(t)": ["Relu"],
    "r = Pad(x, zeros) y = Relu(r)": ["Relu"],
    "r = Clip(x) y = Relu(r)": ["Relu"],
    "r = MaxPool <kernel_shape: ints = [1]> (x) y = Relu(r)": ["Relu"],
    "r = Add(x, zero) s = Mul(one, r) t = Div(s, one) u = Sub(t, zero) v = Pow(u, one) y = Relu(v)": ["Relu"],
    "y = Identity(x)": ["Identity"],
    "y = Reshape(x, shape)": ["Reshape"],
    "r = Slice(x, lo, hi, axes, back) y = Relu(r)": ["Slice", "Relu"],
    "r = Slice(x, lo, most, axes) e = Relu(r) y = Concat <axis: int = 1> (e, e)": ["Slice", "Relu", "Concat"],
    "r = Cast <to: int = 11> (x) s = Cast <to: int = 1> (r) y = Relu(s)": ["Cast", "Cast", "Relu"],
    "r = Sub(zero, x) y = Relu(r)": ["Sub", "Relu"],
    "r = Div(one, x) y = Relu(r)": ["Div", "Relu"],
    "r = Add(x, wide) y = ReduceSum <keepdims: int = 0> (r, axis0)": ["Add", "ReduceSum"],
    "r = MaxPool <kernel_shape: ints = [1], strides: ints = [2]> (x) y = Relu(r)": ["MaxPool", "Relu"],
}


def constants(nodes: str) -> dict[str, np.ndarray]:
    arrays = {
        "shape": np.array([-1, 4, 6]),
        "none": np.array([], np.int64),
        "ones": np.array([1, 1, 1]),
        "lo": np.array([0]),
        "hi": np.array([2**62]),
        "most": np.array([-1 if "back" in nodes else 2]),
        "axes": np.array([1]),
        "back": np.array([2]),
        "zeros": np.zeros(6, np.int64),
        "zero": np.float32(0),
        "one": np.ones((1, 1), np.float32),
        "wide": np.zeros((1, 1, 1, 1), np.float32),
        "axis0": np.array([0]),
    }
    return {n: a for n, a in arrays.items() if f"{n})" in nodes or f"{n}," in nodes}


@pytest.mark.parametrize("nodes", NOOPS)
def test_noops(nodes):
    text = f"g (float[N,4,6] x, float[N,4,6] z, float[N,24] f) => (float y) {{ {nodes} }}"
    proto = model(text, 18, **constants(nodes))
    proto.graph.output[0].ClearField("type")
    given = {"x": rand(3, 4, 6), "z": rand(3, 4, 6), "f": rand(3, 24)}
    check(proto, NOOPS[nodes], disable=["recognize_clips"], **given)


def test_a_removed_node_whose_result_is_an_output_or_captured_stays():
    text = """g (float[N,4] x, bool c) => (float[N,4] a, float[N,4] w)
    { a = Cast <to: int = 1> (x) b = Reshape(a, s)
      w = If (c) <then_branch = t () => (float[N,4] p) { p = Neg(b) },
                  else_branch = e () => (float[N,4] q) { q = Exp(x) }> }"""
    graph = check(model(text, s=np.array([-1, 4])), x=rand(2, 4), c=np.array(True))
    assert kinds(graph) == ["Cast", "Reshape", "If"]


DUPLICATES = {
    "a = Exp(x) b = Exp(x) y = Add(a, b)": ["Exp", "Add"],
    "a = Exp(x) b = Exp(x) c = Neg(a) d = Neg(b) y = Add(c, d)": ["Exp", "Neg", "Add"],
    "a = Add(x, k) b = Add(x, l) y = Mul(a, b)": ["Add", "Mul"],
    "a = Add(x, k) b = Add(x, m) y = Mul(a, b)": ["Add", "Add", "Mul"],
    "a = Elu <alpha: float = 0.5> (x) b = Elu <alpha: float = 0.6> (x) y = Mul(a, b)": ["Elu", "Elu", "Mul"],
    "a = Softmax <axis: int = 1> (x) b = Softmax <axis: int = 0> (x) y = Mul(a, b)": ["Softmax"] * 2
    + ["Mul"],
    "a, i = TopK(x, n) b, j = TopK(x, n) y = Add(a, b)": ["TopK", "Add"],
}


@pytest.mark.parametrize("nodes", DUPLICATES)
def test_duplicates(nodes):
    text = f"g (float[N,4] x) => (float[N,4] y) {{ {nodes} }}"
    given = {"k": rand(4), "m": np.array([0.0, 1, 2, 3], np.float32), "n": np.array([4])}
    given["l"] = given["k"].copy()
    used = {n: a for n, a in given.items() if f" {n})" in nodes}
    check(model(text, **used), DUPLICATES[nodes], x=rand(3, 4))


def test_duplicates_that_are_outputs_or_random_stay():
    text = """g (float[N,4] x) => (float[N,4] a, float[N,4] b, float[3] y)
    { a = Exp(x) b = Exp(x) r = RandomNormal <shape: ints = [3]> () s = RandomNormal <shape: ints = [3]> ()
      y = Sub(r, s) }"""
    graph = optimize(load_graph(model(text).SerializeToString()))
    assert kinds(graph) == ["Exp", "Exp", "RandomNormal", "RandomNormal", "Sub"]


def test_constants_that_differ_in_a_bit_are_two():
    text = "g (float[N,2] x) => (float[N,2] y) { a = Div(x, k) b = Div(x, l) y = Add(a, b) }"
    proto = model(text, k=np.array([0.0, 1], np.float32), l=np.array([-0.0, 1], np.float32))
    assert kinds(check(proto, x=np.zeros((2, 2), np.float32)))[:2] == ["Div", "Div"]


MERGED = {
    "a = Transpose <perm: ints = [0, 2, 3, 1]> (x) y = Transpose <perm: ints = [0, 2, 1, 3]> (a)": [
        "Transpose"
    ],
    "a = Transpose <perm: ints = [0, 2, 3, 1]> (x) b = Transpose <perm: ints = [0, 3, 1, 2]> (a) y = Relu(b)": [
        "Relu"
    ],
    "a = Reshape(x, p) b = Reshape(a, q) y = Relu(b)": ["Reshape", "Relu"],
    "a = Flatten(x) b = Unsqueeze(a, one) c = Squeeze(b, one) y = Relu(c)": ["Reshape", "Relu"],
    "a = Reshape(x, p) b = Reshape(a, back) y = Relu(b)": ["Relu"],
    "a = Transpose <perm: ints = [0, 2, 3, 1]> (x) b = Exp(a) y = Transpose <perm: ints = [0, 3, 1, 2]> (b)": [
        *["Transpose", "Exp", "Transpose"]
    ],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nodes", MERGED)
def test_views_of_views(nodes, dtype):
    given = {"p": [0, 6, 10], "q": [-1, 15], "one": [1], "back": [-1, 3, 4, 5]}
    used = {n: np.array(v) for n, v in given.items() if f" {n})" in nodes}
    proto = model(f"g ({tensor('N,3,4,5', dtype)} x) => ({tensor('', dtype)} y) {{ {nodes} }}", **used)
    proto.graph.output[0].ClearField("type")
    check(proto, MERGED[nodes], x=rand(2, 3, 4, 5, dtype=dtype))


def test_the_inner_view_is_an_output():
    text = """g (float[N,3,4] x) => (float[N,4,3] a, float[3,N,4] y)
    { a = Transpose <perm: ints = [0, 2, 1]> (x) y = Transpose <perm: ints = [2, 0, 1]> (a) }"""
    check(model(text), ["Transpose", "Transpose"], x=rand(2, 3, 4))


HEAD = "s = Shape(x) n = Gather(s, i0) c = Gather(s, i1) h = Gather(s, i2)"
UP = "n1 = Unsqueeze(n, ax) c1 = Unsqueeze(c, ax) h1 = Unsqueeze(h, ax)"
SHAPES = {
    f"{HEAD} {UP} m = Mul(c1, h1) t = Concat <axis: int = 0> (n1, m) y = Reshape(x, t)": ["Reshape"],
    f"{HEAD} {UP} t = Concat <axis: int = 0> (n1, minus) y = Reshape(x, t)": ["Reshape"],
    "s = Shape(x) f = Slice(s, i0v, ax1) t = Concat <axis: int = 0> (f, minus) y = Reshape(x, t)": [
        "Reshape"
    ],
    "s = Shape <start: int = 0, end: int = 1> (x) t = Concat <axis: int = 0> (s, minus) y = Reshape(x, t)": [
        "Reshape"
    ],
    f"{HEAD} k = Sub(h, i2) l = Cast <to: int = 1> (k) m = Mul(x, l) y = Reshape(m, flat)": [
        "Mul",
        "Reshape",
    ],
    f"{HEAD} d = Div(n, i2) {UP} e = Unsqueeze(d, ax) t = Concat <axis: int = 0> (e, minus) y = Reshape(x, t)": None,
    f"{HEAD} {UP} t = Concat <axis: int = 0> (minus, n1) r = Reshape(x, t) y = Relu(r)": None,
}


@pytest.mark.parametrize("nodes", SHAPES)
def test_arithmetic_on_shapes(nodes):
    given = {"i0": 0, "i1": 1, "i2": 2, "ax": [0], "ax1": [1], "i0v": [0], "minus": [-1], "flat": [0, -1]}
    used = {
        n: np.array(v)
        for n, v in given.items()
        if f" {n})" in nodes or f"({n}," in nodes or f" {n}," in nodes
    }
    proto = model(f"g (float[N,6,4] x) => (float y) {{ {nodes} }}", 15, **used)
    proto.graph.output[0].ClearField("type")
    for batch in (2, 4):
        check(proto, SHAPES[nodes], x=rand(batch, 6, 4))


def test_sizes_say_what_shape_comes_out_of_a_resize():
    text = """g (float[N,3,8,8] x, float[3,3,1,1] w) => (float[N,3,8,8] y)
    { p = MaxPool <kernel_shape: ints = [2, 2], strides: ints = [2, 2]> (x) s = Shape(p)
      f = Slice(s, zero, two) t = Concat <axis: int = 0> (f, size) r = Resize(p, , , t)
      c = Conv(x, w) y = Add(r, c) }"""
    sizes = {"zero": np.array([0]), "two": np.array([2]), "size": np.array([8, 8])}
    graph = check(model(text, 18, w=rand(3, 3, 1, 1), **sizes), x=rand(2, 3, 8, 8))
    assert kinds(graph)[-1] == "FusedConv"
