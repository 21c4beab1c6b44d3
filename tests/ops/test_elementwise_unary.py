"""Element-wise functions of one tensor, against NumPy in float64 and `onnx.reference`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.elementwise_cases import (
    ATOL,
    FLOATS,
    RTOL,
    SPECIAL,
    dtype,
    erf,
    exact,
    infer,
    normal,
    versions,
)
from tests.ops.harness import check
from tilewise import TilewiseError, UnsupportedError
from tilewise.graph import Fact

FUNCTIONS = {
    "Abs": np.abs,
    "Neg": np.negative,
    "Sign": np.sign,
    "Ceil": np.ceil,
    "Floor": np.floor,
    "Round": np.round,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Exp": np.exp,
    "Log": np.log,
    "Erf": erf,
    "Sin": np.sin,
    "Cos": np.cos,
    "Tan": np.tan,
    "Asin": np.arcsin,
    "Acos": np.arccos,
    "Atan": np.arctan,
    "Sinh": np.sinh,
    "Cosh": np.cosh,
    "Asinh": np.arcsinh,
    "Acosh": np.arccosh,
    "Atanh": np.arctanh,
}
SHAPES = [(), (1,), (3,), (1, 1, 1), (2, 3, 5), (4, 1, 33), (5000, 7)]


@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("of", FLOATS)
def test_values(op, of):
    check(
        op,
        [normal(3, 4, 5, of=of)],
        oracle=exact(FUNCTIONS[op]),
        rtol=RTOL[of],
        atol=ATOL[of],
        kernel=of == "float32",
    )


@pytest.mark.parametrize("op", FUNCTIONS)
def test_special_values(op):
    x = SPECIAL
    if op in ("Sin", "Cos", "Tan"):
        x = np.concatenate([SPECIAL, np.float32([1e5, -999999.5, 1e6, 1.1e6, 1e20, -2e9])])
    check(op, [x], oracle=exact(FUNCTIONS[op]), rtol=1e-6, atol=1e-44, kernel=True)


@pytest.mark.parametrize("op", FUNCTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_shapes(op, shape):
    x = np.abs(normal(*shape, scale=0.3)) + (1 if op == "Acosh" else 0)
    check(op, [x.astype(np.float32)], rtol=1e-5, atol=1e-6, kernel=True)


@pytest.mark.parametrize(("op", "opset"), [(op, v) for op in FUNCTIONS for v in versions(op)])
def test_versions(op, opset):
    check(op, [normal(2, 3)], opset=opset, kernel=True)


@pytest.mark.parametrize("op", FUNCTIONS)
def test_empty(op):
    check(op, [np.zeros((0, 3), np.float32)], oracle=exact(FUNCTIONS[op]))


@pytest.mark.parametrize("op", ["Abs", "Neg", "Sign"])
@pytest.mark.parametrize("of", ["int8", "int16", "int32", "int64"])
def test_integers(op, of):
    check(op, [np.array([[0, 1, -1], [7, -100, 100]], of)], kernel=False)


@pytest.mark.parametrize("op", ["Abs", "Sign"])
@pytest.mark.parametrize("of", ["uint8", "uint16", "uint32", "uint64"])
def test_unsigned(op, of):
    check(op, [np.array([0, 1, 200], of)])


def test_round_goes_to_even():
    x = np.float32([0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, 8388609.0, 1e30])
    check("Round", [x], oracle=lambda _: np.float32([0, 2, 2, -0.0, -2, 0, 8388609.0, 1e30]), kernel=True)


@pytest.mark.parametrize("of", ["int32", "uint8"])
def test_erf_of_integers_until_opset_12(of):
    check("Erf", [np.array([0, 1, 2, 100], of)], opset=9, oracle=lambda x: erf(x).astype(x.dtype))


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,)])
def test_not(shape):
    x = normal(*shape) > 0
    check("Not", [np.asarray(x)], oracle=lambda x: ~x, kernel=None if 0 in shape else True)


@pytest.mark.parametrize("of", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_bitwise_not(of):
    check("BitwiseNot", [np.array([0, 1, 100], of)], oracle=lambda x: ~x)


@pytest.mark.parametrize("of", [*FLOATS, "float8_e4m3fn", "float8_e5m2"])
def test_isnan(of):
    x = SPECIAL.astype(dtype(of))
    check("IsNaN", [x], oracle=lambda x: np.isnan(x.astype(np.float64)), kernel=of == "float32")


@pytest.mark.parametrize("of", [*FLOATS, "float8_e5m2"])
@pytest.mark.parametrize("negative", [0, 1])
@pytest.mark.parametrize("positive", [0, 1])
def test_isinf(of, negative, positive):
    def oracle(x):
        x = x.astype(np.float64)
        return ((x == np.inf) & (positive == 1)) | ((x == -np.inf) & (negative == 1))

    x = np.float32([0, np.inf, -np.inf, np.nan, 1]).astype(dtype(of))
    attrs = {"detect_negative": negative, "detect_positive": positive}
    check("IsInf", [x], attrs, oracle=oracle, kernel=of == "float32")


@pytest.mark.parametrize(
    ("op", "wrong", "expected"),
    [
        ("Sqrt", "int64", "float32"),
        ("Neg", "uint8", "int8"),
        ("Not", "float32", "bool"),
        ("BitwiseNot", "float32", "int32"),
        ("Exp", "object", "float16"),
        ("IsNaN", "bool", "bfloat16"),
    ],
)
def test_wrong_type_is_named(op, wrong, expected):
    with pytest.raises(TilewiseError, match=rf"{op}.*input 0: expected .*{expected}.*got {wrong}\[3\]"):
        infer(op, Fact(np.dtype(wrong), (3,)))


def test_missing_input_is_named():
    with pytest.raises(TilewiseError, match=r"Exp.*input 0 is missing"):
        infer("Exp", None)


def test_loading_a_wrong_type_fails():
    with pytest.raises(UnsupportedError, match="Sqrt"):
        check("Sqrt", [np.array([1, 2])], oracle=lambda x: x)
