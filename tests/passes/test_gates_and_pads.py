"""Means of planes, gates of channels, and padding that convolutions and poolings take in."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.harness import check, kinds, model, rand, tensor
from tilewise.onnx.load import load_graph
from tilewise.passes import optimize

MEANS = {
    "y = ReduceMean <axes: ints = [2, 3]> (x)": ["GlobalAveragePool"],
    "y = ReduceMean <axes: ints = [-1, -2]> (x)": ["GlobalAveragePool"],
    "y = ReduceMean <axes: ints = [3, 2], keepdims: int = 0> (x)": ["GlobalAveragePool", "Flatten"],
    "y = AveragePool <kernel_shape: ints = [5, 7]> (x)": ["GlobalAveragePool"],
    "y = AveragePool <kernel_shape: ints = [5, 7], strides: ints = [5, 7], ceil_mode: int = 1> (x)": [
        "GlobalAveragePool"
    ],
    "y = ReduceMean <axes: ints = [1, 2, 3]> (x)": ["ReduceMean"],
    "y = ReduceMean <axes: ints = [3]> (x)": ["ReduceMean"],
    "y = ReduceMean(x)": ["ReduceMean"],
    "y = AveragePool <kernel_shape: ints = [5, 6]> (x)": ["AveragePool"],
    "y = AveragePool <kernel_shape: ints = [5, 7], pads: ints = [0, 1, 0, 1]> (x)": ["AveragePool"],
}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("nodes", MEANS)
def test_means_of_planes(nodes, dtype):
    proto = model(f"g ({tensor('N,3,5,7', dtype)} x) => ({tensor('', dtype)} y) {{ {nodes} }}", 13)
    proto.graph.output[0].ClearField("type")
    check(proto, MEANS[nodes], x=rand(2, 3, 5, 7, dtype=dtype))


def test_a_mean_over_axes_given_as_input():
    text = "g (float[N,3,5,7] x, int64[2] axes) => (float y) { a = ReduceMean(x, fixed) y = ReduceMean(a, axes) }"
    proto = model(text, 18, fixed=np.array([2, 3]))
    proto.graph.output[0].ClearField("type")
    check(proto, ["GlobalAveragePool", "ReduceMean"], x=rand(2, 3, 5, 7), axes=np.array([0, 1]))


SQUEEZE = {
    "flatten": "f = Flatten(p)",
    "reshape": "f = Reshape(p, row)",
    "squeeze": "f = Squeeze(p, plane)",
}
LAYERS = {
    "gemm": "a = Gemm <transB: int = 1> (f, v, b) r = Relu(a) c = Gemm(r, u, d)",
    "matmul": "a = MatMul(f, w) e = Add(a, b) g = Sigmoid(e) r = Mul(e, g) c = MatMul(r, u)",
}
BACK = {"reshape": "z = Reshape(s, column)", "unsqueeze": "z = Unsqueeze(s, plane)"}


@pytest.mark.parametrize("back", BACK)
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("squeeze", SQUEEZE)
def test_gates_of_linear_layers(squeeze, layers, back):
    nodes = f"p = GlobalAveragePool(x) {SQUEEZE[squeeze]} {LAYERS[layers]} s = Sigmoid(c) {BACK[back]} y = Mul(x, z)"
    arrays = {"v": rand(2, 6), "w": rand(6, 2), "b": rand(2), "u": rand(2, 6), "d": rand(1, 6)}
    arrays |= {"row": np.array([0, -1]), "plane": np.array([2, 3]), "column": np.array([-1, 6, 1, 1])}
    used = {n: a for n, a in arrays.items() if f" {n})" in nodes or f" {n}," in nodes}
    proto = model(f"g (float[N,6,3,4] x) => (float[N,6,3,4] y) {{ {nodes} }}", **used)
    first = "FusedConv/Relu" if layers == "gemm" else "FusedConv/Swish"
    check(proto, ["GlobalAveragePool", first, "FusedConv/Sigmoid", "Mul"], x=rand(2, 6, 3, 4))


@pytest.mark.parametrize(
    "nodes",
    [
        "f = Flatten(p) c = Gemm(f, u) s = Sigmoid(c) z = Reshape(s, column) m = Mul(x, z) y = Add(m, z)",
        "f = Flatten(p) c = Gemm(f, u) s = Sigmoid(c) z = Reshape(s, other) y = Mul(x, z)",
        "f = Flatten(p) c = Gemm(f, fed) s = Sigmoid(c) z = Reshape(s, column) y = Mul(x, z)",
        "f = Flatten(p) c = Gemm(f, u) s = Softmax(c) z = Reshape(s, column) y = Mul(x, z)",
        "f = Flatten(p) c = Gemm <alpha: float = 0.5> (f, u) z = Reshape(c, column) y = Mul(x, z)",
        "f = Flatten(p) c = Gemm(f, u) n = ReduceSum(f) s = Mul(c, n) z = Reshape(s, column) y = Mul(x, z)",
        "f = Flatten(p) z = Reshape(f, column) y = Mul(x, z)",
    ],
)
def test_other_gates(nodes):
    arrays = {"u": rand(6, 6), "column": np.array([-1, 6, 1, 1]), "other": np.array([6, -1, 1, 1])}
    used = {n: a for n, a in arrays.items() if f" {n})" in nodes}
    text = (
        f"g (float[N,6,3,4] x, float[6,6] fed) => (float[N,6,3,4] y) {{ p = GlobalAveragePool(x) {nodes} }}"
    )
    graph = check(model(text, **used), x=rand(6, 6, 3, 4), fed=rand(6, 6))
    convolved = any("Conv" in kind for kind in kinds(graph))
    assert convolved == (nodes.endswith("y = Add(m, z)"))


PADS = {
    "a = Pad(x, p) y = Conv(a, w)": ["Conv"],
    "a = Pad(x, p, zero) y = Conv <pads: ints = [1, 0, 0, 2]> (a, w)": ["Conv"],
    "a = Pad(x, q, , axes) y = Conv <strides: ints = [2, 2]> (a, w)": ["Conv"],
    'a = Pad(x, p) y = Conv <auto_pad: string = "VALID"> (a, w)': ["Conv"],
    "a = Pad(x, p) b = Conv(a, w) c = Conv(a, w2) y = Add(b, c)": ["Conv", "FusedConv"],
    "a = Pad(x, p) y = AveragePool <kernel_shape: ints = [3, 3]> (a)": ["AveragePool"],
    "a = Pad(x, p) y = AveragePool <kernel_shape: ints = [3, 3], pads: ints = [1, 1, 0, 0],"
    "count_include_pad: int = 1> (a)": ["AveragePool"],
    "a = Pad(x, p, low) y = MaxPool <kernel_shape: ints = [4, 3], strides: ints = [2, 3]> (a)": ["MaxPool"],
    "r = Relu(x) a = Pad(r, p) y = MaxPool <kernel_shape: ints = [4, 3]> (a)": ["Relu", "MaxPool"],
    "a = Pad(x, p, one) y = Conv(a, w)": ["Pad", "Conv"],
    "a = Pad(x, p, fed) y = Conv(a, w)": ["Pad", "Conv"],
    "a = Pad(x, batch) y = Conv(a, w)": ["Pad", "Conv"],
    'a = Pad <mode: string = "edge"> (x, p) y = Conv(a, w)': ["Pad", "Conv"],
    'a = Pad(x, p) y = Conv <auto_pad: string = "SAME_UPPER"> (a, w)': ["Pad", "Conv"],
    "a = Pad(x, p) y = AveragePool <kernel_shape: ints = [3, 3], pads: ints = [1, 1, 0, 0]> (a)": [
        *["Pad", "AveragePool"]
    ],
    "a = Pad(x, p) y = AveragePool <kernel_shape: ints = [3, 3], ceil_mode: int = 1> (a)": [
        "Pad",
        "AveragePool",
    ],
    "a = Pad(x, p) y = MaxPool <kernel_shape: ints = [4, 3]> (a)": ["Pad", "MaxPool"],
    "r = Relu(x) a = Pad(r, p) y = MaxPool <kernel_shape: ints = [2, 2]> (a)": ["Relu", "Pad", "MaxPool"],
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("nodes", PADS)
def test_fold_pad(nodes, dtype):
    arrays = {
        "p": np.array([0, 0, 1, 2, 0, 0, 3, 0]),
        "q": np.array([1, 0, 2, 1]),
        "axes": np.array([-2, 3]),
        "batch": np.array([1, 0, 0, 0, 0, 0, 0, 0]),
        "zero": np.zeros((), dtype),
        "one": np.ones((), dtype),
        "low": np.array(-np.inf, dtype),
        "w": rand(4, 3, 3, 3, dtype=dtype),
        "w2": rand(4, 3, 3, 3, dtype=dtype),
    }
    used = {n: a for n, a in arrays.items() if f" {n})" in nodes or f" {n}," in nodes}
    image = tensor("N,3,8,9", dtype)
    text = f"g ({image} x, {tensor('', dtype)} fed) => ({tensor('', dtype)} y) {{ {nodes} }}"
    proto = model(text, **used)
    proto.graph.output[0].ClearField("type")
    check(proto, PADS[nodes], x=rand(2, 3, 8, 9, dtype=dtype), fed=np.zeros((), dtype))


def test_pad_by_attributes_and_over_a_value_that_is_an_output():
    text = """g (float[N,3,8,9] x) => (float[N,3,10,9] a, float[N,4,8,7] y)
    { a = Pad <pads: ints = [0, 0, 1, 0, 0, 0, 1, 0]> (x) y = Conv(a, w) }"""
    check(model(text, 10, w=rand(4, 3, 3, 3)), ["Pad", "Conv"], x=rand(1, 3, 8, 9))


def test_padding_that_crops_or_moves_indices_stays():
    crop = "g (float[1,3,8,9] x) => (float[1,4,6,7] y) { a = Pad(x, p) y = Conv(a, w) }"
    proto = model(crop, p=np.array([0, 0, -1, 0, 0, 0, 1, 0]), w=rand(4, 3, 3, 3))
    assert kinds(optimize(load_graph(proto.SerializeToString()))) == ["Pad", "Conv"]
    text = """g (float[1,3,8,9] x) => (float[1,3,9,9] y, int64[1,3,9,9] i)
    { a = Pad(x, p, low) y, i = MaxPool <kernel_shape: ints = [2, 3]> (a) }"""
    low = np.array(-np.inf, np.float32)
    proto = model(text, p=np.array([0, 0, 1, 1, 0, 0, 1, 1]), low=low)
    assert kinds(optimize(load_graph(proto.SerializeToString()))) == ["Pad", "MaxPool"]
