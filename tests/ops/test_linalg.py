"""MatMul, Gemm and Einsum against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

import tilewise as tw
from tests.ops.harness import check, one_node

RNG = np.random.default_rng(11)


def rand(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


MATMUL = {
    "1 x 1": ((1, 1), (1, 1)),
    "vectors": ((7,), (7,)),
    "vector matrix": ((7,), (7, 5)),
    "matrix vector": ((5, 7), (7,)),
    "row": ((1, 300), (300, 70)),
    "four rows": ((4, 33), (33, 21)),
    "tall": ((100, 9), (9, 3)),
    "odd": ((13, 31), (31, 45)),
    "exact panels": ((28, 16), (16, 64)),
    "batch": ((2, 3, 5, 7), (2, 3, 7, 33)),
    "batch times matrix": ((2, 3, 5, 7), (7, 33)),
    "matrix times batch": ((5, 7), (4, 7, 20)),
    "batch of one": ((3, 5, 7), (1, 7, 20)),
    "k of 1": ((5, 1), (1, 40)),
    "one column": ((50, 130), (130, 1)),
    "a vector as column": ((3, 50, 130), (130,)),
    "eight columns": ((51, 130), (130, 8)),
    "three columns of a batch of one": ((2, 9, 130), (1, 130, 3)),
    "a row and a wide matrix": ((1, 37), (37, 2100)),
    "three rows and a batch of one": ((3, 37), (1, 1, 37, 45)),
    "rows and columns of odd tiles": ((29, 67), (67, 40)),
    "deep": ((9, 3000), (3000, 17)),
    "deep rows read in place": ((30, 1100), (1100, 45)),
    "deep rows a multiple of lines apart": ((30, 1024), (1024, 45)),
    "deep rows and many panels": ((20, 1030), (1030, 300)),
    "right rows a page apart": ((260, 20), (20, 1024)),
    "deep batch": ((3, 7, 600), (3, 600, 49)),
    "one column behind a panel": ((20, 17), (17, 33)),
    "many rows and few columns": ((200, 40), (40, 12)),
}


@pytest.mark.parametrize("case", MATMUL)
@pytest.mark.parametrize("constants", [(), (0,), (1,)], ids=["inputs", "constant a", "constant b"])
def test_matmul(case, constants):
    a, b = (rand(*s) for s in MATMUL[case])
    want = np.asarray(a.astype(np.float64) @ b.astype(np.float64)).astype(np.float32)
    check("MatMul", [a, b], constants=constants, oracle=lambda *_: want, rtol=1e-4, atol=1e-4, kernel=True)


def test_matmul_broadcast_on_both_sides_runs_on_the_host():
    a, b = rand(2, 1, 5, 7), rand(1, 3, 7, 4)
    check("MatMul", [a, b], oracle=lambda *_: a @ b, rtol=1e-5, atol=1e-5, kernel=False)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32, np.int64, np.uint32])
def test_matmul_dtypes(dtype):
    a, b = (4 * rand(5, 7)).astype(dtype), (4 * rand(7, 6)).astype(dtype)
    check("MatMul", [a, b], rtol=1e-2 if dtype == np.float16 else 1e-9, atol=1e-2)


@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("constants", [(), (1,)], ids=["inputs", "constant"])
def test_gemm_of_few_columns(n, trans_a, trans_b, constants):
    m, k = 23, 150
    a = rand(k, m) if trans_a else rand(m, k)
    b = rand(n, k) if trans_b else rand(k, n)
    args, attrs = [a, b, rand(m, n)], {"transA": trans_a, "transB": trans_b, "alpha": 0.5}
    product = np.matmul(a.T if trans_a else a, b.T if trans_b else b, dtype=np.float64)
    want = (0.5 * product + args[2]).astype(np.float32)
    check("Gemm", args, attrs, constants=constants, oracle=lambda *_: want, rtol=1e-4, atol=1e-4, kernel=True)


@pytest.mark.parametrize("m", [1, 4, 5, 30])
@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("c", [None, (), (1,), (40,), (1, 40), ("m", 1), ("m", 40), (1, 1)], ids=str)
@pytest.mark.parametrize("constants", [(), (1, 2)], ids=["inputs", "constants"])
def test_gemm(m, trans_a, trans_b, c, constants):
    k, n = 19, 40
    a = rand(k, m) if trans_a else rand(m, k)
    b = rand(n, k) if trans_b else rand(k, n)
    args = [a, b] + ([rand(*(m if d == "m" else d for d in c))] if c is not None else [])
    attrs = {"transA": trans_a, "transB": trans_b, "alpha": 0.5}
    left, right = (a.T if trans_a else a), (b.T if trans_b else b)
    want = 0.5 * (left.astype(np.float64) @ right.astype(np.float64))
    if c is not None:
        want = want + args[2]
    constants = [i for i in constants if i < len(args)]
    check(
        "Gemm",
        args,
        attrs,
        constants=constants,
        oracle=lambda *_: want.astype(np.float32),
        rtol=1e-4,
        atol=1e-4,
        kernel=True,
    )


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("bias", [(40,), (9, 1), (9, 40)], ids=str)
@pytest.mark.parametrize("activation", ["Relu", "Sigmoid"])
def test_gemm_in_parts_of_k_adds_bias_once_and_activates_last(trans_a, bias, activation):
    a, b, c = (rand(1300, 9) if trans_a else rand(9, 1300)), 0.05 * rand(1300, 40), rand(*bias)
    gemm = helper.make_node("Gemm", ["a", "b", "c"], ["h"], transA=trans_a, alpha=0.5)
    inputs = [
        helper.make_tensor_value_info(n, TensorProto.FLOAT, v.shape)
        for n, v in zip("abc", (a, b, c), strict=True)
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, (9, 40))
    graph = helper.make_graph([gemm, helper.make_node(activation, ["h"], ["y"])], "g", inputs, [output])
    model = tw.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8))
    left = a.T if trans_a else a
    h = 0.5 * (left.astype(np.float64) @ b) + c
    want = np.maximum(h, 0) if activation == "Relu" else 1 / (1 + np.exp(-h))
    np.testing.assert_allclose(model(a, b, c), want, rtol=1e-4, atol=1e-5)


def test_gemm_beta():
    args = [rand(3, 4), rand(4, 5), rand(5)]
    check("Gemm", args, {"beta": 0.25, "alpha": 2.0}, rtol=1e-5, atol=1e-5)


def test_gemm_opset_7():
    check("Gemm", [rand(3, 4), rand(5, 4), rand(5)], {"transB": 1}, opset=7, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "shapes", "word"),
    [
        ("MatMul", ((2, 3), (4, 5)), "inner dims"),
        ("MatMul", ((2, 2, 3), (3, 3, 5)), "broadcast"),
        ("Gemm", ((2, 3), (4, 5)), "expected A'"),
        ("Gemm", ((2, 3, 1), (3, 5)), "rank 2"),
        ("Gemm", ((2, 3), (3, 5), (4,)), "broadcast"),
    ],
)
def test_wrong_shapes_are_refused(op, shapes, word):
    with pytest.raises(tw.TilewiseError, match=word):
        tw.load(one_node(op, [rand(*s) for s in shapes]).SerializeToString())


EINSUM = {
    "ij,jk->ik": ((3, 4), (4, 5)),
    "bij,bjk->bik": ((2, 3, 4), (2, 4, 5)),
    "...ij,...jk": ((2, 3, 4), (2, 4, 5)),
    "...ij->...ji": ((2, 3, 4),),
    "ii->i": ((4, 4),),
    "i,i->": ((4,), (4,)),
    "ij": ((3, 4),),
    "ba": ((3, 4),),
    " i j , j -> i ": ((3, 4), (4,)),
    "ab,bc,cd->ad": ((2, 3), (3, 4), (4, 5)),
}


@pytest.mark.parametrize("equation", EINSUM)
def test_einsum(equation):
    check("Einsum", [rand(*s, dtype=np.float64) for s in EINSUM[equation]], {"equation": equation}, rtol=1e-9)


@pytest.mark.parametrize(
    ("equation", "shapes", "word"),
    [
        ("ij,jk->ik", ((3, 4),), "2 terms"),
        ("ij,jk->ik", ((3, 4), (5, 6)), "'j'"),
        ("ijk", ((3, 4),), "does not fit"),
    ],
)
def test_einsum_refuses(equation, shapes, word):
    with pytest.raises(tw.TilewiseError, match=word):
        tw.load(one_node("Einsum", [rand(*s) for s in shapes], {"equation": equation}).SerializeToString())
