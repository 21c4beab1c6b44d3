"""Pooling of whole planes and unpooling."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.ops.harness import check, one_node
from tilewise.errors import TilewiseError
from tilewise.runtime.model import load


def floats(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def whole(reduce):
    """An oracle: `reduce` of each plane of x, in float64."""

    def run(x):
        planes = x.astype(np.float64).reshape(*x.shape[:2], -1)
        y = np.array([[reduce(plane) for plane in row] for row in planes])
        return y.reshape(*x.shape[:2], *[1] * (x.ndim - 2)).astype(x.dtype)

    return run


MEAN, MAX = whole(np.mean), whole(np.max)


def norm(p):
    return whole(lambda plane: (np.abs(plane) ** p).sum() ** (1 / p))


SHAPES = [
    (1, 1, 1),
    (2, 3, 15),
    (2, 3, 7, 7),
    (1, 2, 16, 16),
    (2, 2, 3, 4, 5),
    (1, 1, 200, 210),
    (1, 2, 2, 2, 2, 2),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("opset", [7, 22])
def test_global(shape, opset):
    x = floats(*shape)
    check("GlobalAveragePool", [x], opset=opset, oracle=MEAN, kernel=True)
    check("GlobalMaxPool", [x], opset=opset, oracle=MAX, kernel=True)
    for p in (1, 2, 3):
        check("GlobalLpPool", [x], {"p": p}, opset=opset, oracle=norm(p), kernel=True)
    check("GlobalLpPool", [x], opset=opset, oracle=norm(2), kernel=True)


@pytest.mark.parametrize(
    ("dtype", "rtol"), [(np.float64, 1e-12), (np.float16, 1e-3), (ml_dtypes.bfloat16, 8e-3)]
)
def test_global_dtypes(dtype, rtol):
    x = floats(2, 3, 9, 8, dtype=dtype)
    check("GlobalAveragePool", [x], oracle=MEAN, rtol=rtol, atol=rtol, kernel=False)
    check("GlobalMaxPool", [x], oracle=MAX, kernel=False)
    check("GlobalLpPool", [x], {"p": 3}, oracle=norm(3), rtol=rtol, atol=rtol, kernel=False)


@pytest.mark.parametrize("at", [0, 5, 17, 63, 64, 70, 99])
def test_global_carries_nan_and_infinity(at):
    for value in (np.nan, np.inf, -np.inf):
        x = floats(1, 2, 10, 10)
        x[0, 1].flat[at] = value
        check("GlobalMaxPool", [x], oracle=MAX, kernel=True)
        check("GlobalAveragePool", [x], oracle=MEAN, kernel=True)
        check("GlobalLpPool", [x], {"p": 1}, oracle=norm(1), kernel=True)
    check("GlobalMaxPool", [np.full((1, 1, 5, 5), -np.inf, np.float32)], oracle=MAX, kernel=True)


def test_global_of_planes_without_axes():
    x = floats(2, 3)
    for op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        check(op_type, [x], oracle=lambda x: x, kernel=True)


def test_global_is_accurate_over_many_elements():
    x = np.full((1, 1, 1000, 1000), 0.1, np.float32)
    check("GlobalAveragePool", [x], oracle=MEAN, rtol=1e-6, kernel=True)


@pytest.mark.parametrize("op_type", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_refuses(op_type):
    for x, message in ((floats(3), "rank 2 or more"), (np.zeros((1, 1, 2), np.int32), "int32")):
        with pytest.raises(TilewiseError, match=message):
            load(one_node(op_type, [x]).SerializeToString()).run({"x0": x})


UNPOOL = {"kernel_shape": [2, 2], "strides": [2, 2]}


def unpooled(shape):
    def run(x, indices, output_shape=None):
        y = np.zeros(shape, x.dtype)
        for v, i in zip(x.flat, indices.flat, strict=True):
            y.flat[i] = v
        if output_shape is None:
            return y
        wide = np.zeros(output_shape, x.dtype)
        wide[tuple(slice(0, d) for d in shape)] = y
        return wide

    return run


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
@pytest.mark.parametrize("opset", [9, 11, 22])
def test_maxunpool(dtype, opset):
    x = floats(2, 2, 2, 3, dtype=dtype)
    indices = np.arange(24).reshape(x.shape) * 4 + np.array([0, 3, 1])
    check("MaxUnpool", [x, indices], UNPOOL, opset=opset, oracle=unpooled((2, 2, 4, 6)))
    wanted = np.array([2, 2, 5, 7])
    for constants in ((), (2,)):
        check(
            "MaxUnpool",
            [x, indices, wanted],
            UNPOOL,
            opset=opset,
            constants=constants,
            oracle=unpooled((2, 2, 4, 6)),
        )


def test_maxunpool_pads_strides_and_ranks():
    attrs = {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}
    check("MaxUnpool", [floats(1, 2, 4), np.arange(8).reshape(1, 2, 4)], attrs, oracle=unpooled((1, 2, 7)))
    x = floats(1, 1, 1, 2, 2)
    attrs = {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}
    check("MaxUnpool", [x, np.arange(4).reshape(x.shape) * 9], attrs, oracle=unpooled((1, 1, 2, 4, 4)))
    check(
        "MaxUnpool",
        [x, np.arange(4).reshape(x.shape)],
        {"kernel_shape": [2, 2, 2]},
        oracle=unpooled((1, 1, 2, 3, 3)),
    )


@pytest.mark.parametrize(
    ("indices", "shape", "message"),
    [
        ([[[[0, 1], [2, 16]]]], None, r"expected indices in \[0, 16\)"),
        ([[[[0, 1], [2, -1]]]], None, r"expected indices in \[0, 16\)"),
        ([[[[0, 1, 2]]]], None, "expected indices of shape"),
        ([[[[0, 1], [2, 3]]]], [1, 1, 3, 4], "expected an output_shape of at least"),
    ],
)
def test_maxunpool_refuses(indices, shape, message):
    inputs = [floats(1, 1, 2, 2), np.array(indices)] + ([] if shape is None else [np.array(shape)])
    with pytest.raises(TilewiseError, match=message):
        load(one_node("MaxUnpool", inputs, UNPOOL).SerializeToString()).run(
            {f"x{i}": a for i, a in enumerate(inputs)}
        )
