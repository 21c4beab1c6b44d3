"""Matrix products: what is folded into their columns, transposed operands, and the operators that come of it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.passes.harness import check, model, rand, tensor

COLUMNS = {
    "c = MatMul(x, w) y = Add(c, b)": ["FusedMatMul"],
    "c = MatMul(x, w) d = Add(b, c) y = Relu(d)": ["FusedMatMul/Relu"],
    "c = MatMul(x, w) d = Sub(c, b) e = Mul(s, d) y = Div(e, b1)": ["FusedMatMul"],
    "c = MatMul(x, w) y = Mul(c, s)": ["FusedMatMul"],
    "c = MatMul(x, z) y = Add(c, b)": ["FusedMatMul"],
    "c = MatMul(x, z) y = Mul(c, b)": ["MatMul", "Mul"],
    "c = MatMul(x, w) y = Sub(b, c)": ["MatMul", "Sub"],
    "c = MatMul(x, w) y = Add(c, column)": ["MatMul", "Add"],
    "c = MatMul(x, w) d = Add(c, b) y = Add(d, c)": ["MatMul", "Add", "Add"],
    "c = MatMul(x, w) y = Div(c, nil)": ["MatMul", "Div"],
    "c = Gemm(x, w, b) y = Add(c, b1)": ["Gemm"],
    "c = Gemm <alpha: float = 0.5> (x, w) d = Mul(c, s) y = Add(d, b)": ["Gemm"],
    "c = Gemm <transB: int = 1> (x, v, b) d = Mul(c, s) y = Tanh(d)": ["FusedGemm/Tanh"],
    "c = Gemm <beta: float = 2.0> (x, w, b) y = Add(c, b1)": ["Gemm", "Add"],
    "c = Gemm(x, w, column) y = Add(c, b)": ["Gemm", "Add"],
}


def constants(nodes: str, dtype: str) -> dict[str, np.ndarray]:
    shapes = {"w": (5, 7), "v": (7, 5), "b": (7,), "b1": (1, 7), "s": (), "column": (3, 1)}
    used = {n: rand(*s, dtype=dtype) for n, s in shapes.items() if f"{n})" in nodes or f"{n}," in nodes}
    return used | ({"nil": np.zeros(7, dtype)} if "nil" in nodes else {})


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("nodes", COLUMNS)
def test_fold_columns(nodes, dtype):
    want = COLUMNS[nodes]
    text = (
        f"g ({tensor('3,5', dtype)} x, {tensor('5,7', dtype)} z) => ({tensor('3,7', dtype)} y) {{ {nodes} }}"
    )
    with np.errstate(all="ignore"):
        check(
            model(text, **constants(nodes, dtype)), want, x=rand(3, 5, dtype=dtype), z=rand(5, 7, dtype=dtype)
        )


@pytest.mark.parametrize("shape", [(1, 5), (2, 1, 5), (2, 3, 5), (2, 3, 17, 5), (0, 5)])
@pytest.mark.parametrize("b", [(5, 33), (1, 5, 33), (3, 5, 33)])
def test_bias_of_batches(shape, b):
    if len(b) == 3 and b[0] == 3 and shape[-3:-2] not in ((), (3,)):
        pytest.skip("shapes do not broadcast")
    dims = ",".join(map(str, shape))
    text = f"g (float[{dims}] x) => (float y) {{ c = MatMul(x, w) d = Add(c, b) y = Relu(d) }}"
    proto = model(text, w=rand(*b), b=rand(33))
    proto.graph.output[0].ClearField("type")
    check(proto, ["FusedMatMul/Relu"], x=rand(*shape))


def test_a_bias_that_adds_an_axis_stays():
    text = "g (float[N,5] x) => (float[1,N,7] y) { c = MatMul(x, w) y = Add(c, b) }"
    check(model(text, w=rand(5, 7), b=rand(1, 1, 7)), ["MatMul", "Add"], x=rand(3, 5))


def test_weights_that_two_nodes_share():
    text = (
        "g (float[N,5] x) => (float[N,5] y) { c = MatMul(x, w) d = Mul(c, s) e = MatMul(d, w) y = Add(e, b) }"
    )
    check(model(text, w=rand(5, 5), s=rand(5), b=rand(5)), ["FusedMatMul"] * 2, x=rand(3, 5))


TURNED = {
    "t = Transpose(b) y = MatMul(a, t)": ((3, 5), (7, 5), ["FusedMatMul"]),
    "t = Transpose <perm: ints = [1, 0]> (a) y = MatMul(t, b)": ((5, 3), (5, 7), ["FusedMatMul"]),
    "s = Transpose(a) t = Transpose(b) y = MatMul(s, t)": ((5, 3), (7, 5), ["FusedMatMul"]),
    "t = Transpose(b) y = Gemm(a, t)": ((3, 5), (7, 5), ["Gemm"]),
    "t = Transpose(b) y = Gemm <transB: int = 1> (a, t)": ((3, 5), (5, 7), ["Gemm"]),
    "s = Transpose(a) t = Transpose(b) c = Gemm(s, t) y = Relu(c)": ((5, 3), (7, 5), ["FusedGemm/Relu"]),
    "t = Transpose <perm: ints = [0, 2, 1]> (b) y = MatMul(a, t)": ((2, 3, 5), (2, 7, 5), ["FusedMatMul"]),
    "t = Transpose <perm: ints = [0, 2, 1]> (b) y = MatMul(a, t) ": ((3, 5), (2, 7, 5), ["FusedMatMul"]),
    "t = Transpose <perm: ints = [0, 2, 1]> (a) y = MatMul(t, b)": ((4, 5, 3), (5, 7), ["FusedMatMul"]),
    "t = Transpose <perm: ints = [0, 2, 1]> (a) y = MatMul(t, b) ": ((1, 5, 3), (5, 7), ["FusedMatMul"]),
    "t = Transpose <perm: ints = [1, 0, 2]> (a) y = MatMul(t, b)": (
        (3, 2, 5),
        (5, 7),
        ["Transpose", "MatMul"],
    ),
    "t = Transpose <perm: ints = [0, 2, 1]> (b) y = MatMul(a, t)  ": (
        (5,),
        (2, 7, 5),
        ["Transpose", "MatMul"],
    ),
}


@pytest.mark.parametrize("constant", ["", "a", "b"])
@pytest.mark.parametrize("nodes", TURNED)
def test_fold_transposes(nodes, constant):
    a, b, want = TURNED[nodes]
    given = {"a": rand(*a), "b": rand(*b)}
    dims = {n: ",".join(map(str, v.shape)) for n, v in given.items()}
    text = f"g (float[{dims['a']}] a, float[{dims['b']}] b) => (float y) {{ {nodes} }}"
    proto = model(text, **({constant: given.pop(constant)} if constant else {}))
    proto.graph.output[0].ClearField("type")
    check(proto, None if constant else want, **given)


def test_a_transpose_that_others_read_too():
    text = """g (float[3,5] a, float[7,5] b) => (float[3,7] y, float[5,7] z)
    { t = Transpose(b) y = MatMul(a, t) z = Neg(t) }"""
    check(model(text), ["Transpose", "FusedMatMul", "Neg"], a=rand(3, 5), b=rand(7, 5))
