"""Every gradient rule against central differences in float64."""

from __future__ import annotations

import re

import pytest

from tests.autodiff.projection import check_gradients
from tilewise.autodiff.rules import RULES

BROADCASTS = [
    ((2, 3), (2, 3)),
    ((2, 3), (3,)),
    ((3,), (2, 3)),
    ((2, 1), (1, 3)),
    ((), (2, 2)),
    ((2, 3), ()),
    ((2, 3), (1, 1)),
    ((1,), (4, 1, 3)),
    ((4, 1, 3), (2, 1)),
    ((1, 1, 1), (2,)),
    ((0, 3), (3,)),
    ((1, 3), (0, 1)),
]
BINARY = {
    "Add": "y = Add(a, b)",
    "Sub": "y = Sub(a, b)",
    "Mul": "y = Mul(a, b)",
    "Div": "y = Div(a, b)",
    "Sum": "y = Sum(a, b, a)",
}
UNARY = {
    "Identity": "y = Identity(a)",
    "Neg": "y = Neg(a)",
    "Exp": "y = Exp(a)",
    "Log": "y = Log(a)",
    "Sqrt": "y = Sqrt(a)",
    "Relu": "h = Neg(a) i = Relu(h) j = Relu(a) y = Sub(j, i)",
    "Sigmoid": "y = Sigmoid(a)",
    "Tanh": "y = Tanh(a)",
}
MATRICES = [
    ((2, 3), (3, 4)),
    ((1, 3), (3, 1)),
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((3,), (2, 3, 4)),
    ((2, 4, 3), (3,)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((6, 1, 2, 3), (5, 3, 4)),
    ((0, 3), (3, 4)),
    ((2, 0), (0, 4)),
]
SHAPES = {
    "Flatten": ("y = Flatten <axis = 2> (a)", 18),
    "Reshape": ("shape = Constant <value_ints = [3, -1]> () y = Reshape(a, shape)", 18),
    "Reshape copies": ("shape = Constant <value_ints = [0, -1]> () y = Reshape(a, shape)", 18),
    "Reshape computed": ("s = Shape(a) n = Size(a) o = Div(n, n) t = Mul(s, o) y = Reshape(a, t)", 18),
    "Squeeze": ("y = Squeeze(a)", 18),
    "Squeeze axes": ("axes = Constant <value_ints = [-3]> () y = Squeeze(a, axes)", 18),
    "Squeeze 11": ("y = Squeeze <axes = [1]> (a)", 11),
    "Transpose": ("y = Transpose(a)", 18),
    "Transpose perm": ("y = Transpose <perm = [2, 0, 3, 1]> (a)", 18),
    "Unsqueeze": ("axes = Constant <value_ints = [0, -1]> () y = Unsqueeze(a, axes)", 18),
    "Unsqueeze 11": ("y = Unsqueeze <axes = [2]> (a)", 11),
    "Expand": ("shape = Constant <value_ints = [5, 1, 3, 1, 1]> () y = Expand(a, shape)", 18),
}


@pytest.mark.parametrize("free", [False, True], ids=["fixed", "free"])
@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
@pytest.mark.parametrize("body", BINARY.values(), ids=BINARY)
def test_binary(body: str, shapes: tuple, free: bool) -> None:
    check_gradients(body, dict(zip("ab", shapes, strict=True)), free=free)


@pytest.mark.parametrize("shape", [(2, 3), (), (0, 2)], ids=str)
@pytest.mark.parametrize("body", UNARY.values(), ids=UNARY)
def test_unary(body: str, shape: tuple) -> None:
    check_gradients(body, {"a": shape})


@pytest.mark.parametrize(
    "exponent", ["double {2}", "double[3] {-1.5, 0, 3}", "int64[2, 1] {2, 0}", "float {0.5}"]
)
@pytest.mark.parametrize("shape", [(3,), (2, 3), (), (1, 1)], ids=str)
def test_pow(shape: tuple, exponent: str) -> None:
    check_gradients(f"p = Constant <value = {exponent}> () y = Pow(a, p)", {"a": shape})


def test_pow_at_zero() -> None:
    check_gradients(
        "p = Constant <value = double[3] {0, 2, 3}> () y = Pow(a, p)", {"a": (2, 3)}, low=0, high=0
    )


@pytest.mark.parametrize("free", [False, True], ids=["fixed", "free"])
@pytest.mark.parametrize("shapes", MATRICES, ids=str)
def test_matmul(shapes: tuple, free: bool) -> None:
    check_gradients("y = MatMul(a, b)", dict(zip("ab", shapes, strict=True)), free=free)


@pytest.mark.parametrize("c", [None, (2, 4), (4,), (2, 1), (1,), ()], ids=str)
@pytest.mark.parametrize("flip_b", [0, 1])
@pytest.mark.parametrize("flip_a", [0, 1])
def test_gemm(flip_a: int, flip_b: int, c: tuple | None) -> None:
    shapes: dict[str, tuple] = {"a": (3, 2) if flip_a else (2, 3), "b": (4, 3) if flip_b else (3, 4)}
    if c is not None:
        shapes["c"] = c
    attrs = f"alpha = 0.5, beta = 1.5, transA = {flip_a}, transB = {flip_b}"
    check_gradients(f"y = Gemm <{attrs}> ({', '.join(shapes)})", shapes)
    check_gradients(f"y = Gemm <transA = {flip_a}, transB = {flip_b}> ({', '.join(shapes)})", shapes)


@pytest.mark.parametrize("free", [False, True], ids=["fixed", "free"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (1, 3, 1), (2, 0, 3)], ids=str)
@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axes", ["1", "0, -1", "", None], ids=str)
@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean"])
def test_reduce(op_type: str, axes: str | None, keepdims: int, shape: tuple, free: bool) -> None:
    if op_type == "ReduceMean" and 0 in shape:
        shape = (0, 3, 4) if axes == "1" else (2, 1, 3)
    if axes is None:
        check_gradients(f"y = {op_type} <keepdims = {keepdims}> (a)", {"a": shape}, free=free)
        return
    count = len(axes.split(",")) if axes else 0
    constant = f"axes = Constant <value = int64[{count}] {{{axes}}}> ()"
    for noop in (0, 1):
        attrs = f"keepdims = {keepdims}, noop_with_empty_axes = {noop}"
        check_gradients(f"{constant} y = {op_type} <{attrs}> (a, axes)", {"a": shape}, free=free)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean"])
def test_reduce_with_axes_as_attribute(op_type: str, keepdims: int) -> None:
    check_gradients(f"y = {op_type} <axes = [0, -1], keepdims = {keepdims}> (a)", {"a": (2, 3, 4)}, opset=11)


@pytest.mark.parametrize("free", [False, True], ids=["fixed", "free"])
@pytest.mark.parametrize("shape", [(2, 1, 3, 4), (3, 1, 4, 2)], ids=str)
@pytest.mark.parametrize(("body", "opset"), SHAPES.values(), ids=SHAPES)
def test_shape(body: str, opset: int, shape: tuple, free: bool) -> None:
    check_gradients(body, {"a": shape}, opset=opset, free=free)


@pytest.mark.parametrize("shapes", BROADCASTS, ids=str)
def test_where(shapes: tuple) -> None:
    body = "m = Greater(a, b) y = Where(m, a, b)"
    check_gradients(body, dict(zip("ab", shapes, strict=True)))


def test_cast_like() -> None:
    check_gradients("f = CastLike(a, a) y = Mul(f, f)", {"a": (2, 3)})
    check_gradients("y = CastLike(a, b)", {"a": (2, 3), "b": (4,)})


def test_every_rule_has_a_case() -> None:
    named = {*BINARY, *UNARY, *(re.split(r"\W", name)[0] for name in SHAPES)}
    others = {"Pow", "MatMul", "Gemm", "ReduceSum", "ReduceMean", "Where", "CastLike"}
    assert {op_type for domain, op_type in RULES if not domain} == named | others
