"""Reductions over axes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise.errors import TilewiseError
from tilewise.runtime.model import load

NAN, INF = np.nan, np.inf


def floats(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def log_sum_exp(x, axis, keepdims):
    top = np.max(x, axis=axis, keepdims=True)
    y = np.log(np.sum(np.exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis)


PLAIN = {
    "ReduceSum": np.sum,
    "ReduceMean": np.mean,
    "ReduceMax": np.max,
    "ReduceMin": np.min,
    "ReduceProd": np.prod,
    "ReduceL1": lambda x, axis, keepdims: np.sum(np.abs(x), axis=axis, keepdims=keepdims),
    "ReduceL2": lambda x, axis, keepdims: np.sqrt(np.sum(x * x, axis=axis, keepdims=keepdims)),
    "ReduceSumSquare": lambda x, axis, keepdims: np.sum(x * x, axis=axis, keepdims=keepdims),
    "ReduceLogSum": lambda x, axis, keepdims: np.log(np.sum(x, axis=axis, keepdims=keepdims)),
    "ReduceLogSumExp": log_sum_exp,
}
"""Definitions, applied in float64."""

OPERATORS = sorted(PLAIN)


def plain(op, axes, keepdims=True):
    """An oracle in float64; its result has x's dtype. axes: None for all."""

    def run(x, *_):
        wide = x.astype(np.float64)
        axis = tuple(range(x.ndim)) if axes is None else tuple(axes)
        return np.asarray(PLAIN[op](wide, axis=axis, keepdims=keepdims)).astype(x.dtype)

    return run


def sample(op, shape, dtype=np.float32):
    """Inputs on which the operator is well conditioned."""
    x = floats(*shape, dtype=np.float64)
    if op == "ReduceProd":
        x = 1 + 0.1 * np.tanh(x)
    if op == "ReduceLogSum":
        x = np.abs(x) + 0.1
    return x.astype(dtype)


def axes_form(op, axes):
    """The inputs and attributes behind x that name the axes in the newest opset."""
    return [] if axes is None else [np.array(axes, np.int64)]


SHAPES = [
    ((), None),
    ((1,), [0]),
    ((7,), [-1]),
    ((1, 1, 1), [1]),
    ((3, 1, 5), [1]),
    ((2, 3, 4), [0]),
    ((2, 3, 4), [1]),
    ((2, 3, 4), [-1]),
    ((2, 3, 4), [2, 0]),
    ((2, 3, 4), None),
    ((2, 3, 4, 5, 6), [1, 3]),
    ((2, 3, 4, 5, 6), [0, 2, 4]),
    ((2, 3, 1, 5), [1, 3]),
    ((3, 65), [1]),
    ((2, 100, 3), [1]),
    ((2, 70, 63), [1]),
    ((2, 5, 64), [1]),
    ((2, 33, 7, 7), [2, 3]),
    ((2, 33, 7, 7), [1]),
    ((2, 33, 7, 7), [0, 2, 3]),
    ((1, 3, 40, 41), [1]),
    ((300, 2), [1]),
    ((300, 2), [0]),
    ((5, 1030), [1]),
    ((2, 3, 1500), [1]),
    ((1, 70001), [1]),
    ((1, 4500, 17), [1]),
    ((1, 600, 100), [1]),
    ((40000, 3), [0]),
]


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_shapes(op, shape, axes):
    x = sample(op, shape)
    rtol = 1e-3 if op == "ReduceProd" and x.size > 1000 else 1e-5
    for keepdims in (1, 0):
        check(
            op,
            [x, *axes_form(op, axes)],
            {"keepdims": keepdims},
            constants=(1,) if axes is not None else (),
            oracle=plain(op, axes, bool(keepdims)),
            rtol=rtol,
            atol=2e-5,
            kernel=True,
        )


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("opset", [7, 11, 12, 13, 17, 18, 28])
@pytest.mark.parametrize("axes", [None, [1], [0, 2]])
def test_opsets(op, opset, axes):
    x = sample(op, (3, 4, 5))
    as_input = opset >= (13 if op == "ReduceSum" else 18)
    attrs = {} if axes is None or as_input else {"axes": axes}
    inputs = [x, np.array(axes, np.int64)] if axes is not None and as_input else [x]
    constants = (1,) if len(inputs) > 1 else ()
    check(op, inputs, attrs, opset=opset, constants=constants, oracle=plain(op, axes), kernel=True)


@pytest.mark.parametrize("op", OPERATORS)
def test_axes_given_at_run_time(op):
    x = sample(op, (3, 4, 5))
    for axes, keepdims in (([1], 1), ([0, -1], 0), ([], 1)):
        oracle = plain(op, axes or None, bool(keepdims))
        check(op, [x, np.array(axes, np.int64)], {"keepdims": keepdims}, oracle=oracle, kernel=False)


NOOP = {
    "ReduceL1": np.abs,
    "ReduceL2": np.abs,
    "ReduceSumSquare": np.square,
    "ReduceLogSum": np.log,
}
"""What remains of an operator that reduces nothing."""


@pytest.mark.parametrize("op", OPERATORS)
def test_noop_with_empty_axes(op):
    x, none = sample(op, (3, 4)), np.array([], np.int64)
    rest = NOOP.get(op, np.positive)
    for noop, expected in ((1, lambda x, *_: rest(x)), (0, plain(op, None))):
        attrs = {"noop_with_empty_axes": noop}
        check(op, [x], attrs, oracle=expected, kernel=True)
        check(op, [x, none], attrs, constants=(1,), oracle=expected, kernel=True)


EMPTY = {
    "ReduceSum": 0,
    "ReduceMax": -INF,
    "ReduceMin": INF,
    "ReduceProd": 1,
    "ReduceL1": 0,
    "ReduceL2": 0,
    "ReduceSumSquare": 0,
    "ReduceLogSum": -INF,
    "ReduceLogSumExp": -INF,
    "ReduceMean": NAN,
}


@pytest.mark.parametrize("op", OPERATORS)
def test_of_nothing(op):
    x = np.zeros((2, 0, 4), np.float32)
    full = np.full((2, 1, 4), EMPTY[op], np.float32)
    check(op, [x, np.array([1])], oracle=lambda *_: full)
    check(op, [x, np.array([0])], oracle=lambda *_: np.zeros((1, 0, 4), np.float32))
    check(op, [x], {"keepdims": 0}, oracle=lambda *_: np.float32(EMPTY[op]))


@pytest.mark.parametrize(
    ("op", "dtype", "value"),
    [
        ("ReduceMax", np.int32, -(2**31)),
        ("ReduceMin", np.uint8, 255),
        ("ReduceMax", np.bool_, False),
        ("ReduceMin", np.bool_, True),
        ("ReduceSum", np.int64, 0),
        ("ReduceProd", np.uint32, 1),
        ("ReduceMean", np.int32, 0),
    ],
)
def test_of_nothing_in_integers(op, dtype, value):
    x = np.zeros((0, 3), dtype)
    check(op, [x, np.array([0])], oracle=lambda *_: np.full((1, 3), value, dtype))


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize(
    ("dtype", "rtol"),
    [(np.float64, 1e-12), (np.float16, 2e-3), (ml_dtypes.bfloat16, 1e-2)],
)
def test_floats(op, dtype, rtol):
    x = sample(op, (3, 50, 2), dtype)
    check(op, [x, np.array([1])], oracle=plain(op, [1]), rtol=rtol, atol=rtol, kernel=False)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64])
@pytest.mark.parametrize("op", sorted(set(OPERATORS) - {"ReduceLogSum", "ReduceLogSumExp"}))
def test_integers(op, dtype):
    x = np.random.default_rng(1).integers(1, 6, (3, 4, 5)).astype(dtype)
    check(op, [x, np.array([0, 2])], oracle=plain(op, [0, 2]))


@pytest.mark.parametrize("op", ["ReduceLogSum", "ReduceLogSumExp"])
def test_integer_logarithms(op):
    """Allowed before opset 28; results are cut off like a Cast."""
    x = np.array([[20, 30], [5, 6]], np.int32)
    check(op, [x, np.array([1])], opset=18, oracle=plain(op, [1]))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.bool_, np.float16])
@pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
def test_extremes_of_small_types(op, dtype):
    x = np.array([[3, 100, 0], [1, 0, 7]]).astype(dtype)
    check(op, [x, np.array([1])], oracle=lambda x, _: PLAIN[op](x, axis=1, keepdims=True))


def test_integer_means_round_towards_zero():
    x = np.array([[-7, 0], [7, 0], [-2, -5]], np.int32)
    check("ReduceMean", [x, np.array([1])], oracle=lambda *_: np.array([[-3], [3], [-3]], np.int32))
    big = np.full((3,), 2**31 - 1, np.int32)
    check("ReduceMean", [big, np.array([0])], oracle=lambda *_: big[:1])


def test_integer_sums_wrap_around():
    x = np.array([2**31 - 1, 1, 5], np.int32)
    check("ReduceSum", [x], oracle=lambda *_: np.array([-(2**31) + 5], np.int32))


SPECIAL = [
    [1, 2, NAN, 3],
    [INF, 1, 2, 3],
    [-INF, 1, 2, 3],
    [INF, -INF, 1, 2],
    [-INF, -INF, -INF, -INF],
    [NAN, INF, -INF, 0],
    [0.0, -0.0, 0.0, -0.0],
    [1e30, 1e30, -1e30, 1],
]


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize("across", [1, 3, 100])
def test_nan_and_infinities(op, across):
    """Every special row is reduced in short, long and column form; NaN and infinities come out as in float64."""
    for length in (4, 200):
        rows = np.array([list(r) + [1.0] * (length - 4) for r in SPECIAL], np.float32)
        x = np.repeat(rows[:, :, None], across, axis=2)
        with np.errstate(all="ignore"):
            y = special_result(op, x)
        check(op, [x, np.array([1])], constants=(1,), oracle=lambda *_, y=y: y, kernel=True)


def special_result(op, x):
    wide = x.astype(np.float64)
    if op == "ReduceLogSumExp":  # unlike the shifted form, this one takes infinities
        shift = np.where(np.isfinite(wide), wide, -INF).max(axis=1, keepdims=True)
        shift = np.where(np.isfinite(shift), shift, 0)
        return (np.log(np.exp(wide - shift).sum(axis=1, keepdims=True)) + shift).astype(np.float32)
    if op in ("ReduceL2", "ReduceSumSquare"):
        return np.asarray(
            PLAIN[op](x, axis=1, keepdims=True)
        )  # overflows in float32, as ONNX's definition does
    return PLAIN[op](wide, axis=1, keepdims=True).astype(np.float32)


def test_long_sums_are_accurate():
    x = np.full((1, 3_000_000), 0.1, np.float32)
    total = np.float64(np.float32(0.1)) * x.size
    check("ReduceSum", [x], oracle=lambda *_: np.array([[total]], np.float32), rtol=1e-6, kernel=True)
    columns = np.full((20_000, 64), 0.1, np.float32)
    total = np.full((1, 64), np.float64(np.float32(0.1)) * 20_000, np.float32)
    check(
        "ReduceSum", [columns, np.array([0])], constants=(1,), oracle=lambda *_: total, rtol=1e-6, kernel=True
    )


@pytest.mark.parametrize("op", OPERATORS)
def test_as_onnxruntime(op):
    x = sample(op, (2, 3, 4, 5))
    opset = 13 if op == "ReduceSum" else 18
    check(op, [x, np.array([1, 3])], constants=(1,), opset=opset, oracle=ort(op, opset=opset), kernel=True)


@pytest.mark.parametrize(
    ("inputs", "attrs", "opset", "told"),
    [
        ([floats(2, 3), np.array([2])], {}, 18, r"axis 2 is outside \[-2, 2\)"),
        ([floats(2, 3), np.array([1, -1])], {}, 18, "name one axis twice"),
        ([floats(2, 3)], {"axes": [-3]}, 11, r"axis -3 is outside \[-2, 2\)"),
        ([np.float32(1), np.array([0])], {}, 18, "outside"),
    ],
)
def test_errors(inputs, attrs, opset, told):
    constants = (1,) if len(inputs) > 1 else ()
    inputs = [np.asarray(a) for a in inputs]
    proto = one_node("ReduceMax", inputs, attrs, opset=opset, constants=constants)
    with pytest.raises(TilewiseError, match=told):
        load(proto.SerializeToString()).run({"x0": inputs[0]})
