"""The greatest or least elements along an axis."""

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


def whole(*shape, dtype=np.float32, least=0, most=9):
    """Whole numbers, so that many are equal."""
    return np.random.default_rng(0).integers(least, most, shape).astype(dtype)


def best(k, axis=-1, largest=1):
    """An oracle: Python's sort of every row, which keeps equal elements in order; NaN is the greatest."""

    def run(x, *_):
        rows = np.moveaxis(x, axis, -1)
        values = np.zeros((*rows.shape[:-1], k), x.dtype)
        index = np.zeros(values.shape, np.int64)
        for at in np.ndindex(rows.shape[:-1]):
            keys = [(np.isnan(float(v)), 0 if np.isnan(float(v)) else v) for v in rows[at].tolist()]
            order = sorted(range(len(keys)), key=lambda i, keys=keys: keys[i], reverse=bool(largest))
            index[at], values[at] = order[:k], rows[at][order[:k]]
        return [np.moveaxis(values, -1, axis), np.moveaxis(index, -1, axis)]

    return run


SHAPES = [
    ((1,), 0, 1),
    ((6,), -1, 6),
    ((6,), 0, 0),
    ((3, 4), 1, 3),
    ((3, 4), 0, 2),
    ((2, 3, 50), 2, 7),
    ((2, 50, 3), 1, 7),
    ((2, 50, 3), -2, 49),
    ((2, 300), 1, 20),
    ((0, 5), 1, 2),
]


@pytest.mark.parametrize(("shape", "axis", "k"), SHAPES)
@pytest.mark.parametrize("largest", [0, 1])
def test_shapes(shape, axis, k, largest):
    x = whole(*shape)
    for constants in ((), (1,)):
        attrs = {"axis": axis, "largest": largest}
        check(
            "TopK", [x, np.array([k])], attrs, outputs=2, constants=constants, oracle=best(k, axis, largest)
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("largest", [0, 1])
def test_dtypes(dtype, largest):
    x = whole(3, 40, dtype=dtype)
    for k in (5, 30):
        check("TopK", [x, np.array([k])], {"largest": largest}, outputs=2, oracle=best(k, -1, largest))


def test_ends_of_integer_ranges():
    for dtype in (np.int8, np.uint8, np.int64, np.uint64):
        info = np.iinfo(dtype)
        x = np.array([info.min, 0, info.max, 5, info.min, info.max], dtype)
        for largest in (0, 1):
            check("TopK", [x, np.array([4])], {"largest": largest}, outputs=2, oracle=best(4, -1, largest))


@pytest.mark.parametrize(("opset", "k"), [(7, 3), (9, 3)])
def test_k_as_an_attribute(opset, k):
    x = whole(3, 8)
    check("TopK", [x], {"k": k}, opset=opset, outputs=2, oracle=best(k))
    check("TopK", [x], {"k": k, "axis": 0}, opset=opset, outputs=2, oracle=best(k, 0))


@pytest.mark.parametrize("opset", [10, 11, 13, 24])
def test_opsets(opset):
    check("TopK", [whole(3, 8), np.array([3])], opset=opset, outputs=2, oracle=best(3))


def test_unsorted_is_sorted_too():
    check("TopK", [whole(3, 50), np.array([5])], {"sorted": 0}, outputs=2, oracle=best(5))


@pytest.mark.parametrize("largest", [0, 1])
def test_special_values(largest):
    rows = [
        [1, NAN, 3, 2, NAN, 5],
        [NAN, NAN, NAN, NAN, NAN, NAN],
        [INF, -INF, 0, INF, -INF, 1],
        [0.0, -0.0, 0.0, -0.0, 0.0, -0.0],
    ]
    short = np.array(rows, np.float32)
    long = np.concatenate([short, np.full((4, 60), 2, np.float32)], axis=1)
    for x in (short, long, long[2:]):
        for k in (1, 3, 6):
            attrs = {"largest": largest}
            check("TopK", [x, np.array([k])], attrs, outputs=2, oracle=best(k, -1, largest))


def test_as_onnxruntime():
    x = whole(2, 30, 4, most=20)
    for axis, k, largest in ((1, 3, 1), (1, 29, 0), (2, 2, 1), (0, 1, 0)):
        attrs = {"axis": axis, "largest": largest}
        oracle = ort("TopK", attrs, opset=11, outputs=2)
        check("TopK", [x, np.array([k])], attrs, opset=11, outputs=2, oracle=oracle)


@pytest.mark.parametrize("constants", [(), (1,)])
@pytest.mark.parametrize(
    ("k", "attrs", "told"),
    [
        ([5], {}, r"expected K in \[0, 4\], the size of the axis, got 5"),
        ([-1], {}, r"expected K in \[0, 4\], the size of the axis, got -1"),
        ([1, 2], {}, r"expected K to hold one element, got int64\[2\]"),
        ([1], {"axis": 2}, r"axis 2 is outside \[-2, 2\)"),
    ],
)
def test_errors(k, attrs, told, constants):
    x, k = whole(3, 4), np.array(k)
    proto = one_node("TopK", [x, k], attrs, outputs=2, constants=constants)
    with pytest.raises(TilewiseError, match=told):
        load(proto.SerializeToString()).run({"x0": x} | ({} if constants else {"x1": k}))
