"""Operators that pick elements by index or condition."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import check, ints, one_node, strings
from tilewise import ExecutionError, TilewiseError, load

RNG = np.random.default_rng(11)
ITEMS = ["uint8", "float16", "float32", "float64", "complex128"]


def data(*shape: int, dtype="float32") -> np.ndarray:
    return RNG.integers(0, 100, shape).astype(dtype)


def indices(*shape: int, limit: int, dtype="int64") -> np.ndarray:
    """Random indices in [-limit, limit)."""
    return RNG.integers(-limit, limit, shape).astype(dtype)


def both(op, inputs, attrs=None, **more):
    """Fed indices run on the host, constant ones in a kernel."""
    check(op, inputs, attrs, kernel=False, **more)
    check(op, inputs, attrs, constants=(1,), kernel=inputs[0].dtype != object, **more)


GATHERS = [
    # shape, shape of the indices, axis
    ((5,), (3,), 0),
    ((5, 4), (), 0),
    ((5, 4), (2, 3), 1),
    ((5, 4, 3), (1,), -1),
    ((2, 5, 40), (7,), 1),
    ((2, 5, 4, 3), (2, 2), 2),
]


@pytest.mark.parametrize(("shape", "index_shape", "axis"), GATHERS)
@pytest.mark.parametrize("dtype", ITEMS)
def test_gather(shape, index_shape, axis, dtype):
    index = indices(*index_shape, limit=shape[axis])
    both(
        "Gather", [data(*shape, dtype=dtype), index], {"axis": axis}, oracle=lambda x, i: np.take(x, i, axis)
    )


def test_gather_of_other_kinds():
    both("Gather", [strings(3, 2), np.array([2, -1], np.int32)], {"axis": 0})
    both("Gather", [data(3, 2, dtype=ml_dtypes.bfloat16), ints(1)], oracle=lambda x, i: x[i])
    check("Gather", [data(3, 2), np.zeros((0,), np.int64)], constants=(1,))
    large = [data(300, 200), indices(400, limit=200)]
    check("Gather", large, {"axis": 1}, constants=(1,), opset=7, oracle=lambda x, i: x[:, i], kernel=True)


ELEMENTS = [
    # shape, shape of the indices, axis
    ((5,), (7,), 0),
    ((3, 4), (3, 4), 1),
    ((3, 4), (2, 6), 1),
    ((3, 4), (9, 4), 0),
    ((2, 3, 4), (2, 3, 1), -1),
    ((2, 3, 4), (1, 5, 2), -2),
]


@pytest.mark.parametrize(("shape", "index_shape", "axis"), ELEMENTS)
@pytest.mark.parametrize("dtype", ITEMS)
def test_gather_elements(shape, index_shape, axis, dtype):
    x, index = data(*shape, dtype=dtype), indices(*index_shape, limit=shape[axis])

    def oracle(x, index):
        y = np.empty(index.shape, x.dtype)
        for place in np.ndindex(index.shape):
            source = list(place)
            source[axis] = index[place]
            y[place] = x[tuple(source)]
        return y

    both("GatherElements", [x, index], {"axis": axis}, oracle=oracle)


TUPLES = [
    # shape, shape of the indices, batch_dims
    ((5,), (3, 1), 0),
    ((3, 4), (2,), 0),
    ((3, 4), (5, 1), 0),
    ((3, 4, 5), (2, 2, 2), 0),
    ((2, 3, 4), (2, 5, 1), 1),
    ((2, 3, 4), (2, 2), 1),
    ((2, 3, 4, 5), (2, 3, 2), 2),
]


@pytest.mark.parametrize(("shape", "tuples", "batch"), TUPLES)
def test_gather_nd(shape, tuples, batch):
    x = data(*shape)
    limits = np.array(shape[batch : batch + tuples[-1]])
    index = (RNG.integers(-1000, 1000, tuples) % limits - limits * RNG.integers(0, 2, tuples)).astype(
        np.int64
    )

    def oracle(x, index):
        y = np.empty((*index.shape[:-1], *x.shape[batch + index.shape[-1] :]), x.dtype)
        for place in np.ndindex(index.shape[:-1]):
            y[place] = x[(*place[:batch], *index[place])]
        return y

    both("GatherND", [x, index], {"batch_dims": batch}, oracle=oracle)
    if batch == 0:
        check("GatherND", [x, index], opset=11, oracle=oracle, kernel=False)


@pytest.mark.parametrize(("batch_axis", "time_axis"), [(1, 0), (0, 1)])
@pytest.mark.parametrize("rest", [(), (3,), (2, 5)])
def test_reverse_sequence(batch_axis, time_axis, rest):
    lengths = ints(1, 4, 0, 3)
    x = data(*((4, 5) if batch_axis == 0 else (5, 4)), *rest)

    def oracle(x, lengths):
        y = x.copy()
        for i, n in enumerate(lengths):
            source, target = np.moveaxis(x, batch_axis, 0)[i], np.moveaxis(y, batch_axis, 0)[i]
            target[:n] = source[:n][::-1]
        return y

    both("ReverseSequence", [x, lengths], {"batch_axis": batch_axis, "time_axis": time_axis}, oracle=oracle)


@pytest.mark.parametrize(
    ("op", "shape", "index", "attrs"),
    [
        ("Gather", (3, 4), [3], {}),
        ("Gather", (3, 4), [-5], {"axis": 1}),
        ("GatherElements", (3,), [0, -4], {}),
        ("GatherND", (3, 4), [[0, 4]], {}),
        ("ReverseSequence", (3, 1), [4], {}),
        ("ReverseSequence", (3, 1), [-1], {}),
    ],
)
def test_indices_out_of_range(op, shape, index, attrs):
    inputs = [data(*shape), np.array(index, np.int64)]
    for constants in ((), (1,)):
        model = load(one_node(op, inputs, attrs, constants=constants))
        feeds = {f"x{i}": a for i, a in enumerate(inputs) if i not in constants}
        for _ in range(2):
            with pytest.raises(ExecutionError, match=f"'{op}->y0'"):
                model.run(feeds)


@pytest.mark.parametrize("axis", [None, 0, -1])
@pytest.mark.parametrize("condition", [[True, False, True], [False, True], [False], []])
def test_compress(axis, condition):
    attrs = {} if axis is None else {"axis": axis}
    inputs = [data(3, 4), np.array(condition, bool)]
    check("Compress", inputs, attrs, oracle=lambda x, c: np.compress(c, x, axis))
    check("Compress", [strings(3, 4), inputs[1]], attrs, opset=9, oracle=lambda x, c: np.compress(c, x, axis))


@pytest.mark.parametrize("dtype", ["float32", "bool", "int8", "float16", "complex64"])
def test_non_zero(dtype):
    x = (data(3, 4, 2) % 3).astype(dtype)
    x[0, 0, 0] = 0
    check("NonZero", [x], oracle=lambda x: np.argwhere(x).T)
    check("NonZero", [np.zeros((2, 0), dtype)], opset=9, oracle=lambda _: np.zeros((2, 0), np.int64))


def test_non_zero_of_scalars_and_strings():
    """The specification asks for (0, N) of a scalar."""
    check("NonZero", [np.array(3.0, np.float32)], oracle=lambda _: np.zeros((0, 1), np.int64))
    check("NonZero", [np.array(0.0, np.float32)], oracle=lambda _: np.zeros((0, 0), np.int64))
    check("NonZero", [np.array([1.0, np.nan, 0.0, -0.0], np.float32)], oracle=lambda _: np.array([[0, 1]]))
    check("NonZero", [np.array(["a", "", "b"], object)], oracle=lambda _: np.array([[0, 2]]))


@pytest.mark.parametrize("axis", [-1, 0, 1, -3, 2])
@pytest.mark.parametrize("fed", [False, True])
def test_one_hot(axis, fed):
    index = np.array([[0, 2, 5], [-1, -6, 6]], np.int64)
    depth, off_on = np.array(6, np.int64), np.array([0.5, 2], np.float32)

    def oracle(index, depth, off_on):
        y = np.full((*index.shape, 6), 0.5, np.float32)
        for place in np.ndindex(index.shape):
            if -6 <= index[place] < 6:
                y[(*place, index[place])] = 2
        return np.moveaxis(y, -1, axis)

    check("OneHot", [index, depth, off_on], {"axis": axis}, constants=() if fed else (1,), oracle=oracle)


def test_one_hot_of_other_kinds():
    for index_type, depth_type in (("float32", "float32"), ("int32", "uint8"), ("uint8", "int64")):
        inputs = [np.array([1, 0], index_type), np.array([3], depth_type), np.array(["off", "on"], object)]
        expected = np.array([["off", "on", "off"], ["on", "off", "off"]], object)
        check("OneHot", inputs, opset=9 if depth_type == "uint8" else 11, oracle=lambda *_, y=expected: y)


UNIQUE = [
    (np.array([2, 1, 1, 3, 4, 3], np.float32), None),
    (np.array([[1, 3], [2, 3]], np.int64), None),
    (np.array([[1, 0, 0], [1, 0, 0], [2, 3, 4]], np.float32), 0),
    (np.array([[[1, 1], [0, 1], [2, 1], [0, 1]]] * 2, np.float16), 1),
    (np.array([[1, 2, 1]], np.uint8), -1),
    (np.array([7.0], np.float64), 0),
    (np.array(["b", "a", "b", ""], object), None),
    (np.array([["b", "a", "b"], ["c", "a", "c"]], object), 1),
]


@pytest.mark.parametrize(("x", "axis"), UNIQUE)
@pytest.mark.parametrize("ordered", [0, 1])
@pytest.mark.parametrize("outputs", [1, 2, 4])
def test_unique(x, axis, ordered, outputs):
    def oracle(x):
        slices = list(x.ravel()) if axis is None else list(np.moveaxis(x, axis, 0))
        keys = [tuple(np.ravel(s).tolist()) for s in slices]
        distinct = sorted(set(keys)) if ordered else list(dict.fromkeys(keys))
        first = [keys.index(k) for k in distinct]
        y = np.take(x, first, axis)
        inverse, counts = [distinct.index(k) for k in keys], [keys.count(k) for k in distinct]
        return [y, *(np.array(v, np.int64) for v in (first, inverse, counts))][:outputs]

    attrs = {"sorted": ordered} | ({} if axis is None else {"axis": axis})
    check("Unique", [x], attrs, outputs=outputs, oracle=oracle)


def test_unique_of_nothing():
    check(
        "Unique", [np.zeros((0,), np.float32)], outputs=4, oracle=lambda x: [x, *[np.zeros(0, np.int64)] * 3]
    )


ERRORS = [
    ("Gather", [data(3), ints(0)], {"axis": 1}, "axis 1 is outside"),
    ("GatherElements", [data(3, 4), ints(0)], {}, "rank 2 for shape (3, 4), got (1,)"),
    (
        "GatherElements",
        [data(3, 4), indices(2, 5, limit=1)],
        {},
        "inside (3, 4) but for axis 0, got shape (2, 5)",
    ),
    ("GatherND", [data(3), ints(0, 0)], {}, "tuples of 1 to 1 indices for (3,), got 2"),
    ("GatherND", [data(3), np.array(0)], {}, "rank 1 or more"),
    ("GatherND", [data(3, 2), indices(2, 1, limit=1)], {"batch_dims": 1}, "same first 1 dims"),
    ("GatherND", [data(3, 2), indices(3, 1, limit=1)], {"batch_dims": 2}, "batch_dims"),
    ("ReverseSequence", [data(3, 2), ints(1, 2, 3)], {}, "sequence_lens of shape (2,), got (3,)"),
    ("ReverseSequence", [data(3), ints(1)], {}, "rank 2 or more"),
    ("ReverseSequence", [data(3, 2), ints(1, 1)], {"batch_axis": 0, "time_axis": 0}, "to be 0 and 1"),
    ("Compress", [data(3), np.array([True])], {"axis": 1}, "axis 1 is outside"),
    ("Unique", [data(3)], {"axis": 1}, "axis 1 is outside"),
    ("OneHot", [ints(0), np.array(-1), data(2)], {}, "depth >= 0, got [-1]"),
    ("OneHot", [ints(0), np.array(2), data(3)], {}, "values of shape (2,), got (3,)"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "message"), ERRORS)
def test_errors(op, inputs, attrs, message):
    with pytest.raises(TilewiseError) as raised:
        load(one_node(op, inputs, attrs, constants=(1,) if len(inputs) > 1 else ()))
    assert message in str(raised.value)


def test_compress_by_a_condition_that_is_too_long():
    model = load(one_node("Compress", [data(2), np.array([False, False, True])]))
    with pytest.raises(ExecutionError, match="'Compress->y0'"):
        model.run({"x0": data(2), "x1": np.array([False, False, True])})
