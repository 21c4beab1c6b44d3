"""Positions of extremes, and running sums and products."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise.errors import TilewiseError
from tilewise.runtime.model import load

NAN, INF = np.nan, np.inf
DTYPES = [
    *(np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64),
    *(np.float16, ml_dtypes.bfloat16, np.float64),
]


def whole(*shape, dtype=np.float32, least=-3, most=4):
    """Whole numbers, so that many are equal."""
    return np.random.default_rng(0).integers(least, most, shape).astype(dtype)


def position(op, axis, last, keepdims=True):
    """An oracle: a search element by element."""

    def run(x):
        rows = np.moveaxis(np.asarray(x).astype(np.float64), axis, -1)
        out = np.zeros(rows.shape[:-1], np.int64)
        for at in np.ndindex(out.shape):
            row = rows[at]
            best = 0
            for i, value in enumerate(row):
                gain = value > row[best] if op == "ArgMax" else value < row[best]
                gain = gain or (np.isnan(value) and not np.isnan(row[best]))
                tie = value == row[best] or (np.isnan(value) and np.isnan(row[best]))
                if gain or (last and tie):
                    best = i
            out[at] = best
        return np.expand_dims(out, axis) if keepdims else out

    return run


ARG_SHAPES = [
    ((1,), 0),
    ((7,), -1),
    ((3, 1, 4), 1),
    ((2, 3, 4), 0),
    ((2, 3, 4), 1),
    ((2, 3, 4), -1),
    ((300, 2), 1),
    ((2, 300), 1),
    ((3, 1500), 1),
    ((2, 50, 3), 1),
    ((2, 200, 7), 1),
    ((2, 5, 20, 21), 1),
    ((2, 70, 63), 1),
    ((1, 4, 1100), 1),
]


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize(("shape", "axis"), ARG_SHAPES)
@pytest.mark.parametrize("last", [0, 1])
def test_arg(op, shape, axis, last):
    x = whole(*shape)
    for keepdims in (1, 0):
        attrs = {"axis": axis, "select_last_index": last, "keepdims": keepdims}
        check(op, [x], attrs, oracle=position(op, axis, last, bool(keepdims)), kernel=True)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("opset", [7, 11, 12, 13])
def test_arg_opsets(op, opset):
    x = whole(3, 4, 5)
    check(op, [x], opset=opset, oracle=position(op, 0, 0), kernel=True)
    check(op, [x], {"axis": 2, "keepdims": 0}, opset=opset, oracle=position(op, 2, 0, False), kernel=True)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("across", [1, 3, 80])
def test_arg_special_values(op, last, across):
    rows = [
        [1, NAN, 3, NAN, 2],
        [NAN, 1, 2, 3, 4],
        [-INF, -INF, -INF, -INF, -INF],
        [INF, INF, 1, INF, 2],
        [0.0, -0.0, 0.0, -0.0, 0.0],
        [5, 4, 3, 2, NAN],
    ]
    for repeat in (1, 40):
        x = np.repeat(np.tile(np.array(rows, np.float32), repeat)[:, :, None], across, axis=2)
        attrs = {"axis": 1, "select_last_index": last}
        check(op, [x], attrs, oracle=position(op, 1, last), kernel=True)


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_arg_dtypes(op, dtype):
    x = whole(3, 20, dtype=dtype, least=0, most=9)
    for last in (0, 1):
        attrs = {"axis": 1, "select_last_index": last}
        check(op, [x], attrs, oracle=position(op, 1, last), kernel=False)


def test_arg_as_onnxruntime():
    x = whole(2, 3, 4, 5)
    for op in ("ArgMax", "ArgMin"):
        for axis in range(-4, 4):
            attrs = {"axis": axis, "select_last_index": 1}
            check(op, [x], attrs, opset=13, oracle=ort(op, attrs, opset=13), kernel=True)


def running(product, axis, exclusive, reverse):
    """An oracle: element by element in float64."""

    def run(x, _):
        rows = np.moveaxis(x.astype(np.float64), axis, 0)
        out = np.zeros_like(rows)
        total = np.full(rows.shape[1:], float(product))
        order = range(len(rows) - 1, -1, -1) if reverse else range(len(rows))
        for i in order:
            after = total * rows[i] if product else total + rows[i]
            out[i] = total if exclusive else after
            total = after
        return np.moveaxis(out, 0, axis).astype(x.dtype)

    return run


SCAN_SHAPES = [
    ((1,), 0),
    ((9,), -1),
    ((3, 4), 0),
    ((3, 4), 1),
    ((2, 3, 1500), 1),
    ((2, 40, 3), -2),
    ((40, 600), -1),
    ((2, 1, 3), 1),
]


@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
@pytest.mark.parametrize(("shape", "axis"), SCAN_SHAPES)
def test_running(op, shape, axis):
    x = np.random.default_rng(0).uniform(0.9, 1.1, shape).astype(np.float32)
    for exclusive in (0, 1):
        for reverse in (0, 1):
            attrs = {"exclusive": exclusive, "reverse": reverse}
            oracle = running(op == "CumProd", axis, exclusive, reverse)
            for index in (np.int64(axis), np.int32(axis)):
                check(op, [x, np.array(index)], attrs, constants=(1,), oracle=oracle, rtol=2e-5, kernel=True)
            check(op, [x, np.array([axis])], attrs, oracle=oracle, rtol=2e-5, kernel=False)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64, np.float64])
@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
def test_running_dtypes(op, dtype):
    x = whole(3, 4, dtype=dtype, least=1, most=5)
    for exclusive in (0, 1):
        for reverse in (0, 1):
            attrs = {"exclusive": exclusive, "reverse": reverse}
            oracle = running(op == "CumProd", 1, exclusive, reverse)
            check(op, [x, np.array(1)], attrs, constants=(1,), oracle=oracle, kernel=False)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float16, 1e-3), (ml_dtypes.bfloat16, 8e-3)])
def test_running_small_floats(dtype, rtol):
    x = np.random.default_rng(0).uniform(0.5, 1.5, (2, 30)).astype(dtype)
    for op in ("CumSum", "CumProd"):
        check(op, [x, np.array(1)], oracle=running(op == "CumProd", 1, 0, 0), rtol=rtol)


@pytest.mark.parametrize("opset", [11, 13, 14])
def test_running_opsets(opset):
    x = whole(3, 4)
    check("CumSum", [x, np.array(0)], opset=opset, constants=(1,), kernel=True)


def test_running_over_nothing():
    for op in ("CumSum", "CumProd"):
        check(op, [np.zeros((0, 3), np.float32), np.array(0)], {"exclusive": 1}, constants=(1,))


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "told"),
    [
        ("ArgMax", [whole(2, 3)], {"axis": 2}, r"axis 2 is outside \[-2, 2\)"),
        ("ArgMin", [np.zeros((2, 0), np.float32)], {"axis": 1}, "at least one element along axis 1"),
        ("CumSum", [whole(2, 3), np.array(-3)], {}, r"axis -3 is outside \[-2, 2\)"),
        ("CumSum", [whole(2, 3), np.array([0, 1])], {}, r"expected axis to be a scalar, got int64\[2\]"),
    ],
)
def test_errors(op, inputs, attrs, told):
    constants = (1,) if len(inputs) > 1 else ()
    proto = one_node(op, inputs, attrs, constants=constants)
    with pytest.raises(TilewiseError, match=told):
        load(proto.SerializeToString()).run({"x0": inputs[0]})
