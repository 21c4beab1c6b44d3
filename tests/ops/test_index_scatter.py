"""Operators that write into a copy by index, against loops."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import check, ints, one_node
from tilewise import ExecutionError, TilewiseError, load

RNG = np.random.default_rng(13)
REDUCTIONS = {
    "none": lambda old, new: new,
    "add": lambda old, new: old + new,
    "mul": lambda old, new: old * new,
    "max": max,
    "min": min,
}


def data(*shape: int, dtype="float32") -> np.ndarray:
    return RNG.integers(0, 4, shape).astype(dtype)


def scatter_elements(x, index, updates, axis=0, reduction="none"):
    y = x.copy()
    for place in np.ndindex(index.shape):
        target = list(place)
        target[axis] = index[place]
        y[tuple(target)] = REDUCTIONS[reduction](y[tuple(target)], updates[place])
    return y


def scatter_nd(x, index, updates, reduction="none"):
    y = x.copy()
    for place in np.ndindex(index.shape[:-1]):
        target = tuple(index[place])
        both = np.broadcast_arrays(y[target], updates[place])
        merged = [REDUCTIONS[reduction](a, b) for a, b in zip(*(a.ravel() for a in both), strict=True)]
        y[target] = np.array(merged, y.dtype).reshape(both[0].shape)
    return y


ELEMENTS = [((5,), (3,), 0), ((3, 4), (2, 4), 0), ((3, 4), (3, 2), 1), ((2, 3, 4), (1, 5, 2), -2)]


@pytest.mark.parametrize(("shape", "index_shape", "axis"), ELEMENTS)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "float64", "bfloat16"])
def test_scatter_elements(shape, index_shape, axis, reduction, dtype):
    dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    n = shape[axis]
    index = RNG.integers(-n, n, index_shape)
    if reduction == "none":  # an element must not be written twice
        index = np.argsort(
            RNG.random((*index_shape[: axis % len(shape)], n, *index_shape[axis % len(shape) :][1:])), axis
        )
        index = np.take(index, np.arange(min(n, index_shape[axis])), axis) - n
    inputs = [data(*shape, dtype=dtype), index.astype(np.int64), data(*index.shape, dtype=dtype)]

    def oracle(*inputs):
        return scatter_elements(*inputs, axis, reduction)

    check("ScatterElements", inputs, {"axis": axis, "reduction": reduction}, oracle=oracle)
    if reduction == "none":
        check("ScatterElements", inputs, {"axis": axis}, opset=13, oracle=oracle)
        if dtype != ml_dtypes.bfloat16:
            check("ScatterElements", inputs, {"axis": axis}, opset=11, oracle=oracle)
            check("Scatter", inputs, {"axis": axis}, opset=9, oracle=oracle)


TUPLES = [((5,), (3, 1)), ((5, 4), (3, 1)), ((3, 4), (2, 2)), ((3, 4, 5), (2, 1, 2)), ((4, 4, 4), (2, 1))]
"""Shapes of the data and of the indices."""


@pytest.mark.parametrize(("shape", "tuples"), TUPLES)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_scatter_nd(shape, tuples, reduction, dtype):
    limits = shape[: tuples[-1]]
    cells = list(np.ndindex(limits))
    count = int(np.prod(tuples[:-1]))
    chosen = (
        RNG.permutation(len(cells))[:count] if reduction == "none" else RNG.integers(0, len(cells), count)
    )
    index = np.array([cells[i] for i in chosen], np.int64).reshape(tuples) - np.array(limits) * RNG.integers(
        0, 2, tuples
    )
    inputs = [data(*shape, dtype=dtype), index, data(*tuples[:-1], *shape[tuples[-1] :], dtype=dtype)]
    check("ScatterND", inputs, {"reduction": reduction}, oracle=lambda *a: scatter_nd(*a, reduction))
    if reduction == "none":
        check("ScatterND", inputs, opset=11, oracle=scatter_nd)


def test_scatter_of_strings():
    x, updates = np.array(["a", "b", "c"], object), np.array(["z"], object)
    check("ScatterElements", [x, ints(-1), updates], oracle=scatter_elements)
    check(
        "ScatterND", [x, ints(-1).reshape(1, 1), updates], oracle=lambda *_: np.array(["a", "b", "z"], object)
    )


def test_nan_counts_in_maximum():
    x, nan = np.array([1.0, 2.0], np.float32), np.array([np.nan], np.float32)

    def oracle(*_):
        return np.array([np.nan, 2], np.float32)

    for reduction in ("max", "min"):
        check("ScatterElements", [x, ints(0), nan], {"reduction": reduction}, oracle=oracle)


@pytest.mark.parametrize(
    ("shape", "length", "axis", "starts", "mode"),
    [
        ((2, 3, 6, 4), 2, -2, (1, 4), "linear"),
        ((2, 3, 6, 4), 2, 2, None, "linear"),
        ((2, 6, 4), 3, 1, (5, 3), "circular"),
        ((1, 6), 6, 1, (7,), "circular"),
        ((2, 5, 7), 1, -1, (6, 0), "linear"),
    ],
)
def test_tensor_scatter(shape, length, axis, starts, mode):
    update = list(shape)
    update[axis] = length
    inputs = [data(*shape), data(*update)] + ([] if starts is None else [ints(*starts)])

    def oracle(cache, update, starts=None):
        y = cache.copy()
        for place in np.ndindex(update.shape):
            target = list(place)
            target[axis] += 0 if starts is None else starts[place[0]]
            target[axis] %= cache.shape[axis]
            y[tuple(target)] = update[place]
        return y

    check("TensorScatter", inputs, {"axis": axis, "mode": mode}, oracle=oracle)


COLUMNS = [
    # image, block, attributes
    ((5, 5), (2, 3), {}),
    ((5, 5), (1, 5), {}),
    ((5, 6), (2, 2), {"strides": [2, 1]}),
    ((5, 5), (3, 3), {"pads": [1, 0, 2, 1]}),
    ((6, 6), (2, 2), {"dilations": [1, 3], "strides": [1, 2]}),
    ((4, 5, 6), (1, 2, 3), {"strides": [2, 1, 3], "pads": [0, 1, 0, 1, 0, 0]}),
]


@pytest.mark.parametrize(("image", "block", "attrs"), COLUMNS)
@pytest.mark.parametrize("fed", [False, True])
def test_col2im(image, block, attrs, fed):
    rank = len(image)
    strides, dilations = attrs.get("strides", [1] * rank), attrs.get("dilations", [1] * rank)
    pads = attrs.get("pads", [0] * 2 * rank)
    steps = [
        range(-pads[i], image[i] + pads[rank + i] - dilations[i] * (block[i] - 1), strides[i])
        for i in range(rank)
    ]
    starts = list(itertools.product(*steps))
    taps = list(np.ndindex(block))
    x = data(2, 3 * len(taps), len(starts))

    def oracle(x, *_):
        y = np.zeros((2, 3, *image), np.float32)
        for c, (t, tap), (l, start) in itertools.product(range(3), enumerate(taps), enumerate(starts)):  # noqa: E741
            place = [s + d * o for s, d, o in zip(start, dilations, tap, strict=True)]
            if all(0 <= p < n for p, n in zip(place, image, strict=True)):
                y[(slice(None), c, *place)] += x[:, c * len(taps) + t, l]
        return y

    check("Col2Im", [x, ints(*image), ints(*block)], attrs, constants=() if fed else (1, 2), oracle=oracle)


ERRORS = [
    ("ScatterElements", [data(3), ints(0), data(2)], {}, "indices' shape (1,), got (2,)"),
    ("ScatterElements", [data(3), ints(0), data(1)], {"reduction": "sum"}, "'reduction' = 'sum'"),
    ("ScatterND", [data(3, 2), ints(0).reshape(1, 1), data(1, 3)], {}, "updates of shape (1, 2), got (1, 3)"),
    ("TensorScatter", [data(2, 3), data(2, 4)], {"axis": 1}, "got (2, 4)"),
    ("TensorScatter", [data(2, 3), data(2, 2)], {"axis": 0}, "axis other than 0"),
    ("TensorScatter", [data(2, 3), data(2, 2)], {"axis": 1, "mode": "ring"}, "'mode' = 'ring'"),
    ("Col2Im", [data(1, 5, 4), ints(3, 3), ints(2, 2)], {}, "multiple of the block [2, 2]"),
    ("Col2Im", [data(1, 4, 5), ints(3, 3), ints(2, 2)], {}, "4 blocks [2, 2] in an image [3, 3], got 5"),
    ("Col2Im", [data(4, 4), ints(3, 3), ints(2, 2)], {}, "(N, C * block, L), got (4, 4)"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "message"), ERRORS)
def test_errors(op, inputs, attrs, message):
    with pytest.raises(TilewiseError) as raised:
        load(one_node(op, inputs, attrs, constants=(1, 2) if op == "Col2Im" else ()))
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("ScatterElements", [data(3), ints(3), data(1)], {}),
        ("ScatterElements", [data(3), ints(-4), data(1)], {"reduction": "add"}),
        ("ScatterND", [data(3, 2), ints(0, 2), data()], {}),
        ("TensorScatter", [data(1, 3), data(1, 2), ints(2)], {"axis": 1}),
        ("TensorScatter", [data(1, 3), data(1, 2), ints(-1)], {"axis": 1}),
    ],
)
def test_indices_out_of_range(op, inputs, attrs):
    model = load(one_node(op, inputs, attrs))
    before = inputs[0].copy()
    with pytest.raises(ExecutionError, match=f"'{op}->y0'"):
        model.run({f"x{i}": a for i, a in enumerate(inputs)})
    np.testing.assert_array_equal(inputs[0], before)
