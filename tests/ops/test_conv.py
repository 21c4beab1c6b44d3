"""Conv, ConvTranspose and DeformConv against sums over taps in float64, and against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

import tilewise as tw
from tests.ops import oracles
from tests.ops.harness import check, one_node

RNG = np.random.default_rng(7)


def rand(*shape, dtype=np.float32):
    return RNG.standard_normal(shape).astype(dtype)


def attributes(n, stride=1, pads=None, dilation=1, group=1, **more):
    """ONNX attributes from the oracles' arguments."""
    spread = lambda v: [v] * n if isinstance(v, int) else list(v)  # noqa: E731
    attrs = {"strides": spread(stride), "dilations": spread(dilation), "group": group, **more}
    return attrs | ({"pads": list(pads)} if pads is not None else {})


def run_conv(x, w, b=None, *, constants=(1, 2), kernel=True, **form):
    args = [x, w] if b is None else [x, w, b]
    want = oracles.conv(*args, **form).astype(x.dtype)
    n = x.ndim - 2
    check(
        "Conv",
        args,
        attributes(n, **form),
        constants=[i for i in constants if i < len(args)],
        oracle=lambda *_: want,
        rtol=1e-4,
        atol=1e-4,
        kernel=kernel,
    )


# shape of x, shape of w, form
CASES = {
    "1x1": ((2, 5, 7, 9), (4, 5, 1, 1), {}),
    "1x1 one pixel": ((1, 8, 1, 1), (3, 8, 1, 1), {}),
    "1x1 fifteen pixels": ((1, 3, 3, 5), (2, 3, 1, 1), {}),
    "1x1 seventeen pixels": ((3, 3, 1, 17), (2, 3, 1, 1), {}),
    "1x1 stride 2": ((2, 4, 9, 8), (6, 4, 1, 1), {"stride": 2}),
    "1x1 padded": ((1, 4, 5, 5), (6, 4, 1, 1), {"pads": (1, 2, 0, 3)}),
    "3x3 same": ((1, 3, 14, 14), (20, 3, 3, 3), {"pads": (1, 1, 1, 1)}),
    "3x3 valid": ((2, 3, 14, 15), (5, 3, 3, 3), {}),
    "3x3 asymmetric": ((1, 3, 6, 33), (29, 3, 3, 3), {"pads": (0, 1, 2, 3)}),
    "3x3 stride 2": ((1, 3, 15, 16), (8, 3, 3, 3), {"pads": (1, 1, 1, 1), "stride": 2}),
    "3x3 stride 3": ((1, 3, 17, 16), (8, 3, 3, 3), {"pads": (1, 1, 1, 1), "stride": 3}),
    "3x3 strides 2, 1": ((1, 3, 17, 16), (8, 3, 3, 3), {"pads": (1, 1, 1, 1), "stride": (2, 1)}),
    "3x3 dilation 2": ((1, 3, 12, 13), (8, 3, 3, 3), {"pads": (2, 2, 2, 2), "dilation": 2}),
    "3x3 dilation 12 on 14": ((1, 3, 14, 14), (8, 3, 3, 3), {"pads": (12,) * 4, "dilation": 12}),
    "dilation and stride": (
        (1, 3, 14, 14),
        (8, 3, 3, 3),
        {"pads": (4,) * 4, "dilation": (3, 4), "stride": 2},
    ),
    "7x7 stride 2": ((1, 3, 32, 32), (15, 3, 7, 7), {"pads": (3, 3, 3, 3), "stride": 2}),
    "11x11 stride 4": ((1, 3, 35, 35), (13, 3, 11, 11), {"stride": 4}),
    "kernel as large as the image": ((2, 4, 5, 6), (7, 4, 5, 6), {}),
    "one column out": ((1, 2, 40, 9), (3, 2, 3, 9), {}),
    "1x7": ((1, 4, 9, 9), (3, 4, 1, 7), {"pads": (0, 3, 0, 3)}),
    "7x1": ((1, 4, 9, 9), (3, 4, 7, 1), {"pads": (3, 0, 3, 0)}),
    "even kernel": ((1, 2, 8, 8), (3, 2, 4, 2), {"pads": (1, 0, 2, 1)}),
    "groups of 2": ((2, 8, 9, 9), (12, 4, 3, 3), {"pads": (1, 1, 1, 1), "group": 2}),
    "grouped 1x1": ((1, 9, 8, 8), (6, 3, 1, 1), {"group": 3}),
    "many groups": ((1, 32, 10, 10), (64, 2, 3, 3), {"pads": (1, 1, 1, 1), "group": 16}),
    "depthwise 3x3": ((2, 6, 14, 14), (6, 1, 3, 3), {"pads": (1, 1, 1, 1), "group": 6}),
    "depthwise 3x3 stride 2": ((1, 6, 15, 14), (6, 1, 3, 3), {"pads": (1, 1, 1, 1), "group": 6, "stride": 2}),
    "depthwise 5x5 stride 3": ((1, 4, 20, 20), (4, 1, 5, 5), {"pads": (2, 1, 2, 0), "group": 4, "stride": 3}),
    "depthwise dilated": ((1, 4, 20, 20), (4, 1, 3, 3), {"pads": (3,) * 4, "group": 4, "dilation": 3}),
    "depthwise multiplier 3": ((2, 4, 7, 7), (12, 1, 3, 3), {"pads": (1,) * 4, "group": 4}),
    "depthwise large": ((1, 2, 120, 150), (2, 1, 3, 3), {"pads": (1,) * 4, "group": 2}),
    "depthwise too wide for a buffer": ((1, 2, 3, 9000), (2, 1, 3, 3), {"pads": (1,) * 4, "group": 2}),
    "depthwise one pixel": ((1, 4, 1, 1), (4, 1, 3, 3), {"pads": (1,) * 4, "group": 4}),
    "many channels": ((1, 300, 6, 6), (70, 300, 3, 3), {"pads": (1,) * 4}),
    "large image": ((1, 3, 90, 110), (16, 3, 3, 3), {"pads": (1,) * 4}),
    "batch of 9": ((9, 2, 5, 5), (3, 2, 3, 3), {"pads": (1,) * 4}),
    "1-D": ((2, 3, 40), (5, 3, 5), {"pads": (2, 2)}),
    "1-D stride 3 dilation 2": ((1, 3, 50), (5, 3, 4), {"pads": (1, 3), "stride": 3, "dilation": 2}),
    "1-D length 1": ((1, 3, 1), (5, 3, 1), {}),
    "3-D": ((2, 3, 6, 7, 8), (4, 3, 3, 3, 3), {"pads": (1,) * 6}),
    "3-D strides": ((1, 2, 9, 8, 7), (4, 2, 3, 2, 3), {"pads": (1, 0, 1, 1, 1, 0), "stride": (2, 1, 3)}),
    "3-D valid": ((1, 2, 5, 6, 7), (4, 2, 2, 3, 2), {}),
    "3-D 1x1x1": ((1, 4, 3, 4, 5), (4, 4, 1, 1, 1), {}),
    "3-D depthwise": ((1, 4, 5, 6, 7), (4, 1, 3, 3, 3), {"pads": (1,) * 6, "group": 4}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
def test_conv(case, biased):
    x, w, form = CASES[case]
    weights = rand(*w) / np.float32(np.sqrt(np.prod(w[1:])))
    run_conv(rand(*x), weights, rand(w[0]) if biased else None, **form)


@pytest.mark.parametrize("case", ["1x1", "3x3 same", "groups of 2", "depthwise 3x3", "1-D"])
def test_weights_that_are_inputs(case):
    x, w, form = CASES[case]
    run_conv(rand(*x), rand(*w), rand(w[0]), constants=(), **form)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_dtypes_run_on_the_host(dtype):
    x, w = rand(2, 4, 7, 7, dtype=dtype), rand(6, 2, 3, 3, dtype=dtype)
    want = oracles.conv(x, w, stride=2, pads=(1, 0, 1, 0), group=2).astype(dtype)
    form = attributes(2, stride=2, pads=(1, 0, 1, 0), group=2)
    tolerance = 1e-2 if dtype == np.float16 else 1e-12
    check("Conv", [x, w], form, oracle=lambda *_: want, rtol=tolerance, atol=tolerance, kernel=False)


def test_4_spatial_dims_run_on_the_host():
    run_conv(rand(1, 2, 3, 4, 3, 4), rand(3, 2, 2, 2, 2, 2), kernel=False)


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_auto_pad(auto_pad, stride):
    x, w = rand(1, 2, 10, 11), rand(3, 2, 4, 3)
    check("Conv", [x, w], {"auto_pad": auto_pad, "strides": [stride] * 2}, kernel=True, rtol=1e-4, atol=1e-5)


def test_nan_and_infinity_reach_only_their_windows():
    x, w = rand(1, 1, 12, 12), rand(2, 1, 3, 3)
    x[0, 0, 2, 3], x[0, 0, 9, 9] = np.nan, np.inf
    run_conv(x, w, pads=(1,) * 4)


def test_empty_batch():
    run_conv(np.zeros((0, 2, 5, 5), np.float32), rand(3, 2, 3, 3), kernel=False)


BAD = {
    "channels": ((1, 3, 5, 5), (4, 2, 3, 3), {}, "channels"),
    "rank": ((1, 3, 5), (4, 3, 3, 3), {}, "rank"),
    "group": ((1, 4, 5, 5), (3, 2, 3, 3), {"group": 2}, "group 2"),
    "kernel_shape": ((1, 3, 5, 5), (4, 3, 3, 3), {"kernel_shape": [2, 2]}, "kernel_shape"),
    "too small": ((1, 3, 2, 2), (4, 3, 3, 3), {}, "does not fit"),
    "pads": ((1, 3, 5, 5), (4, 3, 3, 3), {"pads": [1, 1]}, "pads"),
    "stride": ((1, 3, 5, 5), (4, 3, 3, 3), {"strides": [0, 1]}, "strides"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_forms_are_refused(case):
    x, w, attrs, word = BAD[case]
    with pytest.raises(tw.TilewiseError, match=word):
        tw.load(one_node("Conv", [rand(*x), rand(*w)], attrs).SerializeToString())


TRANSPOSED = {
    "plain": ((1, 2, 5, 6), (2, 3, 3, 3), {}),
    "stride 2": ((2, 3, 5, 6), (3, 4, 3, 3), {"stride": 2, "pads": (1, 1, 1, 1)}),
    "2x2 stride 2": ((1, 3, 8, 8), (3, 20, 2, 2), {"stride": 2}),
    "2x2 stride 2, small": ((1, 3, 2, 2), (3, 4, 2, 2), {"stride": 2}),
    "4x4 stride 2": ((1, 3, 5, 5), (3, 2, 4, 4), {"stride": 2, "pads": (1, 1, 1, 1)}),
    "stride 3 kernel 2": ((1, 2, 4, 5), (2, 3, 2, 2), {"stride": 3}),
    "output padding": ((1, 2, 4, 5), (2, 3, 3, 3), {"stride": 3, "output_padding": (1, 2)}),
    "dilated": ((1, 2, 6, 5), (2, 3, 3, 2), {"dilation": (2, 3)}),
    "dilated stride 2": ((1, 2, 6, 5), (2, 3, 3, 3), {"dilation": 2, "stride": 2, "pads": (1, 0, 2, 1)}),
    "dilated 3 stride 2": ((1, 2, 6, 5), (2, 3, 3, 3), {"dilation": 3, "stride": 2}),
    "groups": ((2, 4, 5, 5), (4, 3, 3, 3), {"stride": 2, "group": 2}),
    "depthwise": ((1, 4, 5, 5), (4, 1, 3, 3), {"stride": 2, "group": 4}),
    "asymmetric": ((1, 2, 7, 7), (2, 3, 5, 4), {"stride": (1, 2), "pads": (0, 2, 3, 1)}),
    "one pixel": ((1, 3, 1, 1), (3, 2, 4, 4), {"stride": 1}),
    "2x2 stride 2, cropped": ((2, 3, 9, 20), (3, 15, 2, 2), {"stride": 2, "pads": (0, 0, 1, 1)}),
    "2x2 stride 2, groups": ((2, 6, 7, 18), (6, 5, 2, 2), {"stride": 2, "group": 2}),
    "wide, odd": ((2, 3, 4, 40), (3, 5, 3, 3), {"stride": 2, "pads": (1, 1, 1, 1)}),
    "stride 3 and 2": ((1, 3, 4, 21), (3, 5, 4, 3), {"stride": (3, 2)}),
    "stride 2, kernel 1": ((1, 3, 4, 21), (3, 5, 1, 1), {"stride": 2}),
    "stride 2, one column": ((1, 3, 4, 1), (3, 5, 3, 1), {"stride": 2}),
    "1-D": ((2, 3, 9), (3, 2, 4), {"stride": 2, "pads": (1, 0)}),
    "3-D": ((1, 2, 3, 4, 5), (2, 3, 2, 3, 3), {"stride": (1, 2, 2), "pads": (0, 1, 0, 1, 1, 0)}),
    "large": ((1, 8, 20, 30), (8, 17, 3, 3), {"stride": 2, "pads": (1, 1, 1, 1), "output_padding": (1, 1)}),
}


@pytest.mark.parametrize("case", TRANSPOSED)
@pytest.mark.parametrize("biased", [False, True], ids=["", "bias"])
def test_conv_transpose(case, biased):
    xs, ws, form = TRANSPOSED[case]
    args = [rand(*xs), rand(*ws)] + [rand(ws[1] * form.get("group", 1))] * biased
    want = oracles.conv_transpose(*args, **form).astype(np.float32)
    more = {
        k: [v] * (len(xs) - 2) if isinstance(v, int) else list(v)
        for k, v in form.items()
        if k == "output_padding"
    }
    rest = {k: v for k, v in form.items() if k != "output_padding"}
    attrs = attributes(len(xs) - 2, **rest) | more
    constants = range(1, len(args))
    check(
        "ConvTranspose",
        args,
        attrs,
        constants=constants,
        oracle=lambda *_: want,
        rtol=1e-4,
        atol=1e-4,
        kernel=True,
    )
    check("ConvTranspose", args, attrs, oracle=lambda *_: want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "attrs",
    [
        {"strides": [3, 2], "output_shape": [10, 8]},
        {"strides": [3, 2], "output_shape": [10, 8], "output_padding": [1, 1]},
        {"auto_pad": "SAME_UPPER", "strides": [2, 2]},
        {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
        {"auto_pad": "SAME_UPPER", "output_shape": [10, 8], "strides": [3, 2]},
        {"auto_pad": "VALID", "strides": [2, 2]},
    ],
    ids=str,
)
def test_conv_transpose_output_forms(attrs):
    ort = pytest.importorskip("onnxruntime")
    x, w = rand(1, 1, 3, 3), rand(1, 2, 3, 3)
    proto = one_node("ConvTranspose", [x, w], attrs, opset=21)
    want = ort.InferenceSession(proto.SerializeToString()).run(None, {"x0": x, "x1": w})
    check("ConvTranspose", [x, w], attrs, opset=21, oracle=lambda *_: want, rtol=1e-4, atol=1e-5)


DEFORM = {
    "plain": (1, 4, 6, 7, 5, 3, {}),
    "strided": (2, 4, 9, 9, 3, 3, {"stride": 2, "pads": (1, 1, 1, 1)}),
    "dilated": (1, 4, 9, 9, 3, 3, {"dilation": 2, "pads": (2, 2, 2, 2)}),
    "groups": (1, 4, 6, 6, 6, 3, {"group": 2, "offset_group": 2, "pads": (1, 0, 0, 1)}),
    "offset groups": (1, 6, 6, 6, 2, 2, {"offset_group": 3}),
    "1x1": (1, 3, 5, 5, 2, 1, {}),
    "channels beyond a vector": (1, 40, 9, 11, 37, 3, {"pads": (1, 1, 1, 1)}),
    "segments": (2, 24, 7, 9, 12, 3, {"group": 2, "offset_group": 3}),
    "segments of groups": (1, 36, 7, 9, 6, 2, {"group": 6, "offset_group": 2}),
    "many taps": (1, 33, 12, 12, 20, 7, {"pads": (3, 3, 3, 3)}),
    "many pixels": (1, 3, 41, 53, 33, 3, {"pads": (1, 1, 1, 1)}),
    "one pixel": (1, 5, 3, 3, 2, 3, {}),
}


@pytest.mark.parametrize("case", DEFORM)
@pytest.mark.parametrize("masked", [False, True], ids=["", "mask"])
def test_deform_conv(case, masked):
    n, c, h, w, outs, k, form = DEFORM[case]
    pads, s, d = form.get("pads", (0,) * 4), form.get("stride", 1), form.get("dilation", 1)
    groups = form.get("offset_group", 1)
    oh = (h + pads[0] + pads[2] - (k - 1) * d - 1) // s + 1
    ow = (w + pads[1] + pads[3] - (k - 1) * d - 1) // s + 1
    weight = rand(outs, c // form.get("group", 1), k, k)
    offset = 2 * rand(n, 2 * groups * k * k, oh, ow)
    args = [rand(n, c, h, w), weight, offset, rand(outs)] + [rand(n, groups * k * k, oh, ow)] * masked
    want = oracles.deform_conv(*args, **form).astype(np.float32)
    attrs = attributes(2, **{k: v for k, v in form.items() if k != "offset_group"}, offset_group=groups)
    check(
        "DeformConv", args, attrs, constants=(1, 3), oracle=lambda *_: want, rtol=1e-4, atol=1e-4, kernel=True
    )
    check("DeformConv", args, attrs, oracle=lambda *_: want, rtol=1e-4, atol=1e-4)


def test_deform_conv_samples_nothing_where_an_offset_is_no_number():
    x, w = rand(1, 3, 6, 20), rand(4, 3, 3, 3)
    offset = rand(1, 18, 4, 18)
    offset[0, 0, 1, 2], offset[0, 5, 2, 17], offset[0, 9, 0, 0], offset[0, 10, 3, 3] = (
        np.nan,
        np.inf,
        -np.inf,
        1e30,
    )
    far = np.where(np.abs(np.nan_to_num(offset, nan=np.inf)) > 1e9, np.float32(1e6), offset)
    args = [x, w, offset]
    want = oracles.deform_conv(x, w, far).astype(np.float32)
    check("DeformConv", args, constants=(1,), oracle=lambda *_: want, rtol=1e-4, atol=1e-4, kernel=True)


def test_deform_conv_carries_nan_and_infinity_no_further_than_they_are_sampled():
    x, w = rand(1, 3, 6, 20), rand(4, 3, 3, 3)
    x[0, 1, 2, 3], x[0, 0, 4, 15] = np.nan, np.inf
    args = [x, w, np.full((1, 18, 4, 18), 0.25, np.float32)]
    with np.errstate(invalid="ignore"):
        want = oracles.deform_conv(*args).astype(np.float32)
    assert np.isfinite(want).sum() > want.size // 2
    check("DeformConv", args, constants=(1,), oracle=lambda *_: want, rtol=1e-4, atol=1e-4, kernel=True)
