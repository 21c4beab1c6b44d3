"""Where and Clip, against NumPy and `onnx.reference`."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.elementwise_cases import FLOATS, SPECIAL, dtype, infer, normal, versions
from tests.ops.harness import check
from tilewise import TilewiseError
from tilewise.graph import Fact

F32, BOOL = np.dtype("float32"), np.dtype(bool)
NUMBERS = [*FLOATS, "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]

WHERE = [
    ((), (), ()),
    ((3,), (3,), (3,)),
    ((2, 3), (), ()),
    ((2, 3), (3,), (2, 1)),
    ((), (2, 3), (3,)),
    ((1,), (), (40, 2)),
    ((40, 50), (50,), ()),
    ((40, 1), (40, 50), (1, 50)),
    ((40, 1), (40, 50), (40, 1)),
    ((1, 50), (40, 1), (50,)),
    ((2, 3, 4, 5), (3, 1, 1), (2, 3, 1, 1)),
    ((2, 1, 4, 1), (1, 3, 1, 5), (2, 1, 1, 5)),
]


@pytest.mark.parametrize(("c", "x", "y"), WHERE)
@pytest.mark.parametrize("value", [None, True, False])
def test_where_broadcasting(c, x, y, value):
    condition = np.asarray(normal(*c) > 0) if value is None else np.full(c, value)
    check("Where", [condition, normal(*x, seed=1), normal(*y, seed=2)], oracle=np.where, kernel=True)


@pytest.mark.parametrize("of", [*NUMBERS, "bool"])
def test_where_types(of):
    c, x, y = normal(4, 30) > 0, normal(4, 30, seed=1, of=of), normal(30, seed=2, of=of)
    check("Where", [c, x, y], oracle=lambda c, x, y: np.where(c, x, y), kernel=True)


def test_where_of_strings_and_complex():
    c = np.array([True, False, True])
    text = np.array(["a", "b", "c"], object)
    check("Where", [c, text, np.array([""], object)], oracle=lambda *_: np.array(["a", "", "c"], object))
    z = np.array([1 + 2j, 3, 4j])
    check("Where", [c, z, -z], oracle=np.where)
    check("Where", [c, z.astype(np.complex64), -z.astype(np.complex64)], oracle=np.where, kernel=True)


@pytest.mark.parametrize("opset", versions("Where"))
def test_where_versions(opset):
    check("Where", [normal(2, 3) > 0, normal(2, 3, seed=1), normal(3)], opset=opset, kernel=True)


def test_where_empty():
    check("Where", [np.zeros((0, 3), bool), normal(3), normal(1)])


def test_where_errors():
    with pytest.raises(TilewiseError, match=r"Where.*input 0: expected .*bool, got float32\[3\]"):
        infer("Where", Fact(F32, (3,)), Fact(F32, (3,)), Fact(F32, (3,)))
    with pytest.raises(TilewiseError, match=r"Where.*one type, got float32\[3\], int64\[3\]"):
        infer("Where", Fact(BOOL, (3,)), Fact(F32, (3,)), Fact(np.dtype("int64"), (3,)))
    with pytest.raises(TilewiseError, match=r"Where.*do not broadcast"):
        infer("Where", Fact(BOOL, (2,)), Fact(F32, (3,)), Fact(F32, ()))


BOUNDS = [(-1.0, 1.5), (-1.0, None), (None, 1.5), (None, None), (0.0, 0.0), (2.0, -2.0), (-np.inf, np.inf)]


def clipped(x, low, high):
    """In float64, NaN kept, the upper bound last."""
    y = x.astype(np.float64)
    y = y if low is None else np.maximum(y, low)
    y = y if high is None else np.minimum(y, high)
    return y.astype(x.dtype)


@pytest.mark.parametrize(("low", "high"), BOUNDS)
@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("opset", [v for v in versions("Clip") if v >= 11])
def test_clip_by_inputs(low, high, constant, opset):
    bounds = [None if v is None else np.float32(v) for v in (low, high)]
    inputs = [SPECIAL, *(None if v is None else np.asarray(v) for v in bounds)]
    constants = [i for i in (1, 2) if constant and inputs[i] is not None]
    oracle = lambda *_: clipped(SPECIAL, low, high)  # noqa: E731
    check("Clip", inputs, opset=opset, constants=constants, oracle=oracle, rtol=0, atol=0, kernel=True)


@pytest.mark.parametrize(("low", "high"), [b for b in BOUNDS if np.inf not in b])
@pytest.mark.parametrize("opset", [7, 10])
def test_clip_by_attributes(low, high, opset):
    attrs = {k: v for k, v in (("min", low), ("max", high)) if v is not None}
    x = normal(3, 5)
    check("Clip", [x], attrs, opset=opset, oracle=lambda x: clipped(x, low, high), kernel=True)


def test_clip_with_trailing_inputs_left_out():
    x, low = normal(3, 5), np.float32(0.5)
    check("Clip", [x], oracle=lambda x: x, kernel=True)
    check("Clip", [x, np.asarray(low)], oracle=lambda x, low: np.maximum(x, low), kernel=True)
    check("Clip", [x, np.float32([0.5])], constants=[1], oracle=np.maximum, kernel=True)


@pytest.mark.parametrize("bound", [1, 2])
@pytest.mark.parametrize("constant", [True, False])
def test_clip_by_nan(bound, constant):
    inputs = [normal(4), np.float32(-1), np.float32(1)]
    inputs[bound] = np.float32(np.nan)
    inputs = [np.asarray(v) for v in inputs]
    oracle = lambda *_: np.full(4, np.nan, np.float32)  # noqa: E731
    check("Clip", inputs, constants=[1, 2] if constant else [], oracle=oracle)


@pytest.mark.parametrize(
    "of", [*FLOATS, "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
)
@pytest.mark.parametrize("constant", [True, False])
def test_clip_types(of, constant):
    x, low, high = normal(4, 6, scale=5, of=of), *np.array([1, 4]).astype(dtype(of))
    inputs = [x, np.asarray(low), np.asarray(high)]
    check("Clip", inputs, constants=[1, 2] if constant else [], oracle=lambda *_: clipped(x, 1, 4))


@pytest.mark.parametrize("shape", [(), (1,), (0, 3)])
def test_clip_shapes(shape):
    low = np.float32(0)
    check("Clip", [normal(*shape), np.asarray(low)], oracle=lambda x, low: np.asarray(np.maximum(x, low)))


def test_clip_errors():
    with pytest.raises(
        TilewiseError, match=r"Clip.*input 1: expected a bound of one element, got float32\[2\]"
    ):
        infer("Clip", Fact(F32, (3,)), Fact(F32, (2,)))
    with pytest.raises(TilewiseError, match=r"Clip.*one type, got float32\[3\], float64\[\]"):
        infer("Clip", Fact(F32, (3,)), Fact(np.dtype("float64"), ()))
