"""Convolution in channel-blocked layout against sums over taps in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tests.ops import oracles
from tests.ops.layout_harness import (
    MOVES,
    check_graph,
    fills_lanes,
    graph,
    identity,
    needs_kernels,
    rand,
    weights,
)
from tilewise.ops.layout import VECTOR
from tilewise.runtime.model import load

pytestmark = needs_kernels


@pytest.fixture
def no_winograd(monkeypatch):
    """Direct sums wherever they can be, so that a special value reaches its own windows alone."""
    monkeypatch.setenv("TILEWISE_IMPL", "blocked")


def spell(spatial, stride=1, pads=None, dilation=1, group=1):
    """Attributes in ONNX's text syntax, from the oracle's arguments."""
    strides, dilations = ([v] * spatial if isinstance(v, int) else list(v) for v in (stride, dilation))
    pads = [0] * (2 * spatial) if pads is None else list(pads)
    return f"<strides = {strides}, dilations = {dilations}, pads = {pads}, group: int = {group}>"


def run_conv(xs, ws, form, *, biased=True, blocked_input=False, kernel="blocked_conv"):
    """Assert one convolution's values and that `kernel` makes them; blocked_input: x comes from a convolution."""
    x, w, b = rand(*xs), weights(*ws), rand(ws[0], seed=1)
    spatial = len(xs) - 2
    conv = f"Conv {spell(spatial, **form)} ({'x0' if blocked_input else 'x'}, w{', b' * biased})"
    constants = {"w": w} | ({"b": b} if biased else {})
    if blocked_input:
        constants["eye"] = identity(xs[1], spatial)
    nodes = f"x0 = Conv (x, eye) y = {conv}" if blocked_input else f"y = {conv}"
    want = oracles.conv(x, w, b if biased else None, **form)
    kernels = check_graph(nodes, {"x": x}, constants, {"y": want})
    assert kernel in kernels, kernels
    assert set(kernels) <= MOVES | {kernel, "blocked_conv"}, kernels
    return kernels


# shape of x, shape of w, form
FORMS = {
    "1x1": ((2, 24, 7, 9), (48, 24, 1, 1), {}),
    "1x1 one place": ((17, 48, 1, 1), (32, 48, 1, 1), {}),
    "1x1 of a row": ((3, 48, 1, 37), (32, 48, 1, 1), {}),
    "1x1 of a column": ((1, 48, 37, 1), (32, 48, 1, 1), {}),
    "1x1 stride 2": ((2, 24, 9, 8), (24, 24, 1, 1), {"stride": 2}),
    "1x1 stride 3": ((1, 24, 11, 13), (24, 24, 1, 1), {"stride": (3, 1)}),
    "1x1 padded": ((1, 24, 5, 5), (24, 24, 1, 1), {"pads": (1, 2, 0, 3)}),
    "1x1 padded behind alone": ((1, 24, 5, 5), (24, 24, 1, 1), {"pads": (0, 0, 2, 1)}),
    "1x1, pads that no stride reaches": ((1, 24, 5, 5), (24, 24, 1, 1), {"pads": (0, 0, 1, 1), "stride": 3}),
    "3x3 same": ((2, 24, 14, 15), (24, 24, 3, 3), {"pads": (1, 1, 1, 1)}),
    "3x3 valid": ((1, 24, 14, 15), (24, 24, 3, 3), {}),
    "3x3 asymmetric": ((1, 24, 6, 33), (24, 24, 3, 3), {"pads": (0, 1, 2, 3)}),
    "3x3 stride 2": ((3, 24, 15, 16), (32, 24, 3, 3), {"pads": (1, 1, 1, 1), "stride": 2}),
    "3x3 stride 3": ((1, 24, 17, 16), (32, 24, 3, 3), {"pads": (1, 1, 1, 1), "stride": 3}),
    "3x3 strides 1, 2": ((1, 24, 9, 12), (32, 24, 3, 3), {"pads": (1, 0, 1, 0), "stride": (1, 2)}),
    "3x3 dilation 2": ((1, 24, 12, 13), (24, 24, 3, 3), {"pads": (2, 2, 2, 2), "dilation": 2}),
    "3x3 dilation 12 on 14": ((1, 24, 14, 14), (24, 24, 3, 3), {"pads": (12,) * 4, "dilation": 12}),
    "dilation 3, 1 and stride 2": (
        (1, 24, 14, 14),
        (24, 24, 3, 3),
        {"pads": (4,) * 4, "dilation": (3, 1), "stride": 2},
    ),
    "pads beyond the kernel": ((1, 24, 3, 4), (24, 24, 3, 3), {"pads": (5, 4, 3, 6)}),
    "pads beyond the image": ((1, 24, 1, 2), (24, 24, 3, 3), {"pads": (7, 0, 0, 9)}),
    "strides over pads alone": ((1, 24, 2, 2), (24, 24, 3, 3), {"pads": (9, 9, 0, 0), "stride": 4}),
    "one output, padded": ((2, 24, 2, 2), (24, 24, 3, 3), {"pads": (1, 0, 0, 1)}),
    "one output, dilated": ((1, 24, 3, 3), (24, 24, 3, 3), {"pads": (0, 0, 2, 2), "dilation": 2}),
    "one column": ((1, 24, 40, 9), (24, 24, 3, 9), {}),
    "two columns, odd rows": ((1, 24, 9, 4), (24, 24, 3, 3), {}),
    "three columns, two rows": ((2, 24, 4, 5), (24, 24, 3, 3), {}),
    "seven columns": ((1, 24, 7, 9), (24, 24, 3, 3), {}),
    "width 13": ((1, 24, 2, 13), (24, 24, 1, 3), {"pads": (0, 1, 0, 1)}),
    "width 15": ((1, 24, 2, 15), (24, 24, 1, 3), {"pads": (0, 1, 0, 1)}),
    "1x7": ((1, 24, 9, 9), (24, 24, 1, 7), {"pads": (0, 3, 0, 3)}),
    "7x1": ((1, 24, 9, 9), (24, 24, 7, 1), {"pads": (3, 0, 3, 0)}),
    "even kernel": ((1, 24, 8, 8), (24, 24, 4, 2), {"pads": (1, 0, 2, 1)}),
    "kernel of the image, batch": ((2, 24, 5, 6), (24, 24, 5, 6), {"pads": (0, 0, 1, 0)}),
    "many blocks": ((1, 112, 6, 6), (112, 112, 3, 3), {"stride": 2}),
    "large enough for several tasks": ((1, 48, 50, 51), (72, 48, 3, 3), {"pads": (1,) * 4, "stride": 2}),
    "groups": ((2, 64, 7, 8), (32, 32, 3, 3), {"pads": (1,) * 4, "group": 2}),
    "grouped 1x1": ((1, 64, 7, 8), (96, 32, 1, 1), {"group": 2}),
    "groups, dilated by 6 on 7": (
        (2, 64, 7, 8),
        (32, 32, 3, 3),
        {"pads": (6,) * 4, "dilation": 6, "group": 2},
    ),
    "dilation 7 and stride 2 on 15": (
        (1, 33, 15, 15),
        (24, 33, 3, 3),
        {"pads": (7,) * 4, "dilation": 7, "stride": 2},
    ),
    "a large kernel on a small image": ((1, 24, 3, 4), (24, 24, 5, 7), {"pads": (2, 3, 2, 3)}),
    "groups, an odd number of blocks": ((1, 64, 5, 5), (192, 16, 3, 3), {"group": 4, "stride": 2}),
    "1-D": ((2, 24, 40), (24, 24, 5), {"pads": (2, 2)}),
    "1-D stride 3 dilation 2": ((1, 24, 50), (24, 24, 4), {"pads": (1, 3), "stride": 3, "dilation": 2}),
    "1-D dilation 12": ((3, 24, 30), (24, 24, 3), {"pads": (12, 12), "dilation": 12}),
    "1-D of two": ((1, 24, 2), (24, 24, 2), {"pads": (1, 0)}),
    "3-D": ((2, 24, 4, 5, 6), (24, 24, 3, 3, 3), {"pads": (1,) * 6}),
    "3-D strides": ((1, 24, 7, 6, 5), (24, 24, 3, 2, 3), {"pads": (1, 0, 1, 1, 1, 0), "stride": (2, 1, 3)}),
    "3-D valid": ((1, 24, 4, 5, 6), (24, 24, 2, 3, 2), {}),
    "3-D 1x1x1": ((1, 24, 3, 4, 5), (24, 24, 1, 1, 1), {}),
    "3-D dilated by 3 on 4": (
        (2, 24, 4, 2, 4),
        (24, 24, 3, 1, 3),
        {"pads": (3, 0, 3) * 2, "dilation": (3, 1, 3)},
    ),
    "3-D dilated": ((1, 24, 6, 3, 5), (24, 24, 2, 1, 2), {"pads": (0, 1, 0, 2, 0, 1), "dilation": (3, 1, 2)}),
}


@pytest.mark.parametrize("blocked_input", [False, True], ids=["plain x", "blocked x"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.usefixtures("no_winograd")
def test_forms(form, blocked_input):
    xs, ws, more = FORMS[form]
    run_conv(xs, ws, more, biased=form != "1x1", blocked_input=blocked_input)


@pytest.mark.parametrize("outs", [15, 16, 17, 24, 33, 48])
@pytest.mark.parametrize("channels", [1, 3, 15, 16, 17, 24, 33, 48])
@pytest.mark.parametrize("kernel", [(1, 1), (2, 3)], ids=str)
def test_channels(channels, outs, kernel):
    pads = (0, 1, 1, 1) if kernel != (1, 1) else (0,) * 4
    plain = "depthwise" if channels == 1 else "tile_gemm"
    want = "blocked_conv" if fills_lanes(outs) else plain
    run_conv((3, channels, 5, 9), (outs, channels, *kernel), {"pads": pads}, kernel=want)


FEW_CHANNELS = {
    "3x3 stride 2": ((2, 3, 15, 16), (32, 3, 3, 3), {"pads": (1, 1, 1, 1), "stride": 2}),
    "7x7 stride 2": ((1, 3, 32, 31), (32, 3, 7, 7), {"pads": (3, 3, 3, 3), "stride": 2}),
    "unpadded": ((2, 3, 9, 10), (32, 3, 3, 3), {"stride": (1, 2)}),
    "dilation along rows": ((1, 2, 9, 12), (32, 2, 3, 3), {"pads": (0, 2, 0, 2), "dilation": (1, 2)}),
    "dilation along columns": ((1, 2, 9, 12), (32, 2, 3, 3), {"pads": (2, 0, 2, 0), "dilation": (2, 1)}),
    "one channel": ((3, 1, 8, 7), (32, 1, 5, 4), {"pads": (2, 2, 2, 1)}),
    "1-D": ((1, 3, 61), (32, 3, 5), {"pads": (9, 2), "stride": 2}),
    "3-D": ((2, 3, 4, 5, 6), (32, 3, 2, 3, 3), {"pads": (0, 1, 1, 1, 1, 1)}),
    "pads beyond the image": ((1, 3, 2, 3), (32, 3, 3, 3), {"pads": (4, 4, 4, 4)}),
}


@pytest.mark.parametrize("form", FEW_CHANNELS)
def test_an_image_of_few_channels_is_read_plain(form):
    kernels = run_conv(*FEW_CHANNELS[form])
    assert "to_blocked" not in kernels or VECTOR == 4


DEPTHWISE = {
    f"{k}x{k} stride {s} dilation {d}": (
        (2, 24, 14, 29),
        k,
        {"stride": s, "dilation": d, "pads": (k // 2 * d,) * 4},
    )
    for k in (3, 5)
    for s in (1, 2, 3)
    for d in (1, 2, 12)
} | {
    "valid": ((1, 24, 7, 20), 3, {}),
    "asymmetric": ((1, 24, 7, 20), 3, {"pads": (0, 2, 1, 0)}),
    "pads beyond the kernel": ((1, 24, 4, 3), 3, {"pads": (4, 5, 6, 3)}),
    "pads beyond the kernel, strides": ((1, 24, 4, 3), 3, {"pads": (4, 5, 6, 3), "stride": 2}),
    "dilation beyond the image": ((1, 24, 3, 4), 3, {"pads": (12,) * 4, "dilation": 12}),
    "one place": ((3, 24, 1, 1), 3, {"pads": (1,) * 4}),
    "one output": ((1, 24, 3, 2), 3, {"pads": (0, 1, 0, 0)}),
    "1x1": ((1, 24, 5, 6), 1, {}),
    "even": ((1, 24, 8, 9), 4, {"pads": (1, 2, 2, 1)}),
    "large": ((1, 24, 60, 70), 3, {"pads": (1,) * 4}),
    "1-D": ((2, 24, 33), 5, {"pads": (2, 2), "stride": 2}),
    "wider than the buffer": ((1, 24, 4, 2100), 3, {"pads": (1, 1, 1, 0), "stride": (1, 2)}),
    "stride beyond the kernel": ((1, 24, 17, 18), 2, {"stride": 5}),
    "31 rows": ((1, 24, 33, 3), (31, 1), {"pads": (2, 0, 4, 0)}),
}


@pytest.mark.parametrize("form", DEPTHWISE)
def test_depthwise(form):
    xs, k, more = DEPTHWISE[form]
    ws = (xs[1], 1, *([k] * (len(xs) - 2) if isinstance(k, int) else k))
    run_conv(xs, ws, {**more, "group": xs[1]}, kernel="blocked_depthwise", blocked_input=form == "large")


@pytest.mark.parametrize("channels", [3, 15, 16, 17, 24, 33, 48])
def test_depthwise_channels(channels):
    xs, form = (2, channels, 6, 7), {"pads": (1,) * 4, "group": channels}
    want = "blocked_depthwise" if fills_lanes(channels) else "depthwise"
    run_conv(xs, (channels, 1, 3, 3), form, kernel=want)


FALLBACKS = {
    "groups of part of a vector": ((1, 24, 5, 6), (24, 3, 3, 3), {"group": 8}),
    "depthwise with a multiplier": ((1, 24, 5, 6), (48, 1, 3, 3), {"group": 24}),
    "depthwise in 3-D": ((1, 24, 4, 5, 6), (24, 1, 3, 3, 3), {"group": 24}),
    "depthwise of more rows than the buffer has": (
        (1, 24, 33, 3),
        (24, 1, 33, 1),
        {"group": 24, "pads": (1, 0, 0, 0)},
    ),
    "depthwise dilated beyond the buffer": (
        (1, 24, 5, 2100),
        (24, 1, 3, 2),
        {"group": 24, "dilation": (1, 2050)},
    ),
    "one channel out": ((1, 24, 5, 6), (1, 24, 3, 3), {}),
}


@pytest.mark.parametrize("form", FALLBACKS)
@pytest.mark.parametrize("blocked_input", [False, True], ids=["plain x", "blocked x"])
def test_other_forms_stay_plain(form, blocked_input):
    xs, ws, more = FALLBACKS[form]
    x, w = rand(*xs), weights(*ws)
    nodes = f"x0 = Conv (x, eye) y = Conv {spell(len(xs) - 2, **more)} (x0, w)"
    if not blocked_input:
        nodes = nodes.replace("x0 = Conv (x, eye)", "").replace("(x0", "(x")
    constants = {"w": w, "eye": identity(xs[1], len(xs) - 2)}
    kernels = check_graph(nodes, {"x": x}, constants, {"y": oracles.conv(x, w, **more)})
    assert ("from_blocked" in kernels) is blocked_input
    assert kernels[-1] in ("tile_gemm", "depthwise"), kernels


@pytest.mark.parametrize("varies", ["w", "b"])
def test_weights_and_biases_that_are_not_constant(varies):
    x, w, b = rand(2, 24, 6, 7), weights(24, 24, 3, 3), rand(24, seed=1)
    feeds = {"x": x, varies: {"w": w, "b": b}[varies]}
    constants = {n: a for n, a in {"w": w, "b": b}.items() if n != varies}
    kernels = check_graph("y = Conv (x, w, b)", feeds, constants, {"y": oracles.conv(x, w, b)})
    assert "blocked_conv" not in kernels, kernels
    assert "host" not in kernels, kernels


def test_weights_shared_by_convolutions_of_other_groups():
    w, x, z = weights(96, 16, 3, 3), rand(1, 16, 6, 6), rand(1, 32, 6, 6)
    want = {"y": oracles.conv(x, w), "v": oracles.conv(z, w, group=2)}
    nodes = "y = Conv (x, w) v = Conv <group: int = 2> (z, w)"
    kernels = check_graph(nodes, {"x": x, "z": z}, {"w": w}, want, companion=False)
    assert kernels.count("blocked_conv") == 2, kernels


def test_weights_shared_by_pointwise_convolutions_of_other_groups():
    w, b, x, z = weights(140, 20, 1, 1), rand(140), rand(1, 40, 6, 6), rand(1, 80, 6, 6)
    want = {"y": oracles.conv(x, w, b, group=2), "v": oracles.conv(z, w, b, group=4)}
    nodes = "y = Conv <group: int = 2> (x, w, b) v = Conv <group: int = 4> (z, w, b)"
    kernels = check_graph(nodes, {"x": x, "z": z}, {"w": w, "b": b}, want, companion=False)
    assert kernels.count("blocked_conv") == 2, kernels


# Epilogues.

CONVOLUTIONS = {
    "convolution": ("blocked_conv", (2, 24, 9, 6), (40, 24, 3, 3), {"pads": (1,) * 4}),
    "regions": ("blocked_conv", (2, 24, 9, 6), (40, 24, 3, 3), {"pads": (5,) * 4, "dilation": 5}),
    "depthwise": ("blocked_depthwise", (2, 40, 9, 11), (40, 1, 3, 3), {"pads": (1, 0, 1, 2), "group": 40}),
    "winograd": ("winograd_output", (1, 48, 30, 29), (40, 48, 3, 3), {"pads": (1,) * 4}),
}


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


ERF = np.vectorize(math.erf)
ACTIVATIONS = {
    "Relu": ("y = Relu (c)", lambda c: np.maximum(c, 0)),
    "Clip": ("lo = Constant <value_float = -0.5> () hi = Constant <value_float = 0.75> () y = Clip (c, lo, hi)",
             lambda c: np.clip(c, -0.5, 0.75)),
    "Clip from below": ("lo = Constant <value_float = -0.5> () y = Clip (c, lo)", lambda c: np.maximum(c, -0.5)),
    "LeakyRelu": ("y = LeakyRelu <alpha = 0.2> (c)", lambda c: np.where(c < 0, 0.2 * c, c)),
    "Sigmoid": ("y = Sigmoid (c)", sigmoid),
    "Tanh": ("y = Tanh (c)", np.tanh),
    "HardSigmoid": ("y = HardSigmoid <alpha = 0.3, beta = 0.4> (c)", lambda c: np.clip(0.3 * c + 0.4, 0, 1)),
    "HardSwish": ("y = HardSwish (c)", lambda c: c * np.clip(c / 6 + 0.5, 0, 1)),
    "Swish": ("s = Sigmoid (c) y = Mul (c, s)", lambda c: c * sigmoid(c)),
    "Gelu": ("y = Gelu (c)", lambda c: c * 0.5 * (1 + ERF(c / math.sqrt(2)))),
    "GeluTanh": ('y = Gelu <approximate = "tanh"> (c)',
                 lambda c: 0.5 * c * (1 + np.tanh(math.sqrt(2 / math.pi) * (c + 0.044715 * c**3)))),
    "Elu": ("y = Elu <alpha = 0.7> (c)", lambda c: np.where(c < 0, 0.7 * np.expm1(c), c)),
    "Softplus": ("y = Softplus (c)", lambda c: np.logaddexp(0, c)),
    "Mish": ("y = Mish (c)", lambda c: c * np.tanh(np.logaddexp(0, c))),
}  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("way", CONVOLUTIONS)
def test_activations(way, activation):
    kernel, xs, ws, form = CONVOLUTIONS[way]
    x, w, b = rand(*xs), weights(*ws), rand(ws[0], seed=1)
    tail, apply = ACTIVATIONS[activation]
    want = apply(oracles.conv(x, w, b, **form))
    nodes = f"c = Conv {spell(2, **form)} (x, w, b) {tail}"
    kernels = check_graph(nodes, {"x": x}, {"w": w, "b": b}, {"y": want}, atol=5e-5)
    fused = MOVES | {"blocked_conv", "blocked_depthwise", "winograd_input", "winograd_output"}
    assert kernel in kernels, kernels
    assert set(kernels) <= fused, kernels


@pytest.mark.parametrize(
    "tail", ["y = Add (c, r0)", "a = Add (r0, c) y = Relu (a)", "a = Add (r0, c) y = Sigmoid (a)"]
)
@pytest.mark.parametrize("way", CONVOLUTIONS)
def test_residuals(way, tail):
    """A residual that is fed, and one that a convolution makes and that may be written over."""
    kernel, xs, ws, form = CONVOLUTIONS[way]
    x, w, b = rand(*xs), weights(*ws), rand(ws[0], seed=1)
    c = oracles.conv(x, w, b, **form)
    r = rand(*c.shape, seed=2)
    total = c + r
    want = np.maximum(total, 0) if "Relu" in tail else sigmoid(total) if "Sigmoid" in tail else total
    conv = f"c = Conv {spell(2, **form)} (x, w, b)"
    constants = {"w": w, "b": b, "eye": identity(ws[0])}
    for nodes in (f"{conv} {tail.replace('r0', 'r')}", f"r0 = Conv (r, eye) {conv} {tail}"):
        kernels = check_graph(nodes, {"x": x, "r": r}, constants, {"y": want}, atol=5e-5)
        assert kernel in kernels, kernels
        assert not any("add" in name for name in kernels), kernels


@pytest.mark.parametrize("form", ["1x1", "3x3 same", "depthwise", "winograd"])
def test_a_residual_that_is_the_input_and_dies(form):
    """The result may not be written over an input that other tasks still read."""
    channels, k = (48, 1) if form == "1x1" else (48, 3)
    x, w = rand(1, channels, 30, 29), weights(channels, 1 if form == "depthwise" else channels, k, k)
    more = {"pads": (k // 2,) * 4, "group": channels if form == "depthwise" else 1}
    if form == "3x3 same":
        x = x[:, :, :7, :5].copy()
    nodes = f"x0 = Conv (x, eye) x1 = Neg (x0) c = Conv {spell(2, **more)} (x1, w) y = Add (c, x1)"
    want = {"y": oracles.conv(-x, w, **more) - x}
    check_graph(nodes, {"x": x}, {"w": w, "eye": identity(channels)}, want, atol=5e-5)


@pytest.mark.parametrize("way", CONVOLUTIONS)
def test_a_residual_that_is_the_input_and_is_read_again(way):
    kernel, xs, ws, form = CONVOLUTIONS[way]
    xs, ws = (xs[0], ws[0], *xs[2:]), (ws[0], ws[1] if ws[1] == 1 else ws[0], 3, 3)
    form = {**form, "pads": (form.get("dilation", 1),) * 4}
    x, w = rand(*xs), weights(*ws)
    nodes = f"x0 = Conv (x, eye) c = Conv {spell(2, **form)} (x0, w) y = Add (c, x0) z = Mul (y, x0)"
    y = oracles.conv(x, w, **form) + x
    kernels = check_graph(nodes, {"x": x}, {"w": w, "eye": identity(ws[0])}, {"y": y, "z": y * x}, atol=1e-4)
    assert kernel in kernels, kernels


# Special values.


@pytest.mark.usefixtures("no_winograd")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("form", ["3x3 same", "3x3 stride 3", "groups", "1-D", "3-D"])
def test_special_values_reach_only_their_windows(form, value):
    xs, ws, more = FORMS[form]
    x, w = rand(*xs), weights(*ws)
    x[(0, 3, *[s // 2 for s in xs[2:]])] = value
    x[(xs[0] - 1, 20, *[s - 1 for s in xs[2:]])] = value
    with np.errstate(invalid="ignore"):
        want = oracles.conv(x, w, **more)
    nodes = f"y = Conv {spell(len(xs) - 2, **more)} (x, w)"
    kernels = check_graph(nodes, {"x": x}, {"w": w}, {"y": want})
    assert "blocked_conv" in kernels, kernels
    assert "winograd_output" not in kernels, kernels
    assert 0 < np.isfinite(want).sum() < want.size


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_special_values_in_depthwise_reach_only_their_windows(value):
    x, w = rand(1, 24, 9, 12), weights(24, 1, 3, 3)
    x[0, 3, 4, 5] = x[0, 23, 8, 11] = value
    form = {"pads": (1,) * 4, "group": 24}
    with np.errstate(invalid="ignore"):
        want = oracles.conv(x, w, **form)
    kernels = check_graph(f"y = Conv {spell(2, **form)} (x, w)", {"x": x}, {"w": w}, {"y": want})
    assert "blocked_depthwise" in kernels
    assert not np.isfinite(want[0, 3, 4, 5])
    assert np.isfinite(want[0, 4]).all()


@pytest.mark.parametrize("way", CONVOLUTIONS)
@pytest.mark.parametrize("tail", ["Relu", "Clip", "LeakyRelu", "HardSwish", "Sigmoid"])
def test_a_nan_passes_activations(way, tail):
    kernel, xs, ws, form = CONVOLUTIONS[way]
    x, w, b = rand(*xs), weights(*ws), rand(ws[0], seed=1)
    b[5] = np.nan  # a whole channel, and no other
    nodes, apply = ACTIVATIONS[tail]
    want = apply(oracles.conv(x, w, b, **form))
    assert np.isnan(want).sum() == want[:, 5].size
    nodes = f"c = Conv {spell(2, **form)} (x, w, b) {nodes}"
    kernels = check_graph(nodes, {"x": x}, {"w": w, "b": b}, {"y": want}, atol=5e-5)
    assert kernel in kernels, kernels


def test_plans_of_several_shapes_share_packed_weights():
    w = weights(24, 24, 3, 3)
    proto = graph("y = Conv <pads = [1, 1, 1, 1]> (x, w)", {"x": rand(1, 24, 5, 5)}, {"w": w})
    for dim, name in zip(proto.graph.input[0].type.tensor_type.shape.dim, "nchw", strict=True):
        dim.dim_param = name
    model = load(proto.SerializeToString())
    for shape in [(1, 24, 5, 5), (3, 24, 7, 1), (2, 24, 1, 40), (1, 24, 5, 5)]:
        x = rand(*shape)
        got = model.run({"x": x, "companion_x": rand(1, 1, 1, 1)})["y"]
        np.testing.assert_allclose(got, oracles.conv(x, w, pads=(1,) * 4), rtol=1e-4, atol=2e-5)
