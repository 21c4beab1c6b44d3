"""Pooling, channel-wise and element-wise operators in channel-blocked layout, against loops and NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops.layout_harness import check_graph, identity, needs_kernels, rand
from tests.ops.pool_oracle import naive_pool

pytestmark = needs_kernels

EYE = "x0 = Conv (x, eye)"
"""A convolution that copies x into blocked layout."""


def run_after_conv(x, nodes, want, kernel, *, more=None, constants=None, moves=0, atol=2e-5, host=False):
    """`nodes` from x0, which lies blocked, to y; `kernel` must run, and `moves` copies between layouts inside."""
    eye = {"eye": identity(x.shape[1], x.ndim - 2)}
    kernels = check_graph(
        f"{EYE} {nodes}", {"x": x, **(more or {})}, {**eye, **(constants or {})}, {"y": want}, atol=atol
    )
    start = kernels.index("blocked_conv") + 1
    inside = kernels[start : -1 if kernels[-1] == "from_blocked" else None]
    assert any(name.startswith(kernel) for name in inside), kernels
    assert sum(name in ("to_blocked", "from_blocked") for name in inside) == moves, kernels
    assert ("host" in kernels) is host, kernels


# x, kernel, attributes
WINDOWS = {
    "2x2 stride 2": ((2, 30, 8, 10), (2, 2), {"strides": [2, 2]}),
    "3x3 stride 2 padded": ((1, 32, 9, 11), (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "3x3 same": ((1, 24, 7, 13), (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3 stride 3": ((3, 24, 10, 11), (3, 3), {"strides": [3, 3]}),
    "asymmetric": ((1, 24, 7, 6), (3, 2), {"pads": [0, 1, 2, 0], "strides": [1, 2]}),
    "ceil": ((1, 24, 8, 9), (3, 3), {"strides": [2, 2], "ceil_mode": 1}),
    "ceil, padded": ((1, 30, 6, 8), (3, 3), {"strides": [2, 3], "ceil_mode": 1, "pads": [1, 0, 1, 1]}),
    "dilated": ((1, 24, 9, 10), (3, 2), {"dilations": [2, 3], "pads": [2, 1, 1, 1]}),
    "wide": ((1, 24, 3, 90), (1, 5), {"pads": [0, 2, 0, 2]}),
    "one row": ((1, 24, 1, 12), (1, 3), {"strides": [1, 2]}),
    "one output": ((2, 24, 3, 4), (3, 3), {"strides": [5, 5]}),
    "1x1 stride 2": ((1, 24, 5, 6), (1, 1), {"strides": [2, 2]}),
    "1-D": ((2, 30, 25), (4,), {"strides": [3], "pads": [1, 2]}),
    "1-D ceil": ((1, 24, 10), (3,), {"strides": [2], "ceil_mode": 1}),
    "1-D dilated": ((1, 24, 20), (3,), {"dilations": [5]}),
    "large": ((1, 48, 33, 31), (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
}


def spell(attrs):
    return ", ".join(f"{name} = {value}" for name, value in attrs.items())


def oracle(x, kernel, kind, attrs, padded=False):
    ceil = attrs.get("ceil_mode", 0)
    rest = {k: v for k, v in attrs.items() if k != "ceil_mode"}
    return naive_pool(x, kind, list(kernel), ceil_mode=ceil, padded=padded, **rest)[0]


@pytest.mark.parametrize("form", WINDOWS)
def test_max_pool(form):
    shape, kernel, attrs = WINDOWS[form]
    x = rand(*shape)
    nodes = f"y = MaxPool <kernel_shape = {list(kernel)}, {spell(attrs)}> (x0)"
    run_after_conv(x, nodes, oracle(x, kernel, "max", attrs), "blocked_pool")


@pytest.mark.parametrize("form", WINDOWS)
@pytest.mark.parametrize("padded", [0, 1], ids=["", "count_include_pad"])
def test_average_pool(form, padded):
    shape, kernel, attrs = WINDOWS[form]
    x = rand(*shape)
    spelled = f"kernel_shape = {list(kernel)}, count_include_pad = {padded}, {spell(attrs)}"
    want = oracle(x, kernel, "mean", attrs, bool(padded))
    run_after_conv(x, f"y = AveragePool <{spelled}> (x0)", want, "blocked_pool")


@pytest.mark.parametrize("op_type", ["MaxPool", "AveragePool"])
def test_pooling_of_3_axes_stays_plain(op_type):
    x = rand(1, 24, 4, 5, 6)
    want = naive_pool(x, "max" if op_type == "MaxPool" else "mean", [2, 2, 2], strides=[2, 1, 2])[0]
    nodes = f"y = {op_type} <kernel_shape = [2, 2, 2], strides = [2, 1, 2]> (x0)"
    run_after_conv(x, nodes, want, "pool_", moves=1)


def test_the_indices_of_maxima_stay_plain():
    x = rand(1, 24, 6, 7)
    y, index = naive_pool(x, "max", [2, 2])
    nodes = f"{EYE} y, i = MaxPool <kernel_shape = [2, 2]> (x0)"
    kernels = check_graph(nodes, {"x": x}, {"eye": identity(24)}, {"y": y, "i": index})
    assert "pool_argmax" in kernels, kernels


def test_a_window_wholly_in_padding():
    x = rand(1, 24, 3, 3)
    y = naive_pool(x, "mean", [2, 2], pads=[1, 1, 1, 1], padded=True, dilations=[1, 1])[0]
    nodes = "y = AveragePool <kernel_shape = [2, 2], pads = [1, 1, 1, 1], count_include_pad = 1> (x0)"
    run_after_conv(x, nodes, y, "blocked_pool")
    # Dilated by 4, the corner windows of 2x2 taps see nothing of a single place.
    x = rand(1, 24, 2, 1)
    nodes = "y = MaxPool <kernel_shape = [2, 2], dilations = [4, 4], pads = [3, 3, 3, 3]> (x0)"
    padded = np.pad(x, ((0, 0), (0, 0), (3, 3), (3, 3)), constant_values=-np.inf)
    corners = [padded[:, :, r : r + 4, s : s + 3] for r in (0, 4) for s in (0, 4)]
    want = np.maximum.reduce(corners)
    assert np.isneginf(want).any()
    run_after_conv(x, nodes, want, "blocked_pool")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["max", "mean"])
def test_special_values_reach_only_their_windows(kind, value):
    x = rand(2, 30, 8, 9)
    x[0, 29, 3, 4] = x[1, 2, 7, 8] = value
    attrs = {"strides": [2, 1], "pads": [1, 0, 0, 1]}
    with np.errstate(invalid="ignore"):
        want = oracle(x, (3, 3), kind, attrs)
    op_type = {"max": "MaxPool", "mean": "AveragePool"}[kind]
    constants = {"eye": identity(30)}
    # Added behind the convolution, which would spread a special value over the channels of its place.
    nodes = f"x0 = Conv (z, eye) x1 = Add (x0, x) y = {op_type} <kernel_shape = [3, 3], {spell(attrs)}> (x1)"
    kernels = check_graph(nodes, {"x": x, "z": np.zeros_like(x)}, constants, {"y": want})
    assert "blocked_pool" in kernels, kernels


GLOBAL = {
    "GlobalAveragePool": ("y = GlobalAveragePool (x0)", lambda x, axes: x.mean(axes, keepdims=True)),
    "GlobalMaxPool": ("y = GlobalMaxPool (x0)", lambda x, axes: x.max(axes, keepdims=True)),
}


@pytest.mark.parametrize("op_type", GLOBAL)
@pytest.mark.parametrize(
    "shape", [(2, 30, 7, 9), (1, 24, 1, 1), (3, 48, 1, 5), (2, 30, 17), (1, 24, 3, 4, 5)], ids=str
)
def test_whole_planes(op_type, shape):
    x = rand(*shape)
    nodes, apply = GLOBAL[op_type]
    if shape[2:] == (1, 1):  # a product of a matrix and a vector, whose result is plain
        nodes, x = nodes.replace("x0", "x1"), rand(17, *shape[1:])
        nodes = f"x1 = Relu (x0) {nodes}"
        want = apply(np.maximum(x.astype(np.float64), 0), tuple(range(2, x.ndim)))
    else:
        want = apply(x.astype(np.float64), tuple(range(2, x.ndim)))
    run_after_conv(x, nodes, want, "blocked_plane")


def test_a_window_as_large_as_the_image_is_a_whole_plane():
    x = rand(2, 30, 5, 7)
    want = x.astype(np.float64).mean((2, 3), keepdims=True)
    run_after_conv(x, "y = AveragePool <kernel_shape = [5, 7]> (x0)", want, "blocked_plane")


# Element-wise operators: x0 lies blocked, C = 30, so the last block is filled up at every vector width.

SHAPE = (2, 30, 5, 7)
X, OTHER = rand(*SHAPE), rand(*SHAPE, seed=1)
SLOPE = np.abs(rand(30, 1, 1)) + np.float32(0.1)
wide = np.float64


def sigmoid(v):
    return 1 / (1 + np.exp(-v))


# nodes, result, the kernel, other inputs, constants, copies between layouts
ELEMENTWISE = {
    "Sigmoid": ("y = Sigmoid (x0)", sigmoid(X.astype(wide)), "", {}, {}, 0),
    "Exp": ("y = Exp (x0)", np.exp(X.astype(wide)), "exp", {}, {}, 0),
    "Abs": ("y = Abs (x0)", np.abs(X), "abs", {}, {}, 0),
    "Neg, read twice": ("n = Neg (x0) y = Sub (n, x0)", -2 * X, "sub", {}, {}, 0),
    "scalar": ("n = Neg (x0) y = Mul (n, s)", -3 * X, "mul", {}, {"s": np.float32(3)}, 0),
    "scalar on the left": ("y = Sub (s, x0)", 3 - X, "sub", {}, {"s": np.float32(3)}, 0),
    "scalar of rank 4": ("y = Add (x0, s)", X + 2, "", {}, {"s": np.full((1, 1, 1, 1), 2, np.float32)}, 0),
    "a fed scalar": ("y = Div (x0, s)", X / 2, "div", {"s": np.float32(2)}, {}, 0),
    "by channel": ("n = Neg (x0) y = Div (n, s)", -X / SLOPE, "div", {}, {"s": SLOPE}, 0),
    "by channel, rank 4": ("y = Pow (p, s)", np.abs(X.astype(wide)) ** SLOPE, "pow", {}, {"s": SLOPE[None]}, 0),
    "by channel, times": ("n = Neg (x0) y = Mul (n, s)", -X * SLOPE, "blocked_affine", {}, {"s": SLOPE[None]}, 0),
    "by channel, plus": ("n = Neg (x0) y = Add (s, n)", SLOPE - X, "blocked_affine", {}, {"s": SLOPE[None]}, 0),
    "by channel, fed": ("y = Mul (x0, s)", X * SLOPE, "blocked_affine", {"s": SLOPE[None]}, {}, None),
    "by channel, fed in rank 3": ("y = Mul (x0, s)", X * SLOPE, "mul", {"s": SLOPE}, {}, 1),
    "by image and channel": (
        "y = Add (s, x0)", X + OTHER[:, :, :1, :1], "blocked_affine", {"s": OTHER[:, :, :1, :1].copy()}, {}, None,
    ),
    "by place": ("y = Mul (x0, s)", X * OTHER[:, :1], "mul", {"s": OTHER[:, :1].copy()}, {}, 0),
    "by place, of one image": ("y = Mul (s, x0)", X * OTHER[:1, :1], "mul", {"s": OTHER[:1, :1].copy()}, {}, 0),
    "by column": ("y = Sub (x0, s)", X - OTHER[0, 0, 0], "sub", {}, {"s": OTHER[0, 0, 0].copy()}, 0),
    "by channel and column": (
        "y = Sub (x0, s)", X - OTHER[:, :, :1], "sub", {"s": OTHER[:, :, :1].copy()}, {}, 1,
    ),
    "by image": ("y = Max (x0, s)", np.maximum(X, OTHER[:, :1, :1, :1]), "max",
                 {"s": OTHER[:, :1, :1, :1].copy()}, {}, 0),
    "like x": ("n = Neg (x0) y = Mul (n, s)", -X * OTHER, "mul", {"s": OTHER}, {}, 1),
    "constant like x": ("n = Neg (x0) y = Div (n, s)", -X / (2 + OTHER**2), "div", {}, {"s": 2 + OTHER**2}, 0),
    "constant like one image": ("y = Sub (s, x0)", OTHER[1:] - X, "sub", {}, {"s": OTHER[1:].copy()}, 0),
    "the same twice": ("y = Mul (x0, x0)", X * X, "mul", {}, {}, 0),
    "three operands": ("n = Neg (x0) y = Max (x0, n, s)", np.maximum(np.abs(X), OTHER), "max", {"s": OTHER}, {}, None),
    "x0 broadcast": ("g = GlobalMaxPool (x0) y = Mul (s, g)", OTHER * X.max((2, 3), keepdims=True),
                     "mul", {"s": OTHER}, {}, None),
    "x0 broadcast, not times": ("g = GlobalMaxPool (x0) y = Div (s, g)", OTHER / X.max((2, 3), keepdims=True),
                                "div", {"s": OTHER}, {}, None),
    "PRelu": ("y = PRelu (x0, s)", np.where(X < 0, X * SLOPE, X), "", {}, {"s": SLOPE}, 0),
    "squeeze and excite": (
        "g = GlobalAveragePool (x0) a = Conv (g, sw, sb) r = Relu (a) e = Conv (r, ew) h = HardSigmoid (e)"
        " y = Mul (h, x0)",
        None, "blocked_affine", {}, {"sw": rand(24, 30, 1, 1), "sb": rand(24), "ew": rand(30, 24, 1, 1)}, None,
    ),
}  # fmt: skip


def squeeze_and_excite(x, sw, sb, ew):
    mean = x.astype(np.float64).mean((2, 3))
    gate = np.maximum(mean @ sw[:, :, 0, 0].T + sb, 0) @ ew[:, :, 0, 0].T
    return x * np.clip(0.2 * gate + 0.5, 0, 1)[:, :, None, None]


@pytest.mark.parametrize("case", ELEMENTWISE)
def test_elementwise(case):
    nodes, want, kernel, more, constants, moves = ELEMENTWISE[case]
    if want is None:
        want = squeeze_and_excite(X, **constants)
    if "(p," in nodes:
        nodes = f"p = Abs (x0) {nodes}"
    eye = {"eye": identity(30)}
    kernels = check_graph(f"{EYE} {nodes}", {"x": X, **more}, {**eye, **constants}, {"y": np.asarray(want)})
    assert "host" not in kernels, kernels
    assert any(name.startswith(kernel) for name in kernels), kernels
    if moves is not None:
        inside = kernels[kernels.index("blocked_conv") + 1 : -1]
        assert sum(name in ("to_blocked", "from_blocked") for name in inside) == moves, kernels


@pytest.mark.parametrize("name", ["mul", "add"])
def test_scaling_by_the_channels_of_a_batch(name):
    """One number for each image and channel, C no whole number of vectors, made by a convolution of its own."""
    x, s = rand(3, 30, 4, 5), rand(3, 30, 1, 1)
    want = x * s if name == "mul" else x + s
    nodes = f"s0 = Conv (s, eye) n = Neg (x0) m = Neg (n) y = {name.capitalize()} (m, s0)"
    run_after_conv(x, nodes, want, "blocked_affine", more={"s": s}, moves=1)


@pytest.mark.parametrize("tail", ["y = Identity (n)", "y = Relu (n)", "y = HardSwish (n)"])
@pytest.mark.parametrize("shape", [(2, 30, 5, 7), (1, 48, 9), (2, 24, 2, 3, 4)], ids=str)
def test_batch_normalization_alone(shape, tail):
    x, c = rand(*shape), shape[1]
    scale, bias, mean = (rand(c, seed=s) for s in (1, 2, 3))
    var = np.abs(rand(c, seed=4)) + np.float32(0.2)
    spread = lambda v: v.astype(np.float64).reshape(-1, *[1] * (len(shape) - 2))  # noqa: E731
    relu = np.maximum(x, 0).astype(np.float64)
    n = (relu - spread(mean)) / np.sqrt(spread(var) + 1e-3) * spread(scale) + spread(bias)
    want = {"Identity": n, "Relu": np.maximum(n, 0), "HardSwish": n * np.clip(n / 6 + 0.5, 0, 1)}
    nodes = f"r = Relu (x0) n = BatchNormalization <epsilon = 0.001> (r, scale, bias, mean, var) {tail}"
    constants = {"scale": scale, "bias": bias, "mean": mean, "var": var}
    key = tail.split()[2]
    run_after_conv(x, nodes, want[key], "blocked_affine", constants=constants, atol=1e-4)


def test_an_operator_whose_result_is_no_float_leaves_the_layout():
    x = rand(1, 24, 4, 5)
    kernels = check_graph(f"{EYE} y = Greater (x0, z)", {"x": x, "z": np.float32(0.2)}, {"eye": identity(24)},
                          {"y": x > np.float32(0.2)})  # fmt: skip
    assert "from_blocked" in kernels, kernels
