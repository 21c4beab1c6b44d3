"""Convolutions in narrow groups, in channel-blocked layout, against sums over taps in float64."""

from __future__ import annotations

import numpy as np
import pytest

import tilewise_kernels
from tests.ops import oracles
from tests.ops.blocked_models import build, rand, run
from tilewise.ops.layout import VECTOR

pytestmark = pytest.mark.skipif(not tilewise_kernels.NATIVE, reason="needs the extension modules")

FORMS = {
    "as in ResNeXt": ((13, 14), (3, 3), {"pads": [1, 1, 1, 1]}),
    "stride 2": ((15, 12), (3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 2]}),
    "stride 3, asymmetric pads": ((16, 11), (3, 2), {"pads": [0, 1, 2, 0], "strides": [3, 3]}),
    "dilation": ((14, 15), (3, 3), {"pads": [2, 3, 2, 3], "dilations": [2, 3]}),
    "no pads": ((9, 29), (5, 3), {}),
    "one place": ((1, 1), (3, 3), {"pads": [1, 1, 1, 1]}),
    "pointwise": ((7, 5), (1, 1), {}),
    "one axis": ((33,), (3,), {"pads": [1, 1]}),
    "several runs of columns": ((3, 400), (3, 3), {"pads": [1, 1, 1, 1]}),
}
WIDTHS = [w for w in (2, 4, 8) if w < VECTOR]


def grouped(width, size, kernel, attrs, tail="", n=2):
    """A 1x1 convolution, then one in groups of `width` channels, then `tail` from c to y."""
    groups = VECTOR // width * 2 + 1
    c = groups * width
    given = {"group": groups, "kernel_shape": list(kernel), **attrs}
    shown = ", ".join(f"{k} = {v}" for k, v in given.items())
    weights = {"u": rand(c, 3, *[1] * len(size)), "w": rand(c, width, *kernel), "b": rand(c)}
    feeds = {"x": rand(n, 3, *size)}
    proto = build(f"e = Conv (x, u) c = Conv <{shown}> (e, w, b) {tail or 'y = Identity(c)'}", feeds, weights)
    renamed = {"strides": "stride", "dilations": "dilation"}
    return proto, feeds, weights, {renamed.get(k, k): v for k, v in attrs.items()} | {"group": groups}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("form", FORMS)
def test_narrow_groups(form, width):
    proto, feeds, weights, attrs = grouped(width, *FORMS[form])
    want = oracles.conv(oracles.conv(feeds["x"], weights["u"]), weights["w"], weights["b"], **attrs)
    np.testing.assert_allclose(run(proto, feeds, "blocked_group")["y"], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("tail", "finish"),
    [
        ("y = Relu(c)", lambda c, e: np.maximum(c, 0)),
        ("y = HardSwish(c)", lambda c, e: c * np.clip(c / 6 + 0.5, 0, 1)),
        ("y = Add(c, e)", lambda c, e: c + e),
        ("a = Add(e, c) y = Relu(a)", lambda c, e: np.maximum(c + e, 0)),
    ],
    ids=["relu", "hard swish", "residual", "residual relu"],
)
@pytest.mark.parametrize("width", WIDTHS)
def test_what_follows_is_done_at_once(width, tail, finish):
    pads = {"pads": [1, 1, 1, 1]}
    proto, feeds, weights, attrs = grouped(width, (10, 9), (3, 3), pads, tail, n=1)
    e = oracles.conv(feeds["x"], weights["u"])
    want = finish(oracles.conv(e, weights["w"], weights["b"], **attrs), e)
    np.testing.assert_allclose(run(proto, feeds, "blocked_group")["y"], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", WIDTHS)
def test_a_nan_stays_in_its_group(width):
    proto, feeds, weights, _ = grouped(width, (8, 8), (3, 3), {"pads": [1, 1, 1, 1]}, n=1)
    weights["u"][width, 0, 0, 0] = np.nan
    for tensor in proto.graph.initializer:
        if tensor.name == "u":
            tensor.raw_data = weights["u"].tobytes()
    got = np.isnan(run(proto, feeds, "blocked_group")["y"]).all(axis=(0, 2, 3))
    np.testing.assert_array_equal(got, np.arange(len(got)) // width == 1)


@pytest.mark.parametrize(
    ("depth", "outs"),
    [(34, 34), (6, VECTOR + 12), (VECTOR, 20), (20, VECTOR), (1, VECTOR), (68, 3 * VECTOR - 1)],
)
@pytest.mark.parametrize(
    ("tail", "finish"),
    [
        ("y = Identity(c)", lambda c, r: c),
        ("a = Add(c, r) y = Relu(a)", lambda c, r: np.maximum(c + r, 0)),
        (
            """s = Constant <value_ints = [2, 4, -1, 7, 9]> () t = Constant <value_ints = [2, -1, 7, 9]> ()
            d = Reshape (c, s) f = Transpose <perm = [0, 2, 1, 3, 4]> (d) y = Reshape (f, t)""",
            lambda c, r: c.reshape(2, 4, -1, 7, 9).swapaxes(1, 2).reshape(c.shape),
        ),
    ],
    ids=["plain", "residual relu", "channel shuffle"],
)
def test_pointwise_groups_across_blocks(depth, outs, tail, finish):
    groups = 4
    weights = {"u": rand(groups * depth, 3, 1, 1), "v": rand(groups * outs, 3, 1, 1)}
    weights |= {"w": rand(groups * outs, depth, 1, 1), "b": rand(groups * outs)}
    feeds = {"x": rand(2, 3, 7, 9)}
    nodes = f"e = Conv (x, u) r = Conv (x, v) c = Conv <group = {groups}> (e, w, b) {tail}"
    got = run(build(nodes, feeds, weights), feeds, "blocked_conv")
    e, r = oracles.conv(feeds["x"], weights["u"]), oracles.conv(feeds["x"], weights["v"])
    want = finish(oracles.conv(e, weights["w"], weights["b"], group=groups), r)
    np.testing.assert_allclose(got["y"], want, rtol=1e-4, atol=1e-4)
