"""Normalizations and channel shuffle from what they are written as."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.harness import check, model, rand, tensor

MEAN = "m = ReduceMean <axes: ints = [-1]> (x) d = Sub(x, m)"
VAR = "p = Pow(d, two) v = ReduceMean <axes: ints = [-1]> (p) e = Add(v, eps)"
LAYER = {
    f"{MEAN} {VAR} r = Sqrt(e) q = Div(d, r) g = Mul(q, w) y = Add(g, b)": ["LayerNormalization"],
    f"{MEAN} {VAR} r = Sqrt(e) q = Div(d, r) g = Mul(w, q) y = Add(b, g)": ["LayerNormalization"],
    f"{MEAN} {VAR} r = Sqrt(e) i = Reciprocal(r) q = Mul(d, i) y = Add(q, b)": ["LayerNormalization"],
    f"{MEAN} {VAR} r = Sqrt(e) i = Div(one, r) y = Mul(i, d)": ["LayerNormalization"],
    f"{MEAN} {VAR} i = Pow(e, minus) y = Mul(d, i)": ["LayerNormalization"],
    f"{MEAN} p = Mul(d, d) v = ReduceMean <axes: ints = [2]> (p) e = Add(eps, v) r = Pow(e, half) y = Div(d, r)": [
        "LayerNormalization"
    ],
    f"{MEAN} f = Sub(x, m) p = Pow(f, two) v = ReduceMean <axes: ints = [-1]> (p) e = Add(v, eps) r = Sqrt(e)"
    "y = Div(d, r)": ["LayerNormalization"],
    "p = Pow(x, two) v = ReduceMean <axes: ints = [-1]> (p) e = Add(v, eps) r = Sqrt(e) q = Div(x, r) y = Mul(q, w)": [
        "RMSNormalization"
    ],
    "p = Mul(x, x) v = ReduceMean <axes: ints = [-1]> (p) e = Add(v, eps) r = Sqrt(e) i = Reciprocal(r)"
    "y = Mul(x, i)": ["RMSNormalization"],
    f"{MEAN} {VAR} r = Sqrt(e) q = Div(x, r) y = Mul(q, w)": [
        *["ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"]
    ],
    f"{MEAN} {VAR} r = Sqrt(e) q = Div(d, r) y = Add(q, v)": [
        *["ReduceMean", "Sub", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "Add"]
    ],
    f"{MEAN} {VAR} r = Sqrt(e) q = Div(d, r) g = Mul(q, column) y = Add(g, b)": [
        "LayerNormalization",
        "Mul",
        "Add",
    ],
}


def constants(nodes: str, dtype: str) -> dict[str, np.ndarray]:
    scalars = {"two": 2.0, "eps": 1e-3, "one": 1.0, "half": 0.5, "minus": -0.5}
    found = {n: np.array(v, dtype) for n, v in scalars.items() if n in nodes}
    arrays = {"w": (7,), "b": (1, 7), "column": (5, 1)}
    return found | {
        n: rand(*s, dtype=dtype) for n, s in arrays.items() if f" {n})" in nodes or f"({n}," in nodes
    }


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("nodes", LAYER)
def test_from_moments_over_the_last_axis(nodes, dtype):
    t = tensor("N,5,7", dtype)
    text = f"g ({t} x) => ({t} y) {{ {nodes} }}"
    check(model(text, 13, **constants(nodes, dtype)), LAYER[nodes], x=rand(3, 5, 7, dtype=dtype))


@pytest.mark.parametrize("affine", ["y = Identity(q)", "g = Mul(q, s) y = Add(g, t)", "y = Mul(q, row)"])
def test_from_moments_over_planes(affine):
    text = """g (float[N,5,6,7] x) => (float[N,5,6,7] y)
    { m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) e = Add(v, eps) r = Sqrt(e)
      q = Div(d, r) %s }"""
    given = {"axes": np.array([3, 2]), "eps": np.float32(1e-4)}
    shapes = {"s": (5, 1, 1), "t": (1, 5, 1, 1), "row": (7,)}
    given |= {n: rand(*s) for n, s in shapes.items() if f" {n})" in affine}
    after = {"row": ["Mul"], "Ide": ["Identity"]}.get("row" if "row" in affine else affine[4:7], [])
    check(model(text % affine, **given), ["InstanceNormalization", *after], x=rand(2, 5, 6, 7))


@pytest.mark.parametrize("axes", [[1], [0, 2], [1, 2]])
def test_moments_over_other_axes(axes):
    text = """g (float[N,5,7] x) => (float[N,5,7] y)
    { m = ReduceMean(x, axes) d = Sub(x, m) p = Mul(d, d) v = ReduceMean(p, axes) e = Add(v, eps) r = Sqrt(e)
      y = Div(d, r) }"""
    proto = model(text, axes=np.array(axes), eps=np.array([1e-3], np.float32))
    kind = ["LayerNormalization"] if axes == [1, 2] else None
    graph = check(proto, kind, x=rand(3, 5, 7))
    assert kind or len(graph.nodes) == 7


GROUP = """g (float[N,6,4,5] x) => (float[N,6,4,5] y)
{ a = Reshape(x, groups) n = InstanceNormalization <epsilon: float = 0.001> (a, s, b) %s }"""
BACK = "h = Shape(x) z = Reshape(n, h)"
STAY = ["Reshape", "InstanceNormalization", "Reshape"]
GROUPS = {
    f"{BACK} g = Mul(z, w) y = Add(g, v)": ["GroupNormalization"],
    f"{BACK} y = Mul(w, z)": ["GroupNormalization"],
    f"{BACK} y = Relu(z)": ["GroupNormalization", "Relu"],
    "z = Reshape(n, shape) y = Add(z, v)": ["GroupNormalization"],
    "z = Reshape(n, turned) k = Neg(z) y = Reshape(k, shape)": [*STAY, "Neg", "Reshape"],
    f"{BACK} k = ReduceSum <keepdims: int = 0> (n) y = Add(z, k)": [*STAY, "ReduceSum", "Add"],
}


@pytest.mark.parametrize("nodes", GROUPS)
def test_groups(nodes):
    given = {"w": rand(6, 1, 1), "v": rand(1, 6, 1, 1)}
    given |= {"shape": np.array([-1, 6, 4, 5]), "turned": np.array([-1, 6, 5, 4])}
    proto = model(GROUP % nodes, groups=np.array([0, 3, -1]), s=rand(3), b=rand(3), **given)
    check(proto, GROUPS[nodes], x=rand(2, 6, 4, 5))


SHUFFLE = """g (float[N,12,3,4] x) => (float[N,12,3,4] y)
{ a = Reshape(x, parts) t = Transpose <perm: ints = [0, 2, 1, 3, 4]> (a) y = Reshape(t, whole) }"""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("parts", "whole", "groups"),
    [
        ([-1, 3, 4, 3, 4], [-1, 12, 3, 4], 3),
        ([0, 2, 6, 3, 4], [0, -1, 3, 4], 2),
        ([-1, 12, 1, 3, 4], [-1, 12, 3, 4], 12),
        ([0, 1, 12, 3, 4], [0, 12, 3, 4], 1),
        ([0, 2, 6, 4, 3], [0, 12, 3, 4], None),
        ([0, 2, 3, 6, 4], [0, 12, 3, 4], None),
    ],
)
def test_channel_shuffle(parts, whole, groups, dtype):
    text = SHUFFLE.replace("float[", tensor("", dtype)[:-1])
    proto = model(text, parts=np.array(parts), whole=np.array(whole))
    want = ["ChannelShuffle"] if groups else ["Reshape", "Transpose", "Reshape"]
    graph = check(proto, want, x=rand(2, 12, 3, 4, dtype=dtype))
    assert not groups or graph.nodes[0].attrs["groups"] == groups


def test_channel_shuffle_by_arithmetic_on_shapes():
    text = """g (float[N,12,3,4] x) => (float[N,12,3,4] y)
    { s = Shape(x) n = Gather(s, i0) c = Gather(s, i1) h = Gather(s, i2) w = Gather(s, i3)
      q = Div(c, two) n1 = Unsqueeze(n, ax) q1 = Unsqueeze(q, ax) h1 = Unsqueeze(h, ax) w1 = Unsqueeze(w, ax)
      p = Concat <axis: int = 0> (n1, g, q1, h1, w1) a = Reshape(x, p)
      t = Transpose <perm: ints = [0, 2, 1, 3, 4]> (a)
      o = Concat <axis: int = 0> (n1, minus, h1, w1) y = Reshape(t, o) }"""
    given = {f"i{i}": np.array(i) for i in range(4)} | {"two": np.array(2), "ax": np.array([0])}
    proto = model(text, **given, g=np.array([2]), minus=np.array([-1]))
    check(proto, ["ChannelShuffle"], x=rand(2, 12, 3, 4))


def test_a_shuffle_whose_parts_are_read_stays():
    text = SHUFFLE.replace("=> (", "=> (float[N,2,6,3,4] a, ")
    proto = model(text, parts=np.array([0, 2, 6, 3, 4]), whole=np.array([0, 12, 3, 4]))
    check(proto, ["Reshape", "Transpose", "Reshape"], x=rand(2, 12, 3, 4))
