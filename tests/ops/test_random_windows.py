"""Random forms of convolution, pooling and resizing, against sums over taps at exact places."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.ops import oracles
from tests.ops.harness import check
from tests.ops.random_forms import WIDE, array, forms

DATA = st.data()


@dataclass
class Geometry:
    """Windows along n axes that fit into what is there and its padding."""

    sizes: list[int]
    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    pads: list[int]

    @property
    def spans(self) -> list[int]:
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]


@st.composite
def geometries(draw, max_rank=3, pads_below_kernel=False):
    n = draw(st.integers(1, max_rank))
    lists = lambda values: draw(st.lists(st.sampled_from(values), min_size=n, max_size=n))  # noqa: E731
    kernel, strides, dilations = lists([1, 3, 2, 5]), lists([1, 2, 3, 4]), lists([1, 1, 2, 3])
    most = [k - 1 if pads_below_kernel else 4 for k in kernel]
    pads = [draw(st.integers(0, p)) for p in most * 2]
    geometry = Geometry([], kernel, strides, dilations, pads)
    least = [max(1, s - pads[i] - pads[n + i]) for i, s in enumerate(geometry.spans)]
    geometry.sizes = [m + draw(st.integers(0, 5)) for m in least]
    if draw(st.booleans()):
        geometry.sizes[-1] = max(geometry.sizes[-1], draw(st.sampled_from(WIDE)))
    return geometry


def attributes(g: Geometry, **more) -> dict:
    return {"strides": g.strides, "dilations": g.dilations, "pads": g.pads, **more}


@st.composite
def channels(draw):
    """Groups, input channels of a group, output channels of a group: also depthwise and beyond a tile."""
    return (
        draw(st.sampled_from([1, 1, 1, 2, 3, 17])),
        draw(st.sampled_from([1, 2, 3])),
        draw(st.sampled_from([1, 2, 3, 9, 17])),
    )


@forms(300)
@given(geometries(), channels(), st.sampled_from([0, 1, 1, 2]), DATA)
def test_conv(g, channels, n, data):
    group, depth, outs = channels
    x, w = array((n, group * depth, *g.sizes)), array((group * outs, depth, *g.kernel), seed=1)
    inputs = [x, w, array((group * outs,), seed=2)][: data.draw(st.integers(2, 3))]
    constants = range(1, len(inputs)) if data.draw(st.booleans()) else ()
    want = oracles.conv(*inputs, stride=g.strides, dilation=g.dilations, pads=g.pads, group=group)
    options = {"oracle": lambda *_: want.astype(np.float32), "rtol": 1e-4, "atol": 1e-4}
    check("Conv", inputs, attributes(g, group=group), constants=constants, **options)


def test_padding_behind_a_depth_of_one():
    """A depthwise volume with one slice in and three out."""
    x, w, b = array((1, 2, 1, 3, 4)), array((2, 1, 1, 3, 3), seed=1), array((2,), seed=2)
    want = oracles.conv(x, w, b, pads=[0, 1, 1, 2, 1, 1], group=2).astype(np.float32)
    attrs = {"pads": [0, 1, 1, 2, 1, 1], "group": 2}
    check("Conv", [x, w, b], attrs, oracle=lambda *_: want, rtol=1e-4, atol=1e-4, kernel=True)


@forms(100)
@given(geometries(2), DATA)
def test_conv_with_auto_pad(g, data):
    """Pads by ONNX's formula for SAME: as many windows as ceil(size / stride)."""
    upper = data.draw(st.booleans())
    total = [
        max((-(-size // s) - 1) * s + span - size, 0)
        for size, s, span in zip(g.sizes, g.strides, g.spans, strict=True)
    ]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    pads = [*small, *large] if upper else [*large, *small]
    x, w = array((1, 2, *g.sizes)), array((5, 2, *g.kernel), seed=1)
    want = oracles.conv(x, w, stride=g.strides, dilation=g.dilations, pads=pads).astype(np.float32)
    attrs = {
        "auto_pad": "SAME_UPPER" if upper else "SAME_LOWER",
        "strides": g.strides,
        "dilations": g.dilations,
    }
    check("Conv", [x, w], attrs, oracle=lambda *_: want, rtol=1e-4, atol=1e-4)


@forms(100)
@given(geometries(), channels(), DATA)
def test_conv_transpose(g, channels, data):
    group, depth, outs = channels[0] % 5, channels[1], channels[2]
    g.sizes = [min(s, 9) for s in g.sizes]
    extra = [data.draw(st.integers(0, max(s, d) - 1)) for s, d in zip(g.strides, g.dilations, strict=True)]
    n = len(g.kernel)
    full = [(g.sizes[i] - 1) * g.strides[i] + g.spans[i] + extra[i] for i in range(n)]
    g.pads = [min(p, (full[i % n] - 1) // 2) for i, p in enumerate(g.pads)]
    x, w = array((1, group * depth, *g.sizes)), array((group * depth, outs, *g.kernel), seed=1)
    inputs = [x, w, array((group * outs,), seed=2)][: data.draw(st.integers(2, 3))]
    constants = range(1, len(inputs)) if data.draw(st.booleans()) else ()
    want = oracles.conv_transpose(
        *inputs, stride=g.strides, dilation=g.dilations, pads=g.pads, group=group, output_padding=extra
    ).astype(np.float32)
    attrs = attributes(g, group=group, output_padding=extra)
    options = {"oracle": lambda *_: want, "rtol": 1e-4, "atol": 1e-4}
    check("ConvTranspose", inputs, attrs, constants=constants, **options)


def windows(x, g: Geometry, ceil_mode):
    """Taps of all windows in a first axis, NaN where they lie outside x, and which of them lie in the padding."""
    n = len(g.kernel)
    counts = []
    for i, size in enumerate(g.sizes):
        room = size + g.pads[i] + g.pads[n + i] - g.spans[i]
        count = (-(-room // g.strides[i]) if ceil_mode else room // g.strides[i]) + 1
        counts.append(count - (ceil_mode and (count - 1) * g.strides[i] >= size + g.pads[i]))
    taps, inside = [], []
    for tap in np.ndindex(*g.kernel):
        y, padded = x.astype(np.float64), np.ones((), bool)
        for i in range(n):
            at = np.arange(counts[i]) * g.strides[i] + tap[i] * g.dilations[i] - g.pads[i]
            shape = (-1, *[1] * (n - 1 - i))
            y = y.take(np.clip(at, 0, g.sizes[i] - 1), 2 + i)
            y = np.where(((at >= 0) & (at < g.sizes[i])).reshape(shape), y, np.nan)
            padded = padded & (at < g.sizes[i] + g.pads[n + i]).reshape(shape)
        taps.append(y)
        inside.append(np.broadcast_to(padded, y.shape))
    return np.stack(taps), np.stack(inside)


@forms(150)
@given(geometries(pads_below_kernel=True), st.integers(0, 1), st.integers(0, 1), st.sampled_from([1, 2, 3]))
def test_pooling(g, ceil_mode, count_include_pad, p):
    """A window without an element of x has no maximum and no mean: such forms are left out."""
    x = array((2, 3, *g.sizes))
    taps, padded = windows(x, g, ceil_mode)
    there = ~np.isnan(taps)
    assume(there.any(0).all())
    attrs = attributes(g, kernel_shape=g.kernel, ceil_mode=ceil_mode)
    check("MaxPool", [x], attrs, oracle=lambda x: np.nanmax(taps, 0).astype(x.dtype))
    counts = (padded if count_include_pad else there).sum(0)
    mean = (np.nansum(taps, 0) / counts).astype(np.float32)
    check("AveragePool", [x], {**attrs, "count_include_pad": count_include_pad}, oracle=lambda *_: mean)
    norm = (np.nansum(np.abs(taps) ** p, 0) ** (1 / p)).astype(np.float32)
    check("LpPool", [x], {**attrs, "p": p}, oracle=lambda *_: norm, rtol=1e-4)


HALF = Fraction(1, 2)
ROUNDINGS = ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"]
COORDINATES = ["half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric"]


def place(coordinate: str, j: int, size: int, out: int, scale: Fraction, length: Fraction) -> Fraction:
    """Where element j of the output lies in the input, exactly (ONNX Resize, coordinate_transformation_mode)."""
    if coordinate == "asymmetric":
        return j / scale
    if coordinate == "align_corners":
        return j * (size - 1) / (length - 1) if length != 1 else Fraction(0)
    if coordinate == "pytorch_half_pixel" and out == 1:
        return Fraction(0)
    x = (j + HALF) / scale - HALF
    return x + Fraction(size, 2) * (1 - out / length) if coordinate == "half_pixel_symmetric" else x


def interpolated(x: Fraction, size: int, scale: Fraction, attrs: dict) -> np.ndarray:
    """The weights of all elements of an axis at place x."""
    if attrs["mode"] == "nearest":
        rounding = attrs["nearest_mode"]
        at = {
            "floor": math.floor(x),
            "ceil": math.ceil(x),
            "round_prefer_floor": math.ceil(x - HALF),
            "round_prefer_ceil": math.floor(x + HALF),
        }[rounding]
        return np.eye(size)[min(max(at, 0), size - 1)]
    reach = 1 if attrs["mode"] == "linear" else 2
    stretch = min(float(scale), 1.0) if attrs["antialias"] else 1.0
    weights, total = np.zeros(size), 0.0
    for i in range(math.floor(x - reach / stretch) - 1, math.ceil(x + reach / stretch) + 2):
        if attrs.get("exclude_outside") and not 0 <= i < size:
            continue
        d = abs(float(i - x)) * stretch
        weight = max(0.0, 1 - d) if reach == 1 else keys(d, attrs["cubic_coeff_a"])
        weights[min(max(i, 0), size - 1)] += weight
        total += weight
    return weights / total if attrs.get("exclude_outside") or attrs["antialias"] else weights


def keys(d: float, a: float) -> float:
    """Keys' cubic kernel."""
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def resized(x: np.ndarray, scales: list[Fraction], sizes: list[int], lengths: list[Fraction], attrs: dict):
    y = x.astype(np.float64)
    for axis, (size, scale, out, length) in enumerate(zip(x.shape, scales, sizes, lengths, strict=True)):
        if scale == 1:
            continue
        coordinate = attrs["coordinate_transformation_mode"]
        places = [place(coordinate, j, size, out, scale, length) for j in range(out)]
        rows = np.array([interpolated(p, size, scale, attrs) for p in places])
        y = np.moveaxis(np.tensordot(rows, y, (1, axis)), 0, axis)
    return y.astype(x.dtype)


@st.composite
def resize_attributes(draw):
    mode = draw(st.sampled_from(["linear", "nearest", "cubic"]))
    attrs = {"mode": mode, "coordinate_transformation_mode": draw(st.sampled_from(COORDINATES))}
    if mode == "nearest":
        return attrs | {"nearest_mode": draw(st.sampled_from(ROUNDINGS))}
    attrs["antialias"] = draw(st.integers(0, 1))
    if mode == "cubic":
        attrs |= {
            "exclude_outside": draw(st.integers(0, 1)),
            "cubic_coeff_a": draw(st.sampled_from([-0.75, -0.5])),
        }
    return attrs


@forms(200)
@given(resize_attributes(), DATA)
def test_resize(attrs, data):
    shape = data.draw(st.lists(st.sampled_from([1, 2, 3, 5, 9, 17]), min_size=1, max_size=4))
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1, max_size=2))
    draws = {a: data.draw(st.sampled_from([0.5, 2.0, 1.5, 3.0, 0.625, 2.25])) for a in sorted(axes)}
    scales = [Fraction(draws.get(a, 1)) for a in range(len(shape))]
    lengths = [d * s for d, s in zip(shape, scales, strict=True)]
    sizes = [math.floor(length) for length in lengths]
    assume(all(sizes))
    x, empty = array(tuple(shape)), np.zeros(0, np.float32)
    inputs = [x, empty, np.float32(scales)]
    if data.draw(st.booleans()):
        inputs = [x, empty, empty, np.int64(sizes)]
        scales = [Fraction(out, d) for out, d in zip(sizes, shape, strict=True)]
        lengths = [Fraction(out) for out in sizes]
    constants = range(1, len(inputs)) if data.draw(st.booleans()) else ()
    want = resized(x, scales, sizes, lengths, attrs)
    check("Resize", inputs, attrs, constants=constants, oracle=lambda *_: want, rtol=1e-4, atol=1e-4)
