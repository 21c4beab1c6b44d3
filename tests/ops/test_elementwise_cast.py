"""Cast, CastLike and BitCast, against NumPy, `onnx.reference` and the tables of the ONNX documentation."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.ops.elementwise_cases import dtype, infer, normal, versions
from tests.ops.harness import check
from tilewise import TilewiseError, UnsupportedError
from tilewise.graph import Fact

NATIVE = ["float32", "float64", "int8", "uint8", "int32", "int64", "bool"]
PLAIN = [*NATIVE, "float16", "bfloat16", "int16", "uint16", "uint32", "uint64"]
FLOAT8 = {"float8_e4m3fn": 448, "float8_e4m3fnuz": 240, "float8_e5m2": 57344, "float8_e5m2fnuz": 57344}
"""The float8 types and the largest number of each."""


def to(name: str) -> dict[str, int]:
    return {"to": onnx.helper.np_dtype_to_tensor_dtype(dtype(name))}


def numbers(of: str) -> np.ndarray:
    """Values that every numeric type holds."""
    return np.array([[0, 1, 2, 3, 0, 77], [1, 5, 0, 7, 100, 64]]).astype(dtype(of))


@pytest.mark.parametrize("source", PLAIN)
@pytest.mark.parametrize("target", PLAIN)
def test_between_numbers(source, target):
    native = source == target or (source in NATIVE and target in NATIVE)
    expected = numbers(source).astype(np.float64).astype(dtype(target))
    if source == "bool":
        expected = (expected != 0).astype(dtype(target))
    check("Cast", [numbers(source)], to(target), oracle=lambda x: expected, kernel=native)


@pytest.mark.parametrize("shape", [(), (1,), (33, 1000), (0, 2)])
@pytest.mark.parametrize(
    ("source", "target"), [("float32", "int64"), ("bool", "float32"), ("int64", "uint8")]
)
def test_shapes(shape, source, target):
    x = np.asarray(normal(*shape, scale=30)).astype(dtype(source))
    check("Cast", [x], to(target), oracle=lambda x: x.astype(target), kernel=None if 0 in shape else True)


@pytest.mark.parametrize("target", ["int8", "int32", "int64"])
def test_floats_are_truncated(target):
    x = np.float32([1.9, -1.9, 0.5, -0.5, -7.999, 100.5])
    check("Cast", [x], to(target), oracle=lambda x: np.array([1, -1, 0, 0, -7, 100], target), kernel=True)


def test_integers_drop_high_bits():
    x = np.array([200, 255, 256, -1, -129], np.int32)
    check("Cast", [x], to("int8"), oracle=lambda x: np.int8([-56, -1, 0, -1, 127]), kernel=True)
    check("Cast", [x], to("uint8"), oracle=lambda x: np.uint8([200, 255, 0, 255, 127]), kernel=True)


def test_every_number_but_zero_is_true():
    x = np.float32([0, -0.0, 1, 0.25, -3, np.nan, np.inf, 1e-45, 256])
    expected = np.array([False, False] + 7 * [True])
    check("Cast", [x], to("bool"), oracle=lambda x: expected, kernel=True)
    check("Cast", [np.int32([0, 256, -65536])], to("bool"), oracle=lambda x: x != 0, kernel=True)
    check("Cast", [x.astype(dtype("bfloat16"))], to("bool"), oracle=lambda x: x.astype(np.float32) != 0)


def test_beyond_a_narrower_float_is_infinity():
    x = np.array([1e39, -1e39, 1e-46, 3.5, np.nan])
    expected = np.float32([np.inf, -np.inf, 0, 3.5, np.nan])
    check("Cast", [x], to("float32"), oracle=lambda x: expected, kernel=True)
    half = np.float16([65504, np.inf, -np.inf])
    check("Cast", [np.float32([65504, 1e5, -1e5])], to("float16"), oracle=lambda x: half)


class TestFloat8:
    X = np.float32([0.0, 1.0, -0.3, 448, 500, 1e6, -1e6, np.inf, -np.inf, np.nan, 1e-7, 60000])

    @pytest.mark.parametrize("target", FLOAT8)
    @pytest.mark.parametrize("source", ["float32", "float16", "float64", "bfloat16"])
    def test_saturating(self, source, target):
        x = self.X.astype(dtype(source))
        top = FLOAT8[target]

        def oracle(x):
            return np.clip(x.astype(np.float32), -top, top).astype(dtype(target))

        (y,) = check("Cast", [x], to(target), oracle=oracle)
        plain = y.astype(np.float32)
        assert plain[5] == plain[7] == top
        assert plain[6] == plain[8] == -top
        assert np.isnan(plain[9])

    @pytest.mark.parametrize("target", FLOAT8)
    def test_not_saturating(self, target):
        infinity = np.inf if target == "float8_e5m2" else np.nan
        x = np.float32([1e6, -1e6, np.inf, -np.inf, np.nan, 2])
        expected = np.float32([infinity, -infinity, infinity, -infinity, np.nan, 2]).astype(dtype(target))
        check("Cast", [x], {**to(target), "saturate": 0}, oracle=lambda x: expected)

    @pytest.mark.parametrize("source", FLOAT8)
    @pytest.mark.parametrize("target", ["float32", "float16", "float64", "int32", "bool", "float8_e5m2"])
    def test_back(self, source, target):
        x = np.float32([0, 1, -2, 24]).astype(dtype(source))
        check("Cast", [x], to(target), oracle=lambda x: x.astype(np.float32).astype(dtype(target)))


class TestPowersOfTwo:
    """float8_e8m0fnu holds 2^-127 to 2^127 and NaN."""

    X = np.float32([0.0, 0.124, 0.25, 0.5, 1.1, 1.5, 1.9, 2.0, 2.0**-126, np.inf, 3e38, np.nan])

    @pytest.mark.parametrize(
        ("mode", "saturate", "expected"),
        [
            ("up", 1, [2.0**-127, 0.125, 0.25, 0.5, 2, 2, 2, 2, 2.0**-126, 2.0**127, 2.0**127, np.nan]),
            ("down", 1, [2.0**-127, 2.0**-4, 0.25, 0.5, 1, 1, 1, 2, 2.0**-126, 2.0**127, 2.0**127, np.nan]),
            ("nearest", 0, [np.nan, 0.125, 0.25, 0.5, 1, 2, 2, 2, 2.0**-126, np.nan, np.nan, np.nan]),
        ],
    )
    @pytest.mark.parametrize("source", ["float32", "float64"])
    def test_rounding(self, mode, saturate, expected, source):
        attrs = {**to("float8_e8m0fnu"), "round_mode": mode, "saturate": saturate}
        (y,) = check(
            "Cast",
            [self.X.astype(source)],
            attrs,
            oracle=lambda x: np.array(expected, np.float32).astype(dtype("float8_e8m0fnu")),
        )
        np.testing.assert_array_equal(y.astype(np.float64), expected)

    def test_unknown_rounding(self):
        with pytest.raises(UnsupportedError, match=r"round_mode.*up, down, nearest.*'even'"):
            check("Cast", [self.X], {**to("float8_e8m0fnu"), "round_mode": "even"}, oracle=lambda x: x)


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2", "float4_e2m1fn"])
@pytest.mark.parametrize("other", ["float32", "float16", "int8", "uint8"])
def test_narrow_types(name, other):
    x = np.array([0, 1, 1, 0], other)
    narrow = x.astype(dtype(name))
    check("Cast", [x], to(name), oracle=lambda x: narrow)
    check("Cast", [narrow], to(other), oracle=lambda _: x)


class TestStrings:
    def test_from_floats(self):
        x = np.float32([0.1, 1, 314.15926, -2.5e-7, np.nan, np.inf])
        expected = np.array(["0.1", "1.0", "314.15927", "-2.5e-07", "nan", "inf"], object)
        check("Cast", [x], to("object"), oracle=lambda x: expected)

    @pytest.mark.parametrize("of", ["int8", "uint64", "int4"])
    def test_from_integers(self, of):
        x = np.array([[0, 1], [7, 5]]).astype(dtype(of))
        check("Cast", [x], to("object"), oracle=lambda x: np.array([["0", "1"], ["7", "5"]], object))

    def test_to_floats(self):
        x = np.array(["3.14", "1000", "1e-5", "1E8", "+INF", "inf", "-INF", "NaN", " 2 "], object)
        expected = np.array([3.14, 1000, 1e-5, 1e8, np.inf, np.inf, -np.inf, np.nan, 2])
        for of in ("float32", "float64", "bfloat16"):
            check("Cast", [x], to(of), oracle=lambda x, of=of: expected.astype(dtype(of)))

    def test_to_integers(self):
        x = np.array([["9007199254740993", "-1"], ["100.5", "0"]], object)
        expected = np.array([[9007199254740993, -1], [100, 0]])
        check("Cast", [x], to("int64"), oracle=lambda x: expected)

    def test_to_bool(self):
        x = np.array(["True", "false", "0", "1", "2.5"], object)
        check("Cast", [x], to("bool"), oracle=lambda x: np.array([True, False, False, True, True]))

    def test_scalar_and_same_type(self):
        check("Cast", [np.array("7", object)], to("float32"), oracle=lambda x: np.float32(7))
        check("Cast", [np.array(["a"], object)], to("object"), oracle=lambda x: x)

    def test_text_that_is_no_number(self):
        with pytest.raises(TilewiseError, match=r"Cast.*Hello"):
            check("Cast", [np.array(["Hello"], object)], to("float32"), oracle=lambda x: x)


@pytest.mark.parametrize("opset", versions("Cast"))
def test_versions(opset):
    check("Cast", [normal(2, 3)], to("int32"), opset=opset, oracle=lambda x: x.astype(np.int32), kernel=True)


@pytest.mark.parametrize("opset", versions("CastLike"))
def test_cast_like_versions(opset):
    like = np.zeros((5, 0), np.float32)
    x = np.array([1, 2, 3])
    check("CastLike", [x, like], opset=opset, oracle=lambda x, y: x.astype(np.float32))
    check("CastLike", [x, like[:, :0]], opset=opset, oracle=lambda x, y: x.astype(np.float32))


def test_cast_like_lowers():
    x, like = np.array([1, 2, 3]), np.float32([7])
    check("CastLike", [x, like], oracle=lambda x, y: x.astype(np.float32), kernel=True)


@pytest.mark.parametrize("target", FLOAT8)
def test_cast_like_saturates(target):
    x, like = np.float32([1e6, -1e6]), np.zeros(1, dtype(target))
    top = FLOAT8[target]
    check("CastLike", [x, like], oracle=lambda x, y: np.float32([top, -top]).astype(dtype(target)))
    expected = x.astype(dtype(target))
    check("CastLike", [x, like], {"saturate": 0}, oracle=lambda x, y: expected)


BITS = [
    ("float32", "int32"),
    ("int32", "float32"),
    ("float64", "uint64"),
    ("int8", "uint8"),
    ("bool", "uint8"),
    ("uint16", "bfloat16"),
    ("float16", "int16"),
    ("int4", "uint4"),
]


@pytest.mark.parametrize(("source", "target"), BITS)
@pytest.mark.parametrize("shape", [(), (2, 3), (0,)])
def test_bitcast(source, target, shape):
    x = np.ones(shape, dtype(source))
    check("BitCast", [x], to(target), oracle=lambda x: x.view(dtype(target)))


def test_bitcast_width_is_checked():
    with pytest.raises(TilewiseError, match=r"BitCast.*as wide as float32, got float64"):
        infer("BitCast", Fact(np.dtype("float32"), (3,)), to=onnx.TensorProto.DOUBLE)
    with pytest.raises(TilewiseError, match=r"BitCast.*as wide as int4, got int8"):
        infer("BitCast", Fact(dtype("int4"), (3,)), to=onnx.TensorProto.INT8)


def test_unknown_type_is_refused():
    with pytest.raises(UnsupportedError, match=r"attribute to.*9999"):
        check("Cast", [normal(2)], {"to": 9999}, oracle=lambda x: x)


def test_symbolic_shapes_pass_through():
    (y,) = infer("Cast", Fact(np.dtype("float32"), ("N", 3)), to=onnx.TensorProto.INT64)
    assert y.shape == ("N", 3)
    assert y.dtype == np.int64
    (y,) = infer("CastLike", Fact(np.dtype("float32"), None), Fact(None, (1,)))
    assert y.shape is None
    assert y.dtype is None
