"""What lies between a Transpose to channels last and one back is done with channels first; the operator it needs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.harness import check, kinds, model, rand, tensor
from tilewise.graph import Graph, Node
from tilewise.runtime.model import Model

THERE = "t = Transpose <perm: ints = [0, 2, 3, 1]> (x)"
BACK = "y = Transpose <perm: ints = [0, 3, 1, 2]> "
NORM = "ChannelNormalization"
REGIONS = {
    f"{THERE} n = LayerNormalization(t, s, b) {BACK} (n)": [NORM],
    f"{THERE} n = LayerNormalization <axis: int = 3, epsilon: float = 0.1> (t, s) {BACK} (n)": [NORM],
    f"{THERE} n = LayerNormalization(t, s, b) m = MatMul(n, w) a = Add(m, b8) g = Gelu(a) k = MatMul(g, v)"
    f"q = Mul(k, s) {BACK} (q)": [NORM, "FusedConv/Gelu", "Conv"],
    f"{THERE} m = MatMul(t, w) h = HardSwish(m) k = MatMul(h, v) q = Add(k, t) {BACK} (q)": [
        *["FusedConv/HardSwish", "FusedConv"]
    ],
    f"{THERE} n = Relu(t) q = Sub(s, n) {BACK} (q)": ["Transpose", "Relu", "Sub", "Transpose"],
    f"{THERE} n = Softmax(t) {BACK} (n)": ["Transpose", "Softmax", "Transpose"],
    f"{THERE} n = LayerNormalization <axis: int = 2> (t, s45) {BACK} (n)": [
        *["Transpose", "LayerNormalization", "Transpose"]
    ],
    f"{THERE} n = LayerNormalization(t, s) z = ReduceSum <keepdims: int = 0> (n) e = Add(n, z) {BACK} (e)": [
        *["Transpose", "LayerNormalization", "ReduceSum", "Add", "Transpose"]
    ],
    f"{THERE} n = Relu(t) q = Mul(n, row) {BACK} (q)": ["Transpose", "Relu", "Mul", "Transpose"],
}


def constants(nodes: str, dtype: str) -> dict[str, np.ndarray]:
    shapes = {"s": (6,), "b": (6,), "w": (6, 8), "b8": (8,), "v": (8, 6), "s45": (5, 6), "row": (5, 1)}
    used = [n for n in shapes if f" {n})" in nodes or f" {n}," in nodes or f"({n}," in nodes]
    return {n: rand(*shapes[n], dtype=dtype) for n in used}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("nodes", REGIONS)
def test_regions(nodes, dtype):
    image = tensor("N,6,4,5", dtype)
    proto = model(f"g ({image} x) => ({image} y) {{ {nodes} }}", **constants(nodes, dtype))
    check(proto, REGIONS[nodes], x=rand(2, 6, 4, 5, dtype=dtype))


def test_an_inner_value_that_is_an_output_keeps_its_layout():
    text = (
        f"g (float[N,6,4,5] x) => (float[N,6,4,5] y, float[N,4,5,6] n) {{ {THERE} n = Relu(t) {BACK} (n) }}"
    )
    check(model(text), ["Transpose", "Relu", "Transpose"], x=rand(2, 6, 4, 5))


def test_two_ways_in_and_two_ways_out():
    text = """g (float[2,6,4,5] x, float[2,6,4,5] z) => (float[2,6,4,5] y, float[2,6,4,5] w)
    { t = Transpose <perm: ints = [0, 2, 3, 1]> (x) u = Transpose <perm: ints = [0, 2, 3, 1]> (z)
      n = LayerNormalization(t, s) a = Add(n, u) r = Tanh(a)
      y = Transpose <perm: ints = [0, 3, 1, 2]> (r) p = Transpose <perm: ints = [0, 3, 1, 2]> (n) w = Neg(p) }"""
    graph = check(model(text, s=rand(6)), x=rand(2, 6, 4, 5), z=rand(2, 6, 4, 5))
    assert "Transpose" not in kinds(graph)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (2, 3), (2, 96, 7, 9), (1, 768, 7, 7), (3, 5, 300, 3), (1, 17, 1)]
)
def test_channel_normalization(shape, bias):
    x, channels = 3 * rand(*shape) + 5, shape[1]
    scale, offset = rand(channels), rand(channels)
    inputs = ["x", "s", *(["b"] if bias else [])]
    node = Node(NORM, inputs, ["y"], {"epsilon": 1e-4}, "", "tilewise", 1)
    graph = Graph(inputs=inputs, outputs=["y"], nodes=[node])
    feeds = {"x": x, "s": scale, "b": offset}
    wide, by_channel = x.astype(np.float64), (-1,) + (1,) * (len(shape) - 2)
    centred = wide - wide.mean(1, keepdims=True)
    want = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-4) * scale.reshape(by_channel)
    want = want + offset.reshape(by_channel) if bias else want
    for native in (True, False):
        got = Model(graph, native=native)._runner.run({n: feeds[n] for n in inputs}, ["y"], 2)[0]
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def test_a_nan_stays_in_its_column():
    x = rand(1, 6, 2, 3)
    x[0, 2, 1, 1] = np.nan
    text = f"g (float[N,6,2,3] x) => (float[N,6,2,3] y) {{ {THERE} n = LayerNormalization(t, s) {BACK} (n) }}"
    check(model(text, s=rand(6)), [NORM], x=x)
