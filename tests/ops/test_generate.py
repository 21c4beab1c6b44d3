"""Operators that make arrays from shapes, ranges and random numbers; triangles and determinants."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from tests.ops.harness import check, ints, one_node
from tilewise import TilewiseError, load

RNG = np.random.default_rng(17)


def tensor(value: np.ndarray) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(value)


CONSTANTS = [
    ({"value": tensor(np.array([[1, 2]], np.int8))}, np.array([[1, 2]], np.int8)),
    ({"value_float": 1.5}, np.array(1.5, np.float32)),
    ({"value_floats": [1.5, 2.0]}, np.array([1.5, 2], np.float32)),
    ({"value_int": 3}, np.array(3, np.int64)),
    ({"value_ints": [3, 4]}, np.array([3, 4], np.int64)),
    ({"value_string": "a"}, np.array("a", object)),
    ({"value_strings": ["a", "b"]}, np.array(["a", "b"], object)),
    (
        {
            "sparse_value": helper.make_sparse_tensor(
                helper.make_tensor("v", TensorProto.FLOAT, [2], [5.0, 7.0]),
                helper.make_tensor("i", TensorProto.INT64, [2], [1, 5]),
                [2, 3],
            )
        },
        np.array([[0, 5, 0], [0, 0, 7]], np.float32),
    ),
]


@pytest.mark.parametrize(("attrs", "expected"), CONSTANTS)
def test_constant(attrs, expected):
    check("Constant", [], attrs, oracle=lambda: expected)


@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 3), (300, 400)])
@pytest.mark.parametrize(
    "value", [None, np.array([2.5], np.float32), np.array([7], np.uint8), np.array([True])]
)
def test_constant_of_shape(shape, value):
    attrs = {} if value is None else {"value": tensor(value)}
    fill = np.zeros(1, np.float32) if value is None else value
    for constants in ((), (0,)):
        check(
            "ConstantOfShape",
            [ints(*shape)],
            attrs,
            constants=constants,
            oracle=lambda _: np.full(shape, fill[0]),
        )


def test_large_constant_of_shape_is_filled_by_a_kernel():
    proto = one_node(
        "ConstantOfShape", [ints(300, 400)], {"value": tensor(np.array([3], np.int16))}, constants=(0,)
    )
    model = load(proto)
    out = model.run({})["y0"]
    assert out.dtype == np.int16
    assert out.shape == (300, 400)
    assert (out == 3).all()


RANGES = [
    (1, 5, 2, "float32"),
    (0.1, 1.0, 0.1, "float32"),
    (0.1, 1.0, 0.1, "float64"),
    (10, 4, -2, "int32"),
    (3, 3, 1, "int64"),
    (5, 3, 1, "int16"),
    (-(2**62), -(2**62) + 3, 1, "int64"),
    (0, 1, 0.25, "float16"),
]


@pytest.mark.parametrize(("start", "limit", "delta", "dtype"), RANGES)
def test_range(start, limit, delta, dtype):
    inputs = [np.array(v, dtype) for v in (start, limit, delta)]

    def oracle(start, limit, delta):
        count = (
            max(0, int(np.ceil((float(limit) - float(start)) / float(delta))))
            if dtype != "int64"
            else limit - start
        )
        return np.array([start + np.array(i, dtype) * delta for i in range(count)], dtype).reshape(count)

    for constants in ((), (0, 1, 2), (0, 2)):
        check("Range", inputs, constants=constants, opset=11 if dtype != "float16" else 28, oracle=oracle)


def test_range_of_16_bit_floats_is_computed_in_32():
    inputs = [np.array(v, ml_dtypes.bfloat16) for v in (0, 300, 1)]
    check(
        "Range",
        inputs,
        opset=28,
        oracle=lambda *_: np.arange(300, dtype=np.float32).astype(ml_dtypes.bfloat16),
    )


@pytest.mark.parametrize("attrs", [{}, {"k": 1}, {"k": -2}, {"k": 9}, {"dtype": TensorProto.INT8}])
@pytest.mark.parametrize("shape", [(3, 4), (4, 2), (1, 1), (0, 3), (300, 301)])
def test_eye_like(attrs, shape):
    x = np.zeros(shape, np.float64)
    dtype = np.int8 if "dtype" in attrs else np.float64
    check("EyeLike", [x], attrs, oracle=lambda _: np.eye(*shape, attrs.get("k", 0), dtype))


@pytest.mark.parametrize("k", [None, 0, 1, -1, 5, -5])
@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3), (1, 1), (2, 0)])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "float16"])
def test_trilu(k, upper, shape, dtype):
    x = RNG.integers(0, 9, shape).astype(dtype)
    inputs = [x] if k is None else [x, np.array(k, np.int64)]
    take = np.triu if upper else np.tril
    check("Trilu", inputs, {"upper": upper}, oracle=lambda x, k=0: take(x, k).astype(dtype))


@pytest.mark.parametrize("shape", [(2, 2), (3, 4, 4), (2, 1, 1), (0, 3, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_det(shape, dtype):
    x = RNG.standard_normal(shape).astype(dtype)
    check("Det", [x], oracle=lambda x: np.asarray(np.linalg.det(x.astype(np.float64)), dtype), rtol=1e-3)


DISTRIBUTIONS = [
    ("RandomNormal", {"mean": 3.0, "scale": 0.5}, 3.0, 0.5),
    ("RandomUniform", {"low": -1.0, "high": 3.0}, 1.0, 4 / 12**0.5),
    ("RandomNormalLike", {"mean": -2.0, "scale": 2.0}, -2.0, 2.0),
    ("RandomUniformLike", {}, 0.5, 1 / 12**0.5),
]


@pytest.mark.parametrize(("op", "attrs", "mean", "deviation"), DISTRIBUTIONS)
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16])
def test_distributions(op, attrs, mean, deviation, dtype):
    like = op.endswith("Like")
    inputs = [np.zeros((100, 200), np.float64)] if like else []
    shape = {} if like else {"shape": [100, 200]}
    feeds = {"x0": inputs[0]} if like else {}
    free = load(one_node(op, inputs, {**attrs, **shape, "dtype": dtype}))
    got = free.run(feeds)["y0"]
    assert got.dtype == helper.tensor_dtype_to_np_dtype(dtype)
    assert got.shape == (100, 200)
    assert abs(got.astype(np.float64).mean() - mean) < 0.05 * deviation
    assert abs(got.astype(np.float64).std() - deviation) < 0.05 * deviation
    assert not np.array_equal(got, free.run(feeds)["y0"])
    seeded = load(one_node(op, inputs, {**attrs, **shape, "dtype": dtype, "seed": 3.0}))
    np.testing.assert_array_equal(seeded.run(feeds)["y0"], seeded.run(feeds)["y0"])


def test_default_types_of_random_numbers():
    assert load(one_node("RandomNormal", [], {"shape": [2]})).run({})["y0"].dtype == np.float32
    x = np.zeros((2, 3), np.float16)
    for op in ("RandomNormalLike", "RandomUniformLike", "Bernoulli"):
        assert load(one_node(op, [x])).run({"x0": x})["y0"].dtype == np.float16


def test_bernoulli():
    p = np.repeat(np.array([[0.0], [0.25], [1.0]], np.float32), 20000, axis=1)
    got = load(one_node("Bernoulli", [p], {"dtype": TensorProto.INT32})).run({"x0": p})["y0"]
    assert got.dtype == np.int32
    assert set(np.unique(got)) == {0, 1}
    np.testing.assert_allclose(got.mean(-1), [0, 0.25, 1], atol=0.02)


def test_multinomial():
    x = np.log(np.array([[0.1, 0.2, 0.7], [1.0, 1e-30, 1.0]], np.float32)) + 5
    got = load(one_node("Multinomial", [x], {"sample_size": 20000})).run({"x0": x})["y0"]
    assert got.dtype == np.int32
    assert got.shape == (2, 20000)
    shares = [np.bincount(row, minlength=3) / 20000 for row in got]
    np.testing.assert_allclose(shares, [[0.1, 0.2, 0.7], [0.5, 0, 0.5]], atol=0.02)


ERRORS = [
    ("ConstantOfShape", [ints(-1)], {}, "dims >= 0, got [-1]"),
    ("ConstantOfShape", [ints(1)], {"value": tensor(ints(1, 2))}, "one element, got shape (2,)"),
    ("Range", [np.array(0), np.array(3), np.array(0)], {}, "delta other than 0"),
    ("Range", [np.float32(0), np.float32(np.inf), np.float32(1)], {}, "finite bounds"),
    ("Range", [np.array(0), ints(3, 4), np.array(1)], {}, "scalars, got shape (2,)"),
    ("EyeLike", [np.zeros(3, np.float32)], {}, "matrix, got shape (3,)"),
    ("EyeLike", [np.zeros((3, 3), np.float32)], {"dtype": 77}, "'dtype' = 77"),
    ("Trilu", [np.zeros(3, np.float32)], {}, "rank 2 or more"),
    ("Det", [np.zeros((3, 2), np.float32)], {}, "square matrices, got shape (3, 2)"),
    ("Multinomial", [np.zeros(3, np.float32)], {}, "(N, C), got (3,)"),
]


@pytest.mark.parametrize(("op", "inputs", "attrs", "message"), ERRORS)
def test_errors(op, inputs, attrs, message):
    inputs = [np.asarray(a) for a in inputs]
    constants = range(len(inputs)) if op in ("ConstantOfShape", "Range") else ()
    with pytest.raises(TilewiseError) as raised:
        load(one_node(op, inputs, attrs, constants=constants))
    assert message in str(raised.value)
