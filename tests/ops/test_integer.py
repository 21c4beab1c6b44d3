"""Quantized products: exact against Python integers and int64 loops, and against ONNX Runtime."""

from __future__ import annotations

import re

import ml_dtypes
import numpy as np
import pytest

import tilewise as tw
from tests.ops.harness import check, one_node
from tests.ops.ort_oracle import ort
from tilewise import TilewiseError

RNG = np.random.default_rng(5)
TYPES = [(np.uint8, np.uint8), (np.uint8, np.int8), (np.int8, np.uint8), (np.int8, np.int8)]
IDS = ["uu", "us", "su", "ss"]
F32 = np.float32


def ints(dtype, *shape):
    """Numbers over the whole range of a byte type, both ends among them where there is room."""
    info = np.iinfo(dtype)
    out = RNG.integers(info.min, info.max + 1, shape, dtype=dtype)
    out.flat[:2] = [info.min, info.max][: out.size]
    return out


def product(a, b, a_zero=0, b_zero=0):
    """int64 sums, by einsum over the definition; zero points are shaped to broadcast."""
    return np.matmul(a.astype(np.int64) - a_zero, b.astype(np.int64) - b_zero).astype(np.int32)


def convolution(x, w, x_zero=0, w_zero=0, *, stride=1, dilation=1, pads=None, group=1):
    """int64 sums over taps, x filled up with its zero point."""
    n = x.ndim - 2
    pads = [0] * (2 * n) if pads is None else pads
    x = np.pad(x.astype(np.int64) - x_zero, [(0, 0), (0, 0), *zip(pads[:n], pads[n:], strict=True)])
    w = w.astype(np.int64) - w_zero
    out = [(s - (k - 1) * dilation - 1) // stride + 1 for s, k in zip(x.shape[2:], w.shape[2:], strict=True)]
    y = np.zeros((x.shape[0], w.shape[0], *out), np.int64)
    depth, outs = w.shape[1], w.shape[0] // group
    for o, c in np.ndindex(*w.shape[:2]):
        for tap in np.ndindex(*w.shape[2:]):
            at = tuple(
                slice(t * dilation, t * dilation + (s - 1) * stride + 1, stride)
                for t, s in zip(tap, out, strict=True)
            )
            y[:, o] += w[(o, c, *tap)] * x[(slice(None), o // outs * depth + c, *at)]
    return y.astype(np.int32)


def requantized(sums, scale, zero):
    """In float32, ties to even, then the zero point, then saturation."""
    info = np.iinfo(zero.dtype)
    y = np.rint(sums.astype(F32) * F32(scale)).astype(np.float64) + int(zero)
    return np.clip(y, info.min, info.max).astype(zero.dtype)


MATMUL = {
    "1 x 1": ((1, 1), (1, 1)),
    "vectors": ((7,), (7,)),
    "vector matrix": ((7,), (7, 5)),
    "matrix vector": ((5, 7), (7,)),
    "no sums": ((3, 0), (0, 2)),
    "no rows": ((0, 3), (3, 2)),
    "batch": ((2, 3, 5, 7), (2, 3, 7, 4)),
    "broadcast": ((2, 1, 5, 7), (3, 7, 4)),
    "deep": ((3, 2000), (2000, 5)),
}


@pytest.mark.parametrize("case", MATMUL)
@pytest.mark.parametrize("types", TYPES, ids=IDS)
def test_matmul_integer(case, types):
    a, b = (ints(t, *s) for t, s in zip(types, MATMUL[case], strict=True))
    check("MatMulInteger", [a, b], oracle=product)
    zeros = [ints(t, 1).reshape(()) for t in types]
    check("MatMulInteger", [a, b, *zeros], oracle=lambda a, b, s, t: product(a, b, int(s), int(t)))


@pytest.mark.parametrize("which", [(True, False), (False, True)])
def test_matmul_integer_with_one_zero_point(which):
    a, b = ints(np.uint8, 4, 9), ints(np.int8, 9, 3)
    zeros = [np.uint8(7) if which[0] else None, np.int8(-3) if which[1] else None]
    inputs = [a, b, *(None if z is None else np.asarray(z) for z in zeros)]
    while inputs[-1] is None:
        inputs.pop()
    check("MatMulInteger", inputs, oracle=lambda *_: product(a, b, 7 * which[0], -3 * which[1]))


@pytest.mark.parametrize(
    ("a_zero", "b_zero"),
    [((4,), (4,)), ((4, 1), (1, 4)), ((1,), (2, 1, 4)), ((2, 4, 1), ()), ((1, 1, 1), (1, 1))],
)
def test_zero_points_of_rows_and_columns(a_zero, b_zero):
    """Square, so that a vector taken for the other axis would show."""
    a, b = ints(np.uint8, 2, 4, 4), ints(np.int8, 2, 4, 4)
    s, t = ints(np.uint8, *a_zero), ints(np.int8, *b_zero)
    rows = s.reshape(-1, 1) if s.ndim == 1 else s
    want = product(a, b, rows.astype(np.int64), t.astype(np.int64))
    check("MatMulInteger", [a, b, s, t], oracle=lambda *_: want)


def test_sums_beyond_float32_are_exact():
    """259 products of 255 * 255 pass 2**24; an odd one shows whether the last bit is there."""
    a, b = np.full((1, 259), 255, np.uint8), np.full((259, 1), 255, np.uint8)
    a[0, 0], b[0, 0] = 1, 2
    check("MatMulInteger", [a, b], oracle=lambda *_: np.int32([[258 * 255 * 255 + 2]]))


def test_sums_wrap_around_in_32_bits():
    k = 1 << 16
    a, b = np.full((1, k), 255, np.uint8), np.full((k, 1), 255, np.uint8)
    want = np.array([[(k * 255 * 255 + (1 << 31)) % (1 << 32) - (1 << 31)]], np.int64).astype(np.int32)
    check("MatMulInteger", [a, b], oracle=lambda *_: want)


CONV = {
    "point": dict(x=(1, 1, 1), w=(1, 1, 1)),
    "1-D": dict(x=(2, 3, 9), w=(4, 3, 3), stride=2, pads=[1, 0]),
    "2-D": dict(x=(2, 3, 7, 6), w=(4, 3, 3, 3), pads=[0, 1, 2, 1]),
    "3-D": dict(x=(1, 2, 4, 5, 3), w=(3, 2, 2, 3, 1), stride=2, pads=[1, 0, 0, 0, 1, 1]),
    "dilated": dict(x=(1, 2, 9, 9), w=(2, 2, 3, 2), dilation=2, stride=3),
    "grouped": dict(x=(2, 4, 5, 5), w=(6, 2, 2, 2), group=2),
    "depthwise": dict(x=(1, 5, 6, 4), w=(5, 1, 3, 3), group=5, pads=[1, 1, 1, 1]),
    "deep": dict(x=(1, 64, 4, 4), w=(2, 64, 3, 3)),
    "no images": dict(x=(0, 3, 5, 5), w=(2, 3, 3, 3)),
}


def conv_case(name, types):
    """(x, w, what the loop takes, the node's attributes)."""
    form = dict(CONV[name])
    x, w = ints(types[0], *form.pop("x")), ints(types[1], *form.pop("w"))
    n = x.ndim - 2
    attrs = {"strides": [form.get("stride", 1)] * n, "dilations": [form.get("dilation", 1)] * n}
    attrs |= {"pads": form.get("pads", [0] * 2 * n), "group": form.get("group", 1)}
    return x, w, form, attrs


@pytest.mark.parametrize("case", CONV)
@pytest.mark.parametrize("types", TYPES, ids=IDS)
def test_conv_integer(case, types):
    x, w, form, attrs = conv_case(case, types)
    check("ConvInteger", [x, w], attrs, oracle=lambda *_: convolution(x, w, **form))
    s, t = (ints(d, 1).reshape(()) for d in types)
    want = convolution(x, w, int(s), int(t), **form)
    check("ConvInteger", [x, w, s, t], attrs, oracle=lambda *_: want)
    t = ints(types[1], w.shape[0])
    want = convolution(x, w, int(s), t.astype(np.int64).reshape(-1, *[1] * (w.ndim - 1)), **form)
    check("ConvInteger", [x, w, s, t], attrs, oracle=lambda *_: want)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_conv_integer_auto_pad(auto_pad):
    x, w = ints(np.uint8, 1, 2, 6, 5), seven_bits(ints(np.uint8, 3, 2, 4, 2))
    attrs = {"auto_pad": auto_pad, "strides": [2, 1], "kernel_shape": [4, 2]}
    zeros = [np.asarray(np.uint8(9)), np.asarray(np.uint8(5))]
    check("ConvInteger", [x, w, *zeros], attrs, oracle=ort("ConvInteger", attrs, opset=10))


def seven_bits(w):
    """Of half the range: with more, ONNX Runtime's sums saturate in 16 bits on processors without VNNI."""
    return w // 2


def triple(x, scale, zero, like=None):
    like = x.dtype if like is None else like
    return [x, np.asarray(scale, F32), np.asarray(zero, like)]


@pytest.mark.parametrize("case", MATMUL)
@pytest.mark.parametrize("types", TYPES, ids=IDS)
@pytest.mark.parametrize("opset", [10, 21])
def test_qlinear_matmul(case, types, opset):
    a, b = (ints(t, *s) for t, s in zip(types, MATMUL[case], strict=True))
    y_scale, y_zero = np.asarray(F32(2.5)), np.asarray(3, types[0])
    want = requantized(product(a, b, 5, 2), F32(0.03) * F32(0.1) / y_scale, y_zero)
    inputs = [*triple(a, 0.03, 5), *triple(b, 0.1, 2), y_scale, y_zero]
    check("QLinearMatMul", inputs, opset=opset, oracle=lambda *_: want)


@pytest.mark.parametrize("types", TYPES[:2] + TYPES[3:], ids=IDS[:2] + IDS[3:])
def test_qlinear_matmul_as_onnxruntime(types):
    a, b = ints(types[0], 3, 40, 37), seven_bits(ints(types[1], 3, 37, 29))
    inputs = [*triple(a, 0.07, 4), *triple(b, 0.013, 11), np.asarray(F32(0.5)), np.asarray(60, types[0])]
    check("QLinearMatMul", inputs, opset=10, oracle=ort("QLinearMatMul", opset=10))


def test_rounding_goes_to_even_before_the_zero_point_is_added():
    a, b = np.int8([[1], [3], [5], [-1], [-3], [127], [-128]]), np.int8([[1]])
    inputs = [*triple(a, 0.5, 0), *triple(b, 1, 0), np.asarray(F32(1)), np.asarray(np.int8(1))]
    want = np.int8([[1], [3], [3], [1], [-1], [65], [-63]])
    check("QLinearMatMul", inputs, oracle=lambda *_: want)
    inputs[1] = np.asarray(F32(2))
    want = np.int8([[3], [7], [11], [-1], [-5], [127], [-128]])
    check("QLinearMatMul", inputs, oracle=lambda *_: want)


def test_qlinear_matmul_by_rows_and_columns():
    a, b = ints(np.uint8, 4, 6), ints(np.int8, 6, 4)
    a_scale, b_scale = F32([0.1, 0.2, 0.05, 0.3]), F32([[0.01, 0.04, 0.02, 0.03]])
    a_zero, b_zero = np.uint8([1, 200, 3, 0]), np.int8([[-5, 6, 100, -128]])
    sums = product(a, b, a_zero[:, None].astype(np.int64), b_zero.astype(np.int64))
    scale = a_scale[:, None] * b_scale / F32(0.7)
    want = np.clip(np.rint(sums.astype(F32) * scale) + 128, 0, 255).astype(np.uint8)
    inputs = [a, a_scale, a_zero, b, b_scale, b_zero, np.asarray(F32(0.7)), np.asarray(np.uint8(128))]
    check("QLinearMatMul", inputs, oracle=lambda *_: want)


@pytest.mark.parametrize("scale", [np.float16, ml_dtypes.bfloat16])
def test_qlinear_matmul_with_small_scales(scale):
    a, b = ints(np.uint8, 3, 5), ints(np.int8, 5, 2)
    scales = [np.asarray(v, scale) for v in (0.25, 0.125, 2)]
    want = requantized(product(a, b, 3, -4), 0.015625, np.asarray(np.int8(1)))
    inputs = [a, scales[0], np.asarray(np.uint8(3)), b, scales[1], np.asarray(np.int8(-4)), scales[2]]
    check("QLinearMatMul", [*inputs, np.asarray(np.int8(1))], oracle=lambda *_: want)


@pytest.mark.parametrize("name", ["float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"])
def test_qlinear_matmul_float8(name):
    dtype = np.dtype(getattr(ml_dtypes, name))
    a, b = RNG.normal(0, 4, (3, 5)).astype(dtype), RNG.normal(0, 4, (5, 4)).astype(dtype)
    zero, y_scale = np.asarray(1, dtype), np.asarray(F32(4))
    sums = (a.astype(np.float64) - 1) @ b.astype(np.float64) * (0.5 * 0.25 / 4)
    want = (sums.astype(F32) + 1).astype(dtype)
    inputs = [a, np.asarray(F32(0.5)), zero, b, np.asarray(F32(0.25)), np.zeros_like(zero), y_scale, zero]
    check("QLinearMatMul", inputs, oracle=lambda *_: want)
    saturated = [a, np.asarray(F32(1e6)), *inputs[2:]]
    (y,) = (
        tw.load(one_node("QLinearMatMul", saturated))
        .run({f"x{i}": v for i, v in enumerate(saturated)})
        .values()
    )
    assert np.abs(y.astype(F32)).max() == float(ml_dtypes.finfo(dtype).max)


@pytest.mark.parametrize("case", CONV)
@pytest.mark.parametrize("types", TYPES, ids=IDS)
@pytest.mark.parametrize("bias", [False, True], ids=["", "bias"])
def test_qlinear_conv(case, types, bias):
    x, w, form, attrs = conv_case(case, types)
    columns = (-1, *[1] * (x.ndim - 2))
    w_scale = RNG.uniform(0.01, 0.05, w.shape[0]).astype(F32)
    w_zero, y_zero = ints(types[1], w.shape[0]), np.asarray(5, types[0])
    b = RNG.integers(-5000, 5000, w.shape[0], dtype=np.int32)
    sums = convolution(x, w, 7, w_zero.astype(np.int64).reshape(*columns, 1), **form)
    if bias:
        sums = sums + b.reshape(columns)
    scale = (F32(0.2) * w_scale / F32(3)).reshape(columns)
    want = np.rint(sums.astype(F32) * scale).astype(np.float64) + 5
    want = np.clip(want, np.iinfo(types[0]).min, np.iinfo(types[0]).max).astype(types[0])
    inputs = [*triple(x, 0.2, 7), w, w_scale, w_zero, np.asarray(F32(3)), y_zero, *([b] if bias else [])]
    check("QLinearConv", inputs, attrs, opset=10, oracle=lambda *_: want)


@pytest.mark.parametrize("case", ["2-D", "dilated", "grouped", "depthwise", "deep"])
@pytest.mark.parametrize("types", [TYPES[0], TYPES[1], TYPES[3]], ids=["uu", "us", "ss"])
def test_qlinear_conv_as_onnxruntime(case, types):
    x, w, _, attrs = conv_case(case, types)
    b = RNG.integers(-5000, 5000, w.shape[0], dtype=np.int32)
    inputs = [
        *triple(x, 0.02, 7),
        *triple(seven_bits(w), 0.03, 0),
        np.asarray(F32(0.9)),
        np.asarray(40, types[0]),
        b,
    ]
    check("QLinearConv", inputs, attrs, opset=10, oracle=ort("QLinearConv", attrs, opset=10))


X, W, S = np.zeros((2, 3), np.uint8), np.zeros((3, 4), np.int8), np.asarray(F32(1))
Z, T = np.asarray(np.uint8(0)), np.asarray(np.int8(0))
IMAGE, TAPS = np.zeros((1, 2, 5, 5), np.uint8), np.zeros((4, 2, 3, 3), np.int8)
WRONG = {
    "type": ("MatMulInteger", [X.astype(np.float32), W], "expected tensor(int8), tensor(uint8)"),
    "inner dims": ("MatMulInteger", [X, X], "inner dims"),
    "type of zero point": ("MatMulInteger", [X, W, T], "must have one type (T1), got tensor(uint8) and tensor(int8)"),
    "rows": ("MatMulInteger", [X, W, np.zeros(3, np.uint8)], "left operand (2, 3), got (3,)"),
    "columns": ("MatMulInteger", [X, W, Z, np.zeros((3, 1), np.int8)], "right operand (3, 4), got (3, 1)"),
    "too many zeros": ("MatMulInteger", [X[0], W, np.zeros(3, np.uint8)], "left operand (3,), got (3,)"),
    "rank": ("ConvInteger", [X, TAPS], "rank >= 3"),
    "channels": ("ConvInteger", [IMAGE[:, :1], TAPS], "channels"),
    "zero points of x": ("ConvInteger", [IMAGE, TAPS, np.zeros(2, np.uint8)], "left operand"),
    "zero points of w": ("ConvInteger", [IMAGE, TAPS, Z, np.zeros(2, np.int8)], "right operand (4, 2, 3, 3), got (2,)"),
    "scale": ("QLinearMatMul", [X, S.astype(np.float64), Z, W, S, T, S, Z], "of type tensor(double)"),
    "y": ("QLinearMatMul", [X, S, Z, W, S, T, S, np.zeros((5, 1, 1), np.uint8)], "broadcast to y (2, 4)"),
    "bias": ("QLinearConv", [IMAGE, S, Z, TAPS, S, T, S, Z, np.zeros(3, np.int32)], "bias of shape (4,)"),
    "type of bias": ("QLinearConv", [IMAGE, S, Z, TAPS, S, T, S, Z, np.zeros(4, F32)], "expected tensor(int32)"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_inputs_are_refused(case):
    op_type, inputs, text = WRONG[case]
    with pytest.raises(TilewiseError, match=re.escape(text)) as error:
        tw.load(one_node(op_type, inputs).SerializeToString())
    assert op_type in str(error.value)
