"""Winograd's F(4x4, 3x3) against sums over taps in float64: edges of tiles, chunks, batches, epilogues, errors."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ops import oracles
from tests.ops.layout_harness import check_graph, graph, kernels_of, needs_kernels, rand, weights
from tilewise.ops.blocked import winograd
from tilewise.ops.layout import VECTOR
from tilewise.runtime.model import load

pytestmark = needs_kernels


def run_winograd(shape, outs, pads, tail="y = Identity (c)", finish=lambda c, r: c, seed=0, dilations=(1, 1)):
    """Assert the values of a convolution, then `tail` from its result c and a second input r to y."""
    x, w, b = rand(*shape, seed=seed), weights(outs, shape[1], 3, 3, seed=seed), rand(outs, seed=seed)
    c = oracles.conv(x, w, b, pads=pads, dilation=dilations)
    r = rand(*c.shape, seed=seed + 1)
    nodes = f"c = Conv <pads = {list(pads)}, dilations = {list(dilations)}> (x, w, b) {tail}"
    want = {"y": finish(c, r)}
    kernels = check_graph(nodes, {"x": x, "r": r}, {"w": w, "b": b}, want, rtol=1e-4, atol=2e-5)
    assert "winograd_output" in kernels, kernels
    return kernels


# shape of x, output channels, pads
SHAPES = {
    "whole tiles": ((1, 32, 16, 16), 32, (1, 1, 1, 1)),
    "cut tiles": ((1, 33, 30, 29), 37, (1, 1, 1, 1)),
    "valid": ((1, 32, 34, 31), 32, (0, 0, 0, 0)),
    "asymmetric pads": ((1, 40, 25, 27), 33, (2, 0, 1, 3)),
    "pads beyond the kernel": ((1, 40, 18, 17), 40, (7, 9, 8, 5)),
    "batch": ((3, 32, 15, 18), 35, (1, 1, 1, 1)),
    "wide": ((1, 32, 13, 130), 32, (1, 1, 1, 1)),
    "tall": ((2, 32, 131, 12), 32, (1, 1, 1, 1)),
    "several chunks": ((1, 48, 120, 117), 56, (1, 1, 1, 1)),
    "chunks of a batch": ((4, 48, 70, 66), 48, (1, 1, 1, 1)),
}
TAILS = {
    "plain": ("y = Identity (c)", lambda c, r: c),
    "relu": ("y = Relu (c)", lambda c, r: np.maximum(c, 0)),
    "hard swish": ("y = HardSwish (c)", lambda c, r: c * np.clip(c / 6 + 0.5, 0, 1)),
    "residual": ("y = Add (c, r)", lambda c, r: c + r),
    "residual relu": ("a = Add (r, c) y = Relu (a)", lambda c, r: np.maximum(c + r, 0)),
}


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("shape", SHAPES)
def test_winograd(shape, tail):
    run_winograd(*SHAPES[shape], *TAILS[tail])


# shape of x, output channels, pads, dilations
DILATED = {
    "two": ((1, 32, 32, 32), 32, (2, 2, 2, 2), (2, 2)),
    "along an axis": ((1, 32, 24, 30), 40, (1, 3, 1, 3), (1, 3)),
    "residues of different lengths": ((2, 33, 27, 29), 37, (2, 3, 1, 2), (2, 3)),
    "four": ((1, 64, 28, 28), 48, (4, 4, 4, 4), (4, 4)),
    "several chunks": ((1, 48, 120, 118), 56, (2, 2, 2, 2), (2, 2)),
}


@pytest.mark.parametrize("tail", ["plain", "hard swish", "residual relu"])
@pytest.mark.parametrize("form", DILATED)
def test_dilated(form, tail):
    shape, outs, pads, dilations = DILATED[form]
    run_winograd(shape, outs, pads, *TAILS[tail], dilations=dilations)


@pytest.mark.parametrize("rest", range(4))
def test_tiles_cut_anywhere(rest):
    run_winograd((1, 48, 20 + rest, 24 - rest), 48, (1, 1, 1, 1), seed=rest)


@pytest.mark.parametrize("channels", [33, 40, 48, 63])
@pytest.mark.parametrize("outs", [33, 47, 64])
def test_channels(channels, outs):
    run_winograd((1, channels, 24, 21), outs, (1, 1, 1, 1))


@pytest.mark.parametrize("channels", [64, 128, 256, 512])
@pytest.mark.parametrize("positive", [False, True], ids=["normal", "after Relu"])
def test_error_is_small_against_the_largest_output(channels, positive):
    """What docs/architecture.md says of it: below 1e-5 of the largest output, and 3e-6 of its size on average."""
    x, w = rand(1, channels, 28, 28), weights(64, channels, 3, 3)
    x = np.maximum(x, 0) if positive else x
    model = load(graph("y = Conv <pads = [1, 1, 1, 1]> (x, w)", {"x": x}, {"w": w}))
    assert "winograd_output" in kernels_of(model)
    got = model.run({"x": x, "companion_x": rand(1, 1, 1, 1)})["y"]
    want = oracles.conv(x, w, pads=(1, 1, 1, 1))
    error = np.abs(got - want)
    assert error.max() < 1e-5 * np.abs(want).max()
    assert np.sqrt((error**2).mean()) < 3e-6 * np.sqrt((want**2).mean())


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_special_value_spoils_its_tiles_only(value):
    x, w = rand(1, 32, 32, 32), weights(32, 32, 3, 3)
    model = load(graph("y = Conv <pads = [1, 1, 1, 1]> (x, w)", {"x": x}, {"w": w}))
    assert "winograd_output" in kernels_of(model)
    fed = {"x": x, "companion_x": rand(1, 1, 1, 1)}
    clean = model.run(fed)["y"]
    x[0, 3, 9, 9] = value
    got = model.run(fed)["y"]
    assert not np.isfinite(got[0, :, 8:11, 8:11]).any()
    far = np.ones_like(got, bool)
    far[:, :, 8:12, 8:12] = False  # the one tile of outputs whose 6x6 inputs, from 7 to 12, hold the place
    np.testing.assert_array_equal(got[far], clean[far])


def test_transformed_weights_are_those_of_the_definition():
    w = rand(5, 3, 3, 3)
    planes = winograd.WEIGHTS @ w.astype(np.float64) @ winograd.WEIGHTS.T
    tiles = winograd.transform_weights(w).reshape(36, 3, -1)  # blocks side by side, at most two of them
    blocks = -(-5 // VECTOR)
    assert tiles.shape[2] == blocks * VECTOR
    got = tiles[:, :, :5].transpose(2, 1, 0).reshape(5, 3, 6, 6)
    np.testing.assert_allclose(got, planes, rtol=1e-6)
    assert not tiles[:, :, 5:].any()


def test_points_make_a_convolution():
    """In exact arithmetic the transforms give the sums of products: checked on one axis, with B and A of the points."""
    points = winograd.POINTS
    a = np.array([[*(p**k for p in points), float(k == 3)] for k in range(4)])
    numerators = [np.poly([q for q in points if q != p])[::-1] for p in points]
    b = np.array([*([*n, 0.0] for n in numerators), np.poly(points)[::-1]])
    x, w = rand(6).astype(np.float64), rand(3).astype(np.float64)
    want = [x[i : i + 3] @ w for i in range(4)]
    np.testing.assert_allclose(a @ ((winograd.WEIGHTS @ w) * (b @ x)), want, rtol=1e-12, atol=1e-12)


OTHERS = {
    "stride": ("strides = [2, 2]", 32, 32, 3),
    "stride along an axis": ("strides = [1, 2]", 32, 32, 3),
    "dilation beyond the image": ("dilations = [16, 16], pads = [16, 16, 16, 16]", 32, 32, 3),
    "groups": ("group: int = 2", 64, 32, 3),
    "few channels": ("pads = [1, 1, 1, 1]", 15, 15, 3),
    "5x5": ("pads = [2, 2, 2, 2]", 32, 32, 5),
}


@pytest.mark.parametrize("form", OTHERS)
def test_other_forms_take_another_way(form):
    attrs, channels, depth, k = OTHERS[form]
    x, w = rand(1, channels, 40, 40), weights(64, depth, k, k)
    kernels = kernels_of(load(graph(f"y = Conv <{attrs}> (x, w)", {"x": x}, {"w": w})))
    assert "blocked_conv" in kernels, kernels
    assert not any(name.startswith("winograd") for name in kernels), kernels


def test_the_switch_that_leaves_it_out(monkeypatch):
    monkeypatch.setenv("TILEWISE_IMPL", "blocked")
    x, w = rand(1, 64, 40, 40), weights(64, 64, 3, 3)
    kernels = check_graph("y = Conv (x, w)", {"x": x}, {"w": w}, {"y": oracles.conv(x, w)}, atol=5e-6)
    assert "blocked_conv" in kernels, kernels
    assert not any(name.startswith("winograd") for name in kernels), kernels


@pytest.mark.parametrize("shape", [(1, 32, 40), (1, 32, 9, 9, 9)], ids=str)
def test_other_ranks_take_another_way(shape):
    n = len(shape) - 2
    w = weights(32, 32, *[3] * n)
    kernels = kernels_of(load(graph("y = Conv (x, w)", {"x": rand(*shape)}, {"w": w})))
    assert "blocked_conv" in kernels, kernels
    assert not any(name.startswith("winograd") for name in kernels), kernels
